"""Graded data-quality report: every issue with its size and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.state_directory import write_json_atomically
from configs.schema.workspace import Workspace
from features.quality import (
    file_reading,
    modelling_hazards,
    relations,
    revenue_records,
    rows,
    times,
)
from features.quality.changes import checks
from features.quality.codes import CODES
from features.quality.context import QualityContext, naive_utc
from features.quality.history.account_ids import account_issues, keep_accounts
from features.quality.history.compare import drift_issues
from features.quality.history.profile import table_profiles
from features.quality.history.store import (
    keep_load,
    load_of,
    newest_profiles,
    profiles_before,
    read_history,
)
from features.quality.readiness import TargetReadiness, readiness
from features.quality.report import Issue, QualityReport, worst_first
from features.quality.understanding import Understanding, read_ledger, understand
from features.revenue.retention import product_movements
from features.sources import Loaded
from features.sources.files.sql import open_duckdb, text_list

__all__ = [
    "CODES",
    "Issue",
    "QualityReport",
    "TargetReadiness",
    "Understanding",
    "check_and_keep",
    "check_quality",
    "company_revenue",
    "read_history",
    "readiness",
]

CHECKS: tuple[Callable[[QualityContext], Iterator[Issue]], ...] = (
    rows.row_issues,
    rows.excluded_account_issues,
    file_reading.line_issues,
    file_reading.file_issues,
    file_reading.mark_issues,
    file_reading.sql_issues,
    file_reading.repeated_issues,
    file_reading.label_day_issues,
    modelling_hazards.missing_issues,
    modelling_hazards.copy_issues,
    modelling_hazards.clock_issues,
    times.visibility_issues,
    times.writing_issues,
    times.arrival_issues,
    times.stale_issues,
    times.gap_issues,
    checks.outage_issues,
    checks.partition_issues,
    checks.category_issues,
    checks.unit_issues,
    checks.time_issues,
    checks.filling_issues,
    checks.delivery_issues,
    checks.identity_issues,
    relations.family_issues,
    relations.currency_issues,
    relations.term_issues,
    relations.account_issues,
    relations.test_account_issues,
    relations.contradiction_issues,
    relations.presence_issues,
    relations.guess_issues,
    revenue_records.amount_issues,
    revenue_records.term_coverage_issues,
    revenue_records.unfolded_issues,
    revenue_records.rhythm_issues,
    revenue_records.uncounted_issues,
    relations.capacity_issues,
)


@contextmanager
def _open_context(workspace: Workspace, loaded: Loaded, now: datetime) -> Iterator[QualityContext]:
    clock = naive_utc(now)
    files = [path for info in loaded.tables.values() for path in info.files]
    with open_duckdb(files=files) as connection:
        for name, info in loaded.tables.items():
            connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_parquet({text_list(info.files)}) "
                f"WHERE known_at <= TIMESTAMP '{clock}'"
            )
        yield QualityContext(connection, workspace, loaded, clock)


def company_revenue(
    workspace: Workspace, loaded: Loaded, now: datetime
) -> tuple[Understanding, pd.DataFrame]:
    """Return the data summary of a company and every movement of its ARR.

    The frame has the columns of `features.revenue.retention.MOVEMENT_COLUMNS`.

    Raises
    ------
    DataError
        There is no recurring revenue.
    """
    with _open_context(workspace, loaded, now) as context:
        ledger = read_ledger(context)
        if isinstance(ledger, str):
            raise DataError(
                f"no recurring revenue: {ledger}",
                where="tables.subscriptions",
                fix="map subscriptions with started_on, ended_on and arr",
            )
        currency = workspace.company.reporting_currency
        rows = product_movements(ledger.terms, ledger.today, currency)
        return understand(context, ledger), rows


def check_quality(workspace: Workspace, loaded: Loaded, now: datetime) -> QualityReport:
    """Grade the loaded tables and list every issue.

    Parameters
    ----------
    workspace : Workspace
        The company.
    loaded : Loaded
        Its canonical tables (`features.sources.load_sources`).
    now : datetime
        The clock, UTC; rows known later are only counted.

    Returns
    -------
    QualityReport
        Issues worst first, and the grade of the worst: A to F.
    """
    history = read_history(workspace.state)
    with _open_context(workspace, loaded, now) as context:
        issues = [issue for check in CHECKS for issue in check(context)]
        ledger = read_ledger(context)
        issues += revenue_records.ledger_issues(context, ledger)
        understood = understand(context, ledger)
        profiles = table_profiles(context, newest_profiles(history))
        identities = {name: info.identity for name, info in loaded.tables.items()}
        issues += drift_issues(context, profiles_before(history, identities), profiles)
        issues += account_issues(context)
    return QualityReport(
        company=workspace.company.title or workspace.company.name,
        now=now.isoformat(),
        issues=worst_first(issues),
        tables=loaded.tables,
        gaps=loaded.gaps,
        understood=understood,
        targets=tuple(workspace.company.targets),
        profiles=profiles,
    )


def check_and_keep(workspace: Workspace, loaded: Loaded, now: datetime) -> QualityReport:
    """Check the quality and keep it; the caller holds the state directory's lock.

    The report goes to ``quality/latest.json`` and its short form to the history.

    Parameters and result are those of `check_quality`.
    """
    report = check_quality(workspace, loaded, now)
    with _open_context(workspace, loaded, now) as context:
        keep_accounts(context)
    statuses = {item.target: item.status for item in readiness(report)}
    keep_load(workspace.state, load_of(report, statuses))
    write_json_atomically(workspace.state.quality_report, report.as_dict())
    return report
