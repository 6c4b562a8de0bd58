"""Facts for a call with a customer: their words, the people, open matters, and 26 weeks of use.

Read from the source tables as they were known at the as_of of the score. Free texts are snippets
with personal data masked; ids of persons are masked by the pages for readers without that right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any, Literal

from features.revenue.invoice_statuses import NOT_BILLED
from features.text.masking import snippet
from serving.http.personal_data import mask_person
from serving.workflow.source_rows import SourceRows, midnight, parameters

WEEKS = 26
"""Weeks of usage and of the events marked in it."""

YEAR = 364
"""Days in which texts, open tickets and the last activity of a person are searched."""

TEXTS = 3
"""Number of texts shown."""

MOST_PEOPLE = 4
MOST_PEERS = 200
"""Accounts in the line of similar accounts; more would not change a median visibly."""

MarkKind = Literal["ticket", "survey", "contact", "invoice", "renewal"]


TICKET = ("opened_at", "ticket_id", "resolved_at", "text")
ANSWER = ("responded_at", "kind", "score", "respondent_id", "comment")
TOUCH = ("touched_at", "kind", "initiated_by", "text")
INVOICE = ("issued_on", "invoice_id", "due_on", "paid_on", "amount", "currency", "status",
           "is_failed_charge")  # fmt: skip
"""Columns that are read of each table."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Voice:
    """Something a customer said: day, kind such as ``NPS 4`` or ``ticket T-1``, person, text."""

    on: date
    kind: str
    who: str
    text: str


@dataclass(frozen=True)
class Person:
    """Contact of an account.

    Attributes
    ----------
    contact_id : str
        Id of the person.
    role : str
        Role; empty where unknown.
    is_champion : bool
        The person speaks for the product.
    last_seen_on : date or None
        Last day of usage or of a survey answer in a year.
    """

    contact_id: str
    role: str
    is_champion: bool
    last_seen_on: date | None


@dataclass(frozen=True)
class OpenTickets:
    """Unresolved tickets: number, and the oldest one with its day."""

    n: int
    oldest: str
    since: date


@dataclass(frozen=True)
class OverdueInvoices:
    """Invoices past their due day: number, sum in one currency if there is one, and days."""

    n: int
    amount: float | None
    currency: str
    days: int


@dataclass(frozen=True)
class Mark:
    """Event on the chart of usage: week from 0 (oldest), kind, day and text."""

    week: int
    kind: MarkKind
    on: date
    text: str


@dataclass(frozen=True)
class UsageWeeks:
    """Weekly usage, oldest week first.

    Attributes
    ----------
    ends_on : tuple of date
        Last day of each week; the last one is the day before as_of.
    values : tuple of int
        Active users per week, or usage events where the source has no user ids.
    peers : tuple of float
        Median of similar accounts per week; empty without any.
    unit : str
        ``active users`` or ``usage events``.
    """

    ends_on: tuple[date, ...]
    values: tuple[int, ...]
    peers: tuple[float, ...]
    unit: str


@dataclass(frozen=True)
class CallFacts:
    """All facts for a call; parts without data are empty or None."""

    voices: tuple[Voice, ...]
    people: tuple[Person, ...]
    n_people: int
    tickets: OpenTickets | None
    invoices: OverdueInvoices | None
    usage: UsageWeeks | None
    marks: tuple[Mark, ...]


