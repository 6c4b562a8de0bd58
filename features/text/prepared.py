"""Preparation of a text for scoring: plain lower-case words and the places where clauses end."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import NamedTuple

LONGEST = 2_000
"""Characters of a text that are read. Later ones are mostly quoted mails and logs."""

_TAGS = re.compile(r"<[a-z/!][^<>]{0,500}>", re.IGNORECASE)
_ADDRESSES = re.compile(r"\b(?:https?://|www\.)\S+|\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_QUOTED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_TOKENS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.,;:!?…()]+|\n\s*\n")
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""Control, invisible and direction characters; tab and new line are kept."""

_ELISIONS = re.compile(r"\b(l|n|d|s|c|j|m|t|qu)'")

EMOJI = {
    **dict.fromkeys("😀😃😄😁😊🙂😍🥰🤩🎉👍👏🙏💪❤💚💙⭐🚀✅", 2.0),
    **dict.fromkeys("☹🙁😞😟😢😭😡😠🤬👎😤😩😫💔🤮", -2.0),
}
"""Emoji with a meaning in every language."""

_SMILES = {":)": 2.0, ":-)": 2.0, ":D": 2.0, ":(": -2.0, ":-(": -2.0}
_SYMBOLS = re.compile("|".join(re.escape(sign) for sign in (*EMOJI, *_SMILES)))


class Token(NamedTuple):
    """A word, or punctuation that ends a clause (`is_word` False)."""

    text: str
    start: int
    is_word: bool

    @property
    def ends_sentence(self) -> bool:
        """Whether this is the end of a sentence or of a paragraph."""
        return not self.is_word and any(sign in self.text for sign in ".!?…\n")


class Prepared(NamedTuple):
    """A text ready for scoring.

    Attributes
    ----------
    text : str
        Lower case, without tags, addresses, quoted lines and control characters.
    tokens : tuple of Token
        Words and clause ends, in order.
    symbols : float
        Summed valence of emoji.
    """

    text: str
    tokens: tuple[Token, ...]
    symbols: float

    @property
    def words(self) -> list[str]:
        """The words, in order."""
        return [token.text for token in self.tokens if token.is_word]


def without_markup(text: str) -> str:
    r"""Return a text without tags, entities, control and invisible characters.

    >>> without_markup("<p>It&#39;s &lt;b&gt;slow\x07</p>").strip()
    "It's  slow"
    """
    # Twice: tags can be written as entities.
    bare = _TAGS.sub(" ", html.unescape(_TAGS.sub(" ", text)))
    return _CONTROLS.sub("", unicodedata.normalize("NFKC", bare))


def plain_text(text: str) -> str:
    r"""Return the start of a text without markup, web and e-mail addresses and quoted lines.

    >>> plain_text("> Hi\nIt is slow, see https://a.example/x").strip()
    'It is slow, see'
    """
    return _ADDRESSES.sub(" ", _QUOTED.sub(" ", without_markup(text[:LONGEST])))


def prepare(text: str, *, splits_elisions: bool = False) -> Prepared:
    """Prepare a plain text.

    Parameters
    ----------
    text : str
        Result of `plain_text`.
    splits_elisions : bool
        Separate French elisions: ``l'export`` is two words.
    """
    symbols = sum(EMOJI.get(sign, 0.0) or _SMILES[sign] for sign in _SYMBOLS.findall(text))
    lower = text.lower().replace("’", "'").replace("`", "'")
    if splits_elisions:
        lower = _ELISIONS.sub(r"\1 ", lower)
    tokens = tuple(
        Token(found.group(), found.start(), found.group()[0].isalpha())
        for found in _TOKENS.finditer(lower)
    )
    return Prepared(lower, tokens, symbols)
