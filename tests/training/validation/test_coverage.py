"""On data whose truth is known, 95 % intervals hold the truth about 95 times in 100."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, norm

from features.simulator.ground_truth import HORIZON_DAYS, truth_table
from features.simulator.mechanism.calendar import calendar_until
from features.simulator.mechanism.decisions import decisions_table
from features.simulator.simulate import simulate_tables
from training.data.splits import entity_codes
from training.evaluation.metrics import (
    Sample,
    auc,
    bootstrap,
    calibration_slope,
    clustered_wilson,
    estimate,
    observed_to_expected,
)

SEEDS, ACCOUNTS, PERIODS, DRAWS = 200, 250, 4, 200
TRUE_AUC = float(norm.cdf(1.0 / np.sqrt(2.0)))
"""Two normals of unit variance one apart: Φ(1/√2) = 0.760."""


def panel(seed: int, shift: float = 1.0) -> Sample:
    """Accounts with a lasting state, seen in several periods: rows of one account are alike.

    Label and score share no more than `shift`: among events the score is N(shift, 1), else N(0, 1).
    The part of the score that lasts is nine tenths of its variance.
    """
    rng = np.random.default_rng(seed)
    event = rng.random(ACCOUNTS) < 0.25
    lasting = np.sqrt(0.9) * rng.normal(size=ACCOUNTS)
    score = shift * event + lasting + np.sqrt(0.1) * rng.normal(size=(PERIODS, ACCOUNTS))
    n = PERIODS * ACCOUNTS
    nothing = np.zeros(n)
    return Sample(
        np.tile(event.astype(float), PERIODS), score.ravel(), nothing, nothing,
        np.tile(np.arange(ACCOUNTS), PERIODS), np.repeat(np.arange(PERIODS), ACCOUNTS),
    )  # fmt: skip


def coverage(clusters, seeds=SEEDS) -> float:
    inside = 0
    for seed in range(seeds):
        sample = panel(seed)
        sample = sample if clusters else Sample(
            sample.label, sample.p, sample.flagged, sample.arr, np.arange(len(sample.p)),
            sample.cohort,
        )  # fmt: skip
        found = estimate(bootstrap(sample, {"auc": auc}, draws=DRAWS, seed=seed)["auc"])
        inside += found.low <= TRUE_AUC <= found.high
    return inside / seeds


@pytest.mark.slow
def test_the_cluster_bootstrap_covers():
    # 200 seeds: a true 95 % is seen within ±3 points 19 times in 20; percentile intervals of 250
    # clusters fall a little short, so 91.5 % to 98.5 % is asked for
    assert 0.915 <= coverage(clusters=True) <= 0.985


@pytest.mark.slow
def test_a_bootstrap_of_rows_does_not():
    assert coverage(clusters=False, seeds=100) < 0.80


WORLDS, OF_A_WORLD, COMPANY, MONTHS = 3, 2_000, 250, 24
NOW = datetime(2026, 6, 29, tzinfo=UTC)
BAND_CUTS = (-3.0, -1.5)
"""Log-odds at which the bands of the score begin."""


def world(seed: int) -> pd.DataFrame:
    """One row per account and start of a quarter: the true chance to leave, what happened, a score.

    The score sees the true chance through noise that lasts, as the scores of real companies do.
    """
    calendar = calendar_until(NOW, MONTHS)
    scene = simulate_tables(seed, OF_A_WORLD, calendar)
    rows = truth_table(scene.traits, scene.hidden_states, scene.decisions, calendar)
    as_of = pd.to_datetime(rows["as_of_on"], utc=True)
    rows = rows.assign(as_of=as_of, entity_id=rows["account_id"], p=rows["p_leave_91d"])
    window = pd.Timedelta(days=HORIZON_DAYS)
    rows = rows[as_of.dt.month.isin([1, 4, 7, 10]) & (as_of + window <= NOW)]
    events = decisions_table(scene.decisions, calendar)
    events = events[events["outcome"] == "churn"].drop_duplicates("account")
    names = np.asarray(scene.traits.account_id)
    left = pd.Series(
        pd.to_datetime(events["decided"].to_numpy(), unit="D", utc=True),
        index=names[events["account"].to_numpy()],
    )
    gone = rows["entity_id"].map(left)
    rng = np.random.default_rng(seed)
    lasting = rows["entity_id"].map(pd.Series(rng.normal(size=len(names)), index=names))
    seen = logit(np.clip(rows["p"], 1e-4, 1 - 1e-4)) + 0.7 * lasting
    return rows.assign(
        label=((gone > rows["as_of"]) & (gone <= rows["as_of"] + window)).astype(float),
        score=seen + 0.5 * rng.normal(size=len(rows)),
        company=seed * 1_000
        + rows["entity_id"].map(dict(zip(names, range(len(names)), strict=True))) // COMPANY,
    ).reset_index(drop=True)


def ranked(rows: pd.DataFrame, p: np.ndarray) -> Sample:
    nothing = np.zeros(len(rows))
    return Sample(
        rows["label"].to_numpy(), p, nothing, nothing, entity_codes(rows),
        rows["as_of"].rank(method="dense").to_numpy(dtype=np.int64),
    )  # fmt: skip


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    """Companies cut out of simulated worlds, whose accounts are independent of each other."""
    return pd.concat([world(seed) for seed in range(WORLDS)], ignore_index=True)


@pytest.fixture(scope="module")
def held(simulated) -> dict[str, list[bool]]:
    """Per statistic and company, whether its 95 % interval holds the truth."""
    one = np.ones((1, len(simulated)))
    true_auc = float(auc(ranked(simulated, expit(simulated["score"].to_numpy())), one)[0])
    band = np.digitize(simulated["score"], BAND_CUTS)
    true_rates = simulated.groupby(band)["p"].mean()
    found: dict[str, list[bool]] = {}

    def note(name: str, limits: tuple[float, float], truth: float) -> None:
        found.setdefault(name, []).append(limits[0] <= truth <= limits[1])

    for _, rows in simulated.assign(band=band).groupby("company"):
        score = ranked(rows, expit(rows["score"].to_numpy()))
        chance = ranked(rows, np.clip(rows["p"].to_numpy(), 1e-6, 1 - 1e-6))
        measures = {"level": observed_to_expected, "slope": calibration_slope}
        drawn = bootstrap(score, {"auc": auc}, draws=DRAWS, seed=1)
        drawn |= bootstrap(chance, measures, draws=DRAWS, seed=1)
        for name, truth in (("auc", true_auc), ("level", 1.0), ("slope", 1.0)):
            interval = estimate(drawn[name])
            note(name, (interval.low or 0.0, interval.high or 0.0), truth)
        for number, part in rows.groupby("band"):
            limits = clustered_wilson(part["label"].to_numpy(), part["entity_id"].to_numpy(str))
            note("bands", limits, float(true_rates[number]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auc", "level", "slope", "bands"])
def test_on_the_simulated_company_intervals_hold_the_truth(held, name):
    """Of so many intervals, as many hold the truth as would of true 90 % in 1 run of 1,000.

    The level and the slope of the true chances are 1; the truth of AUC and bands is that of all
    companies together. Percentile intervals of some sixty events fall short of 95 % by a little:
    of 288 such companies with 1,000 draws, 94 % (AUC), 96 % (level), 91 % (slope) and 94 % (bands)
    held the truth.
    """
    inside = held[name]
    assert sum(inside) >= binom.ppf(0.001, len(inside), 0.90), np.mean(inside)
