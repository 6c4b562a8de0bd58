"""The book: what is exported, in what order it becomes visible, and that it equals the API."""

from __future__ import annotations

import csv
import io
import re
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from configs.runtime.errors import StateError, UnavailableError
from configs.runtime.state_directory import State
from configs.schema.workspace import Workspace
from serving.batch.score_book import (
    _dated,
    read_latest,
    read_ranks,
    read_table,
    score_book,
    top_at_risk,
)
from serving.ledger.store.ledger import Ledger
from serving.scoring.export_columns import COLUMNS
from serving.scoring.export_rows import cell, csv_text, flat_row


def test_every_account_has_a_row_and_the_ranked_come_first(book):
    rows = read_table(book).to_pylist()
    assert len(rows) == sum(book.statuses.values()) == 260
    ranked = [row for row in rows if row["rank"] is not None]
    assert [row["rank"] for row in ranked] == list(range(1, book.statuses["scored"] + 1))
    losses = [row["expected_arr_lost"] for row in ranked]
    assert losses == sorted(losses, reverse=True)
    assert all(row["status"] != "scored" for row in rows[len(ranked) :])


def test_the_offline_row_is_the_online_row(world, book, live):
    table = {row["account_id"]: row for row in read_table(book).to_pylist()}
    asked = list(table)
    scored = live.score(asked, request_id="equal")
    for answer in scored.answers:
        alone = {"rank": None, "updated_at": None}  # what only a whole book knows
        online = flat_row(answer) | alone
        offline = table[answer["account_id"]] | alone
        numbers = {name for name in COLUMNS if isinstance(offline[name], float)}
        assert {k: v for k, v in online.items() if k not in numbers} == {
            k: v for k, v in offline.items() if k not in numbers
        }
        for name in numbers:
            assert online[name] == pytest.approx(offline[name], rel=1e-12), name


def test_the_ledger_holds_the_whole_book(world, book):
    with Ledger.open(world.workspace) as ledger:
        for target in ("churn", "expansion"):
            kept = ledger.runs.last(target)
            assert len(kept) == book.statuses["scored"]
            assert {row.request_id for row in kept} == {book.run_id}
            assert {row.release_id for row in kept} == {world.release.release_id}


def test_the_same_book_again_is_the_same_run(world, book):
    with Ledger.open(world.workspace) as ledger:
        before = ledger.scores.count()
        again = score_book(world.workspace, world.release, ledger, world.now)
        assert again == book
        assert ledger.scores.count() == before


def test_nothing_is_published_that_the_ledger_did_not_take(world, book):
    state = world.workspace.state
    before = (state.scores / "latest.json").read_text()
    folders = set(state.scores.iterdir())

    class Away:
        runs = SimpleNamespace(last=lambda _target, **_options: [])

        def append_book(self, _book):
            raise UnavailableError("the database does not answer")

    with pytest.raises(UnavailableError):
        score_book(world.workspace, world.release, Away(), world.now)
    assert (state.scores / "latest.json").read_text() == before
    assert set(state.scores.iterdir()) == folders


def test_without_vectors_the_fix_is_named(world, tmp_path):
    empty = Workspace(
        world.workspace.company, tmp_path, tmp_path, State(tmp_path), world.workspace.places
    )
    (tmp_path / "bundles").symlink_to(world.workspace.state.bundles)
    with Ledger.open(empty) as ledger, pytest.raises(StateError, match="no vectors"):
        score_book(empty, world.release, ledger, world.now)
    assert read_latest(empty.state) is None


def test_a_half_written_book_is_an_error_not_an_empty_page(tmp_path):
    state = State(tmp_path)
    state.scores.mkdir()
    (state.scores / "latest.json").write_text('{"run_id":"gone"}')
    with pytest.raises(StateError, match="missing or incomplete"):
        read_latest(state)


