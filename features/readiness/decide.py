"""Rules of readiness: pure functions of today's tables, the quality report and the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from configs.schema.company import Company, Target
from configs.schema.refresh import Refresh
from features.quality.report import QualityReport
from features.readiness.measure import TableState
from features.readiness.result import (
    LEVELS,
    Baseline,
    Finding,
    Level,
    Readiness,
    RefreshReadiness,
)
from features.tables.source_tables import TABLES

NO_RHYTHM = frozenset({"accounts", "owners", "labels", "outcomes", "rates", "milestones"})
"""Tables that arrive when something changes, so their silence means nothing."""

MIN_USUAL_ROWS = 20
"""Usual rows of a weekday from which a day with few rows is incomplete."""

MIN_NEW_ROWS = 20
"""New rows from which their share of parse failures is judged."""

PARSE_FAILURES = ("unparsable", "malformed_line", "sentinel")
UNCONVERTED = "currency_without_rate"
"""Code of the quality report: amounts in a currency without a rate."""


@dataclass(frozen=True)
class _Case:
    """Everything the rules read."""

    company: Company
    tables: Mapping[str, TableState]
    baseline: Baseline
    unconverted: Mapping[str, float]

    @property
    def settings(self) -> Refresh:
        return self.company.refresh

    @property
    def needed(self) -> frozenset[str]:
        """Tables without which nothing is scored."""
        present = {*self.tables, *self.baseline.tables}
        activity = next((n for n, s in TABLES.items() if s.activity and n in present), "accounts")
        return frozenset(self.settings.needed or ("accounts", activity))

    def finding(self, code: str, table: str, reason: str, to_do: str) -> Finding:
        """Return a finding on all targets; it blocks them when the table is needed."""
        level: Level = "not_ready" if table in self.needed else "degraded"
        return Finding(code, table, level, reason, to_do, tuple(self.company.targets))


def unconverted_shares(quality: QualityReport) -> dict[str, float]:
    """Return the share of amounts in a currency without a rate, by table."""
    return {i.table: i.share or 0.0 for i in quality.issues if i.code == UNCONVERTED}


def decide(
    company: Company,
    tables: Mapping[str, TableState],
    quality: QualityReport,
    baseline: Baseline | None,
) -> Readiness:
    """Decide whether today's data may be scored.

    Parameters
    ----------
    company : Company
        Its targets and its `refresh` settings. With a pinned clock, the data has ended and is
        always ready.
    tables : mapping of str to TableState
        Today's tables (`features.readiness.measure_tables`).
    quality : QualityReport
        Today's quality report.
    baseline : Baseline or None
        State at the last refresh that scored; without it, nothing is compared with an earlier
        refresh.

    Returns
    -------
    Readiness
        Level and findings of every target.
    """
    if company.now is not None:
        return Readiness(tuple(RefreshReadiness(n, "ready") for n in company.targets), True)
    case = _Case(company, tables, baseline or Baseline(), unconverted_shares(quality))
    found = [*_table_findings(case), *_gone(case), *_accounts_lost(case), *_without_rate(case)]
    found.sort(key=lambda item: -LEVELS.index(item.level))
    return Readiness(tuple(_of_target(name, found) for name in company.targets))


def _of_target(name: str, findings: Iterable[Finding]) -> RefreshReadiness:
    own = tuple(item for item in findings if name in item.targets)
    level: Level = max((item.level for item in own), key=LEVELS.index, default="ready")
    return RefreshReadiness(name, level, own)


def _table_findings(case: _Case) -> Iterator[Finding]:
    for name, state in case.tables.items():
        if name in case.settings.ignore:
            continue
        before = case.baseline.tables.get(name)
        if name not in NO_RHYTHM:
            yield from _late(case, name, state)
            yield from _few_rows(case, name, state)
        yield from _missing_values(case, name, state, before)
        yield from _parse_failures(case, name, state, before)
        if before is not None:
            yield from _columns_gone(case, name, state, before)


def _late(case: _Case, name: str, state: TableState) -> Iterator[Finding]:
    """Yield a table without rows for longer than its rhythm and its usual delay allow."""
    if state.silent_days is None or state.usual_gap_days is None:
        return
    allowed = case.baseline.usual_lag(name) + state.usual_gap_days - 1 + case.settings.late_days
    if state.silent_days > allowed:
        reason = (
            f"{name}: late, no rows since {state.last_day}, {state.silent_days} days ago; "
            f"usual are up to {allowed}"
        )
        fix = (
            "deliver the missing files and run the refresh again, or raise refresh.late_days in "
            "company.yaml"
        )
        yield case.finding("late", name, reason, fix)


def _few_rows(case: _Case, name: str, state: TableState) -> Iterator[Finding]:
    """Yield a table whose latest day has far fewer rows than that weekday usually has."""
    usual, share = state.usual_rows, case.settings.min_rows_share
    # An earlier day was judged when it was the latest.
    is_latest = state.silent_days == case.baseline.usual_lag(name)
    if not is_latest or usual is None or usual < MIN_USUAL_ROWS:
        return
    if state.day_rows < share * usual:
        reason = (
            f"{name}: {state.day_rows:,} rows on {state.last_day}, usual on that weekday are "
            f"{usual:,.0f}; fewer than {100 * share:.0f} % count as incomplete"
        )
        fix = "check that the delivery is complete, then run the refresh again"
        yield case.finding("few_rows", name, reason, fix)


def _missing_values(
    case: _Case, name: str, state: TableState, before: TableState | None
) -> Iterator[Finding]:
    """Yield columns whose share of missing values jumped, recently or since the last refresh."""
    pairs = [(state.missing_recent, state.missing_before, "in the latest week")]
    if before is not None:
        pairs.append((state.missing, before.missing, "in the whole table"))
    seen: set[str] = set()
    for now, then, words in pairs:
        for column, share in now.items():
            jump = share - then.get(column, share)
            if jump > case.settings.max_missing_jump and column not in seen:
                seen.add(column)
                reason = (
                    f"{name}.{column}: {100 * share:.0f} % of the values are missing {words}, "
                    f"{100 * then[column]:.0f} % before"
                )
                fix = "check the export of this column, then run the refresh again"
                yield case.finding("missing_values", name, reason, fix)


def _parse_failures(
    case: _Case, name: str, state: TableState, before: TableState | None
) -> Iterator[Finding]:
    """Yield a table with many more unreadable values among its new rows than before."""
    failed, n = _failures(state), state.rows_read
    usual = 0.0
    if before is not None and before.rows_read:
        usual = _failures(before) / before.rows_read
        if n > before.rows_read:  # rows were added; otherwise the table was delivered as a whole
            failed, n = failed - _failures(before), n - before.rows_read
    limit = case.settings.max_parse_failures
    if n >= MIN_NEW_ROWS and failed / n - usual > limit:
        worst = max(filter(_is_failure, state.set_aside), key=state.set_aside.__getitem__)
        reason = (
            f"{name}: {failed:,} of {n:,} new rows cannot be read ({worst}), {100 * usual:.0f} % "
            f"before; an increase of {100 * limit:.0f} % is allowed"
        )
        fix = "bellwether check COMPANY   lists the values and the lines of company.yaml to change"
        yield case.finding("parse_failures", name, reason, fix)


def _is_failure(code: str) -> bool:
    return code.partition(":")[0] in PARSE_FAILURES


def _failures(state: TableState) -> int:
    return sum(n for code, n in state.set_aside.items() if _is_failure(code))


def _columns_gone(
    case: _Case, name: str, state: TableState, before: TableState
) -> Iterator[Finding]:
    gone = [column for column in before.columns if column not in state.columns]
    if gone:
        reason = f"{name}: {', '.join(gone)} not delivered, present at the last refresh"
        fix = (
            "deliver the column again; if it is gone for good, train and publish a model without "
            "it: bellwether run COMPANY"
        )
        # The published model needs the features of the column.
        targets = tuple(case.company.targets)
        yield Finding("column_gone", name, "not_ready", reason, fix, targets)


def _gone(case: _Case) -> Iterator[Finding]:
    """Yield tables that had rows at the last refresh and have none now."""
    for name in case.baseline.tables:
        if name not in case.tables and name not in case.settings.ignore:
            reason = f"{name}: no rows, {case.baseline.tables[name].rows:,} at the last refresh"
            fix = "deliver the table again, then run the refresh again"
            targets = tuple(case.company.targets)
            yield Finding("table_gone", name, "not_ready", reason, fix, targets)


def _accounts_lost(case: _Case) -> Iterator[Finding]:
    now, before = case.tables.get("accounts"), case.baseline.tables.get("accounts")
    if now is None or before is None or "accounts" in case.settings.ignore:
        return
    limit = case.settings.max_accounts_lost
    if now.rows < (1 - limit) * before.rows:
        reason = (
            f"accounts: {now.rows:,} rows, {before.rows:,} at the last refresh; a loss of more "
            f"than {100 * limit:.0f} % counts as incomplete"
        )
        fix = "export all accounts, including former ones, then run the refresh again"
        yield case.finding("accounts_lost", "accounts", reason, fix)


def _without_rate(case: _Case) -> Iterator[Finding]:
    """Yield tables with more amounts in a currency without a rate than at the last refresh."""
    for name, share in case.unconverted.items():
        if name in case.settings.ignore or name not in case.baseline.tables:
            continue
        before = case.baseline.unconverted.get(name, 0.0)
        if share - before > case.settings.max_unconverted:
            reason = (
                f"{name}: {100 * share:.0f} % of the amounts are in a currency without a rate, "
                f"{100 * before:.0f} % at the last refresh"
            )
            fix = "add the currency to the rates table, then run the refresh again"
            moved, others = _by_revenue(case.company.targets, name)
            if moved:
                yield Finding(UNCONVERTED, name, "not_ready", reason, fix, moved)
            if others:
                yield Finding(UNCONVERTED, name, "degraded", reason, fix, others)


def _by_revenue(
    targets: Mapping[str, Target], table: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the targets about revenue in a table, and the others."""
    sources = {"subscriptions": "subscriptions", "invoices": "activity"}
    moved = tuple(
        name
        for name, target in targets.items()
        if target.outcome != "churn" and target.observed_in == sources.get(table)
    )
    return moved, tuple(name for name in targets if name not in moved)
