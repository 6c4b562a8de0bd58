"""Every fault injected into the simulated company is found with its table, rows and accounts."""

from __future__ import annotations

import duckdb
import pytest

from features.quality.changes.codes import CHANGE_CODES
from features.simulator import simulate
from tests.features.quality import injection
from tests.features.quality.injection import FAULTS, SimulatedCompany

CHANGES = {"partial_outage", *CHANGE_CODES}
"""Codes of changes within the history of a table; the clean company has none of them."""

BASIS = ("accounts", "subscriptions")


@pytest.fixture(scope="module")
def world():
    return simulate(7, 150, 14, with_errors=False)


def changed(report):
    """Return the issues of changes that a report has."""
    return [item for item in report.issues if item.code in CHANGES]


def relevant(world, fault):
    """Return the tables that a fault concerns."""
    names = {*BASIS, fault.table}
    names |= {name for name, frame in fault.tables.items() if frame is not world.tables[name]}
    if not names & {"usage_events", "support_tickets", "invoices"}:
        names.add("invoices")
    return {name: frame for name, frame in fault.tables.items() if name in names}


@pytest.mark.parametrize("inject", FAULTS, ids=lambda item: item.__name__)
def test_a_fault_is_found_with_its_rows(world, tmp_path, inject):
    fault = inject(world)
    company = SimulatedCompany(world, tmp_path)
    report = company.report(relevant(world, fault))
    found = [i for i in report.issues if (i.code, i.table) == (fault.code, fault.table)]
    assert found, [(i.code, i.table, i.detail) for i in report.issues]
    issue = max(found, key=lambda item: item.rows)
    assert all(words in issue.detail for words in fault.words), issue.detail
    if fault.rows is not None:
        assert issue.rows == pytest.approx(fault.rows, rel=0.02)
    if fault.accounts:
        assert set(issue.accounts) <= fault.accounts
        assert len(issue.accounts) >= (fault.least or len(fault.accounts))
    others = {i.code for i in changed(report)} - {fault.code}
    assert not others, [(i.code, i.table, i.detail) for i in changed(report)]


@pytest.mark.parametrize(
    "inject",
    [injection.renamed_feature, injection.seconds_for_minutes, injection.bulk_reload],
    ids=lambda item: item.__name__,
)
def test_the_condition_of_an_issue_selects_its_rows(world, tmp_path, inject):
    fault = inject(world)
    report = SimulatedCompany(world, tmp_path).report(relevant(world, fault))
    issue = next(i for i in report.issues if i.code == fault.code)
    path = report.tables[fault.table].path
    with duckdb.connect() as connection:
        row = connection.execute(
            f"SELECT count(*) FROM read_parquet('{path}') WHERE {issue.rows_where}"
        ).fetchone()
    assert row == (issue.rows,)


def test_half_of_the_accounts_really_falling_is_no_outage(world, tmp_path):
    tables = injection.falling_half(world)
    kept = {name: tables[name] for name in (*BASIS, "usage_events")}
    report = SimulatedCompany(world, tmp_path).report(kept)
    assert not changed(report), [(i.code, i.detail) for i in changed(report)]


def test_a_fast_fall_is_no_outage(world, tmp_path):
    tables = injection.falling_half(world, days=7, left=0.05)
    kept = {name: tables[name] for name in (*BASIS, "usage_events")}
    report = SimulatedCompany(world, tmp_path).report(kept)
    assert not changed(report), [(i.code, i.detail) for i in changed(report)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_company_without_a_fault_has_no_such_issue(seed, tmp_path):
    clean = simulate(seed, 150, 14, with_errors=False)
    found = changed(SimulatedCompany(clean, tmp_path).report())
    assert not found, [(i.code, i.table, i.detail) for i in found]


def test_usual_errors_of_exports_are_no_such_issue(tmp_path):
    found = changed(SimulatedCompany(simulate(3, 150, 14), tmp_path).report())
    assert not found, [(i.code, i.table, i.detail) for i in found]


def test_every_code_of_a_change_has_a_fault(world):
    assert {inject(world).code for inject in FAULTS} == {*CHANGES, "delivered_again"}
