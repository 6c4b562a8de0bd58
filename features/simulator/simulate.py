"""One call from a seed to all tables and the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from configs.runtime.errors import ConfigError
from features.simulator.data_errors import Unreadable, spoil
from features.simulator.ground_truth import truth_table
from features.simulator.mechanism.accounts import (
    accounts_table,
    draw_book,
    owners_table,
    rates_table,
)
from features.simulator.mechanism.calendar import Calendar, calendar_until, dates, seconds
from features.simulator.mechanism.context import SimulationContext, with_arr
from features.simulator.mechanism.decisions import decisions_table, live, subscription_rows
from features.simulator.mechanism.hidden_states import draw_latents
from features.simulator.tables.billing import (
    invoices_table,
    opportunities_table,
    subscriptions_table,
)
from features.simulator.tables.contacts import (
    contacts_table,
    milestones_table,
    surveys_table,
    touches_table,
)
from features.simulator.tables.health_scores import (
    health_parts,
    health_scores,
    health_table,
    is_red,
)
from features.simulator.tables.tickets import tickets_table
from features.simulator.tables.usage import draw_usage, entitlements_table, usage_table
from features.tables.source_tables import TABLES

NOW = datetime(2026, 6, 29, tzinfo=UTC)
FEWEST_ACCOUNTS, FEWEST_MONTHS = 20, 6


@dataclass(frozen=True)
class Simulation:
    """A simulated company: what it exports, and what is true of it.

    Attributes
    ----------
    seed, now
        What it was made from; the export was taken at `now`.
    tables : dict of str to DataFrame
        Source tables by their name in the contracts, in the contracts' columns, with ``known_at``
        where a source would deliver late. Instants are UTC, days are midnights without a zone.
    truth : DataFrame
        One row per account and first of a month: the true chances
        (`features.simulator.ground_truth`).
    decisions : DataFrame
        One row per decision taken before `now`: account_id, decided_on, effective_on, outcome
        (churn, contraction, expansion), reason.
    unreadable : dict
        Table → column → row positions whose cell is written as text that is no date.
    """

    seed: int
    now: datetime
    tables: dict[str, pd.DataFrame]
    truth: pd.DataFrame
    decisions: pd.DataFrame
    unreadable: Unreadable = field(default_factory=dict)


def simulate(
    seed: int = 7,
    n_accounts: int = 800,
    months: int = 30,
    now: datetime = NOW,
    mess: bool = True,
) -> Simulation:
    """Simulate a company.

    Parameters
    ----------
    seed : int
        The same seed and sizes give the same tables.
    n_accounts : int
        Accounts that ever were, at least 20.
    months : int
        Calendar months of history, the last one being that of `now`; at least 6.
    now : datetime
        The moment the export is taken, UTC; nothing later shows in any table.
    mess : bool
        Add the bad rows and gaps of real exports.

    Raises
    ------
    ConfigError
        Too few accounts or months.

    Examples
    --------
    >>> world = simulate(seed=1, n_accounts=20, months=6, mess=False)
    >>> len(world.tables["accounts"])
    20
    """
    if n_accounts < FEWEST_ACCOUNTS or months < FEWEST_MONTHS:
        raise ConfigError(
            f"a world of {n_accounts} accounts and {months} months is too small to simulate",
            fix=f"ask for at least {FEWEST_ACCOUNTS} accounts and {FEWEST_MONTHS} months",
        )
    scene = simulate_tables(seed, n_accounts, calendar_until(now, months))
    tables = _tables(scene)
    tables, unreadable = spoil(tables, scene) if mess else (tables, {})
    truth = truth_table(scene.book, scene.latents, scene.life, scene.calendar)
    ordered = {name: tables[name] for name in TABLES if name in tables}
    moment = pd.Timestamp(scene.calendar.now, unit="s", tz="UTC").to_pydatetime()
    return Simulation(seed, moment, ordered, truth, _decisions(scene), unreadable)


def simulate_tables(seed: int, n_accounts: int, calendar: Calendar) -> SimulationContext:
    """Settle everybody's fate: who the accounts are, their hidden states, what they decide."""
    book = draw_book(seed, n_accounts, calendar)
    latents = draw_latents(seed, book, calendar)
    life = live(seed, book, latents, calendar)
    rows = with_arr(subscription_rows(life, calendar), book)
    return SimulationContext(seed, book, latents, life, rows, calendar)


def _tables(scene: SimulationContext) -> dict[str, pd.DataFrame]:
    """Draw every source table, as clean as a source can be."""
    usage = draw_usage(scene)
    tickets, tickets_by_month = tickets_table(scene)
    surveys, nps = surveys_table(scene)
    parts = health_parts(scene, usage.rows_by_month, tickets_by_month, nps)
    score = health_scores(parts)
    since = int(scene.rows["started"].min())
    tables = {
        "accounts": accounts_table(scene.book),
        "subscriptions": subscriptions_table(scene),
        "usage_events": usage_table(usage, scene),
        "entitlements": entitlements_table(scene),
        "support_tickets": tickets,
        "survey_responses": surveys,
        "contacts": contacts_table(scene),
        "opportunities": opportunities_table(scene),
        "invoices": invoices_table(scene),
        "touches": touches_table(scene, is_red(score)),
        "milestones": milestones_table(scene),
        "health_scores": health_table(scene, score, parts),
        "owners": owners_table(scene.book, scene.calendar),
        "rates": rates_table(scene.seed, since, scene.calendar),
    }
    return {name: _arrived(table, scene) for name, table in tables.items()}


def _arrived(table: pd.DataFrame, scene: SimulationContext) -> pd.DataFrame:
    """Leave out the rows that had not arrived by `now`."""
    moment = next((name for name in ("known_at", "created_at") if name in table), None)
    if moment is None:
        return table
    return table[seconds(table[moment]) < scene.calendar.now].reset_index(drop=True)


def _decisions(scene: SimulationContext) -> pd.DataFrame:
    events = decisions_table(scene.life, scene.calendar)
    return pd.DataFrame(
        {
            "account_id": scene.book.account_id[events["account"].to_numpy()],
            "decided_on": dates(events["decided"].to_numpy()),
            "effective_on": dates(events["effective"].to_numpy()),
            "outcome": events["outcome"],
            "reason": events["reason"],
        }
    )