def test_csv_and_parquet_say_the_same_and_formulas_are_dead(world, book):
    with (book.folder / "scores.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    table = pq.read_table(book.folder / "scores.parquet").to_pylist()
    assert [row["account_id"] for row in rows] == [row["account_id"] for row in table]
    assert [row["churn_risk"] for row in rows if row["churn_risk"]] == [
        repr(row["churn_risk"]) for row in table if row["churn_risk"] is not None
    ]
    named = next(row for row in rows if row["account_id"] == "A-0004")
    assert named["name"] == "'" + world.odd_names[4]


def test_reasons_are_one_line_per_account_and_target(book):
    text = (book.folder / "reasons.jsonl").read_bytes()
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert len(lines) == 2 * book.statuses["scored"]
    assert {line["target"] for line in lines} == {"churn", "expansion"}


def test_ranks_are_ascending_probabilities(book):
    ranks = read_ranks(book)
    assert set(ranks) == {"churn:renewal", "churn:horizon", "expansion:horizon"}
    for target in ("churn", "expansion"):
        parts = [values for name, values in ranks.items() if name.startswith(f"{target}:")]
        assert sum(map(len, parts)) == book.statuses["scored"], "each in one"
    for values in ranks.values():
        assert (values[1:] >= values[:-1]).all()


def test_percentiles_are_among_accounts_that_were_asked_the_same(book):
    """Recomputed from the exported rows: renewals among renewals, horizons among horizons."""
    rows = [row for row in read_table(book).to_pylist() if row["churn_risk"] is not None]
    for asked in ("renewal", "horizon"):
        mine = [row for row in rows if row["churn_asks_about"] == asked]
        risks = np.array([row["churn_risk"] for row in mine])
        assert 20 < len(mine) < len(rows)
        for row in mine:
            below = np.mean(risks < row["churn_risk"]) + 0.5 * np.mean(risks == row["churn_risk"])
            assert row["churn_percentile"] == pytest.approx(100 * below, abs=0.051)


def test_money_that_is_expected_to_be_lost_has_its_day_and_its_part_of_91_days(book):
    for row in read_table(book).to_pylist():
        if row["expected_arr_lost"] is None:
            continue
        end = date.fromisoformat(row["as_of"][:10]) + timedelta(days=91)
        is_near = date.fromisoformat(row["churn_until"]) <= end
        assert row["expected_arr_lost_91d"] == (row["expected_arr_lost"] if is_near else 0.0)
        assert row["expansion_until"] == end.isoformat()


def test_the_top_speaks_in_words(book):
    top = top_at_risk(book, 10)
    assert len(top) == 10
    assert top[0].startswith(" 1. ")
    assert "\xa0%" in top[0]
    assert "expected loss £" in top[0]
    assert not any("because" in text or "will" in text.split() for text in top)


RUNS = "=+-@\uff1d\uff0b\uff0d\uff20"
ODD = st.text(st.sampled_from(f"{RUNS}a1 \t\r\n;|,\"'\u00a0\u200b\ufeff\x00\x1f"), max_size=12)


@given(st.one_of(st.text(max_size=40), ODD), st.sampled_from(",;|\t"))
@example(";=1+1", ";")
@example("|=1+1", "|")
@example("Acme;=1+1", ";")
@example('Acme;"=1+1"', ";")
@example("Acme\n=1+1", ";")
@example("\t=1+1", ",")
@example("\r=1+1", ",")
@example(" \u00a0\u200b=1+1", ",")
def test_no_text_is_a_formula_in_a_spreadsheet(text, delimiter):
    """However a spreadsheet splits the line: at commas, or at what its country uses."""
    lines = "".join(csv_text([["A-1", cell(text), "x"]]))
    for row in csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter):
        for written in row:
            seen = re.sub(r'^[\s\x00-\x1f\u200b-\u200f\u2060\ufeff"]+', "", written)
            assert not seen.startswith(tuple(RUNS)), (row, text)
            is_ours = delimiter == ","
            assert not (is_ours and written.startswith(("\t", "\r", "\n")) and written.strip())


@given(st.one_of(st.text(max_size=40), ODD))
def test_a_text_is_kept_but_for_apostrophes(text):
    lines = "".join(csv_text([["A-1", cell(text), "x"]]))
    [[_, written, _]] = csv.reader(io.StringIO(lines, newline=""), strict=True)
    assert written.replace("'", "") == text.replace("'", "")
    assert written[:1] == "'" or not text.startswith((*RUNS, ";=", "|=", "\t", "\r", " =", " -"))


@pytest.mark.parametrize("text", ["Acme", "a; b", "3 - 2 = 1", "a@b.example", "Re: +49", "it's"])
def test_plain_text_is_left_as_it_is(text):
    assert cell(text) == text


def test_a_row_that_says_the_same_keeps_the_day_it_came_to_say_it(world, book):
    rows = read_table(book).to_pylist()
    rows[3] = rows[3] | {"days_to_renewal": 1, "rank": 99, "as_of": "later"}
    rows[4] = rows[4] | {"owner_id": "somebody else"}
    dated = _dated(rows, read_table(book).to_pylist(), world.now + timedelta(days=7))
    told = [row["updated_at"] for row in dated]
    assert told[4] == "2026-03-09T09:30:00Z"
    assert {*told[:4], *told[5:]} == {"2026-03-02T09:30:00Z"}
