"""The audit from two files to a report: read, record, evaluate, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.formatting import count, day, plural
from configs.runtime.hashing import canonical_json, digest, file_digest
from configs.runtime.state_directory import write_text_atomically
from features.sources.parsing.cells import proven_order
from training.health_audit.content import (
    AuditFiles,
    audit_content,
    guess_lines,
    has_history,
    reading_lines,
    summary_lines,
    with_recorded,
)
from training.health_audit.history import outcome_rows, score_rows
from training.health_audit.options import AuditOptions
from training.health_audit.reading.read_files import read_file
from training.health_audit.score_log import LabelWait, ScoreLog, record_scores, wait_for
from training.report.report import render_page
from training.validation.verdict import PassMarks

PAGE = "audit.html.j2"
HTML, JSON = "audit.html", "audit.json"
RECORD = "recorded"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class AuditResult:
    """Result of an audit.

    Attributes
    ----------
    content : mapping or None
        Content of the report; None while the history is too short.
    html, json : Path or None
        Files of the report.
    recorded : ScoreLog
        Scores added to the record.
    wait : LabelWait or None
        Date of the first possible verdict, while there is none.
    lines : list of str
        Lines for the terminal: column guesses, then verdicts.
    """

    content: Mapping[str, Any] | None
    html: Path | None
    json: Path | None
    recorded: ScoreLog
    wait: LabelWait | None
    lines: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the report, or the dates of the first possible verdict."""
        if self.content is not None:
            return dict(self.content)
        assert self.wait is not None
        return {
            "kind": "recording",
            "n_new": self.recorded.n_new,
            "n_changed": self.recorded.n_changed,
            "losses_per_year": self.wait.losses_per_year,
            "first_verdict_on": f"{self.wait.first_on:%Y-%m-%d}",
            "full_verdict_on": f"{self.wait.full_on:%Y-%m-%d}",
        }


def audit(
    scores: Path, outcomes: Path | None, folder: Path, options: AuditOptions, progress: Progress
) -> AuditResult:
    """Audit a score from its history and the outcomes.

    Every score is recorded, so that a later audit can detect changes. If the file has a single
    date, the record is the history; until it is long enough, the result has the date of the first
    possible verdict.

    Parameters
    ----------
    scores, outcomes : Path
        CSV, Excel, JSON or Parquet; outcomes None while there are none.
    folder : Path
        Folder of the record and the report.
    options : AuditOptions
        Options.
    progress : callable
        Receives progress messages.

    Raises
    ------
    SourceError
        A file or column cannot be read.
    DataError
        The files have no usable scores or outcomes.
    """
    progress(f"reading {scores.name}")
    seen = read_file(scores)
    given = None if outcomes is None else read_file(outcomes)
    options = replace(options, proven=_proven(seen, given))
    history = score_rows(seen, options)
    recorded = record_scores(history.rows, folder / RECORD, options.now)
    history = with_recorded(history, folder / RECORD)
    if given is None or not has_history(history):
        return _waiting(history, given, recorded, options)
    progress(f"reading {outcomes.name if outcomes else ''}")
    named = {"scores": _named(scores), "outcomes": _named(outcomes)}
    files = AuditFiles(given, named)
    content = audit_content(files, history, recorded, options, progress)
    progress("writing the report")
    html, json = write_audit(content, folder)
    lines = [
        *guess_lines([*history.guesses], content["reading"]),
        *reading_lines(content["notes"]),
        *summary_lines(content),
    ]
    return AuditResult(content, html, json, recorded, None, lines)


def _proven(scores: pd.DataFrame, outcomes: pd.DataFrame | None) -> bool | None:
    """Return the date order that either file proves; None if ambiguous or contradictory."""
    found = [proven_order(frame) for frame in (scores, outcomes) if frame is not None]
    orders = {order for order in found if order is not None}
    return orders.pop() if len(orders) == 1 else None


def _named(path: Path | None) -> dict[str, str]:
    return {} if path is None else {"name": path.name, "sha256": file_digest(path)[:16]}


def _waiting(
    history: Any, given: pd.DataFrame | None, recorded: ScoreLog, options: AuditOptions
) -> AuditResult:
    decided = None
    if given is not None:
        try:
            found = outcome_rows(given, options, set(history.rows["entity_id"])).rows
            decided = found.loc[found["kind"] == "churn", "decision_at"]
        except DataError:
            decided = None
    since = recorded.since or options.now
    n_accounts = int(history.rows["entity_id"].nunique())
    wait = wait_for(since, n_accounts, decided, options.horizon_days, PassMarks())
    reason = "one date of scores" if not has_history(history) else "no outcomes"
    lines = [
        *guess_lines(history.guesses),
        f"{reason}: no evaluation yet. Recorded {plural(recorded.n_new, 'score')}"
        + (f", {count(recorded.n_changed)} changed" if recorded.n_changed else "")
        + f" in {recorded.folder}",
        f"about {count(wait.losses_per_year)} losses a year are expected, based on {wait.source}",
        f"first possible verdict on {day(wait.first_on)}, full verdict on {day(wait.full_on)}",
        "run this command with every new export, at least monthly",
    ]
    return AuditResult(None, None, None, recorded, wait, lines)


def write_audit(content: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write the page and its JSON; the same content gives the same bytes."""
    page, numbers = render_page(PAGE, content), canonical_json(content) + "\n"
    reports = folder / f"{content['as_of']}-{digest(page, numbers)}"
    for place in (reports, folder):
        write_text_atomically(place / JSON, numbers)
        write_text_atomically(place / HTML, page)
    return folder / HTML, folder / JSON
