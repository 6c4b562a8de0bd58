"""Which words of a label mean that it happened, that it did not, and that it is not known."""

from __future__ import annotations

import pandas as pd
import pytest

from configs.runtime.errors import ConfigError, DataError
from training.tabular.table_frame import UNLABELLED, build_table_frame


def words(world, third, n=40):
    table = world.static()
    table["churned"] = table["churned"].map({"Yes": "Churned", "No": "Active"})
    table.loc[: n - 1, "churned"] = third
    return table


def label(**more):
    return {"label": {"column": "churned", "positive": "Churned", **more}}


@pytest.mark.parametrize("third", ["Unknown", "pending", "TBD", "?", ""])
def test_a_word_that_says_neither_is_no_label(bring, world, third):
    table = words(world, third)
    made = build_table_frame(bring("static", table, label()), world.now)
    n_active = int((table["churned"] == "Active").sum())
    assert made.contract["excluded"] == {UNLABELLED: 40}
    assert made.contract["used_rows"] == 560
    assert made.contract["label_words"]["active"] == f"did not happen, {n_active} rows"
    assert len(made.open_rows) == 40
    if third not in ("?", ""):
        assert made.contract["label_words"][third.lower()] == "no label, 40 rows"


def test_a_word_that_may_mean_either_is_asked_about(bring, world):
    table = words(world, "Paused")
    with pytest.raises(DataError, match=r"unclear.*paused \(40 rows\)") as caught:
        build_table_frame(bring("static", table, label()), world.now)
    assert "negative: [active, paused]" in caught.value.fix
    told = build_table_frame(
        bring("static", table, label(negative=["Active", "Paused"])), world.now
    )
    assert told.contract["excluded"] == {}
    assert len(told.frame) == 600
    left = build_table_frame(bring("static", table, label(negative="Active")), world.now)
    assert left.contract["excluded"] == {UNLABELLED: 40}


def test_a_negative_word_that_is_not_there_is_refused(bring, world):
    with pytest.raises(DataError, match="no row has the label 'activ'") as caught:
        build_table_frame(
            bring("static", words(world, "Unknown"), label(negative=["Activ"])), world.now
        )
    assert caught.value.fix == 'did you mean "active"?'


def test_every_column_of_dates_is_named_at_once(bring, world):
    table = world.static().assign(
        first_seen=["2023-01-01", "2023-02-01"] * 300, last_seen=["2023-03-01", "2023-04-01"] * 300,
        odd=["12,345", "23,456"] * 300,
    )  # fmt: skip
    with pytest.raises(DataError) as caught:
        build_table_frame(bring("static", table, {"taken_on": None}), world.now)
    text = str(caught.value)
    assert "columns signed_on, first_seen, last_seen hold dates" in text
    assert "columns: {signed_on: drop, first_seen: drop, last_seen: drop}" in text
    assert "the numbers of column 'odd' are ambiguous" in text


def test_amounts_and_dates_as_spreadsheets_write_them(bring, world):
    table = world.static()
    plain = build_table_frame(bring("static", table, {"mrr": "spend"}), world.now)
    amounts = pd.to_numeric(table["spend"], errors="coerce")
    table["spend"] = ["n/a" if pd.isna(x) else f"${x:,.2f}" for x in amounts]
    table["signed_on"] = pd.to_datetime(table["signed_on"]).dt.strftime("%d/%m/%Y")
    made = build_table_frame(bring("static", table, {"mrr": "spend"}, name="other"), world.now)
    assert made.frame.fingerprint() == plain.frame.fingerprint()
    told = {column.name: column.words for column in made.columns}
    assert "separates thousands" in told["spend"]
    assert told["signed_on"].endswith("is read day first")


def test_absurd_amounts_are_refused(bring, world):
    table = world.static()
    table.loc[7, "spend"] = "1e308"
    with pytest.raises(DataError, match="1 of 600 amounts.*1e308"):
        build_table_frame(bring("static", table, {"mrr": "spend"}), world.now)


def test_how_an_unclear_column_is_written_can_be_said(bring, world):
    table = world.static().assign(odd=["12,345", "23,456"] * 300)
    section = {"written": {"odd": "decimal_comma"}}
    made = build_table_frame(bring("static", table, section), world.now)
    assert sorted(set(made.frame.features["odd"])) == [12.345, 23.456]
    with pytest.raises(DataError, match="written.od: no column 'od'"):
        build_table_frame(bring("static", table, {"written": {"od": "decimal_comma"}}), world.now)
    with pytest.raises(ConfigError, match="table.written.odd"):
        bring("static", table, {"written": {"odd": "comma"}})
