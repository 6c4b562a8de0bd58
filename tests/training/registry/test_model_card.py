"""The model card says what is known and leaves out what is not."""

from __future__ import annotations

from typing import Any

import pytest

from training.model.manifest import ModelManifest
from training.registry.model_card import model_card

ESTIMATE = {"value": 0.71, "low": 0.65, "high": 0.77}
FEATURE = {
    "family": "usage",
    "label": "users",
    "meaning": "Users.",
    "unit": "count",
    "window_days": 28,
    "theme": "adoption",
}
MANIFEST: dict[str, Any] = {
    "verdict": "provisional",
    "kind": "lightgbm",
    "label_contract": {"outcome": "churn", "horizon_days": 91},
    "n_rows": 12_345,
    "n_entities": 800,
    "trained_from": "2024-01-01",
    "trained_to": "2025-12-01",
    "labels_known_to": "2026-03-02",
    "rung": {
        "name": "trees",
        "kind": "lightgbm",
        "n_events": 212,
        "reason": "212 events, below 1000",
    },
    "calibration": {"rule": "affine", "slope": 0.9, "intercept": 0.02},
    "features": [FEATURE | {"name": "a"}, FEATURE | {"name": "b"}],
    "gates": [
        {
            "code": "events",
            "title": "enough events",
            "value": 120.0,
            "threshold": ">= 100",
            "passed": True,
            "words": "",
        },
        {
            "code": "folds",
            "title": "enough folds",
            "value": 2.0,
            "threshold": ">= 3",
            "passed": False,
            "words": "2",
        },
    ],
    "aligned": {
        "n_events": 80,
        "n_features": 50,
        "step_days": 30,
        "rows": [
            {"feature": "users_28d", "from_days": start, "gap": gap, "error": 0.1}
            for start, gap in ((60, -0.2), (30, -0.5))
        ],
    },
}
EVALUATION: dict[str, Any] = {
    "n_events": 120,
    "n_rows": 2_000,
    "n_entities": 700,
    "base_rate": 0.06,
    "over": "accounts",
    "models": {
        "model": {"auc": ESTIMATE, "calibration_slope": {"value": None, "low": None, "high": None}},
        "model_raw": {"auc": ESTIMATE},
        "calendar": {"auc": {"value": 0.6, "low": 0.55, "high": 0.65}},
    },
    "differences": {"calendar": {"auc": {"value": 0.11, "low": 0.02, "high": 0.2}}},
    "lead_times": [
        {
            "counted_from": "notice deadline",
            "days": 90,
            "within_days": 3.5,
            "n": 400,
            "events": 40,
            "measures": {"auc": ESTIMATE},
            "auc": {"model": ESTIMATE, "calendar": {"value": 0.5, "low": 0.4, "high": 0.6}},
        },
        {"counted_from": "decision", "days": 180, "within_days": 3.5, "n": 900, "events": 0},
    ],
    "first_alerts": {
        "events": 110,
        "longest_days": 91.0,
        "models": {
            "model": {"share": 0.5, "median_days": ESTIMATE, "warned": {"30": ESTIMATE}},
        },
    },
    "workload": {
        "alerts": 480,
        "months": 12.0,
        "per_month": 40.0,
        "precision": ESTIMATE,
        "csms": 8,
        "per_csm_month": {"mean": 5.0, "median": 5.0, "busy": 8.0, "most": 11},
    },
    "segments": [{"slice": "large", "n": 30, "events": 3}],
    "newcomers": [{"slice": "new to the model", "n": 90, "events": 12, "auc": ESTIMATE}],
    "stability": {"words": "over 4 test periods 5 % to 9 % had the event"},
    "folds": [{"fold": 1, "cutoff": "2025-01-01", "auc": 0.7}],
    "notes": ["2 of 4 folds"],
    "tuning": "tuning lowered log-loss from 0.2400 to 0.2346",
}


