"""Statistics of the audit against published examples and independent implementations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from training.evaluation.metrics import auc
from training.evaluation.sampling import Drawing
from training.validation.score_evidence import (
    band_of,
    band_table,
    calendar_gain,
    cochran_armitage,
    compared_scores,
    fold_aucs,
    headline,
    health_audit,
    missed_events,
    paired,
    plain_sample,
    same_sizes,
)

DRAWING = Drawing(draws=400, seed=7, capacity_per_month=10, fold_days=91)
DAY = pd.Timestamp("2026-01-01", tz="UTC")


def rows_of(label, p, *, entity=None, **columns) -> pd.DataFrame:
    n = len(label)
    plain = {
        "entity_id": [f"A{i}" for i in (entity if entity is not None else range(n))],
        "as_of": DAY,
        "fold": 1,
        "is_headline": True,
        "label": np.asarray(label, dtype="int8"),
        "decision_at": pd.NaT,
        "arr": 100.0,
        "health_score": np.nan,
        "p_model": p,
        "p_calendar": 0.1,
    }
    made = pd.DataFrame({**plain, **columns}, index=range(n))
    made["decision_at"] = pd.to_datetime(made["decision_at"], utc=True)
    return made


class TestCochranArmitage:
    def test_smokers(self):
        # R: prop.trend.test(c(83, 90, 129, 70), c(86, 93, 136, 82)) of its manual page, after
        # Fleiss (1981): X-squared = 8.2249, df = 1, p-value = 0.004132
        found = cochran_armitage([83, 90, 129, 70], [86, 93, 136, 82])
        assert found["z"] ** 2 == pytest.approx(8.2249, abs=5e-5)
        assert found["z"] < 0
        assert found["p_value"] == pytest.approx(0.004132, abs=5e-7)

    def test_uneven_scores(self):
        # Alcohol and malformation, Agresti, Categorical Data Analysis: z² = 6.57, P = 0.010
        malformed, present = [48, 38, 5, 1, 1], [17066, 14464, 788, 126, 37]
        totals = [a + b for a, b in zip(malformed, present, strict=True)]
        found = cochran_armitage(malformed, totals, [0, 0.5, 1.5, 4, 7])
        assert found["z"] ** 2 == pytest.approx(6.57, abs=0.005)
        assert found["p_value"] == pytest.approx(0.010, abs=0.0005)

    def test_is_a_correlation(self):
        # (N) r² of score and outcome is the same statistic
        events, totals = [3, 9, 20], [50, 60, 70]
        score = np.repeat([0, 1, 2], totals)
        label = np.concatenate([np.arange(n) < x for x, n in zip(events, totals, strict=True)])
        r = np.corrcoef(score, label)[0, 1]
        assert cochran_armitage(events, totals)["z"] ** 2 == pytest.approx(len(label) * r**2)

    @pytest.mark.parametrize(("events", "totals"), [([0, 0], [5, 5]), ([4], [9])])
    def test_nothing_varies(self, events, totals):
        assert cochran_armitage(events, totals) == {"z": None, "p_value": None}


class TestBands:
    def table(self, rates, n=200, **columns):
        label = np.concatenate([np.arange(n) < round(rate * n) for rate in rates])
        bands = np.repeat(np.array(["low", "elevated", "high"], dtype=object)[: len(rates)], n)
        return band_table(rows_of(label, 0.1, **columns), bands, DRAWING)

    def test_wilson(self):
        # an independent implementation, and Newcombe, Statistics in Medicine 17 (1998) 857, I
        found = self.table([0.05, 0.2, 0.4])["rows"]
        assert [item["band"] for item in found] == ["low", "elevated", "high"]
        for item in found:
            ci = binomtest(item["events"], item["n"]).proportion_ci(method="wilson")
            assert (item["low"], item["high"]) == pytest.approx((ci.low, ci.high))
        label = np.arange(263) < 81
        one = band_table(rows_of(label, 0.1), np.full(263, "low", dtype=object), DRAWING)["rows"][0]
        assert (one["low"], one["high"]) == pytest.approx((0.2553, 0.3662), abs=5e-5)

    def test_ratio_and_order(self):
        found = self.table([0.05, 0.2, 0.4])
        assert found["ratio"]["value"] == pytest.approx(8.0)
        assert 4 < found["ratio"]["low"] < 8 < found["ratio"]["high"]
        assert found["inversions"] == []
        assert found["trend"]["z"] > 5

    def test_inversion(self):
        found = self.table([0.05, 0.3, 0.1])["inversions"]
        assert [(item["lower"], item["upper"]) for item in found] == [("elevated", "high")]
        assert self.table([0.05, 0.11, 0.10])["inversions"] == []

    def test_no_event_in_the_lowest_band(self):
        found = self.table([0.0, 0.2])["ratio"]
        assert found["value"] == pytest.approx(0.2 / (0.5 / 200))
        assert np.isfinite(found["high"])

    def test_one_band(self):
        found = self.table([0.2])
        assert found["ratio"] == {"value": None, "low": None, "high": None}

    def test_unknown_value_counts_as_nothing(self):
        found = self.table([0.5], arr=[np.nan, *[10.0] * 199])["rows"][0]
        assert found["arr"] == 1990.0
        assert found["event_arr"] == 990.0

    def test_missing_cut_is_never_reached(self):
        assert band_of(np.array([0.99]), {"elevated": 0.2}).tolist() == ["elevated"]

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    def test_same_score_same_sizes(self, p):
        risk = np.array(p)
        bands = band_of(risk, {"elevated": 0.3, "high": 0.7})
        assert same_sizes(risk, bands).tolist() == bands.tolist()

    def test_missed(self):
        decided = DAY + pd.Timedelta(days=40)
        rows = rows_of(
            [1, 1, 1, 0], [0.1, 0.1, 0.9, 0.1], entity=[1, 1, 2, 3], arr=[50.0, 50.0, 9.0, 9.0],
            as_of=[DAY, DAY + pd.Timedelta(days=30), DAY, DAY], decision_at=[decided] * 4,
        )  # fmt: skip
        warned = rows.assign(p_model=[0.1, 0.9, 0.9, 0.1])  # the last score counts
        assert missed_events(warned, band_of(warned["p_model"].to_numpy(), {"high": 0.5})) == []
        found = missed_events(rows, band_of(rows["p_model"].to_numpy(), {"high": 0.5}))
        assert [(item["entity_id"], item["as_of"][:10]) for item in found] == [("A1", "2026-01-31")]


def delong(label: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Difference of two AUCs and its standard error; DeLong, Biometrics 44 (1988) 837."""

    def parts(score):
        wins = (score[label == 1][:, None] > score[label == 0]) + 0.5 * (
            score[label == 1][:, None] == score[label == 0]
        )
        return wins.mean(axis=1), wins.mean(axis=0)

    (ap, an), (bp, bn) = parts(a), parts(b)
    variance = np.var(ap - bp, ddof=1) / len(ap) + np.var(an - bn, ddof=1) / len(an)
    return float(ap.mean() - bp.mean()), float(np.sqrt(variance))


