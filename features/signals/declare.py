"""How a signal family says what its features are.

A family is one file. It lists features; each says in one expression how it is computed, either
over the *rows known at as_of* of one table (`Aggregate`), or from the account's own computed
columns (`Derived`), or against its peers (`versus_peers`). Expressions are ibis: the same lines run
on DuckDB and on Spark. `Intermediate` columns are computed and not emitted.

Known-time correctness is not a family's business: the rows it is given are already those of
`features.tables.point_in_time.as_known`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from features.tables.catalog import THEMES, FeatureInfo, Sign, Unit
from features.tables.daily_tables import MADE_FROM, daily_name, daily_schema
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
        Takes the known rows, with ``age`` in days, and returns an aggregate.
    empty : float or None
        Value for an account with no rows at all: 0 for counts, None (unknown) for averages.
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
        Takes the per-key table (with the inner names) and returns an aggregate.
    empty : float or None
        Value for an account with no rows at all.
    """

    table: str
    key: str
    inner: dict[str, Compute]
    compute: Compute
    empty: float | None = 0.0


@dataclass(frozen=True)
class Derived:
    """Computed from the account's own columns: other features, helpers, ``tenure_days``."""

    compute: Compute


Source = Aggregate | NestedAggregate | Derived


@dataclass(frozen=True)
class Intermediate:
    """A column that features of the family are computed from, not itself a feature."""

    name: str
    value: Source


@dataclass(frozen=True)
class Feature:
    """One feature: what it is in words, and how it is computed. See `FeatureInfo` for the words."""

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
    columns : sequence of Feature or Helper
        In an order where `Derived` columns come after what they are computed from.
    lookback_days : int
        Rows older than this cannot matter to any feature; bounds the work.
    shorter : dict of str to int
        The same for single tables, where less is needed.
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
        """The emitted columns."""
        return [column for column in self.columns if isinstance(column, Feature)]

    @property
    def tables(self) -> list[str]:
        """The source tables the columns are computed from, in order of first use."""
        named = [c.value.table for c in self.columns if not isinstance(c.value, Derived)]
        return list(dict.fromkeys(named))

    def lookback(self, table: str) -> int:
        """Days back from as_of within which rows of `table` can matter."""
        return self.shorter.get(table, self.lookback_days)

    def available(self, tables: Mapping[str, set[str]]) -> Family:
        """Return the family without what `tables` (daily table → columns) cannot support."""
        return self.without(self.lacking(tables))

    def without(self, names: Collection[str]) -> Family:
        """Return the family less some columns."""
        return replace(self, columns=tuple(c for c in self.columns if c.name not in names))

    def lacking(self, tables: Mapping[str, set[str]]) -> dict[str, list[str]]:
        """Return, by column that cannot be computed, the source columns or tables it lacks."""
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
    read = {MADE_FROM.get(name, name) for name in row_fields(value)}
    missing = read - tables[value.table] - set(KNOWN_SCHEMA)
    return {
        f"{value.table}.{name}" + (" with history" if column.visible_from == VERSIONS else "")
        for name, column in spec.columns.items()
        if daily_name(name, column) in missing
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
    """Return the weeks of a window that an account has existed, at least one: scales the young."""
    days = ibis.least(rows.tenure_days, ibis.literal(window_days))
    return ibis.greatest(days, ibis.literal(7)).cast("float64") / 7.0


def versus_peers(name: str, smooth: float, among: Compute) -> Derived:
    """Return the log-ratio to the median of peers: accounts of like age at the same as_of.

    Parameters
    ----------
    name : str
        The column compared.
    smooth : float
        Added to both sides, in the column's unit.
    among : callable
        Which accounts count as peers: those that still use what is compared, or the silent ones
        would pull the median to 0.
    """

    def compute(own: ir.Table) -> ir.Value:
        band = (own.tenure_days > 182).cast("int64") + (own.tenure_days > 728).cast("int64")
        # Not median(where=...): ibis filters the percentile too, which Spark refuses.
        counted = ibis.ifelse(among(own), own[name], ibis.null("float64"))
        peers = counted.median().over(ibis.window(group_by=[own.as_of_day, band]))
        return log_ratio(own[name], peers, smooth)

    return Derived(compute)
