"""Outcomes of past scores: labelled under the contract of each score, once they are known.

A score is judged by the definition of its own release, which the company may have changed since:
horizon, margin, grace. A row is labelled only when its whole window is observed, leavers included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.runtime.errors import BellwetherError
from configs.runtime.hashing import digest
from configs.schema.company import Target, midnight
from configs.schema.workspace import Workspace
from features.labels import labels_at
from serving.ledger.model_archive import ModelArchive
from serving.ledger.outcome_schedule import OutcomeSchedule
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookEntry, RecordedOutcome

if TYPE_CHECKING:
    import pandas as pd

    from features.sources import Loaded

OPEN_DAYS = 800
"""Books older than this are not labelled again: an account without a label by then gets none."""

Progress = Callable[[str], None]


def contract_id(contract: Mapping[str, Any]) -> str:
    """Return the identity of what a label contract asks; counts and words do not matter.

    >>> asked = {"outcome": "churn", "observed_in": "subscriptions", "horizon_days": 91}
    >>> contract_id(asked) == contract_id(asked | {"words": "…", "rows": 12, "margin": 0.1})
    True
    """
    return digest(_target(contract).model_dump(mode="json"), contract.get("grace_days"))


def _target(contract: Mapping[str, Any]) -> Target:
    return Target(**{name: contract[name] for name in Target.model_fields if name in contract})


def join_outcomes(
    workspace: Workspace,
    loaded: Loaded,
    ledger: Ledger,
    now: datetime,
    progress: Progress = lambda _: None,
) -> int:
    """Label the accounts of past books whose windows are over, and record the labels.

    Books are labelled only when they are due (`serving.ledger.outcome_schedule`).

    Parameters
    ----------
    workspace, loaded : Workspace, Loaded
        The company and its source tables.
    ledger : Ledger
        Holds the books, and gets the outcomes.
    now : datetime
        The clock.
    progress : callable
        Receives messages about what was labelled and what could not be.

    Returns
    -------
    int
        New outcomes. Repeating it changes nothing.
    """
    archive = ModelArchive(workspace.state)
    books = _open_books(ledger, now)
    schedule = OutcomeSchedule(workspace, loaded, now, [book.as_of.date() for book in books])
    groups: dict[tuple[str, str], list[BookEntry]] = {}
    contracts: dict[str, Mapping[str, Any]] = {}
    for book in books:
        try:
            contract = archive.release(book.release_id).label_contracts[book.target]
        except BellwetherError as error:
            progress(f"the book of {book.as_of:%Y-%m-%d} cannot be judged: {error.what}")
            continue
        identity = contract_id(contract)
        if schedule.is_due(book, identity):
            contracts[identity] = contract
            groups.setdefault((book.target, identity), []).append(book)
    n_new = 0
    for (target, identity), due in groups.items():
        try:
            frame = _labels(workspace, loaded, target, contracts[identity], due, now)
        except BellwetherError as error:
            progress(f"{target}: outcomes of past scores cannot be determined: {error.what}")
            continue
        n_new += _record(ledger, schedule, identity, due, frame, now)
    schedule.save()
    if n_new:
        progress(f"{n_new:,} outcomes of past scores became known")
    return n_new


def _open_books(ledger: Ledger, now: datetime) -> list[BookEntry]:
    today = midnight(now)
    labelled = ledger.outcomes.count()
    return [
        book
        for book in ledger.runs.every()
        if book.as_of < today
        and (today - book.as_of).days <= OPEN_DAYS
        and labelled.get((book.target, book.as_of), 0) < book.n_scores
    ]


def _labels(
    workspace: Workspace,
    loaded: Loaded,
    name: str,
    contract: Mapping[str, Any],
    books: Sequence[BookEntry],
    now: datetime,
) -> pd.DataFrame:
    company = workspace.company
    if contract.get("grace_days") is not None:
        cohort = company.cohort.model_copy(update={"grace_days": contract["grace_days"]})
        company = company.model_copy(update={"cohort": cohort})
    days = sorted({book.as_of.date() for book in books})
    then = replace(workspace, company=company)
    return labels_at(then, loaded, name, _target(contract), days, now)


def _record(
    ledger: Ledger,
    schedule: OutcomeSchedule,
    contract: str,
    books: Sequence[BookEntry],
    frame: pd.DataFrame,
    now: datetime,
) -> int:
    by_day = dict(iter(frame.groupby("as_of")))
    n_new = 0
    for book in books:
        rows = by_day.get(book.as_of)
        if rows is None:
            continue
        wanted = ledger.outcomes.missing(book, contract)
        known = rows[rows["label"].notna() & rows["entity_id"].isin(wanted)]
        made = [_outcome(book.target, contract, row) for row in known.to_dict("records")]
        n_new += ledger.outcomes.record(made, recorded_at=now)
        schedule.labelled(book, contract, rows, wanted - set(known["entity_id"]))
    return n_new


def _outcome(target: str, contract: str, row: Mapping[Any, Any]) -> RecordedOutcome:
    decided = row["decision_at"]
    is_dated = decided is not None and decided == decided  # NaT is not itself
    return RecordedOutcome(
        entity_id=str(row["entity_id"]),
        target=target,
        as_of=row["as_of"].to_pydatetime(),
        label=int(row["label"]),
        known_at=row["label_known_at"].to_pydatetime(),
        decision_at=decided.to_pydatetime() if is_dated else None,
        contract=contract,
    )
