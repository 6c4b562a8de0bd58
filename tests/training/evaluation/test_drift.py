"""Drift is told where a sample supports it, and only there: both by simulation."""

import numpy as np
import pytest

from training.evaluation.drift import drift_of, histogram
from training.model.manifest_parts import Histogram

EDGES = np.quantile(np.random.default_rng(0).normal(size=20_000), np.linspace(0.1, 0.9, 9))
N_REFERENCE = 800


def reference(rng, n=N_REFERENCE, name="x"):
    return {name: histogram(rng.normal(size=n), EDGES)}


def verdicts(make, n_books, seed=3, n_features=1):
    """Return the verdict of each feature of many books; `make` draws the values of a book."""
    found = []
    for i in range(n_books):
        rng = np.random.default_rng(1000 * seed + i)
        names = [f"x{k}" for k in range(n_features)]
        before = {name: histogram(rng.normal(size=N_REFERENCE), EDGES) for name in names}
        columns = {name: make(rng) for name in names}
        drifts = drift_of(columns, before, n_reference=N_REFERENCE, seed=i)
        found.append([item.verdict for item in drifts])
    return np.array(found)


@pytest.mark.parametrize("n", [15, 40, 400])
def test_books_without_drift_raise_no_more_alarms_than_promised(n):
    found = verdicts(lambda rng: rng.normal(size=n), 50, n_features=8)
    books_with_an_alarm = np.isin(found, ["moved", "moved much"]).any(axis=1).mean()
    assert books_with_an_alarm <= 0.1  # 5 % promised; 0.1 is two standard errors above


def test_the_rule_of_thumb_alone_would_cry_wolf():
    rng = np.random.default_rng(4)
    drifts = [
        drift_of({"x": rng.normal(size=40)}, reference(rng), n_reference=N_REFERENCE, seed=i)[0]
        for i in range(60)
    ]
    assert np.mean([item.psi >= 0.1 for item in drifts]) > 0.3
    assert np.mean([item.verdict.startswith("moved") for item in drifts]) <= 0.1


def test_a_real_shift_is_told_where_the_book_is_large_enough():
    found = verdicts(lambda rng: rng.normal(size=400) + 0.7, 30, n_features=1)
    assert (found == "moved much").mean() > 0.9
    spread = verdicts(lambda rng: 2.0 * rng.normal(size=400), 30, n_features=1)
    assert np.isin(spread, ["moved", "moved much"]).mean() > 0.9


def test_a_huge_shift_is_told_in_a_small_book_and_a_tiny_book_tells_nothing():
    assert (verdicts(lambda rng: rng.normal(size=30) + 3.0, 20) == "moved much").all()
    assert (verdicts(lambda rng: rng.normal(size=6) + 3.0, 5) == "too few to tell").all()


def test_a_shift_too_small_to_matter_is_steady_however_sure():
    rng = np.random.default_rng(8)
    column = rng.normal(size=50_000) + 0.1
    before = {"x": histogram(rng.normal(size=50_000), EDGES)}
    (found,) = drift_of({"x": column}, before, n_reference=50_000, seed=1)
    assert found.p_value < 0.01
    assert found.verdict == "steady"


def test_values_that_went_missing_are_drift():
    rng = np.random.default_rng(5)
    column = rng.normal(size=300)
    column[:150] = np.nan
    (found,) = drift_of({"x": column}, reference(rng), n_reference=N_REFERENCE, seed=1)
    assert found.verdict == "moved much"
    assert (found.missing, found.missing_before) == (0.5, 0.0)


def test_many_equal_values_are_no_drift():
    """Counts are mostly 0: quantiles repeat, and bins must hold what really lies in them."""
    rng = np.random.default_rng(6)
    draws = rng.poisson(0.4, size=(2, 3_000)).astype(float)
    before = {"n": histogram(draws[0], np.quantile(draws[0], np.linspace(0.1, 0.9, 9)))}
    (found,) = drift_of({"n": draws[1]}, before, n_reference=3_000, seed=1)
    assert found.verdict == "steady"
    assert found.psi < 0.02


def test_the_null_distribution_is_that_of_the_paper():
    """Yurdakul (2018): (1/m + 1/n)·χ² with bins − 1 degrees of freedom; χ²₉ at 95 % is 16.92."""
    rng = np.random.default_rng(7)
    before = {"x": histogram(rng.normal(size=2_000), EDGES)}
    (found,) = drift_of({"x": rng.normal(size=1_000)}, before, n_reference=2_000, seed=1)
    assert found.usual == pytest.approx((1 / 1_000 + 1 / 2_000) * 16.92, rel=0.12)


def test_the_same_book_gives_the_same_numbers_and_unknown_names_are_left_out():
    rng = np.random.default_rng(9)
    columns = {"x": rng.normal(size=90), "y": rng.normal(size=90)}
    before = reference(rng) | {"y": Histogram()}
    first = drift_of(columns, before, n_reference=500, seed=2)
    assert [item.name for item in first] == ["x"]
    assert first == drift_of(columns, before, n_reference=500, seed=2)


def test_an_empty_book_tells_nothing():
    rng = np.random.default_rng(9)
    (found,) = drift_of({"x": np.zeros(0)}, reference(rng), n_reference=500, seed=2)
    assert (found.psi, found.verdict) == (None, "too few to tell")
