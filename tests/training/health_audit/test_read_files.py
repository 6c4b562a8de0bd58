"""Reading other people's files: delimiters, dates, numbers, names, words."""

from __future__ import annotations

import pandas as pd
import pytest

from configs.runtime.errors import SourceError
from training.health_audit.history import kinds_option, outcome_rows, score_rows
from training.health_audit.options import (
    AuditOptions,
    band_options,
    column_options,
    day_option,
    higher_option,
)
from training.health_audit.reading.guess_columns import (
    OUTCOMES,
    SCORES,
    component_columns,
    guess_columns,
)
from training.health_audit.reading.parse_values import read_dates, read_numbers
from training.health_audit.reading.read_files import read_file


def asked(**options) -> AuditOptions:
    return AuditOptions(now=pd.Timestamp("2026-01-05", tz="UTC").to_pydatetime(), **options)


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_delimiters(tmp_path, sign):
    path = tmp_path / "scores.csv"
    path.write_text(f"Account{sign}Score\nA{sign}7\nB{sign}\n", encoding="utf-8-sig")
    frame = read_file(path)
    assert list(frame) == ["Account", "Score"]
    assert frame["Score"].isna().tolist() == [False, True]


def test_latin_files_and_parquet(tmp_path):
    (tmp_path / "a.csv").write_bytes("account,band\nMüller,grün\n".encode("cp1252"))
    assert read_file(tmp_path / "a.csv").loc[0, "account"] == "Müller"
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet")["a"].tolist() == [1]


def test_what_spreadsheets_write(tmp_path):
    table = "Account;Score Date;Score\r\nA;31/03/2025;71,5 %\r\nB;01/04/2025;1.020,0 %\r\n"
    (tmp_path / "wide.csv").write_bytes(table.replace(";", "\t").encode("utf-16"))
    (tmp_path / "told.csv").write_bytes(f"sep=;\r\n{table}".encode())
    (tmp_path / "marked.csv").write_bytes(table.encode("utf-8-sig"))
    for name in ("wide.csv", "told.csv", "marked.csv"):
        frame = read_file(tmp_path / name)
        assert list(frame) == ["Account", "Score Date", "Score"]
        assert read_numbers(frame["Score"]).tolist() == [71.5, 1020.0]
        assert read_dates(frame["Score Date"]).at.dt.strftime("%m-%d").tolist() == [
            "03-31",
            "04-01",
        ]


def test_days_as_spreadsheets_number_them():
    serial = pd.DataFrame({"account_id": ["A", "B"], "scored_on": [45747, 45748], "score": [1, 2]})
    told = score_rows(serial.astype(str), asked())
    assert told.rows["scored_at"].dt.strftime("%Y-%m-%d").tolist() == ["2025-04-01", "2025-04-02"]
    unnamed = serial.rename(columns={"scored_on": "seats"}).assign(score=["3", "4"])
    assert not score_rows(unnamed, asked()).is_dated


@pytest.mark.parametrize("cells", [["last week", "2025"], ["1", "2"]])
def test_a_column_named_for_a_date_that_holds_none_is_refused(cells):
    frame = pd.DataFrame({"account_id": ["A", "B"], "scored_on": cells, "score": ["1", "2"]})
    with pytest.raises(SourceError, match="too few of its values fit") as refused:
        score_rows(frame, asked())
    assert cells[0] in str(refused.value.where)
    assert "--column scores.date=scored_on" in str(refused.value.fix)


def test_scores_of_a_time_to_come_are_left_out():
    days = ["2025-12-01", "2026-01-05", "2031-01-01"]
    frame = pd.DataFrame({"account_id": ["A", "B", "C"], "scored_on": days, "score": "1"})
    found = score_rows(frame, asked())
    assert found.rows["entity_id"].tolist() == ["A", "B"]
    assert "1 row of scores left out: dated later than today, 2026-01-05" in [
        note.words for note in found.notes
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("book.csv", "PK\x03\x04rest", "is a workbook"),
        ("other.csv", "a\0b", "is not a text file"),
        ("none.csv", None, "there is no file"),
        ("empty.csv", "", "the file is empty"),
        ("header.csv", "account,score\n", "has no rows"),
        ("bad.parquet", "x", "not a readable Parquet"),
    ],
)
def test_unreadable(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=words):
        read_file(tmp_path / name)


def test_dates_by_either_order():
    said = read_dates(pd.Series(["25/03/2025", "04/03/2025"]))
    assert said.at.dt.strftime("%m-%d").tolist() == ["03-25", "03-04"]
    assert said.is_day
    with pytest.raises(SourceError, match="ambiguous.*03/04/2025") as asking:
        read_dates(pd.Series(["03/04/2025"]), name="when")
    assert "--day-first or --month-first" in asking.value.fix
    other = read_dates(pd.Series(["03/04/2025"]), name="when", proven=True)
    assert other.at.dt.strftime("%m-%d").tolist() == ["04-03"]
    assert other.words == "when: 03/04/2025 is read day first"
    with pytest.raises(SourceError, match="both day/month and month/day"):
        read_dates(pd.Series(["25/03/2025", "03/25/2025"]), name="when")


