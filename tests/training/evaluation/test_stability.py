"""Stability: periods that differ by chance, and a season that moves the level of all scores."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from training.evaluation.metrics import MEASURES
from training.evaluation.sampling import Drawing
from training.evaluation.stability import by_period, chance_of_spread, stability

DRAWING = Drawing(draws=300, seed=2, capacity_per_month=30, fold_days=91)
SOME = {name: MEASURES[name] for name in ("auc", "observed_to_expected", "lift_at_capacity")}


def headline(shifts, n=600, seed=3) -> pd.DataFrame:
    """One test period per shift of the log-odds that the scores know nothing of."""
    rng = np.random.default_rng(seed)
    parts = []
    for fold, shift in enumerate(shifts, start=1):
        logit = rng.normal(-0.5, 1.0, n)
        happens = rng.random(n) < 1 / (1 + np.exp(-(logit + shift)))
        parts.append(
            pd.DataFrame({
                "entity_id": [f"f{fold}a{i}" for i in range(n)],
                "as_of": pd.Timestamp("2025-01-01", tz="UTC") + pd.DateOffset(months=3 * fold),
                "fold": fold,
                "label": happens.astype(int),
                "arr": 1.0,
                "p_model": 1 / (1 + np.exp(-logit)),
            })
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_a_season_moves_the_level_and_is_told_from_the_ranking():
    periods = by_period(headline([0.0, 0.8, -1.2, 0.1]), DRAWING, SOME)
    found = stability(periods)
    assert found["observed_to_expected"]["moved"] == "yes"
    assert found["auc"]["moved"] == "no"
    for words in (
        "(no more than chance), observed over expected",
        "The level differs between periods, as with seasons (2025-04: ",
        "calibrated on all test periods together",
        "in the period starting 2025-10 the probabilities were too high, by a factor of",
    ):
        assert words in found["words"]
    json.dumps([periods, found], allow_nan=False)


def test_equal_periods_are_not_accused():
    found = stability(by_period(headline([0.0] * 4), DRAWING, SOME))
    assert found["observed_to_expected"]["moved"] == found["auc"]["moved"] == "no"
    assert "season" not in found["words"]


def test_periods_by_hand():
    rows = headline([0.3, 0.0], n=200)
    first = by_period(rows, DRAWING, SOME)[0]
    own = rows[rows["fold"] == 1]
    assert (first["n"], first["events"]) == (200, own["label"].sum())
    assert first["rate"] == pytest.approx(own["label"].mean())
    assert first["observed_to_expected"]["value"] == pytest.approx(
        own["label"].sum() / own["p_model"].sum()
    )


def test_thin_periods_are_counted_and_not_compared():
    found = stability(by_period(headline([0.0, 0.0], n=12), DRAWING, SOME))
    assert found["periods"] == 0
    assert "too few to compare" in found["words"]


def test_the_spread_of_two_rates_is_the_chi_square_of_their_table():
    """Cochran's Q of two rates with the pooled variance is Pearson's χ² without correction."""
    table = np.array([[30, 70], [45, 55]])
    rates, n = table[:, 0] / 100, table.sum(axis=1)
    pooled = table[:, 0].sum() / n.sum()
    expected = chi2_contingency(table, correction=False).pvalue
    assert chance_of_spread(rates, pooled * (1 - pooled) / n) == pytest.approx(expected)
