"""The common shock: its likelihood, what shrinkage does, what a few quarters can tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from training.forecast.common_shock import (
    GRID,
    PRIOR_SCALE,
    CommonShock,
    estimate_shock,
    prior,
    shock_log_likelihood,
)


def quarter(rng, s: float, n: int = 2_000, rate: float = 0.06) -> tuple[np.ndarray, np.ndarray]:
    """A quarter of the one-factor model: chances, and what happened."""
    p = np.clip(rng.beta(1.5, 1.5 / rate - 1.5, n), 1e-4, 0.9)
    latent = s * rng.standard_normal() + np.sqrt(1 - s * s) * rng.standard_normal(n)
    return p, (latent < norm.ppf(p)).astype(float)


def test_the_likelihood_is_the_integral_over_the_shock():
    """Against scipy's adaptive quadrature of the definition, account by account."""
    p = np.array([0.02, 0.05, 0.05, 0.2, 0.5])
    happened = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    # Chances that lie on the grid on which accounts are counted together.
    threshold = np.round(norm.ppf(p) / 0.1) * 0.1

    def density(z: float, s: float) -> float:
        hit = norm.cdf((threshold - s * z) / np.sqrt(1 - s * s))
        return norm.pdf(z) * np.prod(np.where(happened == 1, hit, 1 - hit))

    expected = [np.log(quad(density, -8, 8, args=(s,))[0]) for s in GRID]
    assert shock_log_likelihood(p, happened) == pytest.approx(np.array(expected), abs=2e-6)


def test_without_quarters_the_assumption_stands_and_says_so():
    shock = estimate_shock([])
    assert shock.weights == pytest.approx(prior().weights)
    # The mean of a half-normal is scale · √(2/π); the grid ends at four scales.
    assert shock.mean == pytest.approx(PRIOR_SCALE * np.sqrt(2 / np.pi), abs=0.01)
    assert "the assumption alone" in shock.as_dict()["words"]


def test_quarters_without_accounts_teach_nothing():
    nothing = (np.zeros(0), np.zeros(0))
    assert estimate_shock([nothing]).n_quarters == 0


def test_eight_quarters_pull_the_belief_to_the_truth_and_leave_it_wide():
    """Measured over 6 companies: the middle 90 % of the belief holds the truth, and stays wide."""
    rng = np.random.default_rng(4)
    for truth in (0.0, 0.15, 0.35):
        found = [estimate_shock([quarter(rng, truth, 600) for _ in range(8)]) for _ in range(6)]
        assert np.mean([shock.mean for shock in found]) == pytest.approx(truth, abs=0.11)
        holds = [shock.quantile(0.05) <= truth <= shock.quantile(0.95) for shock in found]
        assert np.mean(holds) >= 0.6
        if truth:
            width = np.mean([shock.quantile(0.95) - shock.quantile(0.05) for shock in found])
            assert width > 0.3 * truth


def test_independent_accounts_give_a_smaller_shock_than_accounts_that_move_together():
    rng = np.random.default_rng(8)
    calm = estimate_shock([quarter(rng, 0.0) for _ in range(4)])
    rough = estimate_shock([quarter(rng, 0.4) for _ in range(4)])
    assert calm.mean < prior().mean < rough.mean
    assert "fewer than 8 barely identify" in calm.as_dict()["words"]


def test_draws_follow_the_belief():
    weights = np.zeros(len(GRID))
    weights[[5, 10]] = 0.25, 0.75
    drawn = CommonShock(weights).draw(np.random.default_rng(1), 4_000)
    assert set(drawn) == {GRID[5], GRID[10]}
    assert np.mean(drawn == GRID[10]) == pytest.approx(0.75, abs=0.03)
