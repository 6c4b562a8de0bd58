"""Call sheet of an account: what to do by when, why, their words, whom to ask, what to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from configs.runtime.formatting import NBSP, money, percent, plural
from configs.runtime.formatting import day as written
from features.tables.catalog import THEMES
from serving.pages.context import RiskPanel
from serving.scoring.answer import Answer, Score
from serving.scoring.export_columns import ExportRow
from serving.workflow.call_facts import CallFacts, Mark, UsageWeeks
from training.model.reason_text import capitalize, shorten, uncapitalize

REASONS = 3
"""Most reasons on the sheet."""

WILL = {"churn": "leave", "contraction": "shrink"}
"""Verb of each outcome of a risk."""

CHART_WIDTH, CHART_HEIGHT, MARK_ROOM = 520, 96, 14
"""Size of the chart of usage, and the room for the marks above it."""

MARK_WORDS = {
    "ticket": "ticket",
    "survey": "survey",
    "contact": "contact",
    "invoice": "overdue invoice",
    "renewal": "term begins",
}
"""Words for the kinds of marks on the chart."""


class Headline(TypedDict):
    """Action of the sheet with its due day, and the numbers behind it."""

    action: str
    due_on: date | None
    is_overdue: bool
    numbers: list[str]


class Sheet(TypedDict):
    """Template values of a call sheet."""

    headline: Headline | None
    reasons: list[str]
    facts: CallFacts | None
    chart: Chart | None
    play: SheetPlay | None
    family: list[ExportRow]


class SheetPlay(TypedDict):
    """Play of the sheet: planned by a person or suggested, with its facts filled in."""

    id: str
    title: str
    why: str
    steps: tuple[str, ...]
    due_on: date | None
    is_planned: bool


@dataclass(frozen=True)
class ChartMark:
    """Marks of one week at one place of the chart."""

    x: float
    kind: str
    n: int


@dataclass(frozen=True)
class Chart:
    """Chart of usage: bars, the line of similar accounts, and marks, in units of the drawing.

    Attributes
    ----------
    bars : list of (x, y, width, height)
        One per week.
    peers : str
        Points of the line; empty without similar accounts.
    marks : list of ChartMark
        Events, one per week and kind.
    kinds : list of str
        Kinds of events on the chart, as words.
    top : float
        Value at the top.
    """

    bars: list[tuple[float, float, float, float]]
    peers: str
    marks: list[ChartMark]
    kinds: list[str]
    top: float


def sheet(
    answer: Answer,
    risk: Score | None,
    panel: RiskPanel | None,
    facts: CallFacts | None,
    family: Sequence[ExportRow] = (),
    *,
    currency: str,
    today: date,
) -> Sheet:
    """Return the template values of the call sheet.

    Parameters
    ----------
    answer : Answer
        Answer of the scorer.
    risk : Score or None
        Its score of the risk; None where the account is not predicted.
    panel : RiskPanel or None
        Recorded work and suggestions.
    facts : CallFacts or None
        Facts for the call; None if they cannot be read.
    family : sequence of ExportRow
        Parent and siblings (`family_of`).
    currency : str
        The reporting currency, for ARR.
    today : date
        Current day.
    """
    play = _play(panel, words_of(answer, risk, facts)) if panel else None
    return {
        "headline": _headline(answer, risk, play, currency, today) if risk else None,
        "reasons": reasons_of(risk) if risk else [],
        "facts": facts,
        "chart": chart_of(facts.usage, facts.marks) if facts and facts.usage else None,
        "play": play,
        "family": list(family),
    }


def _headline(
    answer: Answer, risk: Score, play: SheetPlay | None, currency: str, today: date
) -> Headline:
    likely = (
        "on average" if risk["verdict"] == "no_signal" else f"likely to {WILL[risk['outcome']]}"
    )
    numbers = [f"{percent(risk['probability'])} {likely}"]
    renewal, arr = answer.get("renewal"), answer.get("arr")
    if renewal and risk["asks_about"] == "renewal":
        numbers[0] += f" at the renewal on {written(renewal['renews_on'])}"
    else:
        numbers[0] += f" by {written(risk['until'])}"
    if arr is not None:
        numbers.append(f"{money(arr, currency)} ARR")
    if renewal and renewal["notice_on"] and (renewal["days_to_notice"] or -1) >= 0:
        numbers.append(f"notice deadline {written(renewal['notice_on'])}")
    due = play["due_on"] if play else None
    late = due is not None and due < today and bool(play and play["is_planned"])
    action = play["title"] if play else "No action suggested"
    return {"action": action, "due_on": due, "is_overdue": late, "numbers": numbers}


def reasons_of(risk: Score) -> list[str]:
    """Return the strongest reasons for a higher risk as sentences with their numbers.

    Each names the theme, its effect in percentage points, and the strongest fact.
    """
    found = []
    for reason in risk["raises"][:REASONS]:
        points = f"{100.0 * reason['points']:+.1f}".replace("-", "−")
        fact = reason["facts"][0]["text"] if reason["facts"] else ""
        name = THEMES.get(reason["theme"], reason["text"])
        words = f"{capitalize(name)} ({points}{NBSP}points)"
        found.append(f"{words}: {_inside(fact)}." if fact else f"{words}.")
    return found


def words_of(answer: Answer, risk: Score | None, facts: CallFacts | None) -> dict[str, str]:
    """Return the facts that the steps of a play quote (`configs.schema.plays.STEP_FACTS`)."""
    words: dict[str, str] = {}
    renewal = answer.get("renewal")
    if renewal:
        words["renewal"] = f"the renewal on {written(renewal['renews_on'])}"
    if risk is not None:
        used = [
            fact["text"]
            for reason in (*risk["raises"], *risk["lowers"])
            if reason["theme"] == "adoption"
            for fact in reason["facts"]
            if fact["unit"] in ("count", "share", "log_ratio")  # not money per use
        ]
        if used:
            words["use"] = _inside(shorten(used[0]))
    if facts is None:
        return words
    if tickets := facts.tickets:
        words["tickets"] = (
            f"{plural(tickets.n, 'open ticket')} ({'' if tickets.n == 1 else 'oldest '}"
            f"{tickets.oldest} of {written(tickets.since.isoformat())})"
        )
    if bills := facts.invoices:
        amount = f", {money(bills.amount, bills.currency)}" if bills.amount is not None else ""
        words["invoices"] = (
            f"{plural(bills.n, 'overdue invoice')}{amount} ({plural(bills.days, 'day')} late)"
        )
    answers = [voice for voice in facts.voices if not voice.kind.startswith("ticket")]
    if answers:
        words["survey"] = f"{answers[0].kind} of {written(answers[0].on.isoformat())}"
    if facts.people:
        person = facts.people[0]
        words["person"] = person.contact_id + (f" ({person.role})" if person.role else "")
    return words


def _inside(fact: str) -> str:
    """Return the text of a fact as part of a sentence.

    >>> _inside("Use against similar accounts: down 38 %")
    'use against similar accounts, down 38 %'
    """
    return uncapitalize(fact).replace(": ", ", ", 1)


def _play(panel: RiskPanel, words: dict[str, str]) -> SheetPlay | None:
    risk, plays = panel["risk"], panel["plays"]
    first = panel["suggestions"][0] if panel["suggestions"] else None
    if risk is not None and not risk.has_ended and risk.stage != "open":
        known = {play.id: play for play in plays.plays}
        planned = known.get(risk.play)
        return {
            "id": risk.play,
            "title": planned.title if planned else "Carry out the plan",
            "why": "planned",
            "steps": planned.steps_with(words) if planned else (),
            "due_on": risk.due_on,
            "is_planned": True,
        }
    if first is None:
        return None
    return {
        "id": first.play.id,
        "title": first.play.title,
        "why": first.why,
        "steps": first.play.steps_with(words),
        "due_on": first.due_on,
        "is_planned": False,
    }


def chart_of(usage: UsageWeeks, marks: Sequence[Mark]) -> Chart:
    """Return the drawing of 26 weeks of usage.

    Examples
    --------
    >>> from datetime import date
    >>> made = chart_of(UsageWeeks((date(2026, 3, 1),) * 26, (0,) * 25 + (4,), (), "users"), [])
    >>> made.top, made.bars[-1], made.peers
    (4.0, (502.0, 14.0, 16.0, 82.0), '')
    """
    n, room = len(usage.values), CHART_HEIGHT - MARK_ROOM
    step = CHART_WIDTH / n
    top = float(max(*usage.values, *usage.peers, 1))
    bars = [
        (
            round(place * step + 2, 1),
            round(CHART_HEIGHT - max(room * value / top, 0.5), 1),
            round(step - 4, 1),
            round(max(room * value / top, 0.5), 1),
        )
        for place, value in enumerate(usage.values)
    ]
    points = " ".join(
        f"{(place + 0.5) * step:.1f},{CHART_HEIGHT - room * value / top:.1f}"
        for place, value in enumerate(usage.peers)
    )
    counts: dict[tuple[int, str], int] = {}
    for mark in marks:
        counts[mark.week, mark.kind] = counts.get((mark.week, mark.kind), 0) + 1
    seen = {kind for _, kind in counts}
    return Chart(
        bars=bars,
        peers=points,
        marks=[
            ChartMark(round((week + 0.5) * step, 1), kind, many)
            for (week, kind), many in sorted(counts.items())
        ],
        kinds=[kind for kind in MARK_WORDS if kind in seen],
        top=top,
    )


def family_of(table: pa.Table, account_id: str, parent_id: str | None) -> list[ExportRow]:
    """Return the visible parent, siblings and children of an account, largest ARR first.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows that the reader may see.
    account_id, parent_id : str
        The account and its parent, if it has one.
    """
    top = parent_id or account_id
    near = pc.or_kleene(
        pc.equal(table["account_id"], top), pc.equal(table["parent_account_id"], top)
    )
    others = pc.and_(pc.fill_null(near, False), pc.not_equal(table["account_id"], account_id))
    rows: list[Any] = table.filter(others).to_pylist()
    return sorted(rows, key=lambda row: (-(row["arr"] or 0.0), row["account_id"]))
