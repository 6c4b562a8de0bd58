"""Tests with a formula of their own, against statsmodels, scipy and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import chi2, norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from training.evaluation.metrics import wilson
from training.evaluation.significance import (
    delong,
    likelihood_ratio,
    logistic_coefficients,
    net_benefit,
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(600, 3)) * [1.0, 10.0, 0.1] + [0.0, 50.0, 3.0]
    logit = -2.0 + 0.9 * x[:, 0] + 0.04 * (x[:, 1] - 50)
    return x, (rng.random(600) < 1 / (1 + np.exp(-logit))).astype(float)


class TestWilson:
    @pytest.mark.parametrize(("events", "n"), [(0, 20), (1, 29), (81, 263), (15, 148), (20, 20)])
    def test_is_that_of_statsmodels(self, events, n):
        assert wilson(events, n) == pytest.approx(proportion_confint(events, n, method="wilson"))


class TestLikelihoodRatio:
    def test_coefficients_are_those_of_statsmodels(self, data):
        x, label = data
        theirs = sm.Logit(label, sm.add_constant(x)).fit(disp=0)
        found, likelihood = logistic_coefficients(x, label)
        assert found == pytest.approx(theirs.params, rel=1e-6)
        assert likelihood == pytest.approx(theirs.llf, rel=1e-9)

    def test_statistic_is_that_of_statsmodels(self, data):
        x, label = data
        both = sm.Logit(label, sm.add_constant(x[:, :2])).fit(disp=0)
        alone = sm.Logit(label, sm.add_constant(x[:, :1])).fit(disp=0)
        found = likelihood_ratio(label, x[:, 0], x[:, 1])
        assert found["chi2"] == pytest.approx(2 * (both.llf - alone.llf), rel=1e-6)
        assert found["p_value"] == pytest.approx(chi2.sf(2 * (both.llf - alone.llf), 1), rel=1e-5)

    def test_a_copy_and_a_constant_add_nothing(self, data):
        x, label = data
        assert likelihood_ratio(label, x[:, 0], 2 * x[:, 0])["chi2"] == pytest.approx(0, abs=1e-4)
        assert likelihood_ratio(label, x[:, 0], np.ones(600))["p_value"] == 1.0

    def test_separated_classes_have_no_fit(self):
        label = np.repeat([0.0, 1.0], 30)
        assert likelihood_ratio(label, label, np.arange(60.0))["chi2"] is None


class TestDeLong:
    def by_definition(self, label, a, b):
        """DeLong, DeLong and Clarke-Pearson (1988): structural components, pair by pair."""
        parts = []
        for score in (a, b):
            wins = score[label == 1][:, None] - score[label == 0][None, :]
            psi = np.where(wins > 0, 1.0, np.where(wins == 0, 0.5, 0.0))
            parts.append((psi.mean(axis=1), psi.mean(axis=0)))
        m, n = int(label.sum()), int((1 - label).sum())
        s10 = np.cov(np.vstack([parts[0][0], parts[1][0]])) / m
        s01 = np.cov(np.vstack([parts[0][1], parts[1][1]])) / n
        contrast = np.array([1.0, -1.0])
        variance = contrast @ (s10 + s01) @ contrast
        gap = parts[0][0].mean() - parts[1][0].mean()
        return gap, np.sqrt(variance), 2 * norm.sf(abs(gap) / np.sqrt(variance))

    @pytest.mark.parametrize("digits", [0, 6])
    def test_is_the_definition_with_and_without_ties(self, data, digits):
        x, label = data
        a, b = np.round(x[:, 0], digits), np.round(x[:, 1], digits)
        found = delong(label, a, b)
        gap, se, p_value = self.by_definition(label, a, b)
        assert found["first"] == pytest.approx(roc_auc_score(label, a))
        assert (found["difference"], found["se"], found["p_value"]) == pytest.approx(
            (gap, se, p_value)
        )

    def test_is_what_another_implementation_finds(self):
        # MLstatkit 0.1.91, Delong_test: variance of the difference and p-value
        label = np.repeat([1.0, 0.0], [8, 12])
        a = np.array(
            [90, 80, 75, 70, 60, 55, 40, 30, 70, 65, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5]
        )
        b = np.array(
            [70, 90, 35, 60, 80, 20, 65, 50, 60, 30, 55, 25, 75, 10, 45, 40, 5, 20, 15, 35]
        )
        found = delong(label, a, b)
        assert (found["first"], found["second"]) == pytest.approx((0.83854167, 0.78645833))
        assert found["se"] ** 2 == pytest.approx(0.017110276875901873, rel=1e-12)
        assert found["p_value"] == pytest.approx(0.6905037175340354, rel=1e-12)

    def test_the_same_score_twice(self, data):
        x, label = data
        found = delong(label, x[:, 0], x[:, 0])
        assert (found["difference"], found["p_value"]) == (0.0, None)


class TestNetBenefit:
    def test_is_the_formula(self, data):
        # Vickers and Elkin (2006): true positives less false positives at the odds of the threshold
        x, label = data
        p = 1 / (1 + np.exp(2 - x[:, 0]))
        thresholds = np.array([0.05, 0.1, 0.3])
        for threshold, found in zip(thresholds, net_benefit(label, p, thresholds), strict=True):
            acted = p >= threshold
            true, false = (acted & (label == 1)).mean(), (acted & (label == 0)).mean()
            assert found == pytest.approx(true - false * threshold / (1 - threshold))

    def test_worked_example(self):
        # Vickers, van Calster and Steyerberg, Diagnostic and Prognostic Research 3:18 (2019): of
        # 1,000 men at a threshold of 10 %, biopsying all finds 250 cancers for 750 needless ones,
        # net benefit 250/1000 − 750/1000 × (0.1/0.9) = 0.1667
        label = np.repeat([1.0, 0.0], [250, 750])
        everybody = net_benefit(label, np.ones(1000), np.array([0.1]))
        assert everybody[0] == pytest.approx(0.1667, abs=5e-5)
        nobody = net_benefit(label, np.zeros(1000), np.array([0.1]))
        assert nobody[0] == 0.0
