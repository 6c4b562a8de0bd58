"""The parts beside the targets are drawn from their content, whatever of it is there."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from training.fitting.expansion_size import growth_section
from training.report.content import plain_content
from training.report.report import build_report
from training.validation.interventions import holdout_content, interventions_content
from training.validation.served_scores import SCORE_COLUMNS, served_content

AS_OF = pd.Timestamp("2025-07-01", tz="UTC")


def served() -> dict:
    rows = [
        ("churn", f"a{i}", AS_OF, AS_OF, "m" * 64, 0.1 + i / 100, "low" if i < 20 else "high",
         100.0, "small", float(i % 3 == 0) if i < 45 else float("nan"),
         None if i < 45 else "window not yet observed", AS_OF + pd.Timedelta(days=91),
         AS_OF + pd.Timedelta(days=50) if i % 3 == 0 and i < 45 else pd.NaT, False)
        for i in range(50)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
    frame["decision_at"] = pd.to_datetime(frame["decision_at"], utc=True)
    return plain_content(served_content(frame, datetime(2026, 1, 1, tzinfo=UTC), seed=1))


def interventions() -> dict:
    assigned = pd.DataFrame(
        {
            "arm": ["treated", "held_out"] * 40,
            "arr": 100.0,
            "label": [float(i % 8 == 0) for i in range(80)],
        }
    )
    group = {
        "accounts": 3,
        "rows": 3,
        "events": 1,
        "rate": 1 / 3,
        "low": 0.1,
        "high": 0.8,
        "arr": 5.0,
    }
    gap = {"value": 0.0, "low": -0.5, "high": 0.5}
    row = {"band": "high", "touched": group, "untouched": group, "difference": gap}
    touched = {"days": 30, "early": 2, "rows": [row]}
    return plain_content(interventions_content(touched, holdout_content(assigned, seed=1), 0.12))


@pytest.fixture(scope="module")
def page(example) -> str:
    sections = {"served": served(), "interventions": interventions()}
    return build_report(**_arguments(example), sections=sections).html.read_text(encoding="utf-8")


def _arguments(example) -> dict:
    return {"workspace": example.workspace} | example.parts()


def test_the_record_shows_bands_and_says_what_is_interim(page):
    assert 'id="served"' in page
    assert "Interim, no verdict: of 5 accounts with an open window" in page
    assert "AUC" in page


def test_interventions_say_what_cannot_be_concluded(page):
    assert "Limits of these numbers" in page
    assert "1,356 accounts in each arm" in page


def test_an_empty_record_and_no_holdout_are_drawn_too(example):
    empty = served_content(
        pd.DataFrame(columns=list(SCORE_COLUMNS)), datetime(2026, 1, 1, tzinfo=UTC), seed=1
    )
    sections = {
        "served": plain_content(empty),
        "interventions": plain_content(interventions_content(None, None, None)),
        "forecast": {"kind": "none", "words": ["Nothing is forecast: for a reason."]},
    }
    page = build_report(**_arguments(example), sections=sections).html.read_text(encoding="utf-8")
    assert "No score has been served yet" in page
    assert "bellwether holdout" in page
    assert "Nothing is forecast: for a reason." in page


def growth_kind(**changes) -> dict:
    tested = {
        "n": 900, "events": 40, "expected": 41.3, "observed_to_expected": 0.97, "brier": 0.037,
        "brier_flat": 0.039, "auc": 0.71, "n_amounts": 40, "n_inside": 31, "inside_low": 0.62,
        "inside_high": 0.87,
    }  # fmt: skip
    uplift = {"p10": 0.13, "p50": 0.26, "p90": 0.5, "mean": 0.29}
    return {"basis": "measured", "n_events": 120, "uplift": uplift, "backtest": tested} | changes


def test_kinds_of_growth_show_their_backtest(example):
    nothing = dict.fromkeys(growth_kind()["backtest"]) | {"events": 0, "n_inside": 0}
    rules = growth_kind(basis="rules", n_events=2, backtest=nothing)
    rules["uplift"] = dict.fromkeys(rules["uplift"])
    told = {
        "words": "measured: seats; usage by rules",
        "kinds": {"usage": rules, "seats": growth_kind()},
        "n_unknown": 3,
    }
    unknown = {"words": "the kinds of past growth are not known", "kinds": {}}
    manifests = {"expansion": {"growth": told}, "more": {"growth": unknown}, "churn": {}}
    section = growth_section(manifests)
    assert [kind for kind, _ in section["targets"][0]["kinds"]] == ["seats", "usage"]
    html = build_report(**_arguments(example), sections={"growth": section}).html
    page = html.read_text(encoding="utf-8")
    assert "31 of 40 [62\xa0%, 87\xa0%]" in page
    assert "3 past growth events have no kind in the subscription terms" in page
    assert "The kinds of past growth are not known." in page
    assert growth_section({"churn": {}}) is None
