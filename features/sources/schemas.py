"""Pandera schemas of the canonical tables, derived from the contract, for small frames."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

import pandas as pd
import pandera.pandas as pa

from configs.errors import ConfigError, did_you_mean
from features.contracts import TABLES, Column, Kind
from features.sources.mapping import KNOWN_AT

DTYPES: dict[Kind, str] = {"instant": "datetime64[us]", "number": "float64"}
"""Kinds with one dtype; the others depend on whether values are missing and who read them."""


def schema_of(table: str) -> pa.DataFrameSchema:
    """Return the schema of one canonical table.

    Parameters
    ----------
    table : str
        A name in `features.contracts.TABLES`.

    Returns
    -------
    pandera.pandas.DataFrameSchema
        Required columns and ``known_at`` must be there, others may; nothing else may. Instants
        are UTC without zone, in microseconds.

    Raises
    ------
    ConfigError
        No such table.
    """
    if table not in TABLES:
        raise ConfigError(f"unknown table {table!r}; {did_you_mean(table, TABLES)}", where=table)
    columns = {name: _column(column) for name, column in TABLES[table].columns.items()}
    columns[KNOWN_AT] = pa.Column(DTYPES["instant"], nullable=False)
    return pa.DataFrameSchema(columns, strict=True, name=table)


def _column(column: Column) -> pa.Column:
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
