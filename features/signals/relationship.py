"""Relationship signals: known contacts, departures, meetings and their initiator."""

from __future__ import annotations

import ibis.expr.types as ir

from features.signals.declare import (
    Aggregate,
    Derived,
    Family,
    Feature,
    Intermediate,
    log_ratio,
    ratio,
)

TOUCHES = "touches"
CONTACTS = "contacts"


def _is_theirs(rows: ir.Table) -> ir.BooleanValue:
    return rows.initiated_by == "account"


def _is_meeting(rows: ir.Table) -> ir.BooleanValue:
    return rows.kind.lower().isin(("meeting", "review", "qbr", "call"))


FAMILY = Family(
    "relationship",
    lookback_days=100_000,
    columns=[
        Feature(
            "contacts_from_them_84d",
            Aggregate(TOUCHES, lambda r: r.count(where=(r.age < 84) & _is_theirs(r))),
            "times they reached out",
            "Contacts the account began in the last 84 days.",
            "count",
            "relationship",
            84,
            churn_sign=-1,
        ),
        Intermediate(
            "_from_them_before_84d",
            Aggregate(
                TOUCHES,
                lambda r: r.count(where=(r.age >= 84) & (r.age < 168) & _is_theirs(r)),
            ),
        ),
        Feature(
            "contacts_from_them_change_84d",
            Derived(
                lambda o: (o.tenure_days >= 112).ifelse(
                    log_ratio(o.contacts_from_them_84d, o["_from_them_before_84d"], 1.0), None
                )
            ),
            "change in times they reached out",
            "Contacts the account began in the last 84 days against the 84 days before.",
            "log_ratio",
            "relationship",
            84,
            churn_sign=-1,
        ),
        Feature(
            "meetings_84d",
            Aggregate(TOUCHES, lambda r: r.count(where=(r.age < 84) & _is_meeting(r))),
            "meetings and calls",
            "Meetings, reviews and calls in the last 84 days.",
            "count",
            "relationship",
            84,
        ),
        Feature(
            "days_since_meeting",
            Aggregate(
                TOUCHES,
                lambda r: r.age.min(where=_is_meeting(r)).cast("float64"),
                empty=None,
            ),
            "days since last meeting",
            "Days since a meeting, review or call.",
            "days",
            "relationship",
        ),
        Feature(
            "days_since_they_reached_out",
            Aggregate(
                TOUCHES,
                lambda r: r.age.min(where=_is_theirs(r)).cast("float64"),
                empty=None,
            ),
            "days since they reached out",
            "Days since the account began a contact.",
            "days",
            "relationship",
            churn_sign=1,
        ),
        Feature(
            "contacts_known",
            Aggregate(CONTACTS, lambda r: r.count(where=r.left_day.isnull())),
            "people known",
            "People known there who have not left.",
            "count",
            "relationship",
            churn_sign=-1,
        ),
        Feature(
            "contacts_left_182d",
            Aggregate(CONTACTS, lambda r: r.count(where=(r.as_of_day - r.left_day) < 182)),
            "people who left",
            "Known people who left in the last 182 days.",
            "count",
            "relationship",
            182,
            churn_sign=1,
        ),
        Intermediate("_contacts_ever", Aggregate(CONTACTS, lambda r: r.count())),
        Feature(
            "contacts_left_share",
            Derived(lambda o: 1.0 - ratio(o.contacts_known, o["_contacts_ever"])),
            "share of known people gone",
            "Share of the people ever known there who have left.",
            "share",
            "relationship",
            churn_sign=1,
        ),
        Feature(
            "days_since_contact_left",
            Aggregate(
                CONTACTS,
                lambda r: (r.as_of_day - r.left_day).min().cast("float64"),
                empty=None,
            ),
            "days since a contact left",
            "Days since a known person left.",
            "days",
            "relationship",
        ),
        Feature(
            "champions_known",
            Aggregate(
                CONTACTS,
                lambda r: r.count(where=r.left_day.isnull() & r.is_champion),
                empty=None,
            ),
            "advocates",
            "Known advocates who have not left.",
            "count",
            "relationship",
            churn_sign=-1,
        ),
        Feature(
            "champion_left_364d",
            Aggregate(
                CONTACTS,
                lambda r: (
                    (r.is_champion & ((r.as_of_day - r.left_day) < 364)).any().cast("float64")
                ),
            ),
            "advocate left",
            "1 when an advocate left in the last 364 days.",
            "flag",
            "relationship",
            364,
            churn_sign=1,
        ),
    ],
)
