"""Scores as columns of a source table: own scores win, and the text is left out."""

from __future__ import annotations

import ibis
import pytest

from features.tables.source_tables import TABLES
from features.text import TEXT_COLUMNS
from features.text.columns import THEME_COLUMNS, with_text_scores


def test_own_sentiment_wins_and_ours_fills_its_gaps():
    rows = ibis.memtable(
        {"ticket_id": ["1", "2", "3"], "text": ["It is broken", "It is broken", None],
         "sentiment": [0.9, None, 0.1]}
    )  # fmt: skip
    found = with_text_scores("support_tickets", rows).order_by("ticket_id").to_pyarrow()
    assert found["sentiment"].to_pylist() == [0.9, pytest.approx(-0.5423), 0.1]
    assert found["about_bug"].to_pylist() == [True, True, None]
    assert "text" not in found.column_names
    assert set(found.column_names) >= set(THEME_COLUMNS.values())


def test_other_tables_and_tables_without_text_are_as_they_were():
    rows = ibis.memtable({"ticket_id": ["1"], "sentiment": [0.5]})
    assert with_text_scores("support_tickets", rows) is rows
    assert with_text_scores("invoices", rows) is rows


def test_a_table_whose_texts_are_all_missing():
    rows = ibis.memtable(
        {"kind": ["nps"], "comment": [None]}, schema={"kind": "string", "comment": "string"}
    )
    found = with_text_scores("survey_responses", rows).to_pyarrow()
    assert found["sentiment"].to_pylist() == [None]


def test_every_table_with_text_takes_own_scores():
    for table, column in TEXT_COLUMNS.items():
        assert TABLES[table].columns[column].kind == "text"
        own = TABLES[table].columns["sentiment"]
        assert (own.kind, own.low, own.high) == ("number", -1, 1)
