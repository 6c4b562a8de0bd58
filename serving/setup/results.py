"""Results of the commands that the pages start: checks, and audits of a health score."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.setup.children import ChildState

if TYPE_CHECKING:
    from features.quality.understanding import Understanding

AUDIT_HTML, AUDIT_JSON = "audit.html", "audit.json"

_GUESS = re.compile(r"(scores|outcomes): (.+?) is (.+) \((.+)\)")
_FAILURE = re.compile(r"^(?:error|unexpected error):\s*", re.MULTILINE)


@dataclass(frozen=True)
class QualityIssue:
    """One issue of the data, as `features.quality.report.Issue` states it."""

    severity: str
    table: str
    title: str
    detail: str
    to_do: str


@dataclass(frozen=True)
class TableRows:
    """Rows of one source table: read, kept, set aside, duplicate; first and last day."""

    table: str
    read: int
    kept: int
    aside: int
    copies: int
    first: str
    last: str
    is_known: bool


@dataclass(frozen=True)
class CheckResult:
    """Result of ``bellwether check``.

    Attributes
    ----------
    grade : str
        A to F.
    understood : Understanding or None
        Key figures.
    issues : tuple of QualityIssue
        Worst first.
    tables : tuple of TableRows
        Source tables.
    gaps : mapping of str to str
        Missing tables and the effect of their absence.
    """

    grade: str
    understood: Understanding | None
    issues: tuple[QualityIssue, ...]
    tables: tuple[TableRows, ...]
    gaps: Mapping[str, str]


def read_check(output: Path) -> CheckResult | None:
    """Return the result that a finished check has printed; None where it is incomplete."""
    try:
        found = json.loads(output.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(found, dict) or "grade" not in found:
        return None  # a company with a ready-made table prints another report
    return CheckResult(
        found["grade"],
        _understood(found["understood"]),
        tuple(
            QualityIssue(
                item["severity"], item["table"], item["title"], item["detail"], item["to_do"]
            )
            for item in found["issues"]
        ),
        tuple(
            TableRows(
                name,
                item["rows_read"],
                item["rows"],
                item["rows_quarantined"],
                item["rows_duplicate"],
                (item["first_happened"] or "")[:10],
                (item["last_happened"] or "")[:10],
                item["known_basis"] == "column",
            )
            for name, item in found["tables"].items()
        ),
        found["gaps"],
    )


def _understood(found: dict[str, Any] | None) -> Understanding | None:
    from features.quality.understanding import Quarter, Understanding

    if found is None:
        return None
    quarters = tuple(Quarter(**item) for item in found["quarters"])
    so_far = Quarter(**found["so_far"]) if found["so_far"] else None
    return Understanding(**{**found, "quarters": quarters, "so_far": so_far})


@dataclass(frozen=True)
class GuessedColumn:
    """A column that the audit guessed: file, meaning, column, and how."""

    table: str
    meaning: str
    column: str
    how: str


@dataclass(frozen=True)
class AuditVerdict:
    """Verdict of an audit for one outcome: in one word, and in one sentence."""

    outcome: str
    word: str
    sentence: str


@dataclass(frozen=True)
class AuditPage:
    """Result of an audit.

    Attributes
    ----------
    verdicts : tuple of AuditVerdict
        Empty while the history is too short.
    guesses : tuple of GuessedColumn
        Columns that were guessed.
    lines : tuple of str
        Everything else that the audit states.
    has_report : bool
        There is a full report.
    """

    verdicts: tuple[AuditVerdict, ...]
    guesses: tuple[GuessedColumn, ...]
    lines: tuple[str, ...]
    has_report: bool


def read_audit(folder: Path, state: ChildState) -> AuditPage:
    """Return the result of a finished audit.

    Parameters
    ----------
    folder : Path
        Its output folder.
    state : ChildState
        The command.
    """
    content = _content(folder / AUDIT_JSON) if state.status == "done" else None
    printed = [line for line in state.rest.splitlines() if line.strip()]
    if content is None:  # no verdict yet: the columns are in the output only
        found = [(_GUESS.fullmatch(line), line) for line in printed]
        guesses = tuple(GuessedColumn(*match.groups()) for match, _ in found if match)
        return AuditPage((), guesses, tuple(line for match, line in found if not match), False)
    targets = content["targets"]
    verdicts = tuple(
        AuditVerdict(name, targets[name]["verdict"]["word"], targets[name]["verdict"]["sentence"])
        for name in content["order"]
    )
    guesses = tuple(
        GuessedColumn(item["table"], item["meaning"], item["column"], item["how"])
        for item in content["guesses"]
    )
    said = tuple(item.sentence for item in verdicts)
    lines = (
        line
        for line in printed
        if not _GUESS.fullmatch(line) and not line.startswith("wrote ") and not line.endswith(said)
    )
    return AuditPage(verdicts, guesses, tuple(lines), (folder / AUDIT_HTML).is_file())


def _content(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


@dataclass(frozen=True)
class FailureText:
    """An error of a command: the problem, the place, and what to do."""

    what: str
    where: str = ""
    fix: str = ""


def failure_of(state: ChildState) -> FailureText:
    r"""Return the error that a command has printed.

    >>> text = "error: no rows\n  where: a.csv\n  to do: export it again"
    >>> failure_of(ChildState("failed", 3, errors=text))
    FailureText(what='no rows', where='a.csv', fix='export it again')
    """
    found = list(_FAILURE.finditer(state.errors))
    if not found:
        last = state.errors.strip().splitlines()[-1:] or [state.words]
        return FailureText(last[0])
    text = state.errors[found[-1].end() :]
    parts = re.split(r"^  (where|to do): ", text, flags=re.MULTILINE)
    named = dict(zip(parts[1::2], parts[2::2], strict=False))
    return FailureText(
        parts[0].strip(), named.get("where", "").strip(), named.get("to do", "").strip()
    )
