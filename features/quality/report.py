"""The quality report: issues, a grade, JSON, and the terminal view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from features.quality.codes import CODES, Severity

if TYPE_CHECKING:
    from features.quality.understanding import Understanding

GRADES = "ABCDF"
WARNING_STEPS = (0.01, 0.10)
ERROR_STEPS = (0.01, 0.05, 0.25)
ORDER: tuple[Severity, ...] = ("error", "warning", "info")
STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}


@dataclass(frozen=True)
class Issue:
    """One finding.

    Attributes
    ----------
    code : str
        A key of `features.quality.codes.CODES`.
    table : str
        The table concerned, empty when several are.
    rows : int
        Rows (or accounts, or days: the detail says which) concerned.
    share : float or None
        Of all of them, 0 to 1; None when there is no whole to compare with.
    detail : str
        The numbers in words.
    affects : tuple of str
        The predictions that rest on it.
    advice : str
        What to do about this one; empty where the code's own advice says it.
    """

    code: str
    table: str
    rows: int
    share: float | None
    detail: str
    affects: tuple[str, ...]
    advice: str = ""

    @property
    def to_do(self) -> str:
        """What to do about it."""
        return self.advice or CODES[self.code].to_do

    @property
    def severity(self) -> Severity:
        """Error, warning or info."""
        return CODES[self.code].severity

    @property
    def grade(self) -> str:
        """The best grade data with this issue can have.

        An info costs nothing. A warning gives A below 1 %, B below 10 %, else C; an error B below
        1 %, C below 5 %, D below 25 %, else F. Without a share a warning gives B, an error D.
        """
        if self.severity == "info":
            return "A"
        steps, best = (WARNING_STEPS, 0) if self.severity == "warning" else (ERROR_STEPS, 1)
        if self.share is None:
            return "B" if self.severity == "warning" else "D"
        return GRADES[best + sum(self.share >= step for step in steps)]

    def as_dict(self) -> dict[str, Any]:
        """Return everything a reader needs, title and advice included."""
        code = CODES[self.code]
        own = {key: value for key, value in asdict(self).items() if key != "advice"}
        return {
            **own,
            "affects": list(self.affects),
            "severity": self.severity,
            "grade": self.grade,
            "title": code.title,
            "to_do": self.to_do,
        }


@dataclass(frozen=True)
class QualityReport:
    """What the data is worth.

    Attributes
    ----------
    company : str
        Name of the company.
    now : str
        The clock, ISO, UTC.
    issues : tuple of Issue
        Worst first.
    tables : dict
        Table → rows read, kept, set aside, copies, columns, span, basis of ``known_at``.
    gaps : dict of str to str
        Absent tables and what their absence removes.
    understood : Understood or None
        The company in numbers.
    """

    company: str
    now: str
    issues: tuple[Issue, ...]
    tables: Mapping[str, Mapping[str, Any]]
    gaps: Mapping[str, str]
    understood: Understanding | None = None

    @property
    def grade(self) -> str:
        """The grade of the worst issue, A to F."""
        return max((issue.grade for issue in self.issues), default="A")

    def with_issue(self, issue: Issue) -> QualityReport:
        """Return the report with one more issue."""
        return replace(self, issues=worst_first([*self.issues, issue]))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "company": self.company,
            "now": self.now,
            "grade": self.grade,
            "understood": self.understood.as_dict() if self.understood else None,
            "issues": [issue.as_dict() for issue in self.issues],
            "tables": {name: dict(facts) for name, facts in self.tables.items()},
            "gaps": dict(self.gaps),
        }

    def render(self, console: Console) -> None:
        """Print what was understood, then tables, issues and gaps."""
        if self.understood:
            self.understood.render(console)
        console.print(Text(f"Data quality of {self.company}: grade {self.grade}", style="bold"))
        console.print(self._tables_view())
        if self.issues:
            console.print(self._issues_view())
        else:
            console.print("No issues.")
        for name, text in self.gaps.items():
            console.print(Text.assemble(("no ", "dim"), name, (f": {text}", "dim")))

    def _tables_view(self) -> Table:
        view = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
        view.add_column("table", overflow="fold")
        for heading in ("read", "kept", "aside", "copies"):
            view.add_column(heading, justify="right", no_wrap=True)
        for heading in ("first", "last", "known by"):
            view.add_column(heading, no_wrap=True)
        for name, facts in self.tables.items():
            counts = ("rows_read", "rows", "rows_quarantined", "rows_duplicate")
            view.add_row(
                name,
                *(f"{facts[count]:,}" for count in counts),
                *((facts[day] or "")[:10] for day in ("first_happened", "last_happened")),
                "known_at" if facts["known_basis"] == "column" else "its date",
            )
        return view

    def _issues_view(self) -> Table:
        view = Table(box=None, header_style="dim", pad_edge=False, show_lines=False)
        for heading in ("", "table", "what", "to do"):
            view.add_column(heading, overflow="fold")
        for issue in self.issues:
            code = CODES[issue.code]
            view.add_row(
                Text(issue.severity, style=STYLES[issue.severity]),
                issue.table,
                Text(f"{code.title}: {issue.detail}"),
                Text(issue.to_do, style="dim"),
            )
        return view


def worst_first(issues: list[Issue]) -> tuple[Issue, ...]:
    """Order issues by grade, severity and share."""
    return tuple(
        sorted(
            issues,
            key=lambda i: (
                -ord(i.grade),
                ORDER.index(i.severity),
                -(i.share or 0),
                i.code,
                i.table,
            ),
        )
    )
