"""Kinds and amounts of growth: numbers worked by hand, and what a known world gives back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from configs.schema.company import Growth
from features.revenue.growth_kinds import KINDS, N_CELLS, N_HELD, cells
from training.fitting.expansion_size import (
    ALL_KINDS,
    NOT_KNOWN,
    GrowthEvents,
    backtest_kind,
    backtest_sizes,
    events_of,
    fit_growth,
    growth_kinds,
    weighted_quantiles,
)

SEATS, TIER, PRODUCT, USAGE, UNKNOWN = range(len(ALL_KINDS))


def test_the_state_is_fullness_and_products():
    columns = {
        "entitlement_fullest": np.array([np.nan, 0.69, 0.7, 0.85, 1.2]),
        "seat_use_28d": np.array([0.9, 0.1, 0.1, 0.1, 0.1]),
        "products_subscribed": np.array([1.0, 2.0, 3.0, 0.0, np.nan]),
    }
    full = [3, 1, 2, 3, 4]  # the first takes the use of its seats
    held = [0, 1, 2, 0, 0]
    assert cells(columns, 5).tolist() == [f * N_HELD + h for f, h in zip(full, held, strict=True)]
    assert cells({}, 2).tolist() == [0, 0]


def test_a_growth_seen_by_many_rows_counts_once():
    moment = pd.Timestamp("2026-01-10", tz="UTC")
    rows = pd.DataFrame(
        {
            "entity_id": ["a", "a", "b", "c"],
            "label": [1, 1, 1, 0],
            "decision_at": [moment, moment, moment, pd.NaT],
            "growth_kind": ["seats", "seats", "a kind nobody declared", ""],
            "growth_uplift": [0.2, 0.3, 0.5, np.nan],
        }
    )
    events = events_of(rows, np.array([4, 5, 6, 7]))
    assert events.weight.tolist() == [0.5, 0.5, 1.0]
    assert events.cell.tolist() == [4, 5, 6]
    assert events.counts().tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


def test_shares_are_drawn_to_wider_groups():
    """30 growths of seats in one state, 10 of products in another of the same fullness."""
    kind = np.repeat([SEATS, PRODUCT], [30, 10])
    cell = np.repeat([3 * N_HELD, 3 * N_HELD + 1], [30, 10])
    shares = fit_growth(GrowthEvents(kind, np.full(40, 0.2), np.ones(40), cell)).shares
    everybody = 30 / 40
    wide = (30 + 10 * everybody) / (40 + 10)  # all at that fullness
    assert shares[0, SEATS] == pytest.approx((0 + 10 * everybody) / 10)  # nobody seen there
    assert shares[3 * N_HELD, SEATS] == pytest.approx((30 + 10 * wide) / 40)
    assert shares[3 * N_HELD + 1, SEATS] == pytest.approx((0 + 10 * wide) / 20)
    assert shares.sum(axis=1) == pytest.approx(np.ones(N_CELLS))


def test_quantiles_of_amounts_by_hand():
    values, weights = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.ones(5)
    # places 0.1, 0.3, 0.5, 0.7, 0.9
    found = [weighted_quantiles(values, weights, share) for share in (0.1, 0.4, 0.9, 0.95)]
    assert found == pytest.approx([0.1, 0.25, 0.5, 0.5])
    # 0.5 counts double: places 1/12, 3/12, 5/12, 7/12, 10/12
    heavy = weighted_quantiles(values, np.array([1, 1, 1, 1, 2.0]), 0.5)
    assert heavy == pytest.approx(0.3 + 0.1 * (0.5 - 5 / 12) / (2 / 12))


def test_the_backtest_of_a_kind_by_hand():
    tested = pd.DataFrame(
        {
            "fold": [1, 1, 1, 1, 2, 2],
            "happened": ["seats", "", "tier", "", "seats", ""],
            "uplift": [0.2, np.nan, 0.3, np.nan, 0.9, np.nan],
            "p_seats": [0.4, 0.1, 0.2, 0.3, 0.1, 0.4],
            "flat_seats": [0.3] * 6,
            "low_seats": [0.1] * 6,
            "high_seats": [0.5] * 6,
        }
    )
    found = backtest_kind(tested, "seats")
    assert (found.n, found.events) == (6, 2)
    assert found.expected == pytest.approx(1.5)
    assert found.observed_to_expected == pytest.approx(2 / 1.5)
    assert found.brier == pytest.approx((0.36 + 0.01 + 0.04 + 0.09 + 0.81 + 0.16) / 6)
    assert found.brier_flat == pytest.approx((2 * 0.49 + 4 * 0.09) / 6)
    # 3 of 3 pairs are in order in the first period, 0 of 1 in the second
    assert found.auc == pytest.approx(3 / 4)
    assert (found.n_amounts, found.n_inside) == (2, 1)
    assert found.inside_low < 0.5 < found.inside_high


@pytest.fixture(scope="module")
def grown(small):
    """Seats grow where the allowance is full, by 10 to 30 %; products elsewhere, by 50 to 90 %."""
    base = small.make_frame(accounts=1500, months=12, rate=-1.8)
    rng = np.random.default_rng(3)
    full = rng.uniform(0.5, 1.0, len(base))
    is_seats = rng.random(len(base)) < np.where(full >= 0.85, 0.9, 0.2)
    size = np.where(is_seats, rng.uniform(0.1, 0.3, len(base)), rng.uniform(0.5, 0.9, len(base)))
    happens = base.label == 1
    rows = base.rows.assign(
        growth_kind=np.where(happens, np.where(is_seats, "seats", "product"), ""),
        growth_uplift=np.where(happens, size, np.nan),
    )
    features = base.features.assign(entitlement_fullest=full)
    return SimpleNamespace(rows=rows, features=features, label=base.label)


@pytest.fixture(scope="module")
def tested_folds(grown):
    """Two cut-offs, and predictions that know the rate and nothing else."""
    as_of = grown.rows["as_of"]
    days = sorted(as_of.unique())
    folds, parts = [], []
    for number, (cut, until) in enumerate(((days[6], days[9]), (days[9], days[11])), start=1):
        train = np.flatnonzero(grown.rows["label_known_at"] <= cut)
        here = np.flatnonzero((as_of >= cut) & (as_of < until))
        folds.append(SimpleNamespace(number=number, train=train))
        test = grown.rows.iloc[here].assign(position=here, fold=number)
        test["is_headline"] = ~test.duplicated("entity_id")
        test["p_model"] = grown.label[train].mean()
        parts.append(test)
    return SimpleNamespace(first=SimpleNamespace(folds=folds)), pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def part(grown, tested_folds):
    folds, predictions = tested_folds
    frame = _Frame(grown)
    return growth_kinds(frame, predictions, folds, Growth(), "promotable")


class _Frame(SimpleNamespace):
    """As much of a training frame as kinds are learned from."""

    def __init__(self, grown):
        super().__init__(rows=grown.rows, features=grown.features)

    def __len__(self):
        return len(self.rows)


def test_a_known_world_is_found_again(part):
    assert part.status == "measured"
    assert part.words == (
        "measured: seats, product; tier, usage by rules, below the minimum of 20 growths of a "
        "kind, 8 of them tested"
    )
    shares = np.array(part.shares)
    assert shares[3 * N_HELD, SEATS] == pytest.approx(0.9, abs=0.06)
    assert shares[1 * N_HELD, SEATS] == pytest.approx(0.2, abs=0.08)
    seats, product = (part.kinds[kind].uplift for kind in ("seats", "product"))
    assert [seats[name] for name in ("p10", "p50", "p90")] == pytest.approx(
        [0.12, 0.2, 0.28], abs=0.02
    )
    assert product["mean"] == pytest.approx(0.7, abs=0.03)


def test_the_backtest_shows_that_the_state_helps(part):
    found = part.kinds["seats"].backtest
    assert found.brier < found.brier_flat
    assert found.auc > 0.65
    assert found.inside_low < 0.8 < found.inside_high


def test_kinds_below_the_floor_have_no_chance_of_their_own(part):
    assert part.kinds["tier"].basis == part.kinds["usage"].basis == "rules"
    assert part.kinds["tier"].uplift == dict.fromkeys(("p10", "p50", "p90", "mean"))


@pytest.mark.parametrize(
    ("settings", "verdict", "words"),
    [
        (Growth(min_events=100_000), "promotable", "rules only: no kind reaches the minimum of"),
        (Growth(min_tested=100_000), "promotable", "rules only: no kind reaches the minimum of"),
        (Growth(), "no_signal", "rules only: the growth model has no signal"),
    ],
)
def test_below_the_floor_there_are_rules_only(grown, tested_folds, settings, verdict, words):
    folds, predictions = tested_folds
    found = growth_kinds(_Frame(grown), predictions, folds, settings, verdict)
    assert found.status == "rules"
    assert found.words.startswith(words)
    assert {found.kinds[kind].basis for kind in KINDS} == {"rules"}


def test_nothing_after_a_cut_off_moves_what_it_said(grown, tested_folds):
    folds, predictions = tested_folds
    frame, cell = _Frame(grown), np.zeros(len(grown.rows), dtype=np.int64)
    before = backtest_sizes(frame, cell, predictions, folds)
    later = (
        grown.rows["label_known_at"]
        > grown.rows.iloc[folds.first.folds[-1].train]["label_known_at"].max()
    )
    changed = grown.rows.assign(
        growth_uplift=grown.rows["growth_uplift"].where(~later, 9.0),
        growth_kind=grown.rows["growth_kind"].where(~later | (grown.label == 0), "usage"),
    )
    poisoned = _Frame(SimpleNamespace(rows=changed, features=grown.features))
    after = backtest_sizes(poisoned, cell, predictions, folds)
    columns = [name for name in before if name.startswith(("p_", "flat_", "low_", "high_"))]
    pd.testing.assert_frame_equal(before[columns], after[columns])


def test_a_frame_without_terms_says_that_kinds_are_not_known(frame):
    found = growth_kinds(frame, pd.DataFrame(), SimpleNamespace(), Growth(), "promotable")
    assert found.to_dict() == {"status": "not known", "words": NOT_KNOWN, "kinds": {}, "shares": []}
