"""Risk history of one account: all score runs, renewals, new models and outcomes.

The line is interrupted where the question changes, for example to the next renewal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from configs.runtime import formatting
from serving.ledger.comparability import ScoreQuestion
from serving.ledger.store.score_rows import RecordedOutcome, ScoreRow

MOST_POINTS = 120
"""Maximum number of score runs: two years of weekly runs."""

WIDTH, HEIGHT = 560, 120

DID = {"churn": "left", "contraction": "shrank", "expansion": "grew"}
STAYED = {"churn": "stayed", "contraction": "did not shrink", "expansion": "did not grow"}


@dataclass(frozen=True)
class Point:
    """Risk in one score run.

    Attributes
    ----------
    day : date
        Day of as_of.
    probability, band : float, str
        As served.
    release_id : str
        Release of the score.
    asked : str
        Question: "renewal 27 Jun 2026", "by 28 Sep 2026".
    then : str
        Outcome: "left", "stayed"; empty while the prediction window is open.
    x, y : float
        Position in `WIDTH` × `HEIGHT`.
    """

    day: date
    probability: float
    band: str
    release_id: str
    asked: str
    then: str
    x: float
    y: float


@dataclass(frozen=True)
class Mark:
    """Event on the time axis: ``renewal``, ``model`` or ``outcome``."""

    day: date
    kind: str
    text: str
    x: float


@dataclass(frozen=True)
class History:
    """Risk history for the chart and the table.

    Attributes
    ----------
    points, marks : tuple
        Oldest first.
    lines : tuple of str
        SVG points of each stretch of score runs with the same question.
    top : int
        Upper end of the scale, in percent.
    """

    points: tuple[Point, ...]
    marks: tuple[Mark, ...]
    lines: tuple[str, ...]
    top: int


def history_of(
    rows: Sequence[ScoreRow],
    outcomes: Mapping[str, tuple[str, Sequence[RecordedOutcome]]],
    today: date,
    asked: Callable[[ScoreRow], ScoreQuestion],
) -> History | None:
    """Return the history of an account; None before its first score run.

    Parameters
    ----------
    rows : sequence of ScoreRow
        Scores of one target in score runs, in any order; for each as_of the last one counts.
    outcomes : mapping
        Target to its kind (churn, contraction, expansion) and the outcomes of the account.
    today : date
        Current day; later renewals are in the future.
    asked : callable
        Question of a score.
    """
    served = sorted(rows, key=lambda row: row.served_at)
    by_day = sorted({row.as_of.date(): row for row in served}.items())
    if not by_day:
        return None
    kept = [row for _, row in by_day]
    events = sorted({*_renewals(kept, today), *_models(kept), *_observed(outcomes)})
    days = [day for day, _ in by_day] + [day for day, _, _ in events]
    first, last = min(days), max(days)
    top = _top(kept)

    def across(day: date) -> float:
        return round(WIDTH * (day - first).days / max((last - first).days, 1), 1)

    target = kept[-1].target
    kind, found = outcomes.get(target, ("churn", ()))
    then = {item.as_of.date(): (DID if item.label else STAYED)[kind] for item in found}
    questions = [asked(row) for row in kept]
    points = tuple(
        Point(
            day,
            row.probability,
            row.band,
            row.release_id,
            _words(question),
            then.get(day, ""),
            across(day),
            round(HEIGHT * (1 - 100 * row.probability / top), 1),
        )
        for (day, row), question in zip(by_day, questions, strict=True)
    )
    return History(
        points,
        tuple(Mark(day, what, text, across(day)) for day, what, text in events),
        tuple(
            " ".join(f"{points[i].x},{points[i].y}" for i in stretch)
            for stretch in stretches(questions)
        ),
        top,
    )


def stretches(questions: Sequence[ScoreQuestion]) -> list[list[int]]:
    """Return the indices of consecutive scores with the same question, one list per stretch.

    >>> june, next_june = (ScoreQuestion("renewal", date(year, 6, 27)) for year in (2026, 2027))
    >>> stretches([june, june, next_june])
    [[0, 1], [2]]
    """
    found: list[list[int]] = []
    for place, question in enumerate(questions):
        if found and questions[found[-1][-1]].is_same(question):
            found[-1].append(place)
        else:
            found.append([place])
    return found


def _words(question: ScoreQuestion) -> str:
    if question.about == "unknown":
        return "not recorded"
    ahead = "renewal" if question.about == "renewal" else "by"
    return f"{ahead} {formatting.day(question.until)}"


DatedEvent = tuple[date, str, str]


def _renewals(rows: Sequence[ScoreRow], today: date) -> Iterator[DatedEvent]:
    """Return past renewals; an account is renewed if a later renewal is set."""
    ahead = [date.fromisoformat(day) for row in rows if (day := _renews_on(row))]
    for day in sorted({day for day in ahead if day <= today}):
        is_renewed = any(other > day for other in ahead)
        yield day, "renewal", "renewed" if is_renewed else "renewal due"


def _renews_on(row: ScoreRow) -> Any:
    return row.facts.get("renews_on")


def _models(rows: Sequence[ScoreRow]) -> Iterator[DatedEvent]:
    for before, after in pairwise(rows):
        if after.bundle_sha != before.bundle_sha:
            yield after.as_of.date(), "model", f"new model, release {after.release_id}"


def _observed(
    outcomes: Mapping[str, tuple[str, Sequence[RecordedOutcome]]],
) -> Iterator[DatedEvent]:
    for kind, found in outcomes.values():
        for item in found:
            if item.label and item.decision_at is not None:
                yield item.decision_at.date(), "outcome", DID[kind]


def _top(rows: Sequence[ScoreRow]) -> int:
    highest = 100 * max(row.probability for row in rows)
    return next((end for end in (10, 25, 50, 75) if highest <= end), 100)
