"""Source-table contract: tables, columns, kinds and the time each value becomes visible.

A table has one row per *grain*. Each column has a kind and, where it can change after the row was
first written, a time of visibility: before it every reader sees null.

Kinds
-----
``id`` text key · ``text`` · ``instant`` UTC timestamp, microseconds · ``day`` calendar date ·
``number`` float · ``count`` whole number ≥ 0 · ``flag`` boolean.

A date-only fact becomes known at the next midnight; a date where an instant is expected is stored
as the last microsecond of its day, so it belongs to that day and is known after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["id", "text", "instant", "day", "number", "count", "flag"]

Personal = Literal["", "account", "person", "name", "text"]
"""Personal data of a column: none, an account id, a person's id, a name, or free text."""

ROW = "row"
"""Visible with the row, from the row's ``known_at``."""

MOST = 1e15
"""Upper bound of amounts, quantities and limits in any currency."""

VERSIONS = "versions"
"""Overwritten in place by most systems: visible only with ``history: true`` in the mapping."""


@dataclass(frozen=True)
class SourceColumn:
    """One column of a source table.

    Attributes
    ----------
    kind : Kind
        Type after loading.
    meaning : str
        Meaning in words, with unit.
    required : bool
        A row without it is quarantined, a table without it is refused.
    visible_from : str
        `ROW`, `VERSIONS`, or the column with the time from which this value is visible.
    low, high : float or None
        Inclusive bounds; a row outside is quarantined.
    values : tuple of str
        Allowed values when not empty; others are quarantined.
    personal : Personal
        Personal data that the column may hold.
    """

    kind: Kind
    meaning: str
    required: bool = False
    visible_from: str = ROW
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    personal: Personal = ""


@dataclass(frozen=True)
class SourceTable:
    """One source table.

    Attributes
    ----------
    grain : str
        Meaning of one row.
    key : tuple of str
        Columns that identify a row; empty for rows without identity.
    happened : str
        Column of the time the row happened; the default of ``known_at``.
    columns : dict of str to Column
        All columns except ``known_at``, which every table may have.
    activity : bool
        Counts as an activity table: at least one is needed.
    order : tuple of (str, str)
        Pairs (earlier, later); rows with later before earlier are invalid.
    """

    grain: str
    key: tuple[str, ...]
    happened: str
    columns: dict[str, SourceColumn] = field(default_factory=dict)
    activity: bool = False
    order: tuple[tuple[str, str], ...] = ()


def _account() -> SourceColumn:
    return SourceColumn("id", "the account", required=True, personal="account")


def _sentiment() -> SourceColumn:
    return SourceColumn(
        "number",
        "sentiment of the text from your own tool, -1 (very unhappy) to 1; used instead of ours",
        low=-1,
        high=1,
    )


def _event() -> SourceColumn:
    return SourceColumn("id", "event id: redeliveries of an event are counted once")


