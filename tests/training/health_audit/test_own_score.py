"""The company's own score under the integrity checks of the audit."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from tests.benchmarks.training.histories import edited, honest
from tests.benchmarks.training.integrity import NOW
from training.health_audit.options import AuditOptions
from training.health_audit.own_score import decisions_of, own_score_checks, own_score_table


def loaded(folder, scores, *, recorded=None, basis="default"):
    """A health_scores table as the sources leave it."""
    at = pd.to_datetime(scores["scored_on"]).astype("datetime64[us]")
    table = pd.DataFrame({
        "account_id": scores["account_id"], "scored_at": at, "score": scores["health_score"],
        "known_at": at if recorded is None else recorded,
    })  # fmt: skip
    table.to_parquet(folder / "data.parquet")
    info = SimpleNamespace(
        path=folder / "data.parquet", columns=("account_id", "scored_at", "score"),
        known_basis=basis,
    )  # fmt: skip
    return SimpleNamespace(tables={"health_scores": info})


def labels(outcomes) -> dict[str, pd.DataFrame]:
    """Two labelled rows for each decision, and one of an account that stayed."""
    decided = pd.to_datetime(outcomes["decided_on"], utc=True)
    rows = pd.DataFrame({"entity_id": outcomes["account_id"], "label": 1.0, "decision_at": decided})
    stayed = rows.head(1).assign(entity_id="Z", label=0.0)
    return {"churn": pd.concat([rows, rows, stayed])}


def codes(checks) -> dict[str, bool | None]:
    return {item["code"]: item["passed"] for item in checks}


ASKED = AuditOptions(now=NOW, higher="healthier", draws=100)


def test_a_score_overwritten_for_a_quarter_of_the_leavers_fails(tmp_path):
    world = edited("floor, a year, a quarter", 0)
    found = codes(own_score_checks(loaded(tmp_path, world.scores), labels(world.outcomes), ASKED))
    assert False in found.values()
    assert {"one_distance", "one_level"} <= {code for code, passed in found.items() if not passed}


def test_an_honest_score_fails_nothing(tmp_path):
    world = honest("usual", 0)
    found = codes(own_score_checks(loaded(tmp_path, world.scores), labels(world.outcomes), ASKED))
    assert False not in found.values()
    assert found["written_late"] is None


def test_the_time_of_writing_is_read_where_the_source_says_it(tmp_path):
    world = honest("usual", 0)
    late = pd.Series(pd.Timestamp("2026-05-01"), index=world.scores.index)
    given = loaded(tmp_path, world.scores, recorded=late.astype("datetime64[us]"), basis="column")
    found = codes(own_score_checks(given, labels(world.outcomes), ASKED))
    assert found["written_late"] is False
    assert "recorded_at" in own_score_table(given)


def test_each_account_leaves_once():
    when = pd.to_datetime(["2024-03-01", "2024-01-01", "2024-05-01"], utc=True)
    frame = pd.DataFrame({"entity_id": ["A", "A", "B"], "label": [1, 1, 0], "decision_at": when})
    found = decisions_of([frame])
    assert found[["account_id", "decided_at"]].to_numpy().tolist() == [["A", when[1]]]
    assert decisions_of([]).empty


@pytest.mark.parametrize("lacking", ["table", "losses"])
def test_without_score_or_losses_nothing_is_asked(tmp_path, lacking):
    world = honest("usual", 0)
    given = loaded(tmp_path, world.scores)
    if lacking == "table":
        given = SimpleNamespace(tables={})
    asked = labels(world.outcomes) if lacking == "table" else {}
    assert own_score_checks(given, asked, ASKED) == []