class CallFactsReader:
    """Reader of the facts for calls.

    Parameters
    ----------
    rows : SourceRows
        Reader of the source tables.
    """

    def __init__(self, rows: SourceRows) -> None:
        self._rows = rows
        self._peers: dict[tuple[date, tuple[str, ...]], tuple[float, ...]] = {}

    def facts(
        self,
        entity_id: str,
        as_of: date,
        peers: Sequence[str] = (),
    ) -> CallFacts:
        """Return the facts for a call.

        Parameters
        ----------
        entity_id : str
            The account.
        as_of : date
            The prediction moment, 00:00 UTC of that day.
        peers : sequence of str
            Similar accounts, for the line on the chart of usage.

        Raises
        ------
        UnavailableError
            A source table cannot be read.
        """
        read = partial(self._rows.account_rows, entity_id=entity_id, as_of=as_of)
        tickets = read("support_tickets", "opened_at", TICKET, days=YEAR)
        answers = read("survey_responses", "responded_at", ANSWER, days=YEAR)
        touches = read("touches", "touched_at", TOUCH, days=YEAR)
        overdue = _overdue(read("invoices", "issued_on", INVOICE, days=2 * YEAR), as_of)
        terms = read("subscriptions", "started_on", ["started_on"], days=7 * WEEKS)
        people = self._people(entity_id, as_of)
        return CallFacts(
            voices=_voices(answers, tickets, touches),
            people=tuple(people[:MOST_PEOPLE]),
            n_people=len(people),
            tickets=_open_tickets(tickets, as_of),
            invoices=_sum_of(overdue, as_of),
            usage=self._usage(entity_id, as_of, peers),
            marks=_marks(as_of, tickets, answers, touches, terms, overdue),
        )

    def _people(self, entity: str, as_of: date) -> list[Person]:
        """Return the contacts who have not left: champions first, then the latest seen."""
        rows = self._rows.account_rows(
            "contacts", "known_at", ("contact_id", "role", "is_champion", "left_at"),
            entity, as_of, 100 * YEAR,
        )  # fmt: skip
        stays = [row for row in rows if not (left := row.get("left_at")) or _day(left) >= as_of]
        seen = self._last_seen(entity, as_of) if stays else {}
        people = [
            Person(
                str(row["contact_id"]),
                str(row.get("role") or "").replace("_", " "),
                row.get("is_champion") is True,
                seen.get(str(row["contact_id"])),
            )
            for row in stays
        ]
        return sorted(
            people,
            key=lambda person: (
                not person.is_champion,
                -(person.last_seen_on or date.min).toordinal(),
                person.contact_id,
            ),
        )

    def _last_seen(self, entity: str, as_of: date) -> dict[str, date]:
        found: dict[str, date] = {}
        for table, moment, column in (
            ("usage_events", "occurred_at", "user_id"),
            ("survey_responses", "responded_at", "respondent_id"),
        ):
            files = self._rows.files(table, as_of, YEAR)
            if not files or column not in self._rows.columns(files):
                continue
            rows = self._rows.run(
                f"SELECT {column}, max({moment}) FROM read_parquet($files)"
                f" WHERE account_id = $entity AND known_at <= $now AND {moment} <= $now"
                f" AND {moment} > $start AND {column} IS NOT NULL GROUP BY 1",
                parameters(files, entity, as_of, YEAR),
            )
            for person, last in rows:
                found[str(person)] = max(found.get(str(person), date.min), _day(last))
        return found

    def _usage(self, entity: str, as_of: date, peers: Sequence[str]) -> UsageWeeks | None:
        files = self._rows.files("usage_events", as_of, 7 * WEEKS)
        if not files:
            return None
        has_users = "user_id" in self._rows.columns(files)
        own = self._weekly(files, [entity], as_of, has_users=has_users).get(entity, {})
        back = range(WEEKS - 1, -1, -1)
        return UsageWeeks(
            ends_on=tuple(as_of - timedelta(days=1 + 7 * week) for week in back),
            values=tuple(own.get(week, 0) for week in back),
            peers=self._peer_line(files, as_of, _sample(peers), has_users=has_users),
            unit="active users" if has_users else "usage events",
        )

    def _peer_line(
        self, files: Sequence[str], as_of: date, peers: tuple[str, ...], *, has_users: bool
    ) -> tuple[float, ...]:
        if not peers:
            return ()
        key = (as_of, peers)
        if key not in self._peers:
            for stale in [old for old in self._peers if old[0] != as_of]:
                del self._peers[stale]  # lines of earlier books
            by_account = self._weekly(files, peers, as_of, has_users=has_users)
            lines = [by_account.get(peer, {}) for peer in peers]
            self._peers[key] = tuple(
                float(median(line.get(week, 0) for line in lines))
                for week in range(WEEKS - 1, -1, -1)
            )
        return self._peers[key]

    def _weekly(
        self, files: Sequence[str], accounts: Sequence[str], as_of: date, *, has_users: bool
    ) -> dict[str, dict[int, int]]:
        """Return per account the usage of each week; week 0 is the latest."""
        counted = "count(DISTINCT user_id)" if has_users else "count(*)"
        values = parameters(files, "", as_of, 7 * WEEKS)
        del values["entity"]
        rows = self._rows.run(
            "SELECT account_id, floor(epoch($now - occurred_at) / 604800)::INT AS week,"
            f" {counted} FROM read_parquet($files) WHERE account_id IN (SELECT unnest($accounts))"
            " AND known_at <= $now AND occurred_at <= $now AND occurred_at > $start"
            " GROUP BY account_id, week",
            {**values, "accounts": [*accounts]},
        )
        found: dict[str, dict[int, int]] = {}
        for account, week, n in rows:
            found.setdefault(str(account), {})[int(week)] = int(n)
        return found


def _voices(
    answers: Sequence[Row], tickets: Sequence[Row], touches: Sequence[Row]
) -> tuple[Voice, ...]:
    """Return the latest texts of survey answers, tickets and contacts, newest first."""
    found = [
        Voice(_day(row["responded_at"]), _answer(row), str(row.get("respondent_id") or ""),
              snippet(row.get("comment")))
        for row in answers
    ]  # fmt: skip
    found += [
        Voice(_day(row["opened_at"]), _ticket(row), "", snippet(row.get("text"))) for row in tickets
    ]
    found += [
        Voice(_day(row["touched_at"]), _contact(row), "", snippet(row.get("text")))
        for row in touches
        if row.get("initiated_by") == "account"  # not the notes of our own people
    ]
    said = [voice for voice in found if voice.text]
    return tuple(sorted(said, key=lambda voice: voice.on, reverse=True)[:TEXTS])


