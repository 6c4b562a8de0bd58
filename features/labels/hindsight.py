"""Source tables as labels read them: every row known by the clock, in its latest version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from configs.schema.company import Company
from features.revenue.revenue_growth import allowances
from features.revenue.terms import read_with_hindsight
from features.tables.daily_tables import to_daily
from features.tables.point_in_time import latest_versions

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from features.sources import Loaded

ENTITLEMENTS = "entitlements"


def tables_with_hindsight(
    engine: Backend, company: Company, loaded: Loaded, today: int
) -> dict[str, ir.Table]:
    """Return the tables labels are read from: rows known by `today`, each in its latest version."""
    names = ("subscriptions", "outcomes", "labels", "usage_events", "support_tickets", "invoices")
    rates = engine.read_parquet(loaded.tables["rates"].path) if "rates" in loaded.tables else None
    tables = {}
    for name in (name for name in names if name in loaded.tables):
        has_versions = loaded.tables[name].history
        source = engine.read_parquet([str(path) for path in loaded.tables[name].files])
        days = to_daily(
            name, source, rates, history=has_versions, currency=company.reporting_currency
        )
        seen = days.filter(days.known_day <= today)
        tables[name] = latest_versions(name, seen, history=has_versions)
    if "subscriptions" in tables:
        terms = engine.to_pyarrow(tables["subscriptions"])
        tables["subscriptions"] = ibis.memtable(read_with_hindsight(terms, today))
    if ENTITLEMENTS in loaded.tables:
        source = engine.read_parquet(loaded.tables[ENTITLEMENTS].path)
        days = to_daily(
            ENTITLEMENTS, source, None, history=False, currency=company.reporting_currency
        )
        tables[ENTITLEMENTS] = allowances(days.filter(days.known_day <= today))
    return tables
