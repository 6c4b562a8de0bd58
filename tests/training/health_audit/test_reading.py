"""The audit reads files as people write them, and says how."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import SourceError
from training.health_audit.reading.read_files import read_file


def first_of_months(made):
    """Scores of the first of each month, and what was decided on any day."""
    scores, outcomes = made.company(accounts=200, months=18)
    day = pd.to_datetime(scores["scored_on"])
    scores["scored_on"] = [
        pd.Timestamp("2024-01-01") + pd.DateOffset(months=int(d.days) // 30)
        for d in day - day.min()
    ]
    outcomes["decided_on"] = pd.to_datetime(outcomes["decided_on"])
    return scores.drop(columns="renews_on"), outcomes


def written(table, column, shape):
    return table.assign(**{column: table[column].dt.strftime(shape)})


def test_the_other_file_proves_that_the_day_stands_first(made, tmp_path):
    scores, outcomes = first_of_months(made)
    iso = made.run(tmp_path / "iso", scores, outcomes)
    shape = "%d/%m/%Y"
    found = made.run(
        tmp_path / "slashed",
        written(scores, "scored_on", shape),
        written(outcomes, "decided_on", shape),
    )
    assert iso.content is not None
    assert found.content is not None
    assert found.content["targets"]["churn"]["test"] == iso.content["targets"]["churn"]["test"]
    assert found.content["reading"]["first"] == iso.content["reading"]["first"]
    assert any(line.endswith("is read day first") for line in found.lines)


def test_what_no_file_proves_is_asked_about(made, tmp_path):
    scores, outcomes = first_of_months(made)
    scores = written(scores, "scored_on", "%d/%m/%Y")
    with pytest.raises(SourceError, match="'scored_on' are ambiguous") as caught:
        made.run(tmp_path, scores, outcomes)
    assert caught.value.fix == "set --day-first or --month-first"
    assert made.run(tmp_path, scores, outcomes, day_first=True).content is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda at: (at.astype("datetime64[s]").astype("int64")).astype(str),
        lambda at: (at.astype("datetime64[s]").astype("int64") * 1000).astype(str),
        lambda at: ((at - pd.Timestamp("1899-12-30")).dt.days).astype(str),
        lambda at: at.dt.strftime("%d %b %Y"),
        lambda at: at.dt.strftime("%m/%d/%Y 12:00 AM"),
        lambda at: at.dt.strftime("%Y-%m-%dT00:00:00+0000"),
    ],
)
def test_moments_of_every_make(made, tmp_path, write):
    scores, outcomes = first_of_months(made)
    iso = made.run(tmp_path / "iso", scores, outcomes)
    scores["scored_on"], outcomes["decided_on"] = (
        write(scores["scored_on"]),
        write(outcomes["decided_on"]),
    )
    found = made.run(tmp_path / "other", scores, outcomes)
    assert found.content["targets"]["churn"]["test"] == iso.content["targets"]["churn"]["test"]


def test_amounts_of_every_make(made, tmp_path):
    scores, outcomes = first_of_months(made)
    iso = made.run(tmp_path / "iso", scores, outcomes)
    scores["arr"] = [f"${x:,.2f}" for x in scores["arr"]]
    scores["health_score"] = [f"{x:.1f}".replace(".", ",") for x in scores["health_score"]]
    found = made.run(tmp_path / "other", scores, outcomes)
    assert found.content["targets"] == iso.content["targets"]


def test_broken_lines_are_counted_and_said(made, tmp_path):
    scores, outcomes = first_of_months(made)
    outcomes.to_csv(tmp_path / "outcomes.csv", index=False)
    made.run(tmp_path, scores, None)
    text = (tmp_path / "scores.csv").read_text().splitlines(keepends=True)
    text[10] = 'A0001,"2024-02-01,5\n'
    (tmp_path / "scores.csv").write_text("".join([*text, "A0002,2024-03-01\n"]))
    frame = read_file(tmp_path / "scores.csv")
    assert len(frame) == len(scores) - 1
    assert frame.attrs["notes"] == ["scores.csv: 2 lines that fit no record are left out"]


def test_the_same_words_are_missing_as_everywhere(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n-,1\nnone,2\nN/A,3\n#N/A,4\nx,5\n")
    assert read_file(tmp_path / "x.csv")["a"].replace({np.nan: None}).tolist() == [None] * 4 + ["x"]
