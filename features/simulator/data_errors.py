"""Data errors of real exports: a few bad rows per thousand that loading has to detect.

In tables that define outcomes, bad rows are added rather than created from good rows, so setting
them aside does not change the truth.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.mechanism.calendar import DAY, instants, seconds
from features.simulator.mechanism.context import SimulationContext

GAP_DAYS = 5
"""Length of the telemetry outage of all accounts, in the middle of the history."""

TEST_ACCOUNT = "A-TEST"
UNKNOWN_ACCOUNT = "A-99999"
UNREADABLE = ("31/02/2026", "soon", "00.00.0000", "44927.5")
"""Content of some date cells of text files."""

Unreadable = dict[str, dict[str, np.ndarray]]
"""Table → column → positions of rows with an unreadable cell."""

_DATE_CELLS = {
    "support_tickets": "opened_at",
    "touches": "touched_at",
    "contacts": "created_at",
    "milestones": "due_on",
}


def add_errors(
    tables: dict[str, pd.DataFrame], context: SimulationContext
) -> tuple[dict[str, pd.DataFrame], Unreadable]:
    """Return the tables with bad rows added, and the cells to write as unreadable text."""
    rng = context.rng("mess")
    with_errors = {
        **tables,
        "accounts": _accounts(rng, tables["accounts"], context),
        "subscriptions": _subscriptions(rng, tables["subscriptions"]),
        "usage_events": _usage(rng, tables["usage_events"], context),
        "support_tickets": _tickets(rng, tables["support_tickets"]),
        "survey_responses": _surveys(rng, tables["survey_responses"]),
        "invoices": _invoices(rng, tables["invoices"]),
        "touches": _with_copies(rng, tables["touches"], 0.002),
    }
    with_errors = {name: table.reset_index(drop=True) for name, table in with_errors.items()}
    return with_errors, {
        name: {column: _sample(rng, len(with_errors[name]), 0.002)}
        for name, column in _DATE_CELLS.items()
    }


def gap_days(context: SimulationContext) -> tuple[int, int]:
    """Return the first day of the telemetry outage and the first day after it."""
    start = int(context.calendar.starts[context.calendar.n_months // 2]) + 9
    return start, start + GAP_DAYS


def _sample(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """Return positions of about `share` of n rows, at least one."""
    return np.sort(rng.choice(n, max(1, round(share * n)), replace=False))


def _with_copies(rng: np.random.Generator, table: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the table with exact copies of some rows at its end."""
    return pd.concat([table, table.iloc[_sample(rng, len(table), share)]])


def _first_moment(context: SimulationContext) -> pd.Timestamp:
    return pd.Timestamp(int(context.calendar.starts[0]) * DAY, unit="s", tz="UTC").as_unit("us")


def _accounts(
    rng: np.random.Generator, table: pd.DataFrame, context: SimulationContext
) -> pd.DataFrame:
    test = table.iloc[[0]].assign(
        account_id=TEST_ACCOUNT,
        name="TEST - do not call",
        created_at=_first_moment(context),
        parent_account_id=None,
    )
    nameless = table.iloc[[1]].assign(account_id=None)
    return pd.concat([_with_copies(rng, table, 0.002), test, nameless])


def _subscriptions(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    def copies(count: int, letter: str) -> pd.DataFrame:
        rows = table.iloc[rng.choice(len(table), count, replace=False)]
        return rows.assign(subscription_id=rows["subscription_id"].str[:-1] + letter)

    count = max(1, len(table) // 1000)
    negative = copies(count, "N")
    negative = negative.assign(arr=-negative["arr"])
    ownerless = copies(count, "M").assign(account_id=None)
    unknown = copies(count, "U").assign(account_id=UNKNOWN_ACCOUNT)
    return pd.concat([_with_copies(rng, table, 0.001), negative, ownerless, unknown])


def _usage(
    rng: np.random.Generator, table: pd.DataFrame, context: SimulationContext
) -> pd.DataFrame:
    table = _with_copies(rng, table, 0.001).reset_index(drop=True)
    table["account_id"] = table["account_id"].cat.add_categories([UNKNOWN_ACCOUNT, TEST_ACCOUNT])
    for value, share in ((UNKNOWN_ACCOUNT, 3e-4), (TEST_ACCOUNT, 3e-4), (None, 1e-4)):
        table.loc[_sample(rng, len(table), share), "account_id"] = value
    early = _sample(rng, len(table), 5e-4)
    created = pd.Series(context.traits.started * DAY, index=context.traits.account_id)
    known = created.reindex(table["account_id"].iloc[early].astype(object)).to_numpy()
    early, known = early[~np.isnan(known)], known[~np.isnan(known)]
    before = known.astype(np.int64) - rng.integers(1, 30 * DAY, len(early))
    for column in ("occurred_at", "known_at"):
        table.loc[early, column] = instants(before).array
    day = seconds(table["occurred_at"]) // DAY
    first, after = gap_days(context)
    return table[(day < first) | (day >= after)]


def _tickets(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    table = _with_copies(rng, table, 0.002).reset_index(drop=True)
    backwards = _sample(rng, len(table), 0.003)
    table.loc[backwards, "resolved_at"] = table.loc[backwards, "opened_at"] - pd.Timedelta(hours=9)
    table.loc[_sample(rng, len(table), 0.001), "ticket_id"] = None
    table.loc[_sample(rng, len(table), 0.001), "account_id"] = UNKNOWN_ACCOUNT
    return table


def _surveys(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    table = _with_copies(rng, table, 0.002).reset_index(drop=True)
    table.loc[_sample(rng, len(table), 0.001), "score"] = -1.0
    return table


def _invoices(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    table = _with_copies(rng, table, 0.002).reset_index(drop=True)
    settled = np.flatnonzero(table["paid_on"].notna())
    backwards = settled[_sample(rng, len(settled), 0.001)]
    table.loc[backwards, "paid_on"] = table.loc[backwards, "issued_on"] - pd.Timedelta(days=40)
    return table