def _answer(row: Row) -> str:
    return f"{str(row.get('kind') or 'survey').upper()} {_number(row.get('score'))}".strip()


def _ticket(row: Row) -> str:
    return f"ticket {row.get('ticket_id')}"


def _contact(row: Row) -> str:
    return str(row.get("kind") or "contact").replace("_", " ")


def _open_tickets(rows: Sequence[Row], as_of: date) -> OpenTickets | None:
    now = midnight(as_of)
    still = [row for row in rows if not (end := row.get("resolved_at")) or end > now]
    if not still:
        return None
    oldest = still[-1]
    return OpenTickets(len(still), str(oldest.get("ticket_id")), _day(oldest["opened_at"]))


def _overdue(rows: Sequence[Row], as_of: date) -> list[Row]:
    """Return the invoices that `features.signals.payments.is_overdue` counts."""
    return [
        row
        for row in rows
        if (due := row.get("due_on")) is not None
        and _day(due) < as_of
        and (not (paid := row.get("paid_on")) or _day(paid) >= as_of)
        and (row.get("amount") or 0) > 0
        and row.get("is_failed_charge") is not True
        and str(row.get("status") or "").strip().lower() not in NOT_BILLED
    ]


def _sum_of(overdue: Sequence[Row], as_of: date) -> OverdueInvoices | None:
    if not overdue:
        return None
    currencies = {str(row.get("currency") or "") for row in overdue}
    is_one = len(currencies) == 1
    return OverdueInvoices(
        n=len(overdue),
        amount=sum(float(row["amount"]) for row in overdue) if is_one else None,
        currency=next(iter(currencies)) if is_one else "",
        days=max((as_of - _day(row["due_on"])).days for row in overdue),
    )


def _marks(
    as_of: date,
    tickets: Sequence[Row],
    answers: Sequence[Row],
    touches: Sequence[Row],
    terms: Sequence[Row],
    overdue: Sequence[Row],
) -> tuple[Mark, ...]:
    """Return the events in the weeks of the chart, oldest first."""
    found: list[tuple[MarkKind, date, str]] = [
        *(("ticket", _day(row["opened_at"]), _ticket(row)) for row in tickets),
        *(("survey", _day(row["responded_at"]), _answer(row)) for row in answers),
        *(("contact", _day(row["touched_at"]), _contact(row)) for row in touches),
        *(("renewal", _day(row["started_on"]), "term begins") for row in terms),
        *(("invoice", _day(row["due_on"]), f"invoice {row.get('invoice_id')} due")
          for row in overdue),
    ]  # fmt: skip
    return tuple(
        Mark(week, kind, on, text)
        for kind, on, text in sorted(found, key=lambda mark: mark[1])
        if (week := _week_of(on, as_of)) is not None
    )


def _sample(accounts: Sequence[str]) -> tuple[str, ...]:
    """Return at most `MOST_PEERS` accounts, evenly from all of them in the order of their ids.

    >>> len(_sample([str(n) for n in range(1000)])), _sample(["b", "a"])
    (200, ('a', 'b'))
    """
    step = -(-len(accounts) // MOST_PEERS) or 1
    return tuple(sorted(accounts)[::step])


def masked_facts(facts: CallFacts) -> CallFacts:
    """Return facts with the ids of persons masked; texts are masked for all readers."""
    return replace(
        facts,
        voices=tuple(replace(voice, who=mask_person(voice.who)) for voice in facts.voices),
        people=tuple(
            replace(person, contact_id=mask_person(person.contact_id)) for person in facts.people
        ),
    )


def _week_of(on: date, as_of: date) -> int | None:
    """Return the week of a day on the chart, 0 the oldest; None outside it.

    >>> _week_of(date(2026, 3, 1), date(2026, 3, 2)), _week_of(date(2025, 9, 1), date(2026, 3, 2))
    (25, 0)
    >>> _week_of(date(2026, 3, 2), date(2026, 3, 2)) is None
    True
    """
    back = (as_of - on).days - 1
    return WEEKS - 1 - back // 7 if 0 <= back < 7 * WEEKS else None


def _day(value: object) -> date:
    if isinstance(value, datetime):
        return value.date()
    assert isinstance(value, date)
    return value


def _number(value: object) -> str:
    """Return a score as text without needless decimals.

    >>> _number(4.0), _number(3.5), _number(None)
    ('4', '3.5', '')
    """
    return "" if value is None else f"{float(str(value)):g}"