def test_numbers_of_both_worlds():
    column = pd.Series(["1,234,567.5", "1.234.567,5", "1.234,5", "12,5", "7"])
    assert read_numbers(column).tolist() == [1234567.5, 1234567.5, 1234.5, 12.5, 7.0]


def test_names_are_guessed_and_told():
    frame = pd.DataFrame({
        "Account ID": ["A", "B"], "Snapshot_Date__c": ["2025-01-01", "2025-02-01"],
        "Health Score": ["70", "20"], "Status": ["Green", "Red"], "Adoption": ["3", "4"],
        "CreatedDate": ["2025-01-02", "2025-02-02"],
    })  # fmt: skip
    found = guess_columns(frame, "scores", SCORES, {})
    assert {role: guess.column for role, guess in found.items()} == {
        "account": "Account ID", "date": "Snapshot_Date__c", "recorded": "CreatedDate",
        "score": "Health Score", "band": "Status",
    }  # fmt: skip
    assert component_columns(frame, found) == ["Adoption"]
    told = guess_columns(frame, "scores", SCORES, {"scores.score": "Adoption"})
    assert (told["score"].column, told["score"].how) == ("Adoption", "as configured")


def test_a_missing_date_is_refused():
    with pytest.raises(SourceError, match="looks like the date of the decision") as refused:
        guess_columns(pd.DataFrame({"account": ["A"]}), "outcomes", OUTCOMES, {})
    assert refused.value.fix.startswith("--column outcomes.date=NAME")


@pytest.mark.parametrize(
    ("column", "values", "kinds"),
    [
        ("Stage", ["Closed Lost", "Closed Won"], ["churn", "kept"]),
        ("type", ["Downgrade", "Upsell"], ["contraction", "expansion"]),
        ("churned", ["1", "0"], ["churn", "kept"]),
        ("renewed", ["yes", "no"], ["kept", "churn"]),
    ],
)
def test_words_for_what_happened(column, values, kinds):
    frame = pd.DataFrame({"account": ["A", "B"], "date": ["2025-01-01"] * 2, column: values})
    rows = outcome_rows(frame, asked(), {"A", "B"}).rows
    assert rows.set_index("entity_id")["kind"].reindex(["A", "B"]).tolist() == kinds


def test_strange_words():
    frame = pd.DataFrame({
        "account": ["A", "B"], "date": ["2025-01-01"] * 2, "outcome": ["lost", "gegangen"],
    })  # fmt: skip
    found = outcome_rows(frame, asked(), {"A", "B"})
    assert len(found.rows) == 1
    assert "gegangen" in found.notes[0].words
    both = outcome_rows(frame, asked(kinds={"gegangen": "churn"}), {"A", "B"})
    assert both.rows["kind"].tolist() == ["churn", "churn"]
    with pytest.raises(SourceError, match="no word of column 'outcome'"):
        outcome_rows(frame.assign(outcome="gegangen"), asked(), {"A"})


def test_a_creation_date_is_no_time_of_writing():
    frame = pd.DataFrame({
        "account": ["A", "A"], "date": ["2025-01-31", "2025-02-28"], "score": ["1", "2"],
        "created_at": ["2020-01-01"] * 2,
    })  # fmt: skip
    found = score_rows(frame, asked())
    assert not found.has_recorded
    assert "not used as the time of writing" in found.notes[0].words


def test_a_day_is_known_at_its_next_midnight():
    frame = pd.DataFrame({"account": ["A"], "date": ["2025-01-31"], "score": ["1"]})
    known = score_rows(frame, asked()).rows["known_at"]
    assert known.iloc[0] == pd.Timestamp("2025-02-01", tz="UTC")


def test_parts_from_json():
    frame = pd.DataFrame({
        "account": ["A", "B"], "date": ["2025-01-01"] * 2, "score": ["1", "2"],
        "components": ['{"usage": 3, "nps": 9}', '{"usage": 4}'],
    })  # fmt: skip
    found = score_rows(frame, asked())
    assert found.components == ("nps", "usage")
    assert found.rows["part_usage"].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (lambda text: column_options([text]), "score=x"),
        (lambda text: kinds_option([text]), "lost=churned"),
        (lambda text: day_option(text, "--through"), "soon"),
        (higher_option, "better"),
    ],
)
def test_options_are_refused(parse, value):
    with pytest.raises(SourceError):
        parse(value)


def test_options_are_read():
    assert column_options(["scores.score=My = Score"]) == {"scores.score": "My = Score"}
    assert kinds_option(["a=b=churn"]) == {"a=b": "churn"}
    assert band_options(" ; a,b") == (("a", "b"),)
    assert higher_option(None) is None
