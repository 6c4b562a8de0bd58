"""Subscriptions, invoices and opportunities."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.mechanism.accounts import CURRENCIES, PLANS, PRODUCTS
from features.simulator.mechanism.calendar import NEVER, Floats, Ints, dates, instants, month_number
from features.simulator.mechanism.context import SimulationContext, day_time
from features.simulator.mechanism.decisions import billing_days
from features.simulator.mechanism.hazards import RENEWAL_LOSS, logistic
from features.simulator.mechanism.hidden_states import DEMAND, LEAD, PAYMENT

QUARTERLY_SHARE = 0.35
"""Share of contracts billed every three months; the others are billed once a year."""

LETTERS = ("C", "A", "R")
RENEWAL_STEPS = ((120, "discovery"), (90, "discovery"), (60, "proposal"), (30, "negotiation"))
"""(days before the renewal on which an opportunity is updated, its stage)."""

EXPANSION_DAYS = 120
"""Days after which an open expansion opportunity is lost."""


def subscriptions_table(context: SimulationContext) -> pd.DataFrame:
    """Return the subscriptions table: one row per subscription and start of terms."""
    rows, traits = context.rows, context.traits
    account, product = rows["account"].to_numpy(), rows["product"].to_numpy()
    rng = context.rng("notices")
    notice = rows["notice"].to_numpy()
    moment = np.where(notice == NEVER, NEVER, day_time(rng, np.where(notice == NEVER, 0, notice)))
    contract = traits.has_contract[account]
    period = pd.Series(traits.notice_period[account]).where(contract)
    pairs = zip(traits.account_id[account], product, strict=True)
    return pd.DataFrame(
        {
            "account_id": traits.account_id[account],
            "subscription_id": [f"S{name[1:]}-{LETTERS[p]}" for name, p in pairs],
            "product": np.array(PRODUCTS, dtype=object)[product],
            "started_on": dates(rows["started"].to_numpy()),
            "renews_on": dates(rows["renews"].to_numpy()),
            "ended_on": dates(rows["ended"].to_numpy()),
            "end_reason": rows["reason"].to_numpy(),
            "notice_at": instants(moment),
            "notice_period_days": period.astype("Int64"),
            "arr": rows["arr"].to_numpy(),
            "currency": np.array(CURRENCIES, dtype=object)[traits.currency[account]],
            "seats": rows["seats"].astype("Int64"),
            "plan": np.array(PLANS, dtype=object)[rows["plan"].to_numpy()],
            "auto_renew": pd.array(traits.auto_renew[account], dtype="boolean"),
            "discount": traits.discount[account],
            "escalator": np.where(contract, traits.escalator[account], np.nan),
        }
    )


def invoices_table(context: SimulationContext) -> pd.DataFrame:
    """Return the invoices table: one row per invoice issued since the first simulated month."""
    rng = context.rng("invoices")
    account, month, day, per_year = _billing(rng, context)
    trouble = context.state(PAYMENT, account, month)
    is_charge = ~context.traits.has_contract[account]
    fails = is_charge & (rng.random(len(day)) < logistic(-3.6 + 1.3 * trouble))
    cut_off = context.decisions.reason[account] == "payment_failure"
    unpaid = cut_off & (day >= context.decisions.decided[account])
    fails |= unpaid
    late = np.maximum(1, rng.normal(27 + 5 * trouble, 7, len(day)))
    retried = np.ceil(rng.lognormal(1.6, 0.6, len(day)))
    wait = np.where(is_charge, np.where(fails, retried, 0), late).astype(np.int64)
    paid = day + wait
    settled = ~unpaid & (paid < context.calendar.now_day)
    return pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "invoice_id": [f"INV-{i + 1:06d}" for i in range(len(day))],
            "issued_on": dates(day),
            "due_on": dates(day + np.where(is_charge, 0, 30)),
            "paid_on": dates(np.where(settled, paid, NEVER)),
            "amount": (context.arr_at(account, day) / per_year).round(2),
            "currency": np.array(CURRENCIES, dtype=object)[context.traits.currency[account]],
            "is_failed_charge": pd.array(fails, dtype="boolean"),
        }
    )


def opportunities_table(context: SimulationContext) -> pd.DataFrame:
    """Return the opportunities table: one row per opportunity and change."""
    both = pd.concat([_renewals(context), _expansions(context)], ignore_index=True)
    seen = both["changed"] < context.calendar.now
    both = both[seen].sort_values(["changed", "opportunity_id"], ignore_index=True)
    account = both["account"].to_numpy()
    return pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "opportunity_id": both["opportunity_id"],
            "changed_at": instants(both["changed"].to_numpy()),
            "kind": both["kind"],
            "amount": both["amount"].round(2),
            "currency": np.array(CURRENCIES, dtype=object)[context.traits.currency[account]],
            "stage": both["stage"],
            "commit": both["commit"],
            "close_on": dates(both["close"].to_numpy()),
        }
    )


def _billing(rng: np.random.Generator, context: SimulationContext) -> tuple[Ints, Ints, Ints, Ints]:
    """Return account, month, day and bills per year of every invoice, by day."""
    traits, calendar = context.traits, context.calendar
    quarterly = rng.random(len(traits)) < QUARTERLY_SHARE
    every = np.where(traits.has_contract, np.where(quarterly, 3, 12), 1)
    first = month_number(traits.started)
    account_of, month_of, day_of = [], [], []
    numbers = month_number(calendar.starts)
    for month in range(calendar.n_months):
        day = billing_days(traits, calendar, month)
        due = np.flatnonzero((numbers[month] - first) % every == 0)
        due = due[context.is_there(due, day[due])]
        account_of.append(due)
        month_of.append(np.full(len(due), month))
        day_of.append(day[due])
    account = np.concatenate(account_of)
    return account, np.concatenate(month_of), np.concatenate(day_of), 12 // every[account]


def _renewals(context: SimulationContext) -> pd.DataFrame:
    """Return renewal opportunities: updated four times, then won or lost."""
    rng = context.rng("renewal opportunities")
    rows, first = context.rows, int(context.calendar.starts[0])
    terms = rows.loc[rows["renews"] > first + EXPANSION_DAYS, ["account", "renews"]]
    terms = terms.drop_duplicates().sort_values(["account", "renews"], ignore_index=True)
    account, renews = terms["account"].to_numpy(), terms["renews"].to_numpy()
    started = context.traits.started[account]
    decided = context.decisions.decided[account]
    lost = (decided <= renews) & (context.decisions.ends[account] == renews)
    known = np.where(lost, decided + rng.integers(1, 15, len(terms)), renews)
    base = _opportunity(terms, "R", context.arr_at(account, renews - EXPANSION_DAYS), renews)
    base["kind"] = "renewal"
    steps = []
    for days, stage in RENEWAL_STEPS:
        updated = renews - days
        step = base.assign(changed=day_time(rng, updated), stage=stage)
        step["commit"] = _commit(rng, context, account, updated)
        steps.append(step[(updated > started) & (updated < known) & (updated >= first)])
    end = base.assign(
        changed=day_time(rng, known),
        stage=np.where(lost, "closed_lost", "closed_won"),
        commit=np.where(lost, 0.0, 1.0),
    )
    return pd.concat([*steps, end], ignore_index=True)


def _commit(
    rng: np.random.Generator, context: SimulationContext, account: Ints, day: Ints
) -> Floats:
    """Return the CSM's own probability of renewal: optimistic and noisy."""
    month = np.clip(context.calendar.month_of(day), 0, context.calendar.n_months - 1)
    felt = context.hidden_states.states[account, LEAD + month - 1] @ RENEWAL_LOSS.weights
    return logistic(2.2 - 0.5 * felt + rng.normal(0, 1.0, len(account))).round(1)


