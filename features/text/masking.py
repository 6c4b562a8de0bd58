r"""Masking of personal data in free text, and snippets for pages, exports and logs.

Masked are e-mail addresses, phone numbers, IBANs, card numbers, web addresses with a secret, and
names after a salutation or at a signature. Names within a sentence are not recognised: a snippet is
less personal than the text, not anonymous.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from features.text.prepared import without_markup

SNIPPET = 200
"""Maximum characters of a snippet."""

READ_AT_MOST = 20_000
"""Characters that are masked; the rest is left out."""

_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"')\]]+", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PHONE = re.compile(r"(?<![\w.,/-])(?:\+|00|\(?0)\d?(?:[ ()./-]{0,2}\d){6,14}(?![\w-])")
_GROUPED_PHONE = re.compile(r"(?<![\w.,/-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])")
_SECRET = re.compile(
    r"(?i)\b((?:api[_-]?key|token|secret|password|passwort|passwd|pwd)\s{0,4}(?:[:=]|is)\s{0,4})\S+"
)
_NAME = r"[^\W\d_a-z][^\W\d_]*(?:[-'’][^\W\d_]+)*\.?"
_TITLE = r"(?:(?:Mr|Mrs|Ms|Dr|Herr|Herrn|Frau|Mme|Sr|Sra)\.?[ \t]+)?"
_NAMES = rf"{_TITLE}{_NAME}(?:[ \t]+{_NAME}){{0,2}}"
_GREETINGS = (
    "hi|hello|hey|dear|hallo|liebe|lieber|guten tag|bonjour|cher|chère|hola|estimado|estimada"
    "|sehr geehrter|sehr geehrte|my name is|ich bin|je suis|soy"
)
_CLOSINGS = (
    "(?:kind |best |warm |many )?regards|sincerely|cheers|best wishes|yours|many thanks|thanks"
    "|thank you|(?:viele |liebe |beste |freundliche |mit freundlichen )?grüße(?:n)?|gruß|mfg|lg|vg"
    "|cordialement|bien à vous|merci|saludos|atentamente|un saludo|gracias"
)
_SALUTATION = re.compile(rf"\b(?P<word>(?i:{_GREETINGS}))(?P<gap>[ \t]+)(?P<name>{_NAMES})")
_SIGNATURE = re.compile(
    rf"\b(?P<word>(?i:{_CLOSINGS}))(?P<gap>[ \t]{{0,4}}[,.!–-]?[ \t]{{0,4}}\n{{0,2}}[ \t]{{0,4}})"
    rf"(?P<name>{_NAMES})(?=[ \t]{{0,4}}(?:[.,!]?[ \t]{{0,4}}(?:\n|$)|,|\())"
)
_ADDRESSED = (
    "team all everyone there support together zusammen alle tous todos equipo équipe "
    "folks guys sir madam leute kolleginnen kollegen damen sirs"
)
_NOT_NAMES = frozenset(_ADDRESSED.split())
_SPACES = re.compile(r"\s+")


def mask_personal_data(text: str) -> str:
    """Return a text with personal data replaced by words in brackets.

    Parameters
    ----------
    text : str
        Free text; at most the first 20,000 characters are returned.

    Examples
    --------
    >>> mask_personal_data("Hi Mia, call +49 30 1234567 or write to jo.doe@acme.example.")
    'Hi [name], call [phone] or write to [e-mail].'
    >>> mask_personal_data("IBAN DE89 3704 0044 0532 0130 00, invoice 2026-00123, error 500")
    'IBAN [account number], invoice 2026-00123, error 500'
    """
    masked = text[:READ_AT_MOST]
    masked = _URL.sub(_masked_address, masked)
    masked = _EMAIL.sub("[e-mail]", masked)
    masked = _SECRET.sub(
        lambda found: found.group().split(found[1])[0] + found[1] + "[secret]", masked
    )
    masked = _IBAN.sub(_if(_is_iban, "[account number]"), masked)
    masked = _CARD.sub(_if(_is_card, "[card number]"), masked)
    masked = _PHONE.sub("[phone]", masked)
    masked = _GROUPED_PHONE.sub("[phone]", masked)
    masked = _SALUTATION.sub(_masked_name, masked)
    return _SIGNATURE.sub(_masked_name, masked)


def snippet(text: str | None, length: int = SNIPPET) -> str:
    r"""Return the start of a text on one line, without markup, with personal data masked.

    Parameters
    ----------
    text : str or None
        Free text; None gives an empty snippet.
    length : int
        Maximum number of characters, the ellipsis included.

    Examples
    --------
    >>> snippet("<b>Slow</b>\n\nRegards,\nJo Doe")
    'Slow Regards, [name]'
    """
    if not text:
        return ""
    # Masked before it is cut: half a number would not be recognised.
    masked = mask_personal_data(without_markup(text[:READ_AT_MOST]))
    line = _SPACES.sub(" ", masked).strip()
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _if(is_valid: Callable[[str], bool], words: str) -> Callable[[re.Match[str]], str]:
    return lambda found: words if is_valid(found.group()) else found.group()


def _masked_address(found: re.Match[str]) -> str:
    """Keep scheme and host of a web address; path and query may hold names and tokens.

    The user part (``https://name:secret@host``) is removed, too.
    """
    scheme, separator, rest = found.group().rpartition("://")
    host, _, path = rest.partition("/")
    bare, _, query = host.rpartition("@")[2].partition("?")
    return f"{scheme}{separator}{bare}" + ("/…" if path or query else "")


def _is_iban(text: str) -> bool:
    """Whether the check digits hold (ISO 13616): the rearranged number is 1 modulo 97."""
    bare = re.sub(r"[ -]", "", text)
    return (
        15 <= len(bare) <= 34
        and int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1
    )


def _is_card(text: str) -> bool:
    """Whether the Luhn check digit holds."""
    digits = [int(c) for c in text if c.isdigit()][::-1]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _masked_name(found: re.Match[str]) -> str:
    if found["name"].split()[0].lower().rstrip(".") in _NOT_NAMES:
        return found.group()
    return f"{found['word']}{found['gap']}[name]"
