"""Declaration of signal families and their features.

A family is one file with a list of features. Each feature is one expression: over the *rows known
at as_of* of one table (`Aggregate`), over other columns of the account (`Derived`), or relative to
peers (`versus_peers`). Expressions are ibis and run on DuckDB and on Spark. `Intermediate` columns
are computed but not emitted.

Families need no point-in-time logic: their input rows come from
`features.tables.point_in_time.as_known`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from features.tables.catalog import THEMES, FeatureInfo, Sign, Unit
from features.tables.daily_tables import DERIVED_FROM, daily_schema, source_column
from features.tables.source_tables import TABLES, VERSIONS

GRID_SCHEMA = {
    "entity_id": "string",
    "as_of_day": "int64",
    "tenure_days": "int64",
}
KNOWN_SCHEMA = {**GRID_SCHEMA, "age": "int64"}

Compute = Callable[[ir.Table], ir.Value]


@dataclass(frozen=True)
class Aggregate:
    """An aggregate over the rows of one table known at as_of.

    Attributes
    ----------
    table : str
        Source table.
    compute : callable
        Function of the known rows, with ``age`` in days, that returns an aggregate.
    empty : float or None
        Value for accounts without rows: 0 for counts, None (unknown) for averages.
    """

    table: str
    compute: Compute
    empty: float | None = 0.0


@dataclass(frozen=True)
class NestedAggregate:
    """An aggregate of aggregates: first per account and key (a user), then per account.

    Attributes
    ----------
    table, key : str
        Source table, and the column to group by first.
    inner : dict of str to callable
        Named aggregates over the known rows of one key.
    compute : callable
        Function of the per-key table (with the inner names) that returns an aggregate.
    empty : float or None
        Value for accounts without rows.
    """

    table: str
    key: str
    inner: dict[str, Compute]
    compute: Compute
    empty: float | None = 0.0


@dataclass(frozen=True)
class Derived:
    """Expression over other columns of the account: features, intermediates, ``tenure_days``."""

    compute: Compute


Source = Aggregate | NestedAggregate | Derived


@dataclass(frozen=True)
class Intermediate:
    """Intermediate column of a family, input of other columns and not a feature."""

    name: str
    value: Source


@dataclass(frozen=True)
class Feature:
    """One feature: its computation and its catalogue entry (see `FeatureInfo`)."""

    name: str
    value: Source
    label: str
    meaning: str
    unit: Unit
    theme: str
    window_days: int | None = None
    churn_sign: Sign = 0
    expansion_sign: Sign = 0
    is_actionable: bool = True
    per_day: Sign = 0

    def info(self, family: str) -> FeatureInfo:
        """Return the catalogue entry."""
        return FeatureInfo(
            name=self.name,
            family=family,
            label=self.label,
            meaning=self.meaning,
            unit=self.unit,
            window_days=self.window_days,
            theme=self.theme,
            churn_sign=self.churn_sign,
            expansion_sign=self.expansion_sign,
            is_actionable=self.is_actionable,
            per_day=self.per_day,
        )


@dataclass(frozen=True)
class Family:
    """A signal family: one file, one Feast view.

    Attributes
    ----------
    name : str
        Name of the family, of its file and of its Feast view.
    columns : sequence of Feature or Intermediate
        Columns, `Derived` ones after their inputs.
    lookback_days : int
        Maximum age of rows that any feature reads; bounds the work.
    shorter : dict of str to int
        Shorter lookback of single tables.
    """

    name: str
    columns: Sequence[Feature | Intermediate]
    lookback_days: int = 100_000
    shorter: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        duplicates = {name for name in names if names.count(name) > 1}
        if duplicates:
            raise ValueError(f"family {self.name} declares {sorted(duplicates)} twice")
        unknown = {item.theme for item in self.features if item.theme not in THEMES}
        if unknown:
            raise ValueError(f"family {self.name} uses unknown themes {sorted(unknown)}")

    @property
    def features(self) -> list[Feature]:
        """Emitted columns."""
        return [column for column in self.columns if isinstance(column, Feature)]

    @property
    def tables(self) -> list[str]:
        """Source tables of the columns, in order of first use."""
        named = [c.value.table for c in self.columns if not isinstance(c.value, Derived)]
        return list(dict.fromkeys(named))

    def lookback(self, table: str) -> int:
        """Return the lookback in days of a table."""
        return self.shorter.get(table, self.lookback_days)

    def available(self, tables: Mapping[str, set[str]]) -> Family:
        """Return the family without columns that need more than `tables` (name → columns)."""
        return self.without(self.lacking(tables))

    def without(self, names: Collection[str]) -> Family:
        """Return the family without some columns."""
        return replace(self, columns=tuple(c for c in self.columns if c.name not in names))

    def lacking(self, tables: Mapping[str, set[str]]) -> dict[str, list[str]]:
        """Return the missing source columns or tables of each column that cannot be computed."""
        lacks: dict[str, list[str]] = {}
        for column in self.columns:
            if isinstance(column.value, Derived):
                missing = {
                    word for name in self._reads(column.value) for word in lacks.get(name, [])
                }
            else:
                missing = _absent(column.value, tables)
            if missing:
                lacks[column.name] = sorted(missing)
        return lacks

    def _reads(self, value: Derived) -> set[str]:
        schema = {**GRID_SCHEMA, **{column.name: "float64" for column in self.columns}}
        return fields_of(value.compute, schema)


def _absent(value: Aggregate | NestedAggregate, tables: Mapping[str, set[str]]) -> set[str]:
    if value.table not in tables:
        return {value.table}
    spec = TABLES[value.table]
    read = {DERIVED_FROM.get(name, name) for name in row_fields(value)}
    missing = read - tables[value.table] - set(KNOWN_SCHEMA)
    names = {source_column(value.table, name) for name in missing}
    return {
        f"{value.table}.{name}"
        + (" with history" if spec.columns[name].visible_from == VERSIONS else "")
        for name in names
        if name in spec.columns
    }


def row_fields(value: Aggregate | NestedAggregate) -> set[str]:
    """Return the columns of the known rows that an aggregate reads."""
    schema = {**daily_schema(value.table), **KNOWN_SCHEMA}
    if isinstance(value, Aggregate):
        return fields_of(value.compute, schema)
    inner = [fields_of(compute, schema) for compute in value.inner.values()]
    return {value.key}.union(*inner)


def fields_of(compute: Compute, schema: dict[str, str]) -> set[str]:
    """Return the names of the columns an expression reads, by building it on an empty table."""
    value = compute(ibis.table(schema, name="declared"))
    return {node.name for node in value.op().find(ops.Field)}


def log_ratio(now: ir.NumericValue, then: ir.NumericValue, smooth: float) -> ir.Value:
    """Return ln((now + smooth) / (then + smooth)): 0 no change, −0.69 halved, 0.69 doubled."""
    return ((now.cast("float64") + smooth) / (then.cast("float64") + smooth)).ln()


def ratio(top: ir.NumericValue, bottom: ir.NumericValue) -> ir.Value:
    """Return top / bottom as a float, null where the bottom is 0."""
    return top.cast("float64") / bottom.cast("float64").nullif(0.0)


def weeks_observed(rows: ir.Table, window_days: int) -> ir.Value:
    """Return the weeks of a window in which an account existed, at least one."""
    days = ibis.least(rows.tenure_days, ibis.literal(window_days))
    return ibis.greatest(days, ibis.literal(7)).cast("float64") / 7.0


def versus_peers(name: str, smooth: float, among: Compute) -> Derived:
    """Return the log ratio to the median of peers: accounts of similar age at the same as_of.

    Parameters
    ----------
    name : str
        Column to compare.
    smooth : float
        Constant added to both sides, in the unit of the column.
    among : callable
        Condition for peers; inactive accounts would pull the median to 0.
    """

    def compute(own: ir.Table) -> ir.Value:
        band = (own.tenure_days > 182).cast("int64") + (own.tenure_days > 728).cast("int64")
        # Not median(where=...): ibis also filters the percentile, which Spark refuses.
        counted = ibis.ifelse(among(own), own[name], ibis.null("float64"))
        peers = counted.median().over(ibis.window(group_by=[own.as_of_day, band]))
        return log_ratio(own[name], peers, smooth)

    return Derived(compute)
