"""What probabilities imply of their own performance, against outcomes that follow them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.evaluation.estimated_performance import expected_auc, expected_performance


def test_expected_auc_is_the_ratio_over_all_pairs():
    rng = np.random.default_rng(1)
    p = np.round(rng.beta(1, 5, 60), 2).clip(0.01, 0.99)
    above = below = 0.0
    for i in range(60):
        for j in range(60):
            if i != j:
                weight = p[i] * (1 - p[j])
                below += weight
                above += weight * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert expected_auc(p) == pytest.approx(above / below, rel=1e-12)


def test_ranges_hold_what_comes_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    p = rng.beta(1, 6, 300)
    found = expected_performance(p, seed=5)
    inside = {"auc": 0, "brier": 0, "events": 0}
    for _ in range(200):
        label = rng.random(300) < p
        inside["auc"] += found.auc_low <= roc_auc_score(label, p) <= found.auc_high
        inside["brier"] += found.brier_low <= np.mean((p - label) ** 2) <= found.brier_high
        inside["events"] += found.events_low <= label.sum() <= found.events_high
    for name, n in inside.items():
        assert 0.83 <= n / 200 <= 0.97, name
    assert found.auc_low < found.auc < found.auc_high


def test_a_book_that_is_harder_to_tell_apart_is_expected_to_do_worse():
    rng = np.random.default_rng(3)
    logit = rng.normal(-2, 1.2, 500)
    easy = expected_performance(1 / (1 + np.exp(-logit)), seed=1)
    hard = expected_performance(1 / (1 + np.exp(-(-2 + 0.3 * (logit + 2)))), seed=1)
    assert easy.auc > hard.auc + 0.1


def test_too_few_expected_events_give_no_auc():
    found = expected_performance(np.full(50, 0.02), seed=1)
    assert (found.auc, found.auc_low, found.auc_high) == (None, None, None)
    assert found.events == pytest.approx(1.0)


def test_scores_that_do_not_vary_tell_nothing_apart():
    assert expected_performance(np.full(100, 0.2), seed=1).auc == pytest.approx(0.5)


def test_within_periods_only_pairs_of_a_period_count():
    rng = np.random.default_rng(8)
    period = np.repeat([0, 1, 2], 40)
    p = np.clip(rng.uniform(0.05, 0.4, 120) + 0.2 * period, 0.01, 0.99)
    above = below = 0.0
    for i in range(120):
        for j in range(120):
            if i != j and period[i] == period[j]:
                above += p[i] * (1 - p[j]) * ((p[i] > p[j]) + 0.5 * (p[i] == p[j]))
                below += p[i] * (1 - p[j])
    assert expected_auc(p, period) == pytest.approx(above / below, rel=1e-12)
    assert expected_auc(p) > expected_auc(p, period) + 0.02
