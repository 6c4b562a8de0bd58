"""Contacts, surveys, touches and milestones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.mechanism.calendar import (
    DAY,
    FAR,
    NEVER,
    Bools,
    Floats,
    Ints,
    blank_unless,
    dates,
    instants,
)
from features.simulator.mechanism.context import SimulationContext, arrival, day_time, user_ids
from features.simulator.mechanism.hazards import logistic
from features.simulator.mechanism.hidden_states import CHAMPION, ENGAGEMENT, FIT, PAIN, SENTIMENT
from features.simulator.tables.remarks import survey_comments, touch_notes

ROLES = ("admin", "sponsor", "user", "finance")
SUCCESSOR = 900
"""Position of the successor of a champion who left."""

COMMENT_DRAWS = (3, 4, 4)
"""Draws per comment for scores 0–6, 7–8 and 9–10; the fourth of four leaves it empty."""

TOUCH_KINDS = ("email", "call", "meeting", "review", "training")
TOUCH_SHARE = (0.50, 0.22, 0.13, 0.08, 0.07)
SAVE_PLAY = "at-risk outreach"
STEPS = (("kickoff", 7), ("integration", 30), ("first_value", 45), ("rollout", 75), ("go_live", 90))
"""(onboarding step, days after the start on which it is due)."""


def contacts_table(context: SimulationContext) -> pd.DataFrame:
    """Return the contacts table: one row per person; the first is the champion."""
    rng = context.rng("contacts")
    n = len(context.traits)
    count = rng.integers(2, len(ROLES) + 1, n)
    account = np.repeat(np.arange(n), count)
    person = np.arange(len(account)) - np.repeat(np.cumsum(count) - count, count)
    created = context.traits.started[account] + rng.integers(0, 20, len(account)) * (person > 0)
    unnoticed = rng.random(n) < 0.2
    left = np.where((person == 0) & ~unnoticed[account], context.champion_left[account], FAR)
    follows = np.flatnonzero((context.champion_left < FAR) & (rng.random(n) < 0.6))
    joined = context.champion_left[follows] + rng.integers(15, 120, len(follows))
    remaining = context.is_there(follows, joined)
    account = np.append(account, follows[remaining])
    person = np.append(person, np.full(remaining.sum(), SUCCESSOR))
    created = np.append(created, joined[remaining])
    left = np.append(left, np.full(remaining.sum(), FAR))
    role = np.where(person == SUCCESSOR, 0, person)
    return _visible(
        pd.DataFrame(
            {
                "account_id": context.traits.account_id[account],
                "contact_id": user_ids(context.traits, account, person),
                "created_at": instants(created * DAY + 10 * 3600),
                "role": np.array(ROLES, dtype=object)[role],
                "is_champion": role == 0,
                "left_at": instants(np.where(left == FAR, NEVER, left * DAY + 12 * 3600)),
            }
        ),
        created < context.calendar.now_day,
    )


def surveys_table(context: SimulationContext) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the survey_responses table, and the mean NPS score per account and month (or NaN).

    Up to three people are surveyed every third month; fewer answer where engagement is low.
    """
    rng = context.rng("surveys")
    account, month, person, day = _answering(rng, context)
    sentiment, pain = (context.state(s, account, month) for s in (SENTIMENT, PAIN))
    score = np.clip(np.round(rng.normal(7.4 + 1.2 * sentiment - 0.3 * pain, 1.5)), 0, 10)
    total = np.zeros(context.presence.shape)
    count = np.zeros(context.presence.shape)
    np.add.at(total, (account, month), score)
    np.add.at(count, (account, month), 1)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    moment = day_time(rng, day)
    delay = DAY * rng.integers(1, 21, len(moment)) * (rng.random(len(moment)) < 0.15)
    table = pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "respondent_id": user_ids(context.traits, account, person),
            "responded_at": instants(moment),
            "kind": "nps",
            "score": score,
            "comment": _comments(rng, context, account, month, score),
            "known_at": instants(moment + 3600 + delay),
        }
    )
    efforts = _effort_answers(rng, context)
    both = pd.concat([table, efforts], ignore_index=True)
    return both.sort_values(["responded_at", "respondent_id"], ignore_index=True), mean