TABLES: dict[str, SourceTable] = {
    "accounts": SourceTable(
        "account",
        ("account_id",),
        "created_at",
        {
            "account_id": _account(),
            "created_at": SourceColumn("instant", "start of the account", required=True),
            "name": SourceColumn("text", "display name", personal="name"),
            "segment": SourceColumn("text", "size class or tier", visible_from=VERSIONS),
            "plan": SourceColumn("text", "plan", visible_from=VERSIONS),
            "industry": SourceColumn("text", "industry", visible_from=VERSIONS),
            "region": SourceColumn("text", "region", visible_from=VERSIONS),
            "parent_account_id": SourceColumn(
                "id", "the parent account", visible_from=VERSIONS, personal="account"
            ),
            "owner_id": SourceColumn("id", "the CSM", visible_from=VERSIONS, personal="person"),
            "domain": SourceColumn(
                "text",
                "web or e-mail domain: finds duplicate accounts",
                visible_from=VERSIONS,
                personal="account",
            ),
            "billing_id": SourceColumn(
                "id",
                "id in the billing system: finds duplicate accounts",
                visible_from=VERSIONS,
                personal="account",
            ),
            "is_test": SourceColumn(
                "flag",
                "a test or demo account: set aside when loading, with its rows in every table",
            ),
        },
    ),
    "subscriptions": SourceTable(
        "subscription term or change: a new row starts where ARR, seats or the term changes",
        ("subscription_id", "started_on"),
        "started_on",
        {
            "account_id": _account(),
            "subscription_id": SourceColumn("id", "the subscription", required=True),
            "product": SourceColumn("text", "product"),
            "started_on": SourceColumn("day", "first day of this row's terms", required=True),
            "renews_on": SourceColumn("day", "contractual renewal; empty when month to month"),
            "ended_on": SourceColumn(
                "day", "first day without these terms", visible_from="ended_on"
            ),
            "end_reason": SourceColumn(
                "text",
                "reason of the end",
                visible_from="ended_on",
                values=("renewed", "changed", "churned", "payment_failure", "merged"),
            ),
            "notice_at": SourceColumn("instant", "notice was given", visible_from="notice_at"),
            "notice_period_days": SourceColumn("count", "days before renewal that notice is due"),
            "arr": SourceColumn(
                "number", "annual recurring revenue, in `currency`", low=0, high=MOST
            ),
            "currency": SourceColumn("text", "ISO 4217"),
            "seats": SourceColumn("count", "seats bought", high=MOST),
            "max_seats": SourceColumn(
                "count", "maximum seats of these terms: by contract, or number of employees"
            ),
            "plan": SourceColumn("text", "price tier of these terms"),
            "auto_renew": SourceColumn("flag", "renews by itself", visible_from=VERSIONS),
            "discount": SourceColumn("number", "share off list price", low=0, high=1),
            "escalator": SourceColumn(
                "number", "uplift already signed for the renewal, share", low=0
            ),
        },
        order=(
            ("started_on", "ended_on"),
            ("started_on", "renews_on"),
            ("started_on", "notice_at"),
        ),
    ),
    "usage_events": SourceTable(
        "event, or account × user × day × feature",
        (),
        "occurred_at",
        {
            "account_id": _account(),
            "user_id": SourceColumn("id", "the user", personal="person"),
            "occurred_at": SourceColumn("instant", "time of the event", required=True),
            "product": SourceColumn("text", "product"),
            "feature": SourceColumn("text", "product feature"),
            "quantity": SourceColumn("number", "amount of use; 1 when absent", low=0, high=MOST),
            "event_id": _event(),
        },
        activity=True,
    ),
    "entitlements": SourceTable(
        "account × product, over time",
        ("account_id", "product", "occurred_on"),
        "occurred_on",
        {
            "account_id": _account(),
            "product": SourceColumn("text", "product", required=True),
            "occurred_on": SourceColumn("day", "first day of these values", required=True),
            "limit": SourceColumn("number", "units included", low=0, high=MOST),
            "used": SourceColumn("number", "units used in the month before", low=0, high=MOST),
            "list_price": SourceColumn("number", "list price per unit and year", low=0, high=MOST),
        },
    ),
    "support_tickets": SourceTable(
        "ticket",
        ("ticket_id",),
        "opened_at",
        {
            "account_id": _account(),
            "ticket_id": SourceColumn("id", "the ticket", required=True),
            "opened_at": SourceColumn("instant", "opened", required=True),
            "first_response_at": SourceColumn(
                "instant", "first answer", visible_from="first_response_at"
            ),
            "resolved_at": SourceColumn("instant", "resolved", visible_from="resolved_at"),
            "priority": SourceColumn("text", "low, normal, high or urgent"),
            "category": SourceColumn("text", "category of the request"),
            "product": SourceColumn("text", "product"),
            "csat": SourceColumn(
                "number", "satisfaction, 1 to 5", visible_from="resolved_at", low=1, high=5
            ),
            "reopened": SourceColumn(
                "flag", "opened again after resolution", visible_from="resolved_at"
            ),
            "text": SourceColumn("text", "first message", personal="text"),
            "sentiment": _sentiment(),
        },
        activity=True,
        order=(("opened_at", "first_response_at"), ("opened_at", "resolved_at")),
    ),
    "survey_responses": SourceTable(
        "response",
        (),
        "responded_at",
        {
            "account_id": _account(),
            "respondent_id": SourceColumn("id", "the respondent", personal="person"),
            "responded_at": SourceColumn("instant", "time of the response", required=True),
            "kind": SourceColumn(
                "text", "kind of survey", required=True, values=("nps", "csat", "ces")
            ),
            "score": SourceColumn(
                "number", "nps 0 to 10, csat 1 to 5, ces 1 to 7 (7: easiest)", required=True, low=0
            ),
            "comment": SourceColumn("text", "free text", personal="text"),
            "sentiment": _sentiment(),
            "event_id": _event(),
        },
    ),
    "contacts": SourceTable(
        "person",
        ("contact_id",),
        "created_at",
        {
            "account_id": _account(),
            "contact_id": SourceColumn("id", "the person", required=True, personal="person"),
            "created_at": SourceColumn("instant", "first known", required=True),
            "role": SourceColumn("text", "role", visible_from=VERSIONS),
            "is_champion": SourceColumn("flag", "our advocate there", visible_from=VERSIONS),
            "left_at": SourceColumn("instant", "left the company", visible_from="left_at"),
        },
        order=(("created_at", "left_at"),),
    ),
    "opportunities": SourceTable(
        "renewal or expansion opportunity: one row per change",
        ("opportunity_id", "changed_at"),
        "changed_at",
        {
            "account_id": _account(),
            "opportunity_id": SourceColumn("id", "the opportunity", required=True),
            "changed_at": SourceColumn("instant", "time of the change", required=True),
            "kind": SourceColumn("text", "kind", values=("renewal", "expansion", "new")),
            "amount": SourceColumn("number", "annual amount in `currency`", low=-MOST, high=MOST),
            "currency": SourceColumn("text", "ISO 4217"),
            "stage": SourceColumn("text", "stage"),
            "commit": SourceColumn("number", "the CSM's own probability or commit", low=0, high=1),
            "close_on": SourceColumn("day", "expected close"),
        },
    ),
    "invoices": SourceTable(
        "invoice",
        ("invoice_id",),
        "issued_on",
        {
            "account_id": _account(),
            "invoice_id": SourceColumn("id", "the invoice", required=True),
            "issued_on": SourceColumn("day", "issued", required=True),
            "due_on": SourceColumn("day", "due"),
            "paid_on": SourceColumn("day", "paid", visible_from="paid_on"),
            "amount": SourceColumn(
                "number", "amount in `currency`; negative for a credit", low=-MOST, high=MOST
            ),
            "currency": SourceColumn("text", "ISO 4217"),
            "status": SourceColumn(
                "text",
                "status; draft, void, deleted, canceled and uncollectible invoices are left out",
                visible_from=VERSIONS,
            ),
            "is_failed_charge": SourceColumn(
                "flag", "an automatic charge failed: no spend, no activity, a warning sign"
            ),
        },
        activity=True,
        order=(("issued_on", "paid_on"),),
    ),
    "touches": SourceTable(
        "contact or play",
        (),
        "touched_at",
        {
            "account_id": _account(),
            "touched_at": SourceColumn("instant", "time of the contact", required=True),
            "kind": SourceColumn("text", "call, email, meeting, review, training, play"),
            "initiated_by": SourceColumn("text", "initiator", values=("account", "us")),
            "play": SourceColumn("text", "the play, when it is one"),
            "text": SourceColumn("text", "note", personal="text"),
            "sentiment": _sentiment(),
            "event_id": _event(),
        },
    ),
    "milestones": SourceTable(
        "onboarding or journey step",
        ("account_id", "milestone"),
        "occurred_on",
        {
            "account_id": _account(),
            "milestone": SourceColumn("text", "the step", required=True),
            "occurred_on": SourceColumn("day", "day the step was planned", required=True),
            "due_on": SourceColumn("day", "due"),
            "reached_on": SourceColumn("day", "reached", visible_from="reached_on"),
        },
    ),
    "health_scores": SourceTable(
        "health score in use today: one row per change",
        ("account_id", "scored_at"),
        "scored_at",
        {
            "account_id": _account(),
            "scored_at": SourceColumn("instant", "time of the score", required=True),
            "score": SourceColumn("number", "higher is healthier"),
            "band": SourceColumn("text", "band, when there is one"),
            "components": SourceColumn("text", "components: a JSON object of name to number"),
        },
    ),
    "outcomes": SourceTable(
        "decision: the company's own log of losses and gains",
        (),
        "decided_on",
        {
            "account_id": _account(),
            "decided_on": SourceColumn("day", "day of the decision", required=True),
            "effective_on": SourceColumn("day", "day ARR stops or starts"),
            "outcome": SourceColumn(
                "text",
                "kind of outcome",
                required=True,
                values=("churn", "contraction", "expansion"),
            ),
            "reason": SourceColumn("text", "stated reason", personal="text"),
            "event_id": _event(),
        },
    ),
    "labels": SourceTable(
        "account × as_of: an outcome defined by the company",
        ("account_id", "as_of_on", "target"),
        "as_of_on",
        {
            "account_id": _account(),
            "as_of_on": SourceColumn(
                "day", "the prediction instant, 00:00 UTC of this day", required=True
            ),
            "target": SourceColumn("text", "name of the target", required=True),
            "label": SourceColumn("flag", "whether it happened", required=True),
            "label_known_on": SourceColumn("day", "day the label was known"),
        },
    ),
    "owners": SourceTable(
        "CSM",
        ("owner_id",),
        "created_at",
        {
            "owner_id": SourceColumn("id", "the CSM", required=True, personal="person"),
            "created_at": SourceColumn("instant", "start"),
            "name": SourceColumn("text", "name", personal="name"),
            "team": SourceColumn("text", "team"),
            "manager_id": SourceColumn("id", "manager", personal="person"),
            "capacity": SourceColumn(
                "number", "accounts the CSM can take on in a week; 0.5: one in two weeks", low=0
            ),
        },
    ),
    "rates": SourceTable(
        "currency rate",
        ("currency", "as_of_on"),
        "as_of_on",
        {
            "currency": SourceColumn("text", "ISO 4217", required=True),
            "as_of_on": SourceColumn("day", "day of the rate", required=True),
            "rate": SourceColumn(
                "number", "reporting currency per unit", required=True, low=1e-9, high=MOST
            ),
        },
    ),
}