class TestPaired:
    @pytest.fixture
    def scores(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=600)
        label = (rng.random(600) < 1 / (1 + np.exp(1.5 - x))).astype(float)
        return label, x + 0.5 * rng.normal(size=600), x + 1.2 * rng.normal(size=600)

    def difference(self, label, a, b, entity=None):
        rows = rows_of(label, a, entity=entity)
        pair = plain_sample(rows, a), plain_sample(rows, b)
        return paired(*pair, {"auc": auc}, DRAWING)["auc"]

    def test_against_delong(self, scores):
        label, a, b = scores
        value, error = delong(label, a, b)
        found = self.difference(label, a, b)
        assert found["ours"]["value"] == pytest.approx(roc_auc_score(label, a))
        assert found["theirs"]["value"] == pytest.approx(roc_auc_score(label, b))
        assert found["difference"]["value"] == pytest.approx(value)
        z = norm.ppf(0.975)
        assert found["difference"]["low"] == pytest.approx(value - z * error, abs=0.2 * error)
        assert found["difference"]["high"] == pytest.approx(value + z * error, abs=0.2 * error)

    def test_repeating_rows_adds_no_certainty(self, scores):
        label, a, b = (np.concatenate([part, part]) for part in scores)
        entity = np.tile(np.arange(600), 2)
        twice = self.difference(label, a, b, entity)["difference"]
        once = self.difference(*scores)["difference"]
        assert twice["low"] == pytest.approx(once["low"])
        assert twice["high"] == pytest.approx(once["high"])

    def test_against_a_loop(self, scores):
        label, a, b = scores
        entity = np.arange(600) // 3
        rng = np.random.default_rng(0)
        members = [np.flatnonzero(entity == i) for i in range(200)]
        drawn = []
        for _ in range(400):
            take = np.concatenate([members[i] for i in rng.integers(0, 200, 200)])
            drawn.append(roc_auc_score(label[take], a[take]) - roc_auc_score(label[take], b[take]))
        low, high = np.quantile(drawn, [0.025, 0.975])
        found = self.difference(label, a, b, entity)["difference"]
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.15 * (high - low))

    @pytest.mark.parametrize(
        ("low", "high", "said"),
        [
            (0.001, 0.2, "better"),
            (-0.2, -0.001, "worse"),
            (-0.03, 0.03, "equivalent"),
            (-0.031, 0.02, "inconclusive"),
            (None, None, "inconclusive"),
        ],
    )
    def test_words(self, low, high, said):
        assert compared_scores({"value": 0.0, "low": low, "high": high}) == said


