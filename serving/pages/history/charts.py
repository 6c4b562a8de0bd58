"""Risk history of all accounts over the latest score runs, for sparklines.

A line contains answers to one question only; it starts again after a renewal.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import pyarrow.parquet as pq

from configs.runtime.formatting import percent
from configs.runtime.state_directory import State, read_manifest
from serving.batch.score_book import SCORES, ScoreRun
from serving.ledger.comparability import ScoreQuestion, question_of_row

DAYS = 84
POINTS_NEEDED = 3
"""Minimum number of score runs for a line."""

WIDTH, HEIGHT = 72, 20

_READ = ["account_id", "churn_risk", "churn_asks_about", "churn_until", "as_of"]

Risks = Mapping[str, tuple[float, ScoreQuestion]]
"""Risk and question by account."""


class HistoryCharts:
    """Reader of the risks of past score runs; every run is read once.

    Parameters
    ----------
    state : State
        State directory with the score runs.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._books: dict[str, Risks] = {}
        self._known: tuple[str, dict[str, list[tuple[date, float]]]] = ("", {})
        self._week_before: tuple[str, ScoreRun | None] = ("", None)

    def of(self, run: ScoreRun) -> Mapping[str, Sequence[tuple[date, float]]]:
        """Return the risks of each account in the last 12 weeks, oldest first.

        Only risks with the same question as the newest one are included. For each as_of, the run
        that was served last counts. Empty with too few runs.
        """
        with self._lock:
            if self._known[0] != run.run_id:
                self._known = (run.run_id, self._read(run))
            return self._known[1]

    def earlier(self, run_id: str) -> ScoreRun | None:
        """Return a past score run by its id; None if it is no longer kept."""
        folder = self._state.scores / run_id
        manifest = read_manifest(folder) if run_id else None
        return ScoreRun(folder=folder, **manifest) if manifest else None

    def about_a_week_before(self, run: ScoreRun) -> ScoreRun | None:
        """Return the score run of a week ago; None without an earlier run.

        This is the newest run that is at least a week old, otherwise the oldest run.
        """
        with self._lock:
            if self._week_before[0] != run.run_id:
                self._week_before = (run.run_id, self._find_week_before(run))
            return self._week_before[1]

    def _find_week_before(self, run: ScoreRun) -> ScoreRun | None:
        past = sorted(
            (item for item in self._runs() if item.as_of < run.as_of),
            key=lambda item: (item.as_of, item.served_at),
        )
        limit = date.fromisoformat(run.as_of[:10]) - timedelta(days=7)
        old = [item for item in past if date.fromisoformat(item.as_of[:10]) <= limit]
        return old[-1] if old else past[0] if past else None

    def _read(self, run: ScoreRun) -> dict[str, list[tuple[date, float]]]:
        last = date.fromisoformat(run.as_of[:10])
        runs = [item for item in self._runs() if item.served_at <= run.served_at]
        chosen = {item.as_of: item for item in sorted(runs, key=lambda item: item.served_at)}
        chosen[run.as_of] = run
        days = {
            day: item
            for as_of, item in sorted(chosen.items())
            if last - timedelta(days=DAYS) <= (day := date.fromisoformat(as_of[:10])) <= last
        }
        if len(days) < POINTS_NEEDED:
            return {}
        found: dict[str, list[tuple[date, float]]] = {}
        present = self._risks(run)
        for day, item in days.items():
            for account, (risk, question) in self._risks(item).items():
                if account in present and question.is_same(present[account][1]):
                    found.setdefault(account, []).append((day, risk))
        return found

    def _runs(self) -> list[ScoreRun]:
        folders = sorted(self._state.scores.iterdir()) if self._state.scores.is_dir() else []
        found = []
        for folder in folders:
            manifest = read_manifest(folder) if folder.is_dir() else None
            if manifest is not None and "run_id" in manifest:
                found.append(ScoreRun(folder=folder, **manifest))
        return found

    def _risks(self, run: ScoreRun) -> Risks:
        if run.run_id not in self._books:
            rows = pq.read_table(run.folder / SCORES, columns=_READ).to_pylist()
            self._books[run.run_id] = {
                row["account_id"]: (row["churn_risk"], question)
                for row in rows
                if (question := question_of_row(row)) is not None
            }
        return self._books[run.run_id]


def sparkline(points: Sequence[tuple[date, float]]) -> dict[str, str] | None:
    r"""Return a line for `WIDTH` × `HEIGHT`: x is time, y is risk from 0.

    >>> day = date(2026, 3, 2)
    >>> week = timedelta(days=7)
    >>> line = sparkline([(day, 0.1), (day + week, 0.2), (day + 2 * week, 0.4)])
    >>> line["points"], line["text"]
    ('1.0,14.5 36.0,10.0 71.0,1.0', '10\xa0%, 20\xa0%, 40\xa0%')
    """
    if len(points) < POINTS_NEEDED:
        return None
    start, end = points[0][0], points[-1][0]
    span = max((end - start).days, 1)
    top = max(max(risk for _, risk in points), 0.01)
    places = [
        (1 + (WIDTH - 2) * (day - start).days / span, 1 + (HEIGHT - 2) * (1 - risk / top))
        for day, risk in points
    ]
    return {
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        "text": ", ".join(percent(risk, 0) for _, risk in points),
    }
