"""Compilation of a signal family to one ibis expression."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from features.days import KEY
from features.signals.declare import (
    GRID_SCHEMA,
    Aggregate,
    Derived,
    Family,
    Feature,
    Intermediate,
    NestedAggregate,
    fields_of,
)
from features.tables.point_in_time import as_known


def family_table(
    family: Family, daily: Mapping[str, ir.Table], grid: ir.Table, history: Mapping[str, bool]
) -> ir.Table:
    """Compute every feature of a family.

    Parameters
    ----------
    family : Family
        Family reduced to the features the data supports (`Family.available`).
    daily : mapping of str to ibis.Table
        Daily tables by source name.
    grid : ibis.Table
        One row per ``entity_id`` and ``as_of_day``, with ``tenure_days``.
    history : mapping of str to bool
        Which tables keep every version of their rows.

    Returns
    -------
    ibis.Table
        One row per grid row: ``entity_id``, ``as_of_day``, the family's features as float64.
    """
    result = grid
    for table in family.tables:
        rows = as_known(
            table,
            _recent(daily[table], grid, family.lookback(table)),
            grid,
            history=history.get(table, False),
        )
        result = _add_aggregates(result, family, table, rows)
    result = _add_derived(result, family)
    emitted = {name: _finite(result[name]) for name in (item.name for item in family.features)}
    return result.select(*KEY, **emitted)


def _recent(daily: ir.Table, grid: ir.Table, lookback_days: int) -> ir.Table:
    """Leave out rows that are too old for every row of the grid."""
    oldest = grid.as_of_day.min().as_scalar() - lookback_days
    return daily.filter(daily.day > oldest)


def _add_aggregates(result: ir.Table, family: Family, table: str, rows: ir.Table) -> ir.Table:
    rows = rows.filter(rows.age < family.lookback(table))
    plain = {c.name: c.value for c in family.columns if isinstance(c.value, Aggregate)}
    plain = {name: value for name, value in plain.items() if value.table == table}
    if plain:
        sums = rows.group_by(KEY).agg(
            **{name: value.compute(rows).cast("float64") for name, value in plain.items()}
        )
        result = _attach(result, sums, {name: value.empty for name, value in plain.items()})
    keyed = {c.name: c.value for c in family.columns if isinstance(c.value, NestedAggregate)}
    keyed = {name: value for name, value in keyed.items() if value.table == table}
    for group in _by_inner(keyed):
        result = _attach(
            result,
            _aggregate_twice(rows, group),
            {name: value.empty for name, value in group.items()},
        )
    return result


def _by_inner(keyed: dict[str, NestedAggregate]) -> list[dict[str, NestedAggregate]]:
    """Group nested aggregates that share their inner aggregation, so it runs once."""
    groups: dict[tuple[str, int], dict[str, NestedAggregate]] = {}
    for name, value in keyed.items():
        groups.setdefault((value.key, id(value.inner)), {})[name] = value
    return list(groups.values())


def _aggregate_twice(rows: ir.Table, group: dict[str, NestedAggregate]) -> ir.Table:
    first = next(iter(group.values()))
    # Rows without a key, such as events without a user, are left out.
    named = rows.filter(rows[first.key].notnull())
    inner = named.group_by([*KEY, first.key]).agg(
        **{name: compute(named) for name, compute in first.inner.items()}
    )
    return inner.group_by(KEY).agg(
        **{name: value.compute(inner).cast("float64") for name, value in group.items()}
    )


def _attach(result: ir.Table, sums: ir.Table, empty: dict[str, float | None]) -> ir.Table:
    joined = result.left_join(sums, KEY)
    columns = {
        name: joined[name] if value is None else ibis.coalesce(joined[name], value)
        for name, value in empty.items()
    }
    return joined.select(*(joined[name] for name in result.columns), **columns)


def _add_derived(result: ir.Table, family: Family) -> ir.Table:
    """Add derived columns in as few passes as their dependencies allow."""
    pending: list[Feature | Intermediate] = [
        c for c in family.columns if isinstance(c.value, Derived)
    ]
    schema = {**GRID_SCHEMA, **{column.name: "float64" for column in family.columns}}
    computed = set(result.columns)
    later = {column.name for column in pending} - set(GRID_SCHEMA)
    while pending:
        ready = [
            column
            for column in pending
            if not (_needs(column, schema) & later) and _needs(column, schema) <= computed
        ]
        result = result.mutate(
            **{c.name: c.value.compute(result) for c in ready if isinstance(c.value, Derived)}
        )
        computed |= {column.name for column in ready}
        later -= computed
        pending = [column for column in pending if column not in ready]
    return result


def _needs(column: Feature | Intermediate, schema: dict[str, str]) -> set[str]:
    assert isinstance(column.value, Derived)
    return fields_of(column.value.compute, schema)


def _finite(value: ir.Value) -> ir.Value:
    """Return a number with infinite values and NaN as null, and −0 as 0."""
    number = value.cast("float64")
    return ibis.cases(
        (number.isnan() | number.isinf(), ibis.null("float64")),
        (number == 0, ibis.literal(0.0)),
        else_=number,
    )
