"""Random canonical tables of every kind, made from the contracts alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from ibis.backends.duckdb import Backend

from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.workspace import Environment, Workspace
from features.days import day_index
from features.signals import FAMILIES
from features.snapshots.aggregate import family_table
from features.snapshots.grid import NOT_SIGNALS
from features.tables.daily_tables import to_daily
from features.tables.source_tables import TABLES, SourceColumn
from features.text.columns import with_text_scores

ACCOUNTS = tuple("abcdef")
START, END = date(2023, 1, 1), date(2026, 1, 1)
WORDS = {
    "currency": ("EUR", "USD"),
    "priority": ("low", "urgent"),
    "category": ("bug", "cancel", "how"),
    "kind": ("nps", "csat"),
    "stage": ("open", "closed_lost"),
    "feature": ("f1", "f2", "f3"),
    "product": ("core", "more"),
    "user_id": ("u1", "u2", "u3"),
    "text": ("it is broken", "thank you"),
    "comment": ("we love it", "the price is too high", "missing features"),
}
ARROW = {
    "id": pa.string(),
    "text": pa.string(),
    "number": pa.float64(),
    "count": pa.int64(),
    "flag": pa.bool_(),
    "day": pa.date32(),
    "instant": pa.timestamp("us"),
}

Tables = dict[str, pd.DataFrame]


def random_tables(seed: int, rows: int = 40) -> Tables:
    """Every table with every column filled at random; `known_at` a little late at times."""
    rng = np.random.default_rng(seed)
    return {name: _table(name, rng, rows) for name in TABLES if name not in NOT_SIGNALS}


def _table(name: str, rng: np.random.Generator, rows: int) -> pd.DataFrame:
    spec = TABLES[name]
    if name == "accounts":
        rows = len(ACCOUNTS)
    happened = [_moment(rng) for _ in range(rows)]
    frame = pd.DataFrame(
        {
            column: [_value(rng, column, spec.columns[column], at) for at in happened]
            for column in spec.columns
        }
    )
    frame[spec.happened] = [
        at.date() if spec.columns[spec.happened].kind == "day" else at for at in happened
    ]
    frame["known_at"] = [
        at + timedelta(hours=float(rng.choice([0, 0, 0, 5, 60, 24 * 40]))) for at in happened
    ]
    if name == "accounts":
        frame["account_id"] = list(ACCOUNTS)
        frame["created_at"] = datetime(2023, 1, 1)
        frame["known_at"] = datetime(2023, 1, 1)
        frame["is_test"] = False
    if "event_id" in frame:
        frame["event_id"] = [f"{name}{START:%Y}-{rows}-{number}" for number in range(rows)]
    for key in spec.key:
        if key not in {"account_id", spec.happened, "product", "milestone"}:
            frame[key] = [f"{key}{number}" for number in range(rows)]
    return frame


def _moment(rng: np.random.Generator) -> datetime:
    span = (END - START).total_seconds()
    at = datetime(START.year, 1, 1) + timedelta(seconds=float(rng.uniform(0, span)))
    return at.replace(hour=0, minute=0, second=0, microsecond=0) if rng.random() < 0.2 else at


def _value(rng: np.random.Generator, name: str, column: SourceColumn, at: datetime) -> object:
    if name == "account_id":
        return str(rng.choice(ACCOUNTS))
    if column.kind in {"day", "instant"}:
        later = at + timedelta(days=float(rng.uniform(0, 200)))
        if rng.random() < 0.3:
            return None
        return later.date() if column.kind == "day" else later
    if column.kind in {"id", "text"}:
        return str(rng.choice(column.values or WORDS.get(name, ("x", "y"))))
    if column.kind == "flag":
        return bool(rng.random() < 0.5)
    if name == "sentiment" and rng.random() < 0.5:
        return None  # ours is used
    low = 0.0 if column.low is None else column.low
    # A bound against absurd amounts is not how large amounts are.
    high = 10.0 if column.high is None or column.high > 1e6 else column.high
    value = float(rng.uniform(low, high))
    return round(value) if column.kind == "count" else value


def arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """The frame as the canonical table would be stored."""
    kinds = {column: spec.kind for column, spec in TABLES[name].columns.items()} | {
        "known_at": "instant"
    }
    return pa.table(
        {
            column: pa.array(
                [None if value is None or value is pd.NaT else value for value in frame[column]],
                ARROW[kinds[column]],
                from_pandas=True,
            )
            for column in frame.columns
        }
    )


@lru_cache
def _compiled(as_of: date, history: bool) -> tuple[str, ...]:
    """One query per family over tables named raw_<name>: compiling is what takes the time."""
    engine = _engine(random_tables(0, rows=1))
    daily = {
        name: to_daily(name, engine.table(f"raw_{name}"), None, history=history, currency="EUR")
        for name in TABLES
        if name not in NOT_SIGNALS
    }
    created = daily["accounts"].group_by("entity_id").agg(created=lambda t: t.day.min())
    grid = created.select(
        "entity_id",
        as_of_day=ibis.literal(day_index(as_of)).cast("int64"),
        tenure_days=ibis.literal(day_index(as_of)) - created.created,
    )
    columns = {name: set(table.columns) for name, table in daily.items()}
    return tuple(
        ibis.to_sql(
            family_table(family.available(columns), daily, grid, dict.fromkeys(daily, history)),
            dialect="duckdb",
        )
        for family in FAMILIES
    )


def _engine(tables: Tables) -> Backend:
    engine = ibis.duckdb.connect(threads=1)
    engine.raw_sql("SET TimeZone = 'UTC'")
    for name, frame in tables.items():
        given = with_text_scores(name, ibis.memtable(arrow(name, frame)))
        engine.con.register(f"raw_{name}", given.to_pyarrow())
    return engine


def compute_features(tables: Tables, as_of: date, *, history: bool = False) -> pd.DataFrame:
    """Every feature of every family at one as_of: one row per account, sorted."""
    queries = _compiled(as_of, history)
    engine = _engine(tables)
    parts = [
        engine.con.sql(query).to_arrow_table().to_pandas().set_index("entity_id").sort_index()
        for query in queries
    ]
    engine.disconnect()
    return pd.concat(parts, axis=1).drop(columns="as_of_day")


@pytest.fixture(scope="session")
def make_tables() -> Callable[..., Tables]:
    return random_tables


@pytest.fixture(scope="session")
def features_at() -> Callable[..., pd.DataFrame]:
    return compute_features


@pytest.fixture(scope="session")
def canonical() -> Callable[[str, list[dict[str, object]]], pa.Table]:
    """Rows of one table, as dictionaries, as the canonical table would be stored."""

    def build(name: str, rows: list[dict[str, object]]) -> pa.Table:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        frame = pd.DataFrame(
            {
                column: pd.Series([row.get(column) for row in rows], dtype=object)
                for column in columns
            }
        )
        happened = TABLES[name].happened
        is_date = TABLES[name].columns[happened].kind == "day"
        known = [row.get("known_at") or _as_instant(row[happened], is_date) for row in rows]
        frame["known_at"] = pd.Series(known, dtype=object)
        return arrow(name, frame)

    return build


def _as_instant(value: object, is_date: bool) -> object:
    """When a row without `known_at` counts as known: a date at its last microsecond."""
    if is_date and isinstance(value, date):
        return datetime(value.year, value.month, value.day) + timedelta(days=1, microseconds=-1)
    return value


@pytest.fixture(scope="session")
def company_of() -> Callable[..., Workspace]:
    """Write tables as CSV and a company around them: `company_of(folder, files, **config)`."""
    return write_company


def write_company(
    folder: Path, files: dict[str, list[dict[str, object]] | pd.DataFrame], **config: object
) -> Workspace:
    """A company whose files carry our names; `known_at` is mapped where a table has it."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    mapped = dict(config.pop("tables", {}))
    for name, rows in files.items():
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        frame.to_csv(data / f"{name}.csv", index=False)
        if "known_at" in frame:
            mapped[name] = {"known_at": "known_at"} | mapped.get(name, {})
    raw = {
        "name": "ledger",
        "inputs": {name: f"{name}.csv" for name in files},
        "tables": mapped,
        "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}},
    } | config
    (folder / "company.yaml").write_text(yaml.safe_dump(raw))
    return Workspace(
        parse_company(raw, where="test"), folder, data, State(folder / "state"), Environment()
    )
