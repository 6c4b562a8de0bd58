"""Content of the audit report as plain JSON, from the two files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.formatting import count, day, fixed, listing, plural
from training.health_audit.evidence import AuditEvidence, evidence_of
from training.health_audit.history import (
    DATES,
    KINDS,
    LINES,
    Note,
    OutcomeRows,
    ScoreRows,
    currency_of,
    outcome_rows,
)
from training.health_audit.integrity import history_checks
from training.health_audit.monthly_panel import PanelSpan, span_of
from training.health_audit.options import AuditOptions
from training.health_audit.score_direction import ScoreDirection, settle_direction
from training.health_audit.score_log import ScoreLog, seen_scores
from training.report.content import plain_content
from training.report.limits import GLOSSARY
from training.validation.verdict import PassMarks, half_width

Plain = dict[str, Any]
Progress = Callable[[str], None]

MIN_HISTORY_DAYS = 32
"""Shortest history for an audit; a shorter one has at most one month start to evaluate."""

AUDIT_WORDS = ("95 % interval", "AUC", "Wilson interval", "Capacity", "Lift at capacity",
               "Capture at capacity", "Lead time", "Calendar", "Observed over expected", "Slope",
               "Brier skill", "Proven, promising, not proven",
               "Inconclusive, suspect")  # fmt: skip


@dataclass(frozen=True)
class AuditFiles:
    """The outcomes file as read, and the names of both files.

    Attributes
    ----------
    outcomes : pandas.DataFrame
        Raw cells.
    names : mapping of str to mapping
        Per table, file name and digest.
    """

    outcomes: pd.DataFrame
    names: Mapping[str, Mapping[str, str]]


def with_recorded(history: ScoreRows, folder: Path) -> ScoreRows:
    """Return the history with recorded scores, when the file has only one date."""
    before = seen_scores(folder)
    if has_history(history) or before.empty:
        return history
    rows = history.rows
    both = pd.concat([before, rows], ignore_index=True)
    both["recorded_at"] = both["recorded_at"].astype("datetime64[us, UTC]")
    written = both["recorded_at"].fillna(both["scored_at"])
    both["known_at"] = both[["scored_at"]].assign(written=written).max(axis=1)
    both["recorded_at"] = written
    ordered = both.sort_values(["entity_id", "scored_at", "known_at"], ignore_index=True)
    ordered = ordered.drop_duplicates(["entity_id", "scored_at", "score", "band"])
    return ScoreRows(ordered.reset_index(drop=True), history.components, history.guesses,
                     history.notes, history.n_read, True, True)  # fmt: skip


def has_history(history: ScoreRows) -> bool:
    """Return whether the scores cover enough time to compare with later outcomes."""
    scored = history.rows["scored_at"]
    return history.is_dated and (scored.max() - scored.min()).days >= MIN_HISTORY_DAYS


def audit_content(
    files: AuditFiles,
    history: ScoreRows,
    recorded: ScoreLog,
    options: AuditOptions,
    progress: Progress,
    marks: PassMarks | None = None,
) -> Plain:
    """Return the content of the audit report.

    Parameters
    ----------
    files : AuditFiles
        The outcomes as read, and both names.
    history : ScoreRows
        Scores.
    recorded : ScoreLog
        Scores recorded by earlier audits.
    options : AuditOptions
        Options.
    progress : callable
        Receives progress messages.
    marks : PassMarks, optional
        Thresholds of the verdict.

    Raises
    ------
    DataError
        There is no outcome, or no completely observed label window.
    """
    marks = marks or PassMarks()
    outcomes = outcome_rows(files.outcomes, options, set(history.rows["entity_id"]))
    ordered = settle_direction(history, options)
    span = span_of(history, outcomes, options)
    changed = recorded.changed
    checks = history_checks(history, ordered, outcomes, span, changed)
    evidence = AuditEvidence(ordered, outcomes, span, history.components, checks)
    kinds = _kinds(outcomes, history)
    targets = {kind: evidence_of(evidence, kind, options, marks, progress) for kind in kinds}
    notes = _notes(history, ordered, outcomes, span, targets)
    return plain_content(
        {
            "kind": "audit",
            "title": "Health-score audit",
            "now": options.now.isoformat(),
            "as_of": options.now.date().isoformat(),
            "entity": "account",
            "currency": currency_of(history.rows, options) or currency_of(outcomes.rows, options),
            "guesses": [vars(item) for item in (*history.guesses, *outcomes.guesses)],
            "reading": _reading(ordered, history, span, options),
            "notes": [note.as_dict() for note in notes],
            "order": list(targets),
            "targets": targets,
            "growth_by_band": _by_band(targets),
            "limits": _limits(targets, history, options),
            "glossary": [{"word": word, "meaning": GLOSSARY[word]} for word in AUDIT_WORDS],
            "versions": {
                "files": files.names,
                "draws": options.draws,
                "seed": options.seed,
                "marks": vars(marks),
            },
        }
    )


def _kinds(outcomes: OutcomeRows, history: ScoreRows) -> list[str]:
    """Return the outcomes to report: churn first, then the others that occur."""
    known = outcomes.rows["entity_id"].isin(set(history.rows["entity_id"]))
    found = set(outcomes.rows.loc[known, "kind"])
    kinds = [kind for kind in KINDS if kind in found and kind != "kept"]
    if not kinds and found:
        raise DataError(
            "every outcome says that the account stayed, so there is nothing to predict",
            where=f"{count(len(outcomes.rows))} outcomes",
            fix='add losses or growth; map words with --kind "WORD=churn"',
        )
    if not kinds:
        raise _no_common_account(outcomes, history)
    return kinds


def _no_common_account(outcomes: OutcomeRows, history: ScoreRows) -> DataError:
    """Return the error for files without a common account."""
    ours, theirs = (set(part.rows["entity_id"].astype(str)) for part in (outcomes, history))
    fix = "set the account columns with --column scores.account=… and outcomes.account=…"
    if {name.lstrip("0") for name in ours} & {name.lstrip("0") for name in theirs}:
        fix = "leading zeros are missing in one file: export the account ids of both files as text"
    return DataError(
        "no outcome belongs to an account that has a score",
        where=f"outcomes name {listing(sorted(ours)[:3])}; "
        f"scores name {listing(sorted(theirs)[:3])}",
        fix=fix,
    )


def _notes(
    history: ScoreRows,
    ordered: ScoreDirection,
    outcomes: OutcomeRows,
    span: PanelSpan,
    targets: Mapping[str, Plain],
) -> list[Note]:
    notes = [*history.notes, *ordered.notes, *outcomes.notes, *span.notes]
    notes += _unmatched_accounts(history, outcomes)
    notes += _scores_without_outcome(history, outcomes, span)
    segments = {
        item["slice"] for part in targets.values() for item in part.get("slices", {}).get(
            "segments", [])
    }  # fmt: skip
    if len(segments) == 1:
        words = "there is only one segment, so stability between segments is not evaluated"
        notes.append(Note("one_segment", words))
    return notes


def _unmatched_accounts(history: ScoreRows, outcomes: OutcomeRows) -> list[Note]:
    events = outcomes.rows[outcomes.rows["kind"] != "kept"]
    unknown = events.loc[
        ~events["entity_id"].isin(set(history.rows["entity_id"])), "entity_id"
    ].nunique()
    if not unknown:
        return []
    words = f"{plural(unknown, 'account')} in the outcomes file without a score, not counted"
    return [Note("strangers", words, "warning")]


def _scores_without_outcome(
    history: ScoreRows, outcomes: OutcomeRows, span: PanelSpan
) -> list[Note]:
    """Return a note on accounts whose scores stop without an outcome: losses may be missing."""
    last = history.rows.groupby("entity_id")["scored_at"].max()
    gone = last[last < span.last - pd.Timedelta(days=span.stale_days)]
    churned = set(outcomes.rows.loc[outcomes.rows["kind"] == "churn", "entity_id"])
    silent = int((~gone.index.isin(churned)).sum())
    if not silent:
        return []
    severity: Any = "warning" if silent > 0.5 * max(len(churned), 1) else "info"
    words = (
        f"the scores of {plural(silent, 'account')} stop without an outcome; if they left, the "
        "outcomes file lacks these losses"
    )
    return [Note("silent_exits", words, severity)]


def _reading(
    ordered: ScoreDirection, history: ScoreRows, span: PanelSpan, options: AuditOptions
) -> Plain:
    return {
        "higher": ordered.higher,
        "source": ordered.source,
        "bands": list(ordered.bands),
        "is_probability": ordered.is_probability,
        "components": list(history.components),
        "accounts": int(history.rows["entity_id"].nunique()),
        "rows": history.n_read,
        "first": span.first,
        "last": span.last,
        "through": span.through,
        "horizon_days": options.horizon_days,
        "stale_days": span.stale_days,
    }


def _by_band(targets: Mapping[str, Plain]) -> list[Plain]:
    """Return churn and growth rates of the same bands."""
    churn, growth = targets.get("churn"), targets.get("expansion")
    if not (churn and growth and churn["is_measured"] and growth["is_measured"]):
        return []
    grown = {row["band"]: row for row in growth["bands"]["rows"]}
    shared = [row for row in churn["bands"]["rows"] if row["band"] in grown]
    if not churn["has_bands"]:
        return []
    return [{"band": row["band"], "churn": row, "expansion": grown[row["band"]]} for row in shared]


def _limits(targets: Mapping[str, Plain], history: ScoreRows, options: AuditOptions) -> list[str]:
    found = [
        "The audit shows whether the score is associated with later outcomes. It does not show "
        "causes, nor the effect of contacting an account.",
        "Accounts that were retained because of the score look like false alarms; the files do not "
        "record which accounts were contacted.",
        "The test covers the past: a new price, product or market makes it a weaker guide.",
        f"The audit tests predictions {options.horizon_days} days ahead; set --horizon for "
        "a different horizon.",
    ]
    if not history.has_recorded:
        found.append(
            "The file does not record when its rows were written, so later edits can only be "
            "inferred from statistical traces."
        )
    for name, part in targets.items():
        width = half_width(part["test"]["events"], part["test"]["base_rate"])
        if width is not None:
            found.append(
                f"{name.capitalize()}: with {plural(part['test']['events'], 'event')} an AUC of "
                f"0.75 has an uncertainty of about ± {fixed(width)}."
            )
    return found


def summary_lines(content: Mapping[str, Any]) -> list[str]:
    """Return the verdicts and column guesses as lines for a terminal."""
    lines = [
        f"{name}: {part['verdict']['word']}. {part['verdict']['sentence']}"
        for name, part in content["targets"].items()
    ]
    return [line.replace("\u00a0", " ") for line in lines]


def reading_lines(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return notes on dates and lines for a terminal."""
    words = [str(note["words"]) for note in notes if note["code"] in (DATES, LINES)]
    return [line.replace("\u00a0", " ") for line in dict.fromkeys(words)]


def guess_lines(guesses: Sequence[Any], reading: Mapping[str, Any] | None = None) -> list[str]:
    """Return the column guesses as lines for a terminal."""
    lines = [f"{item.table}: {item.meaning} is {item.column} ({item.how})" for item in guesses]
    if reading is not None:
        lines.append(f"a higher score is {reading['higher']} ({reading['source']})")
        if reading["bands"]:
            lines.append(f"bands from best to worst: {', '.join(reading['bands'])}")
        if reading["components"]:
            lines.append(f"parts of the score: {', '.join(reading['components'])}")
        lines.append(
            f"{count(reading['accounts'])} accounts, scores from {day(reading['first'])} to "
            f"{day(reading['last'])}, outcomes through {day(reading['through'])}"
        )
    return [line.replace("\u00a0", " ") for line in lines]
