"""How the risk of one account went: each book, with renewals, new models and what came of it.

The line is broken where the account was asked something else, such as the next renewal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from configs.runtime import formatting
from serving.ledger.comparability import ScoreQuestion
from serving.ledger.ledger import RecordedOutcome, ScoreRow
from serving.pages.track_record import DID

MOST_POINTS = 120
"""Books that are looked through; a weekly book is drawn for two years."""

WIDTH, HEIGHT = 560, 120

STAYED = {"churn": "stayed", "contraction": "did not shrink", "expansion": "did not grow"}


@dataclass(frozen=True)
class Point:
    """The risk in one book.

    Attributes
    ----------
    day : date
        As known on that day.
    probability, band : float, str
        As served.
    release_id : str
        What answered.
    asked : str
        What it is the risk of: "renewal 27 Jun 2026", "by 28 Sep 2026".
    then : str
        What came of it: "left", "stayed"; empty while the time asked about is not over.
    x, y : float
        Where it is drawn, in `WIDTH` × `HEIGHT`.
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
    """Something that happened: ``renewal``, ``model`` or ``outcome``."""

    day: date
    kind: str
    text: str
    x: float


@dataclass(frozen=True)
class History:
    """What is drawn and listed.

    Attributes
    ----------
    points, marks : tuple
        Oldest first.
    lines : tuple of str
        Points of each stretch of books that asked the same question, as SVG writes them.
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
    """Return the history of an account; None before its first book.

    Parameters
    ----------
    rows : sequence of ScoreRow
        Scores of one target in books, in any order; the last one served counts for each as_of.
    outcomes : mapping
        Target to its kind (churn, contraction, expansion) and what became of it, of this account.
    today : date
        Renewals after it are still ahead.
    asked : callable
        What a score was asked.
    """
    served = sorted(rows, key=lambda row: row.served_at)
    by_day = sorted({row.as_of.date(): row for row in served}.items())
    if not by_day:
        return None
    kept = [row for _, row in by_day]
    told = sorted({*_renewals(kept, today), *_models(kept), *_became(outcomes)})
    days = [day for day, _ in by_day] + [day for day, _, _ in told]
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
        tuple(Mark(day, what, text, across(day)) for day, what, text in told),
        tuple(
            " ".join(f"{points[i].x},{points[i].y}" for i in stretch)
            for stretch in stretches(questions)
        ),
        top,
    )


def stretches(questions: Sequence[ScoreQuestion]) -> list[list[int]]:
    """Return the places of neighbours that asked the same question, as one list per stretch.

    >>> june, next_june = (Question("renewal", date(year, 6, 27)) for year in (2026, 2027))
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
        return "not kept"
    ahead = "renewal" if question.about == "renewal" else "by"
    return f"{ahead} {formatting.day(question.until)}"


Told = tuple[date, str, str]


def _renewals(rows: Sequence[ScoreRow], today: date) -> Iterator[Told]:
    """Tell the renewals that lay ahead of a score and are past; renewed once a later one is set."""
    ahead = [date.fromisoformat(day) for row in rows if (day := _renews_on(row))]
    for day in sorted({day for day in ahead if day <= today}):
        is_renewed = any(other > day for other in ahead)
        yield day, "renewal", "renewed" if is_renewed else "renewal due"


def _renews_on(row: ScoreRow) -> Any:
    return row.facts.get("renews_on")


def _models(rows: Sequence[ScoreRow]) -> Iterator[Told]:
    for before, after in pairwise(rows):
        if after.bundle_sha != before.bundle_sha:
            yield after.as_of.date(), "model", f"a new model, release {after.release_id}"


def _became(outcomes: Mapping[str, tuple[str, Sequence[RecordedOutcome]]]) -> Iterator[Told]:
    for kind, found in outcomes.values():
        for item in found:
            if item.label and item.decision_at is not None:
                yield item.decision_at.date(), "outcome", DID[kind]


def _top(rows: Sequence[ScoreRow]) -> int:
    highest = 100 * max(row.probability for row in rows)
    return next((end for end in (10, 25, 50, 75) if highest <= end), 100)
