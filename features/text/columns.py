"""Scores of the texts of a source table, as columns for features."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from features.text import TEXT_COLUMNS
from features.text.lexicon import THEMES
from features.text.score import score_texts

SENTIMENT = "sentiment"
"""Column of the sentiment, from the source or ours."""

THEME_COLUMNS = {theme: f"about_{theme}" for theme in THEMES}
"""Flag of each theme in a daily table."""


def with_text_scores(table: str, source: ir.Table) -> ir.Table:
    """Return a source table with the scores of its text in place of the text.

    Each distinct text is scored once, when this function is called; the result is a join. Sentiment
    from the source wins over ours.

    Parameters
    ----------
    table : str
        Name of the source table.
    source : ibis.Table
        The canonical table.

    Returns
    -------
    ibis.Table
        The table without its text column, with ``sentiment`` and the flags of `THEME_COLUMNS`. A
        table without texts is returned as it is.
    """
    name = TEXT_COLUMNS.get(table)
    if name is None or name not in source.columns:
        return source
    scores = ibis.memtable(_scores(source, name))
    kept = [column for column in source.columns if column not in {name, SENTIMENT}]
    joined = source.left_join(scores, source[name] == scores["_text"])
    ours = joined["_sentiment"]
    own = joined[SENTIMENT].cast("float64") if SENTIMENT in source.columns else None
    return joined.select(
        *kept,
        **{SENTIMENT: ours if own is None else ibis.coalesce(own, ours)},
        **{column: joined[column] for column in THEME_COLUMNS.values()},
    )


def _scores(source: ir.Table, name: str) -> pa.Table:
    texts = source.filter(source[name].notnull()).select(_text=source[name]).distinct().to_pyarrow()
    scored = score_texts(texts["_text"])
    return pa.table(
        {
            "_text": texts["_text"],
            "_sentiment": scored[SENTIMENT],
            **{column: scored[theme] for theme, column in THEME_COLUMNS.items()},
        }
    )
