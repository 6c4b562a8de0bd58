"""Interventions: intervals and sample sizes against statsmodels, the lot, and the limits told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_effectsize,
    samplesize_proportions_2indep_onetail,
)

from training.validation.interventions import (
    ARMS,
    accounts_per_arm,
    assign,
    difference,
    holdout_content,
    interventions_content,
    touched_content,
)


@pytest.mark.parametrize("rates", [(0.10, 0.07), (0.2, 0.15), (0.05, 0.02)])
def test_the_sample_size_is_that_of_statsmodels(rates):
    without, treated = rates
    expected = samplesize_proportions_2indep_onetail(without - treated, treated, power=0.8)
    assert accounts_per_arm(*rates) == pytest.approx(float(expected), abs=1)


def test_the_published_example_agrees_with_cohens_effect_size():
    effect = proportion_effectsize(0.10, 0.07)
    expected = NormalIndPower().solve_power(effect, alpha=0.05, power=0.8)
    assert accounts_per_arm(0.10, 0.07) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (0, 30, 4, 25), (12, 200, 25, 190)])
def test_the_interval_of_a_difference_is_newcombes(counts):
    low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
    found = difference(*counts)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-6)


def test_no_accounts_no_difference():
    assert difference(0, 0, 3, 10) == {"value": None, "low": None, "high": None}


def flagged(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "account_id": [f"A{i:03d}" for i in range(n)],
            "band": np.where(rng.random(n) < 0.3, "high", "elevated"),
            "arr": np.where(rng.random(n) < 0.05, np.nan, rng.lognormal(9, 1, n)),
        }
    )


def test_the_lot_meets_the_share_in_every_stratum_and_repeats():
    accounts = flagged()
    drawn = assign(accounts, 0.2, seed=1)
    held = drawn["arm"].eq("held_out")
    assert abs(held.sum() - 60) <= 1
    for _, rows in drawn.groupby("stratum"):
        assert abs(rows["arm"].eq("held_out").sum() - 0.2 * len(rows)) <= 1
    assert drawn["stratum"].nunique() == 6
    shuffled = assign(accounts.sample(frac=1.0, random_state=2), 0.2, seed=1)
    pd.testing.assert_frame_equal(drawn, shuffled)
    assert not drawn["arm"].equals(assign(accounts, 0.2, seed=2)["arm"])


def test_every_account_is_held_out_with_the_same_chance():
    accounts = flagged(12)
    counts = np.zeros(12)
    for seed in range(400):
        counts += assign(accounts, 0.25, seed=seed)["arm"].eq("held_out").to_numpy()
    assert counts / 400 == pytest.approx(np.full(12, 0.25), abs=0.09)


def test_an_account_keeps_its_arm():
    accounts = flagged(20)
    assert assign(accounts, 0.5, seed=1, taken=dict.fromkeys(accounts["account_id"], "x")).empty
    some = assign(accounts, 0.5, seed=1, taken={"A003": "held_out"})
    assert len(some) == 19


def arms(n: int, rates: dict[str, float], seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = [
        pd.DataFrame(
            {"arm": arm, "arr": rng.lognormal(9, 0.5, n), "label": rng.random(n) < rates[arm]}
        )
        for arm in ARMS
    ]
    return pd.concat(parts, ignore_index=True).astype({"label": "float64"})


def test_a_clear_effect_is_found_with_the_arr_it_saved():
    found = holdout_content(arms(1500, {"treated": 0.06, "held_out": 0.12}), seed=1)
    assert "interval excludes 0" in found["words"]
    assert found["words"].startswith("Fewer treated accounts left")
    treated = found["arms"]["treated"]
    saved = found["saved_arr"]
    assert saved["low"] < 0.06 * treated["arr"] < saved["high"]
    assert saved["low"] > 0
    assert len(found["assumptions"]) == 3


def test_intervals_of_saved_arr_cover_no_effect():
    """Forty companies where treating does nothing: about 38 intervals hold 0."""
    rates = {"treated": 0.1, "held_out": 0.1}
    found = [holdout_content(arms(300, rates, seed), seed=seed) for seed in range(40)]
    holds = [item["saved_arr"]["low"] <= 0 <= item["saved_arr"]["high"] for item in found]
    assert sum(holds) >= 34
    assert any("No conclusion yet" in item["words"] for item in found)


def test_too_few_closed_windows_estimate_nothing():
    few = arms(30, {"treated": 0.1, "held_out": 0.1})
    few.loc[few["arm"] == "held_out", "label"] = np.nan
    found = holdout_content(few, seed=1)
    assert found["saved_arr"]["value"] is None
    assert "nothing is estimated" in found["words"]


def test_touched_and_untouched_are_apart_and_early_decisions_in_neither():
    as_of = pd.Timestamp("2025-07-01", tz="UTC")
    rows = pd.DataFrame(
        {
            "entity_id": ["early", "touched", "late", "alone"],
            "as_of": as_of,
            "p_model": [0.5, 0.5, 0.5, 0.05],
            "label": [1, 1, 0, 0],
            "decision_at": pd.to_datetime(
                [as_of + pd.Timedelta(days=10), as_of + pd.Timedelta(days=60), None, None],
                utc=True,
            ),
            "arr": [10.0, 20.0, 30.0, 40.0],
        }
    )
    touches = pd.DataFrame(
        {
            "entity_id": ["early", "touched", "late"],
            "touched_at": as_of + pd.to_timedelta([5, 20, 40], unit="D"),
        }
    )
    found = touched_content(rows, touches, {"elevated": 0.15, "high": 0.3})
    high, low = found["rows"][0], found["rows"][-1]
    assert found["early"] == 1
    assert (high["touched"]["accounts"], high["touched"]["events"]) == (1, 1)
    assert (high["untouched"]["accounts"], high["untouched"]["events"]) == (1, 0)
    assert (low["touched"]["rate"], low["untouched"]["rate"]) == (None, 0.0)


def test_the_limits_are_always_told():
    content = interventions_content(None, None, 0.12)
    assert len(content["cannot"]) == 3
    assert [item["per_arm"] for item in content["needed"]][0] == 1356
    assert len(content["needed"]) == 2
