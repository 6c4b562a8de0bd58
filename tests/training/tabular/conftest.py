"""A ready-made table with a known signal, and the company that brings it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.workspace import Environment, Workspace

NOW = datetime(2024, 7, 1, tzinfo=UTC)
TRAINING = {
    "folds": 3,
    "fold_days": 61,
    "repeats": 2,
    "model_seeds": 1,
    "bootstrap_draws": 100,
    "tuning": {"trials": 0},
}


def static(n: int = 600, seed: int = 1) -> pd.DataFrame:
    """One row per account; short tenure, many tickets and the basic plan lead to leaving."""
    rng = np.random.default_rng(seed)
    tenure, tickets = rng.integers(1, 72, n), rng.poisson(2, n)
    plan = rng.choice(["basic", "pro", "enterprise"], n, p=[0.5, 0.3, 0.2])
    logit = 0.2 - 0.06 * tenure + 0.5 * tickets + 0.9 * (plan == "basic") - 0.5
    table = pd.DataFrame(
        {
            "customer": [f"C-{i:04d}" for i in range(n)],
            "tenureMonths": tenure,
            "tickets": tickets.astype(object),
            "plan": plan,
            "auto_renew": rng.choice(["Yes", "No"], n),
            "signed_on": (
                pd.Timestamp("2024-01-01") - pd.to_timedelta(30 * tenure, unit="D")
            ).strftime("%Y-%m-%d"),
            "spend": np.round(rng.lognormal(5, 1, n), 2).astype(object),
            "constant": "x",
            "empty": None,
            "row_id": np.arange(n),
            "churned": np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "Yes", "No"),
        }
    )
    table.loc[rng.random(n) < 0.1, "spend"] = ""
    return table


def timed(accounts: int = 250, months: int = 15, seed: int = 2) -> pd.DataFrame:
    """One row per account and month; falling use leads to leaving within 60 days."""
    rng = np.random.default_rng(seed)
    parts = []
    level = rng.normal(size=accounts)
    for moment in pd.date_range("2023-04-01", periods=months, freq="MS"):
        use = 0.8 * level + 0.6 * rng.normal(size=accounts)
        left = rng.random(accounts) < 1 / (1 + np.exp(2.2 + 1.3 * use))
        parts.append(
            pd.DataFrame(
                {
                    "account": [f"a{i}" for i in range(accounts)],
                    "month": moment.strftime("%Y-%m-%d"),
                    "use": use,
                    "noise": rng.normal(size=accounts),
                    "score": np.round(50 + 10 * use),
                    "left": left.astype(int),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


STATIC = {
    "file": "table.csv", "id": "customer", "label": "churned", "taken_on": "2024-01-01",
    "segment": "plan",
}  # fmt: skip
TIMED = {
    "file": "table.csv", "id": "account", "label": "left", "as_of": "month", "horizon_days": 60,
    "health_score": "score",
}  # fmt: skip


SECTIONS = {"static": STATIC, "timed": TIMED}


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """The tables, for tests that change them."""
    return SimpleNamespace(static=static, timed=timed, now=NOW)


@pytest.fixture
def bring(tmp_path) -> Callable[..., Workspace]:
    """Write a table and return the company that brings it; None takes a key of its section away."""

    def made(
        kind: str, table: pd.DataFrame, section: dict | None = None, ending="csv", **changes
    ) -> Workspace:
        file = tmp_path / f"table.{ending}"
        if ending == "csv":
            table.to_csv(file, index=False)
        else:
            table.to_parquet(file)
        keys = SECTIONS[kind] | {"file": file.name} | (section or {})
        kept = {key: value for key, value in keys.items() if value is not None}
        raw = {"name": "ready", "now": NOW, "table": kept, "training": TRAINING} | changes
        company = parse_company(raw, where="test")
        return Workspace(company, tmp_path, tmp_path, State(tmp_path / "state"), Environment())

    return made