def _expansions(context: SimulationContext) -> pd.DataFrame:
    """Return expansion opportunities: opened with demand, won when an expansion follows."""
    rng = context.rng("expansion opportunities")
    demand = context.hidden_states.states[:, LEAD - 1 : -1, DEMAND]
    account, _, day = context.cells(rng, logistic(-3.6 + 0.6 * demand))
    open_yet = day < context.decisions.decided[account]
    account, day = account[open_yet], day[open_yet]
    won = _first_expansion_after(context, account, day)
    is_won = won <= day + EXPANSION_DAYS
    closed = np.where(is_won, won, day + EXPANSION_DAYS)
    terms = pd.DataFrame({"account": account, "renews": day})
    amount = context.arr_at(account, day) * rng.uniform(0.12, 0.5, len(day))
    base = _opportunity(terms, "E", amount, day + 90).assign(kind="expansion")
    commit = np.round(rng.uniform(0.1, 0.6, len(day)), 1)
    start = base.assign(changed=day_time(rng, day), stage="discovery", commit=commit)
    end = base.assign(
        changed=day_time(rng, closed),
        stage=np.where(is_won, "closed_won", "closed_lost"),
        commit=is_won.astype(np.float64),
    )
    return pd.concat([start, end], ignore_index=True)


def _first_expansion_after(context: SimulationContext, account: Ints, day: Ints) -> Ints:
    events = pd.concat(context.decisions.events, ignore_index=True)
    grown = events.loc[events["outcome"] == "expansion", ["account", "decided"]]
    queries = pd.DataFrame({"account": account, "day": day}).rename_axis("place").reset_index()
    pairs = queries.merge(grown, on="account")
    after = pairs[pairs["decided"] > pairs["day"]].groupby("place")["decided"].min()
    never = int(context.calendar.starts[-1])
    return after.reindex(queries.index, fill_value=never).to_numpy(dtype=np.int64)


def _opportunity(terms: pd.DataFrame, letter: str, amount: Floats, close: Ints) -> pd.DataFrame:
    number = range(1, len(terms) + 1)
    return pd.DataFrame(
        {
            "account": terms["account"],
            "opportunity_id": [f"O-{letter}{i:05d}" for i in number],
            "amount": amount,
            "close": close,
        }
    )
