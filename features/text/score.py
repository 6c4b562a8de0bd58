"""Scores of many texts: language, sentiment and themes, each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from configs.runtime.hashing import digest
from features.text.language import language_of
from features.text.lexicon import LANGUAGES, THEMES, lexicon_of, lexicon_version
from features.text.prepared import plain_text, prepare
from features.text.sentiment import rated_tokens, sentiment_of
from features.text.themes import themes_of

RULES = 1
"""Version of the rules; raised by every change of results that the lexicons do not show."""

SCHEMA = pa.schema(
    [
        ("language", pa.string()),
        ("sentiment", pa.float64()),
        *((theme, pa.bool_()) for theme in THEMES),
    ]
)


@dataclass(frozen=True)
class TextScore:
    """Scores of one text.

    Attributes
    ----------
    language : str or None
        ISO 639-1 code; None where unclear.
    sentiment : float or None
        −1 (very unhappy) to 1 (very happy); None without a lexicon for the language.
    themes : frozenset of str
        Names of `THEMES`; empty without a lexicon for the language.
    """

    language: str | None
    sentiment: float | None
    themes: frozenset[str]


def scores_version() -> str:
    """Return the identity of the rules, lexicons and language profiles."""
    return digest(RULES, lexicon_version())


def score_texts(texts: pa.Array | pa.ChunkedArray | Sequence[str | None]) -> pa.Table:
    """Score texts; equal texts are scored once.

    Parameters
    ----------
    texts : Arrow array, pandas series or sequence of str
        Texts; None for a missing one. The first 2,000 characters of a text are read.

    Returns
    -------
    pyarrow.Table
        One row per text, in order: ``language``, ``sentiment`` in [−1, 1] and one flag per theme.
        All columns are null for a missing or empty text; sentiment and flags are null where the
        language is unclear or has no lexicon.

    Examples
    --------
    >>> scored = score_texts(["The export is broken again.", "エクスポートが止まります", None])
    >>> scored["language"].to_pylist(), scored["bug"].to_pylist()
    (['en', 'ja', None], [True, None, None])
    """
    given = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    encoded = pc.dictionary_encode(given.cast(pa.string()))
    whole = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    rows = [_row(score_text(text)) for text in whole.dictionary.to_pylist()]
    return pa.Table.from_pylist(rows, SCHEMA).take(whole.indices)


def score_text(text: str) -> TextScore:
    """Score one text."""
    plain = plain_text(text)
    prepared = prepare(plain)
    language = language_of(prepared)
    if language not in LANGUAGES:
        return TextScore(language, None, frozenset())
    lexicon = lexicon_of(language)
    if language == "fr":
        prepared = prepare(plain, splits_elisions=True)
    rated = rated_tokens(prepared, lexicon)
    sentiment = sentiment_of(prepared, rated)
    return TextScore(language, sentiment, themes_of(prepared, rated, lexicon))


def _row(score: TextScore) -> dict[str, object]:
    is_scored = score.sentiment is not None
    flags = {theme: theme in score.themes if is_scored else None for theme in THEMES}
    return {"language": score.language, "sentiment": score.sentiment, **flags}
