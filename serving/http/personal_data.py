"""Masking of persons in pages, API answers, exports and logs."""

from __future__ import annotations

import re

from features.text.masking import mask_personal_data

_E_MAIL = re.compile(r"[\w.+%-]{1,64}@((?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24})\b")
_CONTACT = re.compile(r"^(?P<who>.*?)(?P<details> \([^()]*\))?$", re.DOTALL)


def mask_person(value: str) -> str:
    """Return the id or e-mail address of a person as its first letter, with the domain.

    >>> mask_person("jo.doe@acme.example"), mask_person("U-00123"), mask_person("")
    ('j…@acme.example', 'U…', '')
    """
    found = _E_MAIL.fullmatch(value.strip())
    if found:
        return f"{value.strip()[0]}…@{found[1]}"
    return f"{value.strip()[:1]}…" if value.strip() else ""


def mask_contact(text: str | None) -> str | None:
    """Return a contact of an export with its id masked; role and advocate stay.

    >>> mask_contact("U-2 (sponsor, advocate)"), mask_contact("jo@acme.example"), mask_contact(None)
    ('U… (sponsor, advocate)', 'j…@acme.example', None)
    """
    found = _CONTACT.match(text) if text else None
    return text if found is None else mask_person(found["who"]) + (found["details"] or "")


def mask_text(text: str) -> str:
    """Return free text with names, e-mail addresses, phone and account numbers masked."""
    return mask_personal_data(text)


def mask_e_mails(text: str) -> str:
    """Return a line of a log with the local part of e-mail addresses masked.

    >>> mask_e_mails("lost the mail to jo.doe@acme.example; see redis://me:***@cache.example.com")
    'lost the mail to j…@acme.example; see redis://me:***@cache.example.com'
    """
    return _E_MAIL.sub(lambda found: mask_person(found.group()), text) if "@" in text else text
