"""Subscriptions and invoices as frames for the revenue ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import pandas as pd

from configs.runtime.errors import DataError
from features.revenue.retention import TERM_COLUMNS
from features.tables.daily_tables import to_daily

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from features.sources import Loaded


def daily_frame(engine: Backend, loaded: Loaded, name: str, currency: str) -> pd.DataFrame:
    """Return a canonical table on whole days, money in the reporting currency."""
    rates = engine.read_parquet(loaded.tables["rates"].path) if "rates" in loaded.tables else None
    info = loaded.tables[name]
    source = engine.read_parquet([str(path) for path in info.files])
    rows = to_daily(name, source, rates, history=info.history, currency=currency)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def read_terms(loaded: Loaded, currency: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the terms of a company; see `priced_terms`."""
    return priced_terms(_read(loaded, "subscriptions", currency), currency)


def read_invoices(loaded: Loaded, currency: str) -> pd.DataFrame:
    """Return a company's invoices: entity_id, day, known_day and amount, NaN unknown."""
    return _read(loaded, "invoices", currency)[["entity_id", "day", "known_day", "amount"]]


def _read(loaded: Loaded, name: str, currency: str) -> pd.DataFrame:
    engine = ibis.duckdb.connect()
    engine.raw_sql("SET TimeZone = 'UTC'")
    try:
        return daily_frame(engine, loaded, name, currency)
    finally:
        engine.disconnect()


def priced_terms(daily: pd.DataFrame, currency: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return terms with columns of `TERM_COLUMNS` from the daily table, and the accounts left out.

    Accounts that hold terms without a known ARR are left out.

    Raises
    ------
    DataError
        No ARR at all, or a currency without a rate.
    """
    is_foreign = pd.Series(False, index=daily.index)
    if "currency" in daily:
        is_foreign = daily["currency"].notna() & (daily["currency"] != currency)
    unrated = is_foreign & daily["currency_rate"].isna()
    if unrated.any():
        lacking = sorted(set(daily.loc[unrated, "currency"]))
        raise DataError(
            f"ARR is in several currencies, and {', '.join(lacking)} has no rate to {currency} "
            f"({int(unrated.sum())} of {len(daily)} rows)",
            where="tables.rates",
            fix="add the currency to the table of rates",
        )
    if "arr" not in daily or daily["arr"].notna().sum() == 0:
        raise DataError(
            "no subscription has an ARR",
            where="tables.subscriptions.columns.arr",
            fix="map arr, the annual recurring revenue of the terms",
        )
    frame = pd.DataFrame({name: daily.get(name) for name in TERM_COLUMNS}, index=daily.index)
    numbers = [n for n in TERM_COLUMNS if n.endswith(("_days", "_day", "_rate"))]
    numbers += ["escalator", "arr"]
    frame[numbers] = frame[numbers].astype("float64")
    is_unknown = frame["arr"].isna() & frame["ended_day"].isna()
    unpriced = tuple(sorted(frame.loc[is_unknown, "entity_id"].unique()))
    priced = frame[~frame["entity_id"].isin(unpriced)]
    return priced.astype({"day": "int64", "known_day": "int64"}), unpriced
