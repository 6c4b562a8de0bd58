"""A small generator of training frames with a known hazard, for tests of the training core."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from configs.schema.company import Company, Gates, Serving, Target, Training, Tuning
from features.tables.catalog import FeatureInfo
from tests.training.study_fixtures import example as example
from training.data.training_frame import TrainingFrame
from training.model.bundle import sigmoid

THEMES = ("adoption", "breadth", "support", "sentiment", "relationship", "commercial", "context")
PLANS = np.array(["basic", "pro", "enterprise"])
WAIT_DAYS = 105
"""Horizon of 91 days and two weeks until the label is known."""


def company(**training) -> Company:
    settings = {
        "folds": 3,
        "model_seeds": 2,
        "bootstrap_draws": 100,
        "threads": 1,
        "tuning": Tuning(trials=0),
    } | training
    return Company(
        name="small",
        targets={"churn": Target(outcome="churn", observed_in="labels")},
        training=Training(**settings),
        gates=Gates(min_events=50),
        serving=Serving(capacity_per_month=20),
    )


def information(n_features: int) -> tuple[FeatureInfo, ...]:
    named = [
        FeatureInfo("users_28d", "usage", "active users", "", "count", 28, "adoption", -1, 1),
        FeatureInfo("tickets_28d", "support", "tickets", "", "count", 28, "support", 1, 0),
        FeatureInfo("nps", "sentiment", "last NPS answer", "", "score", None, "sentiment", -1, 0),
        FeatureInfo(
            "plan", "commercial", "plan", "", "score", None, "context", is_actionable=False
        ),
    ]
    noise = [
        FeatureInfo(f"noise_{i}", "usage", f"noise {i}", "", "ratio", 28, THEMES[i % 7])
        for i in range(n_features - len(named))
    ]
    return tuple(named + noise)


def make_frame(
    *, accounts: int = 400, months: int = 18, n_features: int = 8, rate: float = -2.6, seed: int = 1
) -> TrainingFrame:
    """One row per account and month at risk; the 91-day hazard is known.

    logit = rate − 1.1·users + 0.6·tickets − 0.4·nps + 0.5 on the basic plan, all standardised.
    """
    rng = np.random.default_rng(seed)
    moments = pd.date_range("2024-01-01", periods=months, freq="MS", tz="UTC").astype(
        "datetime64[us, UTC]"
    )
    level = rng.normal(size=(accounts, 3))
    plan = rng.integers(0, 3, accounts)
    parts = []
    alive = np.ones(accounts, dtype=bool)
    for moment in moments:
        state = 0.8 * level + 0.6 * rng.normal(size=(accounts, 3))
        logit = rate - 1.1 * state[:, 0] + 0.6 * state[:, 1] - 0.4 * state[:, 2] + 0.5 * (plan == 0)
        happens = rng.random(accounts) < sigmoid(logit)
        at = moment + pd.to_timedelta(rng.integers(1, 91, accounts), unit="D")
        parts.append(_month(moment, alive, state, plan, logit, happens, at, rng))
        alive &= ~(happens & (rng.random(accounts) < 0.34))
    table = pd.concat(parts, ignore_index=True)
    return _frame(table, n_features, rng)


def _month(moment, alive, state, plan, logit, happens, at, rng) -> pd.DataFrame:
    n = len(alive)
    table = pd.DataFrame(
        {
            "entity_id": [f"a{i:05d}" for i in range(n)],
            "as_of": moment,
            "label": happens.astype(np.int64),
            "label_known_at": moment + pd.Timedelta(days=WAIT_DAYS),
            "decision_at": pd.Series(at).where(happens).astype("datetime64[us, UTC]"),
            "arr": np.round(np.exp(9 + plan)),
            "segment": np.where(plan == 2, "large", "small"),
            "is_under_contract": plan > 0,
            "days_to_renewal": np.where(plan > 0, rng.integers(0, 365, n), np.nan),
            "health_score": 50 + 10 * state[:, 0] + 10 * rng.normal(size=n),
            "users_28d": np.round(20 * np.exp(0.6 * state[:, 0])),
            "tickets_28d": np.round(3 * np.exp(0.7 * state[:, 1])),
            "nps": np.where(rng.random(n) < 0.3, np.nan, np.round(7 + 2 * state[:, 2])),
            "plan": PLANS[plan],
            "true_logit": logit,
        }
    )
    return table[alive]


def _frame(table: pd.DataFrame, n_features: int, rng) -> TrainingFrame:
    info = information(n_features)
    table = table.sort_values(["as_of", "entity_id"], ignore_index=True)
    for item in info:
        if item.name not in table:
            table[item.name] = rng.normal(size=len(table))
    rows = table[[name for name in table if name not in {item.name for item in info}]]
    return TrainingFrame("churn", rows, table[[item.name for item in info]].copy(), info)


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """The generator, for tests that choose their own sizes."""
    return SimpleNamespace(
        make_frame=make_frame, company=company, information=information, with_columns=with_columns
    )


@pytest.fixture(scope="session")
def frame() -> TrainingFrame:
    """About 4,500 rows of 400 accounts with a real signal. Not to be changed."""
    return make_frame()


def with_columns(frame: TrainingFrame, rows=None, features=None, info=None) -> TrainingFrame:
    """Return a copy with columns set anew."""
    return replace(
        frame,
        rows=frame.rows.assign(**(rows or {})),
        features=frame.features.assign(**(features or {})),
        info=info or frame.info,
    )
