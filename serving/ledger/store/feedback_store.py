"""Outcomes of accounts and feedback on reasons, as callers report them.

Kept in the ledger's database. A repeated report changes nothing; a different report of the same
item is a conflict, returned per item. `reported_outcomes` has the columns of the source table
``outcomes``, so training's labels can be built from it like from any other table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, delete, func, select, tuple_

from configs.runtime.database import reading, writing
from configs.runtime.errors import StateError
from configs.runtime.migrate import open_engine
from configs.runtime.sql_inserts import settle
from configs.runtime.tables import FEEDBACK_TABLES, feedback_table, outcomes_table, requests_table
from configs.schema.workspace import Workspace
from serving.http.problems import ProblemError

OUTCOMES = {"churned": "churn", "contracted": "contraction", "expanded": "expansion", "renewed": ""}
"""Outcomes that can be reported, with those of the source contract; a renewal has none."""

VERDICTS = ("useful", "wrong", "known")
KEPT = timedelta(days=7)
"""Lifetime of an Idempotency-Key."""

RECORDED, KNOWN, CONFLICT = "recorded", "known", "conflict"


@dataclass(frozen=True)
class ReportedOutcome:
    """Reported outcome of an account. One per (account_id, outcome, decided_on).

    Attributes
    ----------
    account_id : str
        The account.
    outcome : str
        A key of `OUTCOMES`.
    decided_on, effective_on : str
        ISO 8601 days: when it was decided, and when revenue stops or starts.
    reason : str or None
        The customer's reason, in their words.
    """

    account_id: str
    outcome: str
    decided_on: str
    effective_on: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Feedback:
    """Verdict of a person who knows the account on a reason.

    Attributes
    ----------
    score_id, account_id, reason_code : str
        The reason, and its score.
    verdict : str
        One of `VERDICTS`.
    note : str or None
        Explanation of the verdict.
    """

    score_id: str
    account_id: str
    reason_code: str
    verdict: str
    note: str | None = None


class FeedbackStore:
    """Reports and feedback of one company; threads share it, `close` it."""

    def __init__(self, workspace: Workspace) -> None:
        self.company = workspace.company.name
        file = workspace.state.ledger / "intake.db"
        self.engine = open_engine(workspace.places.ledger_url, file, FEEDBACK_TABLES)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def once(self, caller: str, key: str, body: bytes, now: datetime) -> None:
        """Note that a caller used an Idempotency-Key for a request.

        Raises
        ------
        ProblemError
            They used it for another one before.
        """
        record = {
            "company": self.company,
            "caller": caller[:200],
            "key": key,
            "request_sha256": hashlib.sha256(body).hexdigest(),
            "seen_at": now,
        }
        with writing(self.engine) as connection:
            old = requests_table.c.seen_at < now - KEPT
            connection.execute(delete(requests_table).where(old))
        try:
            settle(
                self.engine, requests_table, ("company", "caller", "key"), [record], but=["seen_at"]
            )
        except StateError as error:
            raise ProblemError(
                "idempotency-key-reused", "this Idempotency-Key came with another body before"
            ) from error

    def record_outcomes(
        self, items: Sequence[ReportedOutcome], by: str, now: datetime
    ) -> list[str]:
        """Keep outcomes of accounts; return per item `RECORDED`, `KNOWN` or `CONFLICT`."""
        records = [
            {"company": self.company, **asdict(item), "reported_by": by, "known_at": now}
            for item in items
        ]
        key = ("company", "account_id", "outcome", "decided_on")
        return self._record(outcomes_table, key, records, but=("reported_by", "known_at"))

    def record_feedback(self, items: Sequence[Feedback], by: str, now: datetime) -> list[str]:
        """Keep verdicts on reasons; return per item `RECORDED` or `KNOWN`."""
        records = [
            {"company": self.company, **asdict(item), "given_by": by[:200], "given_at": now}
            for item in items
        ]
        key = ("company", "score_id", "reason_code", "verdict", "given_by")
        return self._record(feedback_table, key, records, but=("given_at", "note"))

    def outcomes(self) -> list[dict[str, Any]]:
        """Return what was reported as rows of the source table ``outcomes``, renewals left out."""
        table = outcomes_table
        query = select(table).where(table.c.company == self.company, table.c.outcome != "renewed")
        ordered = query.order_by(table.c.known_at, table.c.account_id, table.c.outcome)
        with reading(self.engine) as connection:
            rows = connection.execute(ordered).mappings().all()
        names = ("account_id", "decided_on", "effective_on", "reason", "known_at")
        return [
            {"outcome": OUTCOMES[row["outcome"]], **{name: row[name] for name in names}}
            for row in rows
        ]

    def feedback(self) -> list[dict[str, Any]]:
        """Return everything said of reasons, oldest first."""
        query = select(feedback_table).where(feedback_table.c.company == self.company)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(feedback_table.c.given_at)).mappings().all()
        return [dict(row) for row in rows]

    def said(self, account_id: str, by: str) -> dict[str, tuple[str, datetime]]:
        """Return a person's last verdicts on an account's reasons: code → verdict and its time."""
        table = feedback_table
        query = select(table.c.reason_code, table.c.verdict, table.c.given_at).where(
            table.c.company == self.company,
            table.c.account_id == account_id,
            table.c.given_by == by[:200],
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.given_at)).all()
        return {code: (verdict, given_at) for code, verdict, given_at in rows}

    def verdicts(self) -> dict[str, dict[str, int]]:
        """Return how often each reason was called what: code → verdict → count."""
        table = feedback_table
        query = (
            select(table.c.reason_code, table.c.verdict, func.count())
            .where(table.c.company == self.company)
            .group_by(table.c.reason_code, table.c.verdict)
        )
        found: dict[str, dict[str, int]] = {}
        with reading(self.engine) as connection:
            for code, verdict, n in connection.execute(query).all():
                found.setdefault(code, dict.fromkeys(VERDICTS, 0))[verdict] = n
        return found

    def _record(
        self,
        table: Table,
        key: Sequence[str],
        records: Sequence[dict[str, Any]],
        but: Sequence[str],
    ) -> list[str]:
        """Insert what is new; one item that contradicts what is kept costs the others nothing."""
        kept = self._kept(table, key, records)
        told, new = [], []
        for record in records:
            identity = tuple(record[name] for name in key)
            before = kept.setdefault(identity, record)
            if before is record:
                new.append(record)
            compared = [name for name in record if name not in but]
            same = all(before[name] == record[name] for name in compared)
            told.append(RECORDED if before is record else KNOWN if same else CONFLICT)
        if new:
            settle(self.engine, table, key, new, but=[*but, *_BY_RACE])
        return told

    def _kept(
        self, table: Table, key: Sequence[str], records: Iterable[dict[str, Any]]
    ) -> dict[tuple[Any, ...], Any]:
        wanted = [tuple(record[name] for name in key) for record in records]
        query = select(table).where(tuple_(*(table.c[name] for name in key)).in_(wanted))
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return {tuple(row[name] for name in key): row for row in rows}


_BY_RACE = ("effective_on", "reason", "account_id")
"""Columns kept from the first caller where two report the same at the same moment."""
