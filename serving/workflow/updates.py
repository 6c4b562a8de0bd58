"""Updates since the last visit of a reader: differences between two score runs.

Risks with different questions, such as two renewals, are never compared: a renewed account is an
update of its own kind with the new question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from configs.runtime.formatting import percent
from serving.ledger.comparability import asked_anew, move_of, question_of_row, refuse_mixed
from serving.scoring.export_columns import COLUMNS, ExportRow

SMALLEST_MOVE = 0.02
"""Smallest change of a risk that is an update, unless the band changed."""

_READ = [
    "account_id",
    "name",
    "status",
    "status_text",
    "churn_risk",
    "churn_asks_about",
    "churn_until",
    "risk_band",
    "arr",
    "as_of",
]
MOVES = ("worse", "better")
"""Kinds of updates that compare two risks."""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Gave notice", ("notice",)),
    ("Closed", ("closed",)),
    ("Renewed, or a new end date", ("asked_anew",)),
    ("Risk rose", ("worse",)),
    ("Risk fell", ("better",)),
    ("New", ("new",)),
    ("Other status", ("status",)),
)
"""Groups of updates on a page: title, and kinds."""

_KIND_OF_STATUS = {"scored": "new", "notice_given": "notice", "closed": "closed"}

_ORDER = {"low": 0, "elevated": 1, "high": 2}


@dataclass(frozen=True)
class Update:
    """Update of one account.

    Attributes
    ----------
    account_id, name : str
        The account.
    text : str
        The update as text.
    kind : str
        ``worse``, ``better``, ``notice`` (gave notice), ``closed``, ``status`` (another status),
        ``new``, or ``asked_anew``: the question changed, for example to the next renewal.
    weight : float
        Sort key: change of the risk × ARR; for statuses the ARR.
    """

    account_id: str
    name: str
    text: str
    kind: str
    weight: float


def news(earlier: pa.Table, present: pa.Table) -> list[Update]:
    """Return the updates between two score runs, most important first.

    Parameters
    ----------
    earlier, present : pyarrow.Table
        Canonical rows; the earlier run may have any age and release.

    Notes
    -----
    Changes are reported as served, including those of a new model or calibration; the page of the
    account splits them into parts.
    """
    before = {row["account_id"]: row for row in earlier.select(_READ).to_pylist()}
    names = [*_READ, "churn_change_is_clear"]
    rows = present.select([name for name in names if name in COLUMNS]).to_pylist()
    found = [item for row in rows if (item := _update(before.get(row["account_id"]), row))]
    _check(found, before, {row["account_id"]: row for row in rows})
    return sorted(
        found,
        key=lambda item: (-item.weight, item.account_id),
    )


def _check(
    found: list[Update],
    before: Mapping[str, ExportRow],
    now: Mapping[str, ExportRow],
) -> None:
    """Refuse updates that compare answers to two questions."""
    refuse_mixed(
        (
            item.account_id,
            question_of_row(before[item.account_id]),
            question_of_row(now[item.account_id]),
        )
        for item in found
        if item.kind in MOVES
    )


def _update(before: ExportRow | None, row: ExportRow) -> Update | None:
    arr = max(row["arr"] or 0.0, 0.0)
    if before is None:
        return _updated(row, "is new", "new", 0.05 * arr)
    if before["status"] != row["status"]:
        kind = _KIND_OF_STATUS.get(row["status"], "status")
        words = "is predicted for the first time" if kind == "new" else row["status_text"]
        return _updated(row, words, kind, 0.05 * arr if kind == "new" else arr)
    if before["churn_risk"] is None or row["churn_risk"] is None:
        return None
    move = move_of(before, row)
    if move is None:
        return _asked_anew(before, row, arr)
    shift = _ORDER.get(row["risk_band"] or "", 0) - _ORDER.get(before["risk_band"] or "", 0)
    if shift == 0 and (abs(move) < SMALLEST_MOVE or row.get("churn_change_is_clear") is False):
        return None
    return _updated(
        row, _moved(before, row, shift), "worse" if move > 0 else "better", abs(move) * arr
    )


def _asked_anew(before: ExportRow, row: ExportRow, arr: float) -> Update | None:
    then, now = question_of_row(before), question_of_row(row)
    as_of, risk = row["as_of"], row["churn_risk"]
    if then is None or now is None or as_of is None or risk is None:
        return None  # runs of earlier versions do not record the question
    words = asked_anew(then, now, date.fromisoformat(as_of[:10]), risk)
    return _updated(row, words, "asked_anew", 0.05 * arr)


def _moved(before: ExportRow, row: ExportRow, shift: int) -> str:
    r"""Return a change of risk as a sentence part.

    >>> _moved({"churn_risk": 0.121}, {"churn_risk": 0.31, "risk_band": "high"}, 1)
    'risk from 12\xa0% to 31\xa0%, now high'
    >>> _moved({"churn_risk": 0.152}, {"churn_risk": 0.154, "risk_band": "high"}, 1)
    'risk 15\xa0%, now high'
    """
    ends = [percent(end["churn_risk"]) for end in (before, row)]
    if ends[0] == ends[1]:  # the band changed, the displayed number did not
        return f"risk {ends[1]}, now {row['risk_band']}"
    words = f"risk from {ends[0]} to {ends[1]}"
    return f"{words}, now {row['risk_band']}" if shift else words


def _updated(row: ExportRow, text: str, kind: str, weight: float) -> Update:
    return Update(row["account_id"], row["name"] or row["account_id"], text, kind, weight)
