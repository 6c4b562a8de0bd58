"""What the forecast reads: terms, deals, names and where each account stood, as plain frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd
import pyarrow.parquet as pq

from configs.runtime.errors import DataError
from configs.schema.workspace import Workspace
from features.days import day_index, index_day
from features.pipeline import FeatureBuild
from features.revenue.retention import known_terms
from features.snapshots.grid import ACCOUNT_STATUS
from features.snapshots.subscriptions import daily_frame, priced_terms
from features.tables.duckdb_engine import connect

UNASSIGNED = "unassigned"

DEAL_COLUMNS = ("entity_id", "opportunity_id", "day", "known_day", "kind", "stage", "commit",
                "close_day")  # fmt: skip


@dataclass(frozen=True)
class ForecastInputs:
    """Everything the forecast is made from.

    Attributes
    ----------
    terms : pandas.DataFrame or None
        Every version of every subscription row, columns of
        `features.revenue.retention.TERM_COLUMNS`; None without subscriptions or without ARR.
    deals : pandas.DataFrame or None
        Every version of every opportunity, columns of `DEAL_COLUMNS`; None without.
    names : pandas.DataFrame
        Indexed by entity_id: name, segment, owner, as they are today.
    standing : callable
        Day index of a moment of the grid to where each account stood
        (`features.snapshots.account_status`).
    days : tuple of int
        Day indices of the grid, ascending; the last one is the book.
    labels : mapping of str to pandas.DataFrame
        Target to its labels (`features.labels.COLUMNS`).
    why_not : str
        Why there are no terms, in words; empty where there are.
    unpriced : tuple of str
        Accounts left out because terms they hold have no ARR.
    """

    terms: pd.DataFrame | None
    deals: pd.DataFrame | None
    names: pd.DataFrame
    standing: Callable[[int], pd.DataFrame]
    days: tuple[int, ...]
    labels: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    why_not: str = ""
    unpriced: tuple[str, ...] = ()
    _known: dict[int, pd.DataFrame] = field(default_factory=dict, compare=False, repr=False)

    def terms_at(self, at: int) -> pd.DataFrame:
        """Return the terms as known at a midnight (`features.revenue.retention.known_terms`)."""
        assert self.terms is not None
        if at not in self._known:
            self._known[at] = known_terms(self.terms, at)
        return self._known[at]

    @property
    def today(self) -> int:
        """Day index of the book."""
        return self.days[-1]


def read_inputs(workspace: Workspace, built: FeatureBuild) -> ForecastInputs:
    """Read what a company's forecast is made from; the caller holds the state directory's lock."""
    engine = connect(workspace.state.scratch)
    currency = workspace.company.reporting_currency
    tables = {
        name: daily_frame(engine, built.loaded, name, currency)
        for name in ("subscriptions", "opportunities")
        if name in built.loaded.tables
    }
    terms, why_not = None, "there are no subscriptions"
    unpriced: tuple[str, ...] = ()
    if "subscriptions" in tables:
        try:
            terms, unpriced = priced_terms(tables["subscriptions"], currency)
            why_not = ""
        except DataError as error:
            why_not = error.what
    files = built.snapshots.sets[ACCOUNT_STATUS]
    return ForecastInputs(
        terms=terms,
        deals=_deals(tables.get("opportunities")),
        names=_names(built),
        standing=lambda day: pq.read_table(files.path(index_day(day))).to_pandas(),
        days=tuple(day_index(day) for day in built.snapshots.days),
        labels={name: item.frame for name, item in built.labels.items()},
        why_not=why_not,
        unpriced=unpriced,
    )


def _deals(daily: pd.DataFrame | None) -> pd.DataFrame | None:
    if daily is None or not {"kind", "stage"} <= set(daily.columns):
        return None
    return daily.reindex(columns=list(DEAL_COLUMNS))


def _names(built: FeatureBuild) -> pd.DataFrame:
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


def _owner_names(built: FeatureBuild) -> dict[str, str]:
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