def card_of(target: str, manifest: dict[str, Any], evaluation: dict[str, Any]) -> str:
    return model_card(target, ModelManifest.from_dict(manifest), evaluation)


def test_a_card_holds_every_part() -> None:
    card = card_of("churn", MANIFEST, EVALUATION)
    for line in (
        "# churn",
        "Verdict: **provisional**. A gate was not met: every score is marked as provisional.",
        "| horizon days | 91 |",
        "| training rows, one per account and as_of | 12,345 |",
        "| model tier | trees |",
        "| tuning | tuning lowered log-loss from 0.2400 to 0.2346 |",
        "| AUC within test periods | 0.710 (0.650 to 0.770) |",
        "| calibration slope | – |",
        "| calendar | 0.600 (0.550 to 0.650) | – | – | – |",
        "| model − calendar | 0.110 (0.020 to 0.200) | – | – | – |",
        "| 90 | 400 | 40 | 0.710 (0.650 to 0.770) | – | – | – | 0.500 (0.400 to 0.600) |",
        "| 180 | 900 | 0 | – | – | – | – | – |",
        "| model | 0.500 | – | 1 (1 to 1) | – | 0.710 (0.650 to 0.770) |",
        "| large | 30 | 3 | too few | too few | too few | too few | too few |",
        "| 1 | 2025-01-01 | – | – | – | – | – | 0.700 | – | – |",
        "![training and test period of each fold over time](figures/folds.svg)",
        "|  | 60 to 30 days | 30 to 0 days |",
        "| users_28d | -0.20 ± 0.20 | -0.50 ± 0.20 |",
        "Over 4 test periods 5 % to 9 % had the event.",
        "| NOT MET | enough folds | >= 3 | 2 |",
        "- 2 of 4 folds",
        "- Not met: enough folds.",
        "- Tested on other accounts, not on a later period: the future was not tested.",
    ):
        assert line in card.splitlines()
    assert "model_raw" not in card
    assert "Over 8 CSMs, as accounts are owned today, that is 5.0 a month each" in card


def test_an_empty_card_is_still_one() -> None:
    card = card_of("churn", {}, {})
    assert card.startswith("# churn\n\nVerdict: **unknown**.\n\n## Limits\n")


@pytest.mark.parametrize("part", [*MANIFEST, *EVALUATION])
def test_no_key_is_needed(part: str) -> None:
    manifest = {key: value for key, value in MANIFEST.items() if key != part}
    evaluation = {key: value for key, value in EVALUATION.items() if key != part}
    assert card_of("churn", manifest, evaluation).endswith(".\n")


def test_every_table_row_has_as_many_cells_as_its_head() -> None:
    card = card_of("churn", MANIFEST | {"config_hash": "a|b\nc"}, EVALUATION)
    tables = [part.splitlines() for part in card.split("\n\n") if part.startswith("|")]
    assert len(tables) >= 8
    for rows in tables:
        counts = {row.replace("\\|", "").count("|") for row in rows}
        assert len(counts) == 1


def test_kinds_of_growth_stand_in_one_order_with_their_backtest():
    tested = {"events": 40, "expected": 41.3, "n_amounts": 40, "n_inside": 31}
    uplift = {"p10": 0.13, "p50": 0.26, "p90": 0.5}
    kinds = {
        kind: {"basis": "measured", "n_events": 120, "uplift": uplift, "backtest": tested}
        for kind in ("usage", "seats")
    }
    growth = {"words": "measured: seats, usage", "kinds": kinds}
    card = card_of("expansion", {"growth": growth}, {})
    assert "Measured: seats, usage." in card
    assert "| seats | measured | 120 | 40 / 41.300 |" in card
    assert "| 0.260 (0.130 to 0.500) | 31 of 40 |" in card
    turned = {"growth": growth | {"kinds": dict(reversed(kinds.items()))}}
    assert card_of("expansion", turned, {}) == card
