"""Text signals: sentiment and themes of tickets, survey comments and notes of contacts.

A text counts from the moment its row is known. Texts without a language we can read have no
sentiment and no themes and are left out, never counted as neutral. Words about leaving express the
decision itself: they have no effect on the sentiment, and the theme "leaving" is not a feature.
"""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir

from features.signals.declare import (
    Aggregate,
    Compute,
    Derived,
    Family,
    Feature,
    Intermediate,
    ratio,
)
from features.signals.sentiment import SURVEYS
from features.signals.support import TICKETS, is_counted

TOUCHES = "touches"

NEGATIVE = -0.25
"""A text of this sentiment or less is unhappy: one plain word of complaint."""

Condition = Callable[[ir.Table], ir.BooleanValue]


def _every(rows: ir.Table) -> ir.BooleanValue:
    return rows.age >= 0


def _is_negative(rows: ir.Table) -> ir.BooleanValue:
    return rows.sentiment <= NEGATIVE


def _mean(days: int, among: Condition, since: int = 0) -> Compute:
    return lambda r: r.sentiment.mean(where=(r.age >= since) & (r.age < days) & among(r))


def _read(days: int, among: Condition) -> Compute:
    return lambda r: r.count(where=(r.age < days) & r.sentiment.notnull() & among(r))


def _negative(days: int, among: Condition) -> Compute:
    return lambda r: r.count(where=(r.age < days) & _is_negative(r) & among(r))


def _about(theme: str, days: int, among: Condition) -> Compute:
    return lambda r: r.count(where=(r.age < days) & r[f"about_{theme}"] & among(r))


def _complaints_about(theme: str, days: int, among: Condition) -> Compute:
    return lambda r: r.count(
        where=(r.age < days) & r[f"about_{theme}"] & _is_negative(r) & among(r)
    )


TICKET_FEATURES: list[Feature | Intermediate] = [
    Feature(
        "ticket_sentiment_84d",
        Aggregate(TICKETS, _mean(84, is_counted), empty=None),
        "sentiment of tickets",
        "Mean sentiment (−1 very unhappy to 1 very happy) of the texts of tickets of the last 84 "
        "days, those about leaving not counted.",
        "score",
        "sentiment",
        84,
        churn_sign=-1,
    ),
    Intermediate("_unhappy_tickets_84d", Aggregate(TICKETS, _negative(84, is_counted))),
    Intermediate("_read_tickets_84d", Aggregate(TICKETS, _read(84, is_counted))),
    Feature(
        "unhappy_tickets_share_84d",
        Derived(lambda o: ratio(o["_unhappy_tickets_84d"], o["_read_tickets_84d"])),
        "share of unhappy tickets",
        "Share of tickets of the last 84 days with a readable text whose text is plainly unhappy.",
        "share",
        "sentiment",
        84,
        churn_sign=1,
    ),
    Feature(
        "defect_tickets_84d",
        Aggregate(TICKETS, _about("bug", 84, is_counted)),
        "tickets about defects",
        "Tickets of the last 84 days whose text reports an error, a failure or an outage.",
        "count",
        "support",
        84,
    ),
    Feature(
        "service_complaints_182d",
        Aggregate(TICKETS, _complaints_about("support_quality", 182, is_counted)),
        "complaints about support",
        "Tickets of the last 182 days whose text complains about support or slow answers.",
        "count",
        "support",
        182,
        churn_sign=1,
    ),
]

COMMENT_FEATURES: list[Feature | Intermediate] = [
    Feature(
        "comment_sentiment_182d",
        Aggregate(SURVEYS, _mean(182, _every), empty=None),
        "sentiment of survey comments",
        "Mean sentiment (−1 very unhappy to 1 very happy) of survey comments of the last 182 days.",
        "score",
        "sentiment",
        182,
        churn_sign=-1,
    ),
    Feature(
        "unhappy_comments_182d",
        Aggregate(SURVEYS, _negative(182, _every)),
        "unhappy survey comments",
        "Survey comments of the last 182 days that are plainly unhappy.",
        "count",
        "sentiment",
        182,
        churn_sign=1,
    ),
]

TOUCH_FEATURES: list[Feature | Intermediate] = [
    Feature(
        "touch_sentiment_84d",
        Aggregate(TOUCHES, _mean(84, _every), empty=None),
        "sentiment of calls and mails",
        "Mean sentiment (−1 very unhappy to 1 very happy) of the notes of calls, mails and "
        "meetings of the last 84 days.",
        "score",
        "relationship",
        84,
        churn_sign=-1,
    ),
    Intermediate("_unhappy_touches_182d", Aggregate(TOUCHES, _negative(182, _every))),
    Intermediate("_read_touches_182d", Aggregate(TOUCHES, _read(182, _every))),
    Feature(
        "unhappy_touches_share_182d",
        Derived(lambda o: ratio(o["_unhappy_touches_182d"], o["_read_touches_182d"])),
        "share of unhappy calls and mails",
        "Share of the calls, mails and meetings of the last 182 days with a readable note whose "
        "note is plainly unhappy.",
        "share",
        "relationship",
        182,
        churn_sign=1,
    ),
]

FAMILY = Family(
    "texts",
    lookback_days=252,
    columns=[*TICKET_FEATURES, *COMMENT_FEATURES, *TOUCH_FEATURES],
)
