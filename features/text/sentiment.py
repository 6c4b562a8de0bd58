"""Sentiment of a text from rated words, with negation, degree and contrast.

The rules follow VADER (Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text", ICWSM 2014), applied within clauses, so that they also hold in
German, French and Spanish.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from features.text.lexicon import Lexicon, Word
from features.text.prepared import Prepared, Token

REACH = 4
"""Words between a negator and the word it reverses, inclusive."""

GOOD_NEGATED, BAD_NEGATED = -0.74, -0.5
"""Factors of negated words: "not good" is bad; "not bad" is good, but less so."""

ONLY_NEGATED = -1.6
"""Valence of neutral words when negated: "does not load"."""

DEGREE = 0.293
"""Effect of one degree word, from VADER."""

BEFORE_CONTRAST, AFTER_CONTRAST = 0.5, 1.5
"""Weights of the clauses before and after "but", from VADER."""

SCALE = 15.0
"""Valence sums approach −1 and 1 as s / √(s² + 15), from VADER."""


class Rated(NamedTuple):
    """A token, or the words of a rated phrase in one.

    Attributes
    ----------
    token : Token
        The word, the first word of a phrase, or a clause end.
    word : Word
        What the lexicon says about it.
    phrase : float or None
        Value of the phrase; None for a single word.
    is_denial : bool
        The phrase has a negator of its own: "no problem".
    """

    token: Token
    word: Word
    phrase: float | None = None
    is_denial: bool = False


def rated_tokens(prepared: Prepared, lexicon: Lexicon) -> list[Rated]:
    """Return the tokens with phrases joined; words that only look like a negation are left out."""
    tokens = prepared.tokens
    found: list[Rated] = []
    place = 0
    while place < len(tokens):
        n_words, value = _phrase_at(tokens, place, lexicon)
        if not n_words:
            found.append(Rated(tokens[place], lexicon.word(tokens[place].text)))
        elif value is not None:
            own = tokens[place : place + n_words]
            is_denial = any(lexicon.word(token.text).is_negator for token in own)
            word = lexicon.word(tokens[place].text)
            found.append(Rated(tokens[place], word, value, is_denial))
        place += max(1, n_words)
    return found


def sentiment_of(prepared: Prepared, rated: Sequence[Rated]) -> float:
    """Return the sentiment of a text in [−1, 1]; 0 without rated words.

    Examples
    --------
    >>> from features.text.lexicon import lexicon_of
    >>> from features.text.prepared import prepare
    >>> english = lexicon_of("en")
    >>> texts = [prepare(text) for text in ("slow", "not slow", "not happy", "It is nine.")]
    >>> [sentiment_of(text, rated_tokens(text, english)) for text in texts]
    [-0.4588, 0.25, -0.4585, 0.0]
    """
    sentences = [_sentence_total(part) for part in _sentences(rated)]
    totals = [value for value in sentences if value]
    # Long texts would otherwise always be extreme.
    total = prepared.symbols + sum(totals) / math.sqrt(max(1, len(totals)))
    return round(total / math.sqrt(total * total + SCALE), 4)


def is_negated(rated: Sequence[Rated], place: int) -> bool:
    """Whether a negator in the same clause reverses the word at `place`."""
    before = reversed(rated[max(0, place - REACH) : place])
    if _has_negator(before):
        return True
    may_follow = rated[place].word.negated_after
    return may_follow and _has_negator(rated[place + 1 : place + 1 + REACH])


def _has_negator(nearby: Iterable[Rated]) -> bool:
    for item in nearby:
        if not item.token.is_word or item.word.is_stop:
            return False
        if item.phrase is None and item.word.is_negator:
            return True
    return False


def _phrase_at(tokens: Sequence[Token], place: int, lexicon: Lexicon) -> tuple[int, float | None]:
    """Return the number of words of the phrase that begins here, 0 without one, and its value."""
    for words, value in lexicon.phrases.get(tokens[place].text, ()):
        if are_words(tokens[place : place + len(words)], words):
            return len(words), value
    return 0, None


def are_words(tokens: Sequence[Token], words: Sequence[str]) -> bool:
    """Whether tokens are exactly these words."""
    return len(tokens) == len(words) and all(
        token.text == word for token, word in zip(tokens, words, strict=True)
    )


def _sentences(rated: Sequence[Rated]) -> Iterator[Sequence[Rated]]:
    start = 0
    for place, item in enumerate(rated):
        if item.token.ends_sentence:
            yield rated[start : place + 1]
            start = place + 1
    yield rated[start:]


def _sentence_total(rated: Sequence[Rated]) -> float:
    """Return the summed valence of a sentence; what follows "but" weighs more."""
    values = [_value(rated, place) for place in range(len(rated))]
    contrast = [place for place, item in enumerate(rated) if item.word.is_contrast]
    if contrast and any(values[: contrast[-1]]):
        last = contrast[-1]
        return BEFORE_CONTRAST * sum(values[:last]) + AFTER_CONTRAST * sum(values[last:])
    return sum(values)


def _value(rated: Sequence[Rated], place: int) -> float:
    item = rated[place]
    if not item.token.is_word:
        return 0.0
    if item.phrase is not None:
        is_reversed = not item.is_denial and is_negated(rated, place)
        return _reversed(item.phrase) if is_reversed else item.phrase
    word = item.word
    if word.is_negator or not (word.valence or word.only_negated):
        return 0.0
    if not is_negated(rated, place):
        return _with_degree(word.valence, rated, place) if word.valence else 0.0
    if word.only_negated:
        return ONLY_NEGATED
    return _reversed(_with_degree(word.valence, rated, place))


def _reversed(value: float) -> float:
    return value * (GOOD_NEGATED if value > 0 else BAD_NEGATED)


def _with_degree(value: float, rated: Sequence[Rated], place: int) -> float:
    """Return a valence strengthened or weakened by the three words before it."""
    sign = math.copysign(1.0, value)
    for distance in range(1, min(3, place) + 1):
        item = rated[place - distance]
        if not item.token.is_word:
            break
        step = DEGREE * (1.0 - 0.05 * (distance - 1))
        if item.word.is_booster:
            value += sign * step
        elif item.word.is_dampener:
            value -= sign * step
    return value
