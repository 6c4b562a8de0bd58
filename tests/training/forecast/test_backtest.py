"""CRPS against scoringrules, coverage against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from scipy.stats import norm

from training.forecast.backtest import coverage_tolerance, crps, is_covered


@pytest.mark.parametrize("n", [1, 2, 7, 500])
def test_crps_is_that_of_scoringrules(n):
    rng = np.random.default_rng(n)
    draws, observed = rng.normal(0.95, 0.02, n), 0.97
    expected = scoringrules.crps_ensemble(observed, draws, estimator="nrg")
    assert crps(draws, observed) == pytest.approx(float(expected), abs=1e-10)


def test_crps_of_many_normal_draws_is_the_closed_form():
    """Gneiting and Raftery 2007, eq. 22, as coded in scoringrules."""
    draws = norm.ppf((np.arange(20_000) + 0.5) / 20_000, 0.9, 0.03)
    expected = scoringrules.crps_normal(0.95, 0.9, 0.03)
    assert crps(draws, 0.95) == pytest.approx(float(expected), rel=1e-3)


def test_crps_of_one_number_is_its_error():
    assert crps(np.array([0.9]), 0.85) == pytest.approx(0.05)


def test_the_band_is_the_middle_eighty_percent():
    draws = np.arange(101) / 100
    assert [is_covered(draws, x) for x in (0.05, 0.1, 0.5, 0.9, 0.95)] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_few_quarters_allow_wide_tolerance():
    assert coverage_tolerance(4) == (1, 4)
    assert coverage_tolerance(8) == (4, 8)
    assert coverage_tolerance(100) == (72, 88)
