"""Digests: a few lines per person about what is new, due or possible in their accounts.

Pure functions of the book, the recorded work and the updates since the last digest. The text is
deterministic, and every number is one of the account's row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from configs.runtime.formatting import day, money, percent, plural
from configs.schema.plays import Plays
from serving.http.addresses import account_url
from serving.integrations.digest_messages import Digest, Kind, Line
from serving.scoring.export_columns import ExportRow
from serving.scoring.playbooks import AT_RISK
from serving.workflow.escalations import Escalation
from serving.workflow.risk_cases import Risk
from serving.workflow.updates import Update
from training.model.reason_text import shorten, uncapitalize

LINES = 5
"""Most lines of a digest; the others are counted."""

DEADLINE_DAYS = 14
"""Days before a notice deadline from which an account without a plan is a line."""

URGENT: frozenset[Kind] = frozenset({"notice"})
"""Kinds that are sent on any day; the others wait for the weekly digest."""


@dataclass(frozen=True)
class Totals:
    """Expected loss within 91 days, and ARR at high risk, of all accounts, a year."""

    lost_91d: float
    arr_high: float


@dataclass(frozen=True)
class Situation:
    """Everything that digests are made of.

    Attributes
    ----------
    rows : sequence of ExportRow
        Canonical rows of all accounts.
    totals, totals_before : Totals
        Of these rows and of those of the last digest; the latter is None for the first.
    updates : sequence of Update
        Differences between the two, most important first.
    risks : mapping of str to Risk
        Open risks, by account.
    escalations : sequence of Escalation
        Open escalations.
    plays : Plays
        The company's plays.
    today : date
        Day of the digest.
    currency : str
        The reporting currency.
    """

    rows: Sequence[ExportRow]
    totals: Totals
    totals_before: Totals | None
    updates: Sequence[Update]
    risks: Mapping[str, Risk]
    escalations: Sequence[Escalation]
    plays: Plays
    today: date
    currency: str


def digest_of_owner(found: Situation, owner_id: str, *, urgent_only: bool = False) -> Digest:
    """Return the digest of a CSM: notices, overdue plans, deadlines, rises, one chance to grow."""
    rows = {row["account_id"]: row for row in found.rows if row["owner_id"] == owner_id}
    lines = [
        *_notices(found, rows),
        *_overdue(found, rows),
        *_deadlines(found, rows),
        *_rises(found, rows),
    ]
    growth = _growth(rows)
    if urgent_only:
        lines, growth = [line for line in lines if line.kind in URGENT], []
    kept = lines[: LINES - len(growth)] + growth
    n_more = len(lines) + len(growth) - len(kept)
    return Digest(owner_id, "csm", _title(kept), tuple(kept), n_more)


def digest_of_manager(found: Situation, manager_id: str) -> Digest:
    """Return the digest of a manager: the escalations of the team, with what is late."""
    own = [item for item in found.escalations if item.manager_id == manager_id]
    lines = [
        Line(
            "escalation",
            item.account_id,
            f"{item.name or item.account_id} ({item.owner or item.owner_id}): {item.title}"
            + _worth(item.arr, found.currency)
            + (f"; plan {plural(item.overdue_days, 'day')} late" if item.overdue_days else ""),
            account_url(item.account_id),
        )
        for item in own
    ]
    kept = lines[:LINES]
    title = plural(len(own), "escalation")
    return Digest(manager_id, "manager", title, tuple(kept), len(lines) - len(kept))


def digest_of_leader(found: Situation, person: str) -> Digest:
    """Return the digest of a leader: expected loss, high risk and notices, with their change."""
    now, then = found.totals, found.totals_before
    given = [item for item in found.updates if item.kind == "notice"]
    arr = {row["account_id"]: row["arr"] or 0.0 for row in found.rows}
    lost = sum(arr.get(item.account_id, 0.0) for item in given)

    def changed(before: float | None) -> str:
        return "" if before is None else f" (before: {money(before, found.currency)})"

    lines = [
        Line(
            "loss", "", f"Expected loss within 91 days: {money(now.lost_91d, found.currency)}"
            + changed(then.lost_91d if then else None), "/portfolio",
        ),
        Line(
            "loss", "", f"ARR at high risk: {money(now.arr_high, found.currency)}"
            + changed(then.arr_high if then else None), "/?band=high",
        ),
    ]  # fmt: skip
    if given:
        text = f"{plural(len(given), 'account')} gave notice: {money(lost, found.currency)} ARR"
        lines.append(Line("notice", "", text, "/changes"))
    return Digest(person, "leader", lines[0].text, tuple(lines), 0)


def owners_of(rows: Sequence[ExportRow]) -> list[str]:
    """Return the owners of current accounts, sorted."""
    return sorted(
        {row["owner_id"] for row in rows if row["owner_id"] and row["status"] != "closed"}
    )


def _title(lines: Sequence[Line]) -> str:
    if not lines:
        return "Nothing new"
    return lines[0].text if len(lines) == 1 else f"{lines[0].text}, and {len(lines) - 1} more"


def _updated(
    found: Situation, rows: Mapping[str, ExportRow], kind: str
) -> Iterator[tuple[Update, ExportRow]]:
    for item in found.updates:
        if item.kind == kind and item.account_id in rows:
            yield item, rows[item.account_id]


def _notices(found: Situation, rows: Mapping[str, ExportRow]) -> list[Line]:
    made = []
    for item, row in _updated(found, rows, "notice"):
        ends = f", contract ends {day(row['renews_on'])}" if row["renews_on"] else ""
        text = f"{item.name} gave notice{_worth(row['arr'], found.currency)}{ends}"
        made.append(Line("notice", item.account_id, text, account_url(item.account_id)))
    return made


def _overdue(found: Situation, rows: Mapping[str, ExportRow]) -> list[Line]:
    titles = {play.id: play.title for play in found.plays.plays}
    late = [
        (days, entity, risk)
        for entity, risk in found.risks.items()
        if entity in rows
        and not risk.is_snoozed(found.today)
        and (days := risk.overdue_days(found.today)) is not None
    ]
    return [
        Line(
            "overdue",
            entity,
            f"{_name(rows[entity])}: “{titles.get(risk.play, 'plan')}” is "
            f"{plural(days, 'day')} late",
            account_url(entity),
        )
        for days, entity, risk in sorted(late, key=lambda item: (-item[0], item[1]))
    ]


def _deadlines(found: Situation, rows: Mapping[str, ExportRow]) -> list[Line]:
    near = [
        row
        for entity, row in rows.items()
        if row["status"] == "scored"
        and row["risk_band"] in AT_RISK
        and (row["days_to_notice"] is not None and 0 <= row["days_to_notice"] <= DEADLINE_DAYS)
        and not (entity in found.risks and found.risks[entity].stage != "open")
    ]
    near.sort(key=lambda row: (row["days_to_notice"] or 0, row["account_id"]))
    return [
        Line(
            "deadline",
            row["account_id"],
            f"{_name(row)}: notice deadline {day(row['notice_on'])}, nothing planned; "
            f"{percent(row['churn_risk'])} risk{_worth(row['arr'], found.currency)}",
            account_url(row["account_id"]),
        )
        for row in near
    ]


def _rises(found: Situation, rows: Mapping[str, ExportRow]) -> list[Line]:
    made = []
    for item, row in _updated(found, rows, "worse"):
        why = f"; {uncapitalize(shorten(row['top_reason']))}" if row["top_reason"] else ""
        text = f"{item.name}: {item.text}{why}"
        made.append(Line("rise", item.account_id, text, account_url(item.account_id)))
    return made


def _growth(rows: Mapping[str, ExportRow]) -> list[Line]:
    ready = [
        row
        for row in rows.values()
        if row["expansion_is_eligible"] and row["expansion_band"] in AT_RISK
    ]
    if not ready:
        return []
    best = max(ready, key=lambda row: (row["expansion_arr_expected"] or 0.0, row["account_id"]))
    proof = f"; {best['expansion_evidence']}" if best["expansion_evidence"] else ""
    until = f" by {day(best['expansion_until'])}" if best["expansion_until"] else ""
    text = f"{_name(best)}: {percent(best['expansion_propensity'])} likely to grow{until}{proof}"
    return [Line("growth", best["account_id"], text, account_url(best["account_id"]))]


def _worth(arr: float | None, currency: str) -> str:
    """Return the ARR as a part of a text; empty where it is not known."""
    return "" if arr is None else f", {money(arr, currency)} ARR"


def _name(row: ExportRow) -> str:
    return row["name"] or row["account_id"]
