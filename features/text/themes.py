"""Themes of a text: what it is about, from words and phrases of the lexicon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from features.text.lexicon import Lexicon
from features.text.prepared import Prepared
from features.text.sentiment import Rated, are_words, is_negated

DEFECTS = frozenset({"bug", "leaving", "praise"})
"""Themes that a negation denies: "no bugs at all". Other themes are topics, negated or not."""


def themes_of(prepared: Prepared, rated: Sequence[Rated], lexicon: Lexicon) -> frozenset[str]:
    """Return the themes of a text.

    Parameters
    ----------
    prepared : Prepared
        The text.
    rated : sequence of Rated
        Its tokens with rated phrases joined (`features.text.sentiment.rated_tokens`).
    lexicon : Lexicon
        The lexicon of its language.

    Examples
    --------
    >>> from features.text.lexicon import lexicon_of
    >>> from features.text.prepared import prepare
    >>> from features.text.sentiment import rated_tokens
    >>> english = lexicon_of("en")
    >>> texts = [prepare(text) for text in ("the price of a crash", "never had a crash")]
    >>> [sorted(themes_of(text, rated_tokens(text, english), english)) for text in texts]
    [['bug', 'price'], []]
    """
    places = {item.token.start: place for place, item in enumerate(rated)}
    return frozenset(
        theme
        for start, theme, is_denial in _mentions(prepared, lexicon)
        if theme not in DEFECTS or is_denial or not _is_denied(start, rated, places)
    )


def _mentions(prepared: Prepared, lexicon: Lexicon) -> Iterator[tuple[int, str, bool]]:
    """Yield the start and theme of each mention, and whether it is itself a negation."""
    tokens = prepared.tokens
    for place, token in enumerate(tokens):
        word = lexicon.word(token.text)
        for theme in word.themes:
            yield token.start, theme, False
        for words, theme in lexicon.theme_phrases.get(token.text, ()):
            if are_words(tokens[place : place + len(words)], words):
                yield token.start, theme, any(lexicon.word(text).is_negator for text in words)


def _is_denied(start: int, rated: Sequence[Rated], places: dict[int, int]) -> bool:
    place = places.get(start)
    if place is None:
        # Within a rated phrase: "no problem".
        earlier = [item for item in rated if item.token.start < start]
        return bool(earlier) and earlier[-1].is_denial
    return rated[place].is_denial or is_negated(rated, place)
