"""Simulation of all source tables and the ground truth from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from configs.runtime.errors import ConfigError
from features.simulator.data_errors import Unreadable, add_errors
from features.simulator.ground_truth import truth_table
from features.simulator.mechanism.accounts import (
    accounts_table,
    draw_accounts,
    owners_table,
    rates_table,
)
from features.simulator.mechanism.calendar import Calendar, calendar_until, dates, seconds
from features.simulator.mechanism.context import SimulationContext, with_arr
from features.simulator.mechanism.decisions import (
    decisions_table,
    simulate_decisions,
    subscription_rows,
)
from features.simulator.mechanism.hidden_states import draw_hidden_states
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
    """A simulated company: source tables and ground truth.

    Attributes
    ----------
    seed, now
        Seed, and the time of the export.
    tables : dict of str to DataFrame
        Source tables by canonical name and with canonical columns, with ``known_at`` for tables
        that arrive late. Instants are UTC, days are midnights without a zone.
    truth : DataFrame
        One row per account and first of a month: the true probabilities
        (`features.simulator.ground_truth`).
    decisions : DataFrame
        One row per decision taken before `now`: account_id, decided_on, effective_on, outcome
        (churn, contraction, expansion), reason.
    unreadable : dict
        Table → column → positions of rows whose date is exported as unreadable text.
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
    with_errors: bool = True,
) -> Simulation:
    """Simulate a company.

    Parameters
    ----------
    seed : int
        The same seed and sizes give the same tables.
    n_accounts : int
        Number of accounts, including former ones; at least 20.
    months : int
        Calendar months of history up to the month of `now`; at least 6.
    now : datetime
        Time of the export, UTC; no table has later rows.
    with_errors : bool
        Add the data errors of real exports.

    Raises
    ------
    ConfigError
        Too few accounts or months.

    Examples
    --------
    >>> world = simulate(seed=1, n_accounts=20, months=6, with_errors=False)
    >>> len(world.tables["accounts"])
    20
    """
    if n_accounts < FEWEST_ACCOUNTS or months < FEWEST_MONTHS:
        raise ConfigError(
            f"{n_accounts} accounts and {months} months are too few to simulate",
            fix=f"use at least {FEWEST_ACCOUNTS} accounts and {FEWEST_MONTHS} months",
        )
    context = simulate_tables(seed, n_accounts, calendar_until(now, months))
    tables = _tables(context)
    tables, unreadable = add_errors(tables, context) if with_errors else (tables, {})
    truth = truth_table(context.traits, context.hidden_states, context.decisions, context.calendar)
    ordered = {name: tables[name] for name in TABLES if name in tables}
    moment = pd.Timestamp(context.calendar.now, unit="s", tz="UTC").to_pydatetime()
    return Simulation(seed, moment, ordered, truth, _decisions(context), unreadable)


def simulate_tables(seed: int, n_accounts: int, calendar: Calendar) -> SimulationContext:
    """Simulate accounts, hidden states and decisions, the basis of all tables."""
    traits = draw_accounts(seed, n_accounts, calendar)
    hidden_states = draw_hidden_states(seed, traits, calendar)
    decisions = simulate_decisions(seed, traits, hidden_states, calendar)
    rows = with_arr(subscription_rows(decisions, calendar), traits)
    return SimulationContext(seed, traits, hidden_states, decisions, rows, calendar)


def _tables(context: SimulationContext) -> dict[str, pd.DataFrame]:
    """Draw every source table without data errors."""
    usage = draw_usage(context)
    tickets, tickets_by_month = tickets_table(context)
    surveys, nps = surveys_table(context)
    parts = health_parts(context, usage.rows_by_month, tickets_by_month, nps)
    score = health_scores(parts)
    since = int(context.rows["started"].min())
    tables = {
        "accounts": accounts_table(context.traits),
        "subscriptions": subscriptions_table(context),
        "usage_events": usage_table(usage, context),
        "entitlements": entitlements_table(context),
        "support_tickets": tickets,
        "survey_responses": surveys,
        "contacts": contacts_table(context),
        "opportunities": opportunities_table(context),
        "invoices": invoices_table(context),
        "touches": touches_table(context, is_red(score)),
        "milestones": milestones_table(context),
        "health_scores": health_table(context, score, parts),
        "owners": owners_table(context.traits, context.calendar),
        "rates": rates_table(context.seed, since, context.calendar),
    }
    return {name: _arrived(table, context) for name, table in tables.items()}


def _arrived(table: pd.DataFrame, context: SimulationContext) -> pd.DataFrame:
    """Leave out rows that arrive after `now`."""
    moment = next((name for name in ("known_at", "created_at") if name in table), None)
    if moment is None:
        return table
    return table[seconds(table[moment]) < context.calendar.now].reset_index(drop=True)


def _decisions(context: SimulationContext) -> pd.DataFrame:
    events = decisions_table(context.decisions, context.calendar)
    return pd.DataFrame(
        {
            "account_id": context.traits.account_id[events["account"].to_numpy()],
            "decided_on": dates(events["decided"].to_numpy()),
            "effective_on": dates(events["effective"].to_numpy()),
            "outcome": events["outcome"],
            "reason": events["reason"],
        }
    )
