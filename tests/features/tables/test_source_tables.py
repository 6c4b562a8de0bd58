"""Canonical tables satisfy the schemas derived from the contract; broken frames do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pytest

from features.sources.mapping import KNOWN_AT
from features.tables.source_tables import TABLES, Kind, SourceColumn

DTYPES: dict[Kind, str] = {"instant": "datetime64[us]", "number": "float64"}
"""Kinds with one dtype; the others depend on whether values are missing and who read them."""


def schema_of(table: str) -> pa.DataFrameSchema:
    """Return the schema of a canonical table: an independent reading of the contract.

    Required columns and ``known_at`` must be there, others may; nothing else may.
    """
    columns = {name: _column(column) for name, column in TABLES[table].columns.items()}
    columns[KNOWN_AT] = pa.Column(DTYPES["instant"], nullable=False)
    return pa.DataFrameSchema(columns, strict=True, name=table)


def _column(column: SourceColumn) -> pa.Column:
    checks = [pa.Check(_CHECKS[column.kind], name=column.kind)] if column.kind in _CHECKS else []
    if column.low is not None:
        checks.append(pa.Check.ge(column.low))
    if column.high is not None:
        checks.append(pa.Check.le(column.high))
    if column.values:
        checks.append(pa.Check.isin(column.values))
    return pa.Column(
        DTYPES.get(column.kind),
        checks=checks,
        nullable=not column.required,
        required=column.required,
        description=column.meaning,
    )


def _each(test: Callable[[object], bool]) -> Callable[[pd.Series], pd.Series]:
    def check(values: pd.Series) -> pd.Series:
        return values.map(lambda value: bool(pd.isna(value)) or test(value)).astype(bool)

    return check


def _is_trimmed(value: object) -> bool:
    return isinstance(value, str) and value != "" and value == value.strip()


def _is_day(value: object) -> bool:
    if isinstance(value, datetime):
        return pd.Timestamp(value) == pd.Timestamp(value).normalize()
    return isinstance(value, date)


def _is_count(value: object) -> bool:
    return float(str(value)).is_integer() and float(str(value)) >= 0


_CHECKS: dict[Kind, Callable[[pd.Series], pd.Series]] = {
    "id": _each(_is_trimmed),
    "text": _each(_is_trimmed),
    "day": _each(_is_day),
    "count": _each(_is_count),
    "flag": _each(lambda value: value in (True, False)),
}


SUBSCRIPTIONS = (
    "account_id,subscription_id,started_on,ended_on,end_reason,arr,seats,auto_renew,notice_at\n"
    "A1,S1,2024-01-01,,,1200,5,true,\n"
    "A2,S2,2024-01-02,2024-05-01,churned,900,,no,2024-04-01 10:00\n"
)


@pytest.mark.parametrize("table", ["accounts", "usage_events", "subscriptions"])
def test_loaded_tables_satisfy_their_schema(small, table):
    loaded = small.load({"subscriptions": SUBSCRIPTIONS})
    frame = pd.read_parquet(loaded.tables[table].path)
    schema_of(table).validate(frame)


def test_every_table_has_a_schema():
    for name, spec in TABLES.items():
        assert set(schema_of(name).columns) == {*spec.columns, "known_at"}


@pytest.mark.parametrize(
    "change",
    [
        {"arr": -1.0},
        {"end_reason": "bored"},
        {"subscription_id": " S1"},
        {"subscription_id": None},
        {"seats": 2.5},
        {"auto_renew": "maybe"},
        {"started_on": pd.Timestamp("2024-01-01 10:00")},
        {"surprise": 1},
    ],
)
def test_a_broken_frame_is_refused(small, change):
    loaded = small.load({"subscriptions": SUBSCRIPTIONS})
    frame = pd.read_parquet(loaded.tables["subscriptions"].path)
    broken = frame.astype({"seats": object}).assign(**change)
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        schema_of("subscriptions").validate(broken)


def test_a_missing_required_column_is_refused(small):
    frame = pd.read_parquet(small.load().tables["accounts"].path).drop(columns="created_at")
    with pytest.raises(pandera.errors.SchemaError, match="created_at"):
        schema_of("accounts").validate(frame)
