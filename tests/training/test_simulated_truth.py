"""Scores beside the truth: the measures themselves, on chances made up for it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from training.candidates.train import train
from training.model.bundle import Scores, sigmoid
from training.simulated_truth import (
    drivers,
    hits,
    probabilities,
    scores_against_truth,
    true_probabilities,
)


@pytest.fixture(scope="module")
def made():
    """True chances, outcomes drawn from them, and three models: right, timid, and blind."""
    rng = np.random.default_rng(3)
    n = 4000
    logit = rng.normal(-2.0, 1.2, n)
    key = {
        "entity_id": [f"a{i}" for i in range(n)],
        "as_of": pd.to_datetime(["2026-01-01"] * n, utc=True),
    }
    truth = pd.DataFrame({**key, "p_true": sigmoid(logit)})
    predictions = pd.DataFrame(
        {
            **key,
            "fold": 1,
            "is_headline": True,
            "label": (rng.random(n) < sigmoid(logit)).astype(int),
            "arr": 1.0,
            "p_model": sigmoid(logit),
            "p_calendar": sigmoid(-2.0 + 0.5 * (logit + 2.0)),
            "p_constant": 0.15,
        }
    )
    return predictions, truth


def test_a_model_that_is_right_equals_the_truth(made, small):
    found = probabilities(*made, small.company())["models"]
    right, timid, blind = found["model"], found["calendar"], found["constant"]
    assert right["correlation"] == pytest.approx(1.0)
    assert right["mean_absolute_error"] == pytest.approx(0.0, abs=1e-12)
    assert right["mean_ratio"] == pytest.approx(1.0)
    assert right["slope"] == pytest.approx(1.0)
    assert timid["slope"] == pytest.approx(2.0)
    assert blind["correlation"] is None
    predictions, truth = made
    ceiling = roc_auc_score(predictions["label"], truth["p_true"])
    assert found["truth"]["auc"] == pytest.approx(ceiling)


def test_being_cut_off_counts_as_churn_and_themes_are_told_apart():
    truth = pd.DataFrame(
        {
            "entity_id": ["a"],
            "as_of": pd.to_datetime(["2026-01-01"], utc=True),
            "p_churn": [0.2],
            "p_payment_failure": [0.1],
            "p_expansion": [0.4],
            "churn_driver": ["adoption"],
            "churn_adoption": [0.7],
            "expansion_breadth": [0.3],
        }
    )
    assert true_probabilities(truth, "churn")["p_true"].tolist() == pytest.approx([0.3])
    assert list(true_probabilities(truth, "churn"))[3:] == ["theme_adoption"]
    assert list(true_probabilities(truth, "expansion"))[3:] == ["theme_breadth"]


def test_reasons_drawn_at_random_hit_by_chance():
    rng = np.random.default_rng(1)
    themes = ["adoption", "support", "sentiment", "commercial"]
    true = pd.DataFrame(rng.normal(size=(3000, 4)), columns=themes)
    shown = [list(rng.permutation(themes)[:3]) for _ in range(3000)]
    found = hits(shown, true)
    assert found["first"] == pytest.approx(found["first_by_chance"], abs=0.03)
    assert found["among_three"] == pytest.approx(0.75, abs=0.03)
    assert found["right_way"] == pytest.approx(found["right_way_by_chance"], abs=0.03)


def test_a_reason_that_drives_nothing_is_a_miss():
    true = pd.DataFrame({"adoption": [1.0, 1.0]})
    found = hits([["payments"], ["payments", "adoption"]], true)
    assert (found["first"], found["among_three"], found["right_way"]) == (0.0, 0.5, 1 / 3)
    assert hits([[], []], true) == {"n_clear": 0}


def test_each_planted_driver_is_counted_where_it_drives_most():
    true = pd.DataFrame(
        {"adoption": [1.0, 1.0, -1.0, 0.1], "support": [0.5, -1.0, 2.0, 0.0], "payments": -1.0}
    )
    shown = [["adoption"], ["support"], ["support", "adoption"], []]
    assert drivers(shown, true) == {
        "adoption": {"n": 2, "named": 0.5, "by_chance": 0.5},
        "support": {"n": 1, "named": 1.0, "by_chance": 0.5},
    }


def scores_of(logit, spread) -> Scores:
    return Scores(sigmoid(logit), logit, np.broadcast_to(spread, logit.shape))


def test_ranges_that_are_as_wide_as_the_error_hold_as_often_as_they_say():
    rng = np.random.default_rng(5)
    logit = rng.normal(-2.0, 1.0, 4000)
    true = sigmoid(logit + rng.normal(0.0, 0.5, 4000))
    right, too_sure = (
        scores_against_truth(scores_of(logit, spread), true) for spread in (0.5, 0.02)
    )
    assert right["single_hold"] == pytest.approx(right["stated"], abs=0.02)
    assert right["alike_hold"] == 1.0
    assert too_sure["single_hold"] < 0.1
    assert 0.9 < right["mean_ratio"] < 1.1
    assert (set(right["by_confidence"]), set(too_sure["by_confidence"])) == ({"medium"}, {"high"})


@pytest.mark.slow
def test_where_tables_tell_everything_ranges_of_a_small_company_hold(small):
    """New accounts of the same kind; draws of accounts say what seeds alone do not."""
    known, new = small.make_frame(accounts=200), small.make_frame(accounts=400, seed=51)
    bundle = train(known, small.company(), storage_url="sqlite://").bundle
    matrix = bundle.encode(new.features).matrix
    true = sigmoid(new.rows["true_logit"].to_numpy())
    found = scores_against_truth(bundle.predict(matrix), true)
    assert found["alike_hold"] >= 0.8
    assert found["single_hold"] > 0.5
    assert 0.75 < found["mean_ratio"] < 1.3
    alone = replace(bundle, predictor=replace(bundle.predictor, draws=()))
    assert (
        scores_against_truth(alone.predict(matrix), true)["single_hold"]
        < found["single_hold"] - 0.05
    )