def _answering(
    rng: np.random.Generator, context: SimulationContext
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return NPS answers: account, month, position of the person, day."""
    phase = rng.integers(0, 3, len(context.traits))
    queried = (np.arange(context.calendar.n_months) % 3 == phase[:, None]) & (context.presence == 1)
    account, month = (np.repeat(part, 3).astype(np.int64) for part in np.nonzero(queried))
    person = np.tile(np.arange(3), len(account) // 3)
    appetite = 0.45 * context.state(ENGAGEMENT, account, month)
    appetite = appetite + 0.2 * context.state(SENTIMENT, account, month) - 0.5
    day = context.calendar.starts[month] + rng.integers(0, 26, len(account))
    answers = rng.random(len(account)) < logistic(appetite)
    answers &= context.is_there(account, day) & (
        day < context.champion_left[account] + FAR * person
    )
    return account[answers], month[answers], person[answers], day[answers]


def touches_table(context: SimulationContext, is_red: Bools) -> pd.DataFrame:
    """Return the touches table: one row per contact or play.

    Parameters
    ----------
    is_red : array, accounts × months
        Months with a red health score at their end: the next month may have a play, which has no
        effect.
    """
    rng = context.rng("touches")
    vendor = np.array([0.35, 0.7, 1.6])[context.traits.segment][:, None] * np.ones(
        context.presence.shape
    )
    champion = context.hidden_states.path(CHAMPION)
    customer = 0.35 * np.exp(0.50 * champion + 0.15 * context.hidden_states.path(ENGAGEMENT))
    plays = np.zeros(context.presence.shape)
    plays[:, 1:] = 0.35 * is_red[:, :-1]
    drawn = [context.cells(rng, mean) for mean in (vendor, customer, plays)]
    account = np.concatenate([part[0] for part in drawn])
    day = np.concatenate([part[2] for part in drawn])
    source = np.repeat(np.arange(3), [len(part[0]) for part in drawn])
    kind = rng.choice(np.array(TOUCH_KINDS, dtype=object), len(account), p=TOUCH_SHARE)
    shown = np.where(source == 2, "play", kind)
    table = pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "touched_at": instants(day_time(rng, day)),
            "kind": shown,
            "initiated_by": np.where(source == 1, "account", "us"),
            "play": blank_unless(source == 2, SAVE_PLAY),
            "text": touch_notes(
                context,
                np.where(source == 2, "play", kind),
                account,
                context.calendar.month_of(day),
            ),
        }
    )
    return table.sort_values(["touched_at", "account_id"], ignore_index=True)


def milestones_table(context: SimulationContext) -> pd.DataFrame:
    """Return the milestones table: one row per account and onboarding step."""
    rng = context.rng("milestones")
    n = len(context.traits)
    account = np.repeat(np.arange(n), len(STEPS))
    step = np.tile(np.arange(len(STEPS)), n)
    start = context.traits.started[account]
    plan = np.array([days for _, days in STEPS])[step]
    slow = rng.normal(0.05 - 0.25 * context.hidden_states.level[:, FIT], 0.3)
    took = plan * np.exp(slow[account] + rng.normal(0, 0.2, len(account)))
    day = start + np.maximum(1, took).astype(np.int64)
    reached = context.is_there(account, day) & (rng.random(len(account)) < 0.94)
    return _visible(
        pd.DataFrame(
            {
                "account_id": context.traits.account_id[account],
                "milestone": np.array([name for name, _ in STEPS], dtype=object)[step],
                "occurred_on": dates(start),
                "due_on": dates(start + plan),
                "reached_on": dates(np.where(reached, day, NEVER)),
            }
        ),
        start < context.calendar.now_day,
    )


def _effort_answers(rng: np.random.Generator, context: SimulationContext) -> pd.DataFrame:
    """Return a few customer-effort answers, independent of all states."""
    account, _, day = context.cells(rng, np.full(context.presence.shape, 0.03))
    moment = day_time(rng, day)
    return pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "respondent_id": user_ids(context.traits, account, rng.integers(0, 3, len(account))),
            "responded_at": instants(moment),
            "kind": "ces",
            "score": rng.integers(1, 8, len(account)).astype(np.float64),
            "comment": None,
            "known_at": instants(arrival(rng, moment, usual=3600, late=10 * DAY)),
        }
    )


def _comments(
    rng: np.random.Generator, context: SimulationContext, account: Ints, month: Ints, score: Floats
) -> np.ndarray:
    mood = np.where(score <= 6, 0, np.where(score <= 8, 1, 2))
    is_written = np.zeros(len(score), dtype=bool)
    for value, draws in enumerate(COMMENT_DRAWS):
        place = np.flatnonzero((mood == value) & (rng.random(len(score)) < 0.45))
        is_written[place] = rng.integers(0, draws, len(place)) < 3
    return blank_unless(is_written, survey_comments(context, mood, account, month))


def _visible(table: pd.DataFrame, remaining: Ints | Bools) -> pd.DataFrame:
    return table[remaining].reset_index(drop=True)