class TestHealth:
    def audit(self, *, is_growth=False, **columns):
        rng = np.random.default_rng(2)
        x = rng.normal(size=400)
        label = rng.random(400) < 1 / (1 + np.exp(2 - 1.5 * x))
        p = 1 / (1 + np.exp(2 - x))
        made = {name: value(x, rng) for name, value in columns.items()}
        rows = rows_of(label, p, **made)
        bands = band_of(p, {"elevated": 0.2, "high": 0.4})
        return health_audit(rows, bands, DRAWING, is_growth=is_growth)

    def test_absent(self):
        assert self.audit()["status"] == "absent"
        assert self.audit(health_score=lambda x, _: np.full(len(x), 3.0))["status"] == "absent"

    def test_too_few(self):
        found = self.audit(health_score=lambda x, _: np.where(np.arange(400) < 20, -x, np.nan))
        assert found["status"] == "too few"
        assert found["coverage"] == pytest.approx(0.05)

    def test_same_ranking_is_equivalent(self):
        found = self.audit(health_score=lambda x, _: -10 * x)
        assert found["auc"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert found["judgement"] == "equivalent"
        assert found["predicts"] == "yes"
        assert found["missed"]["ours"] == found["missed"]["theirs"]
        assert found["bands"]["ours"]["rows"] == found["bands"]["theirs"]["rows"]

    def test_healthier_should_mean_growth(self):
        found = self.audit(is_growth=True, health_score=lambda x, _: 10 * x)
        assert found["judgement"] == "equivalent"

    def test_wrong_way_round(self):
        found = self.audit(health_score=lambda x, _: x)
        assert found["predicts"] == "inverted"
        assert found["judgement"] == "better"

    def test_noise(self):
        found = self.audit(health_score=lambda x, rng: rng.normal(size=len(x)))
        assert found["predicts"] == "inconclusive"


class TestOnEvidence:
    def test_calendar_at_ninety_days(self, example):
        found = calendar_gain(example.out_of_time["churn"], DRAWING)
        assert found["at"] == "ninety days"
        assert found["difference"]["low"] > 0

    def test_calendar_without_dates(self, example):
        rows = example.out_of_time["churn"].assign(decision_at=pd.NaT)
        rows["decision_at"] = pd.to_datetime(rows["decision_at"], utc=True)
        assert calendar_gain(rows, DRAWING)["at"] == "any time"

    def test_folds_add_up(self, example):
        rows = example.out_of_time["churn"]
        table = fold_aucs(rows, ["model", "constant"], DRAWING)
        first = headline(rows)
        assert sum(item["n"] for item in table) == len(first)
        assert sum(item["events"] for item in table) == first["label"].sum()
        assert {item["models"]["constant"]["value"] for item in table} == {0.5}
