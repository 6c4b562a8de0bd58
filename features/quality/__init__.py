"""What the data is worth: a graded report that names every issue, its size and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import duckdb

from configs.places import Workspace
from features.quality import relations, rows, sound, times
from features.quality.codes import CODES
from features.quality.context import Context, naive_utc
from features.quality.report import Issue, QualityReport, worst_first
from features.sources import Loaded
from features.sources.sql import literal

__all__ = ["CODES", "Issue", "QualityReport", "check_quality"]

CHECKS: tuple[Callable[[Context], Iterator[Issue]], ...] = (
    rows.row_issues,
    sound.missing_issues,
    sound.copy_issues,
    sound.clock_issues,
    times.visibility_issues,
    times.writing_issues,
    times.arrival_issues,
    times.stale_issues,
    times.gap_issues,
    relations.currency_issues,
    relations.term_issues,
    relations.account_issues,
    relations.test_account_issues,
    relations.contradiction_issues,
    relations.presence_issues,
)

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
    "known_basis",
    "history",
    "inputs",
)


def check_quality(workspace: Workspace, loaded: Loaded, now: datetime) -> QualityReport:
    """Grade the loaded tables and name every issue.

    Parameters
    ----------
    workspace : Workspace
        The company.
    loaded : Loaded
        Its canonical tables (`features.sources.load_sources`).
    now : datetime
        The clock, UTC; rows known later are counted and otherwise ignored.

    Returns
    -------
    QualityReport
        Issues worst first, and the grade of the worst: A to F.
    """
    clock = naive_utc(now)
    with duckdb.connect() as connection:
        for name, info in loaded.tables.items():
            connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_parquet({literal(info.path)}) "
                f"WHERE known_at <= TIMESTAMP '{clock}'"
            )
        context = Context(connection, workspace, loaded, clock)
        issues = [issue for check in CHECKS for issue in check(context)]
    return QualityReport(
        company=workspace.company.title or workspace.company.name,
        now=now.isoformat(),
        issues=worst_first(issues),
        tables={
            name: {**{fact: getattr(info, fact) for fact in FACTS}, "columns": list(info.columns)}
            for name, info in loaded.tables.items()
        },
        gaps=loaded.gaps,
    )
