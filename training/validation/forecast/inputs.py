"""What the forecast reads: terms, deals, names and where each account stood, as plain frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from configs.errors import DataError
from configs.places import Workspace
from features.build import Built
from features.daily import to_daily
from features.engine import connect
from features.snapshots import STANDING, day_index, index_day
from training.validation.forecast.movements import TERM_COLUMNS

UNASSIGNED = "unassigned"

DEAL_COLUMNS = ("entity_id", "opportunity_id", "day", "known_day", "kind", "stage", "commit",
                "close_day")  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Everything the forecast is made from.

    Attributes
    ----------
    terms : pandas.DataFrame or None
        Every version of every subscription row, columns of `movements.TERM_COLUMNS`, ARR at one
        constant rate per currency; None without subscriptions or without ARR.
    deals : pandas.DataFrame or None
        Every version of every opportunity, columns of `DEAL_COLUMNS`; None without.
    names : pandas.DataFrame
        Indexed by entity_id: name, segment, owner, as they are today.
    standing : callable
        Day index of a moment of the grid to where each account stood (`features.standing`).
    days : tuple of int
        Day indices of the grid, ascending; the last one is the book.
    labels : mapping of str to pandas.DataFrame
        Target to its labels (`features.labels.COLUMNS`).
    why_not : str
        Why there are no terms, in words; empty where there are.
    """

    terms: pd.DataFrame | None
    deals: pd.DataFrame | None
    names: pd.DataFrame
    standing: Callable[[int], pd.DataFrame]
    days: tuple[int, ...]
    labels: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    why_not: str = ""

    @property
    def today(self) -> int:
        """Day index of the book."""
        return self.days[-1]


def read_inputs(workspace: Workspace, built: Built) -> Inputs:
    """Read what a company's forecast is made from; the caller holds the state directory's lock."""
    engine = connect(workspace.state.scratch)
    currency = workspace.company.reporting_currency
    tables = {name: _daily(engine, built, name, currency) for name in ("subscriptions",
              "opportunities") if name in built.loaded.tables}  # fmt: skip
    today = day_index(built.snapshots.book_on)
    terms, why_not = None, "there are no subscriptions"
    if "subscriptions" in tables:
        rates = _rates(built, today)
        try:
            terms, why_not = priced_terms(tables["subscriptions"], rates, currency), ""
        except DataError as error:
            why_not = error.what
    files = built.snapshots.sets[STANDING]
    return Inputs(
        terms=terms,
        deals=_deals(tables.get("opportunities")),
        names=_names(built),
        standing=lambda day: pq.read_table(files.path(index_day(day))).to_pandas(),
        days=tuple(day_index(day) for day in built.snapshots.days),
        labels={name: item.frame for name, item in built.labels.items()},
        why_not=why_not,
    )


def _daily(engine: Any, built: Built, name: str, currency: str) -> pd.DataFrame:
    info = built.loaded.tables[name]
    source = engine.read_parquet(info.path)
    # Without rates: money stays in its own currency, to be put at one constant rate.
    rows = to_daily(name, source, None, history=info.history, currency=currency)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def _rates(built: Built, today: int) -> Mapping[str, float] | None:
    """Return the last rate of every currency, or None when there is no table of rates."""
    info = built.loaded.tables.get("rates")
    if info is None:
        return None
    rates = pq.read_table(info.path, columns=["currency", "as_of_on", "rate"]).to_pandas()
    rates = rates.sort_values("as_of_on", kind="stable")
    seen = rates[pd.to_datetime(rates["as_of_on"]) <= pd.Timestamp(index_day(today))]
    latest = (seen if len(seen) else rates).drop_duplicates("currency", keep="last")
    return dict(zip(latest["currency"], latest["rate"].astype(float), strict=True))


def priced_terms(
    daily: pd.DataFrame, rates: Mapping[str, float] | None, currency: str
) -> pd.DataFrame:
    """Return terms with their ARR in one currency at constant rates.

    Raises
    ------
    DataError
        No ARR at all, or a currency without a rate.
    """
    if "arr" not in daily or daily["arr"].notna().sum() == 0:
        raise DataError(
            "no subscription has an ARR",
            where="tables.subscriptions.columns.arr",
            fix="map arr, the annual recurring revenue of the terms",
        )
    own = daily["currency"].fillna(currency) if "currency" in daily else currency
    factors = pd.Series(own, index=daily.index).map({**(rates or {}), currency: 1.0})
    if factors.isna().any():
        lacking = sorted(set(pd.Series(own, index=daily.index)[factors.isna()]))
        raise DataError(
            f"ARR is in several currencies, and {', '.join(lacking)} has no rate to {currency} "
            f"({int(factors.isna().sum())} of {len(daily)} rows)",
            where="tables.rates",
            fix="add the currency to the table of rates",
        )
    optional = {name: daily.get(name) for name in TERM_COLUMNS}
    frame = pd.DataFrame(optional, index=daily.index)
    numbers = [name for name in TERM_COLUMNS if name.endswith("_days") or name.endswith("_day")]
    frame[[*numbers, "escalator"]] = frame[[*numbers, "escalator"]].astype("float64")
    frame["arr"] = daily["arr"].astype("float64") * factors
    return frame.astype({"day": "int64", "known_day": "int64"})


def _deals(daily: pd.DataFrame | None) -> pd.DataFrame | None:
    if daily is None or not {"kind", "stage"} <= set(daily.columns):
        return None
    return daily.reindex(columns=list(DEAL_COLUMNS))


def _names(built: Built) -> pd.DataFrame:
    """Return name, segment and owner of every account as they are today."""
    info = built.loaded.info("accounts")
    segment = next((n for n in ("segment", "plan", "region") if n in info.columns), None)
    wanted = {"name": "name", "owner": "owner_id", "segment": segment}
    given = {ours: theirs for ours, theirs in wanted.items() if theirs in info.columns}
    columns = list(dict.fromkeys(["account_id", "known_at", *map(str, given.values())]))
    rows = pq.read_table(info.path, columns=columns).to_pandas()
    rows = rows.sort_values("known_at", kind="stable").drop_duplicates("account_id", keep="last")
    table = pd.DataFrame({"entity_id": rows["account_id"]})
    for ours in wanted:
        table[ours] = rows[given[ours]] if ours in given else None
    table["owner"] = table["owner"].map(_owner_names(built)).fillna(table["owner"])
    table = table.fillna({"segment": UNASSIGNED, "owner": UNASSIGNED})
    return table.set_index("entity_id")[["name", "segment", "owner"]]


def _owner_names(built: Built) -> dict[str, str]:
    info = built.loaded.tables.get("owners")
    if info is None or "name" not in info.columns:
        return {}
    rows = pq.read_table(info.path, columns=["owner_id", "name"]).to_pandas().dropna()
    shared = rows[rows["name"].duplicated(keep=False)]["owner_id"]
    return {
        str(row.owner_id): f"{row.name} ({row.owner_id})" if row.owner_id in set(shared)
        else str(row.name)
        for row in rows.itertuples(index=False)
    }  # fmt: skip
