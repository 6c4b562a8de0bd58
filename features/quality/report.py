"""Quality report: issues, grade, JSON and terminal view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from features.quality.codes import CODES, Severity
from features.quality.readiness import Status, readiness
from features.quality.table_values import CAVEAT, value_words

if TYPE_CHECKING:
    from features.quality.history.profile import TableProfile
    from features.quality.understanding import Understanding
    from features.sources import TableInfo

GRADES = "ABCDF"
WARNING_STEPS = (0.01, 0.10)
ERROR_STEPS = (0.01, 0.05, 0.25)
ORDER: tuple[Severity, ...] = ("error", "warning", "info")
STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}


@dataclass(frozen=True)
class Issue:
    """One issue.

    Attributes
    ----------
    code : str
        A key of `features.quality.codes.CODES`.
    table : str
        The table concerned, empty when several are.
    rows : int
        Affected rows, accounts or days, as stated in the detail.
    share : float or None
        Share of the total, 0 to 1; None without a total.
    detail : str
        Counts and examples as text.
    affects : tuple of str
        Predictions that depend on the table.
    advice : str
        Specific remedy; empty where that of the code applies.
    accounts : tuple of str
        Accounts concerned, where the issue is about accounts.
    rows_where : str
        SQL condition on the canonical table for the rows concerned; empty where there is none.
    """

    code: str
    table: str
    rows: int
    share: float | None
    detail: str
    affects: tuple[str, ...]
    advice: str = ""
    accounts: tuple[str, ...] = ()
    rows_where: str = ""

    @property
    def to_do(self) -> str:
        """Remedy of the issue."""
        return self.advice or CODES[self.code].to_do

    @property
    def severity(self) -> Severity:
        """Error, warning or info."""
        return CODES[self.code].severity

    @property
    def grade(self) -> str:
        """Best possible grade of data with this issue.

        An info has no effect. A warning gives A below 1 %, B below 10 %, else C; an error B below
        1 %, C below 5 %, D below 25 %, else F. Without a share a warning gives B, an error D.
        """
        if self.severity == "info":
            return "A"
        steps, best = (WARNING_STEPS, 0) if self.severity == "warning" else (ERROR_STEPS, 1)
        if self.share is None:
            return "B" if self.severity == "warning" else "D"
        return GRADES[best + sum(self.share >= step for step in steps)]

    def as_dict(self) -> dict[str, Any]:
        """Return the issue with title and remedy as plain JSON values."""
        code = CODES[self.code]
        own = {key: value for key, value in asdict(self).items() if key != "advice"}
        return {
            **own,
            "affects": list(self.affects),
            "accounts": list(self.accounts),
            "severity": self.severity,
            "grade": self.grade,
            "title": code.title,
            "to_do": self.to_do,
        }


STATUS_STYLES: dict[Status, str] = {
    "ready": "green",
    "degraded": "yellow",
    "not_ready": "bold red",
}
SHOWN_REASONS = 3
"""Maximum number of reasons printed per target."""

FACTS = (
    "rows_read",
    "rows",
    "rows_quarantined",
    "rows_duplicate",
    "rows_after_now",
    "quarantined",
    "noted",
    "first_happened",
    "last_happened",
    "last_known",
    "known_basis",
    "history",
    "inputs",
)


def table_facts(info: TableInfo) -> dict[str, Any]:
    """Return the facts of a table as plain JSON values."""
    facts = {fact: getattr(info, fact) for fact in FACTS}
    return {**facts, "columns": list(info.columns), "read": info.read}


@dataclass(frozen=True)
class QualityReport:
    """Grade, issues and summary of the data.

    Attributes
    ----------
    company : str
        Name of the company.
    now : str
        The clock, ISO, UTC.
    issues : tuple of Issue
        Worst first.
    tables : dict
        Loaded tables by name.
    gaps : dict of str to str
        Missing tables and the effect of their absence.
    understood : Understanding or None
        Summary of the data.
    targets : tuple of str
        Names of the targets.
    profiles : dict of str to TableProfile
        Profile of each table, for the history.
    """

    company: str
    now: str
    issues: tuple[Issue, ...]
    tables: Mapping[str, TableInfo]
    gaps: Mapping[str, str]
    understood: Understanding | None = None
    targets: tuple[str, ...] = ()
    profiles: Mapping[str, TableProfile] = field(default_factory=dict)

    @property
    def grade(self) -> str:
        """Grade of the worst issue, A to F."""
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
            "tables": {name: table_facts(info) for name, info in self.tables.items()},
            "gaps": dict(self.gaps),
            "readiness": [item.as_dict() for item in readiness(self)],
            "gap_values": {name: words for name in self.gaps if (words := value_words(name))},
        }

    def render(self, console: Console) -> None:
        """Print the summary, tables, issues and missing tables."""
        if self.understood:
            self.understood.render(console)
        console.print(Text(f"Data quality of {self.company}: grade {self.grade}", style="bold"))
        console.print(self._tables_view())
        if self.issues:
            console.print(self._issues_view())
        else:
            console.print("No issues.")
        for item in readiness(self):
            console.print(Text(item.words, style=STATUS_STYLES[item.status]))
            for reason in item.reasons[:SHOWN_REASONS]:
                where = f"{reason.table}: " if reason.table else ""
                console.print(Text(f"  {where}{reason.words}"))
                console.print(Text(f"    {reason.to_do}", style="dim"))
            more = len(item.reasons) - SHOWN_REASONS
            if more > 0:
                console.print(Text(f"  {more:,} more, in the list of issues", style="dim"))
        self._render_gaps(console)

    def _render_gaps(self, console: Console) -> None:
        values = {name: value_words(name) for name in self.gaps}
        for name, text in self.gaps.items():
            added = f"; {values[name]}" if values[name] else ""
            console.print(Text.assemble(("no ", "dim"), name, (f": {text}{added}", "dim")))
        if any(values.values()):
            console.print(Text(f"AUC: {CAVEAT}", style="dim"))

    def _tables_view(self) -> Table:
        view = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
        view.add_column("table", overflow="fold")
        for heading in ("read", "kept", "aside", "copies"):
            view.add_column(heading, justify="right", no_wrap=True)
        for heading in ("first", "last", "known by"):
            view.add_column(heading, no_wrap=True)
        for name, info in self.tables.items():
            counts = (info.rows_read, info.rows, info.rows_quarantined, info.rows_duplicate)
            view.add_row(
                name,
                *(f"{count:,}" for count in counts),
                *((day or "")[:10] for day in (info.first_happened, info.last_happened)),
                "known_at" if info.known_basis == "column" else "its date",
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
