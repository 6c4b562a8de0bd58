"""Vendor starters: valid against the contract, and right on exports in the vendors' shapes."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import duckdb
import pytest

from configs.schema.starter import Starter, StarterFile, load_starters
from features.sources.files.sql_expressions import one_expression
from features.sources.proposal.draft import TableDraft
from features.sources.proposal.file_profile import plain_name
from features.sources.proposal.starters import is_overwritten_name, starter_drafts
from features.tables.source_tables import TABLES
from tests.features.sources.proposal.vendor_exports import (
    FOLDERS,
    ExpectedTable,
    expected,
    profiles,
)

ENTRIES = [(starter, entry) for starter in load_starters() for entry in starter.files]
NAMES = [f"{starter.vendor}: {entry.name}" for starter, entry in ENTRIES]
EXPECTED = [table for folder in FOLDERS for table in expected(folder).tables]
MAPPED = 0.95
"""Share of the expected columns that must be mapped as an expert would."""

each_entry = pytest.mark.parametrize(("starter", "entry"), ENTRIES, ids=NAMES)
each_table = pytest.mark.parametrize("wanted", EXPECTED, ids=[item.place for item in EXPECTED])
each_folder = pytest.mark.parametrize("folder", FOLDERS)


def _expressions(entry: StarterFile) -> list[str]:
    found = list(entry.sql.values())
    found += [link.sql for link in entry.account if link.sql]
    if entry.leave_out:
        found.append(entry.leave_out)
    found += entry.leave_out_also
    if entry.billing:
        found += entry.billing.sql.values()
    return found


@each_entry
def test_tables_and_columns_of_a_starter_are_those_of_the_contract(starter, entry):
    assert entry.table in TABLES
    known = TABLES[entry.table].columns.keys()
    named = entry.columns.keys() | entry.sql.keys()
    assert named <= known, named - known
    required = {name for name, column in TABLES[entry.table].columns.items() if column.required}
    if entry.account:
        assert "account_id" in known
        required.discard("account_id")
    assert required <= named, required - named


@each_entry
def test_the_shape_of_billing_has_what_it_needs(starter, entry):
    if entry.billing is None:
        return
    assert entry.table == "subscriptions"
    assert "arr" not in entry.columns
    has_interval = bool(entry.billing.interval) or "interval" in entry.billing.sql
    assert has_interval or (entry.billing.rows, entry.billing.amount_is) != (
        "subscription",
        "interval",
    )
    if entry.billing.rows in ("period", "invoice_line") or entry.billing.amount_is == "total":
        assert "renews_on" in entry.columns.keys() | entry.sql.keys()


@each_entry
def test_known_at_is_never_a_column_that_changes_in_place(starter, entry):
    changing = {plain_name(name) for name in entry.overwritten}
    for name in entry.known_at:
        assert plain_name(name) not in changing
        assert not is_overwritten_name(name)


@each_entry
def test_every_expression_is_one_expression_over_columns(starter, entry):
    with duckdb.connect() as connection:
        for text in _expressions(entry):
            assert one_expression(connection, text, starter.vendor)


@pytest.mark.parametrize("starter", load_starters(), ids=lambda item: item.vendor)
def test_a_starter_names_its_sources_and_each_entry_once(starter: Starter):
    assert starter.source
    assert all(re.fullmatch(r"https://\S+", link) for link in starter.source)
    names = [entry.name for entry in starter.files]
    assert len(names) == len(set(names))
    abouts = [entry.about for entry in starter.files]
    assert len(abouts) == len(set(abouts)), "`about` names the export to the user"


def test_every_export_is_on_the_page_of_recognised_exports():
    path = Path(__file__).parents[4] / "docs" / "hooks" / "vendors.py"
    spec = importlib.util.spec_from_file_location("docs_vendors", path)
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.sections()
    for starter, entry in ENTRIES:
        section = page.split(f"### {starter.vendor}\n", 1)[1].split("\n### ", 1)[0]
        assert hook._text(entry.about) in section
        assert f"[{entry.table}](" in section
    assert hook.MARK in (path.parents[1] / hook.PAGE).read_text(encoding="utf-8")


def test_every_tool_has_a_fixture():
    assert {starter.vendor for starter in load_starters()} == {item.vendor for item in EXPECTED}


def _draft(wanted: ExpectedTable) -> TableDraft:
    found = starter_drafts(profiles(wanted.folder)[wanted.file])
    assert found, "no starter knows the file"
    if not wanted.is_also:
        return found[0]
    return next(draft for draft in found if draft.is_also and draft.table == wanted.table)


def _entry_of(draft: TableDraft) -> tuple[str, str]:
    vendor, _, about = draft.origin.partition(": ")
    return next(
        (starter.vendor, entry.name)
        for starter, entry in ENTRIES
        if starter.vendor == vendor and entry.about == about
    )


@each_table
def test_a_file_is_recognised_by_exactly_one_entry(wanted):
    draft = _draft(wanted)
    assert _entry_of(draft) == (wanted.vendor, wanted.entry)
    others = [
        item
        for item in starter_drafts(draft.file)
        if item is not draft and item.is_also == wanted.is_also and item.origin != draft.origin
    ]
    assert all(item.score < draft.score for item in others)


def _is_right(draft: TableDraft, name: str, header: str) -> bool:
    choice = draft.columns.get(name)
    return choice is not None and (choice.value == header or f'"{header}"' in choice.value)


def test_starters_map_the_columns_an_expert_would(capsys):
    misses, whole = [], 0
    for wanted in EXPECTED:
        draft = _draft(wanted)
        whole += len(wanted.columns)
        misses += [
            f"{wanted.place}: {name} is {draft.columns.get(name)}, not {header}"
            for name, header in wanted.columns.items()
            if not _is_right(draft, name, header)
        ]
    share = 1 - len(misses) / whole
    with capsys.disabled():
        sys.stdout.write(f"\n{share:.1%} of {whole} columns are right")
        sys.stdout.writelines(f"\n  {miss}" for miss in misses)
    assert share >= MAPPED


@each_table
def test_expected_columns_are_columns_of_the_file(wanted):
    headers = profiles(wanted.folder)[wanted.file].columns.keys()
    named = {*wanted.columns.values(), *wanted.never_known_at}
    assert named <= headers, named - headers


@each_table
def test_columns_listed_as_overwritten_or_never_known_are_not_the_starters_known_at(wanted):
    draft = _draft(wanted)
    if draft.known_at is not None:
        assert draft.known_at.value not in {*wanted.never_known_at, *draft.overwritten}
    assert (draft.known_at and draft.known_at.value) == wanted.known_at


def _proposed(company, wanted: ExpectedTable) -> TableDraft:
    found = [
        draft
        for draft in company.proposal.drafts
        if draft.table == wanted.table and company.proposal.inputs[draft.file.name] == wanted.file
    ]
    assert found, company.proposal.unused.get(wanted.file, "mapped to another table")
    return found[0]


@each_table
def test_the_proposal_links_a_table_to_its_accounts(wanted, vendor_company):
    draft = _proposed(vendor_company(wanted.folder), wanted)
    if not wanted.account:
        return
    if draft.links:
        choice, matches, by = draft.links[0]
        assert (matches, by) == (wanted.account["matches"], wanted.account["by"])
    else:
        choice = draft.columns["account_id"]
    assert choice.value == wanted.account["column"] or (
        f'"{wanted.account["column"]}"' in choice.value
    )


@each_table
def test_the_proposal_knows_the_time_a_row_arrived(wanted, vendor_company):
    draft = _proposed(vendor_company(wanted.folder), wanted)
    found = draft.known_at and draft.known_at.value
    if wanted.known_at is not None:
        assert found == wanted.known_at
    else:
        assert found not in wanted.never_known_at


BILLED = [item for item in EXPECTED if item.billing]


@pytest.mark.parametrize("wanted", BILLED, ids=[item.place for item in BILLED])
def test_the_proposal_has_the_shape_of_billing(wanted, vendor_company):
    draft = _proposed(vendor_company(wanted.folder), wanted)
    found = {key: choice.value for key, choice in draft.billing.items()}
    assert found.keys() == wanted.billing.keys()
    for key, value in wanted.billing.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert found[key] == text or f'"{text}"' in found[key], key


@each_folder
def test_a_company_of_exports_loads_with_the_rows_and_the_arr_of_its_vendor(
    folder, vendor_company, rows
):
    loaded = vendor_company(folder).load()
    aside: dict[str, Counter[str]] = {}
    for wanted in expected(folder).tables:
        aside.setdefault(wanted.table, Counter()).update(wanted.set_aside)
    for table, reasons in aside.items():
        assert loaded.tables[table].quarantined == dict(reasons), table
    for wanted in expected(folder).tables:
        for name, values in wanted.values.items():
            _check_values(wanted, name, values, rows(loaded.tables[wanted.table].path))
    if expected(folder).arr:
        day = date.fromisoformat(str(expected(folder).arr_on))
        found = _arr(rows(loaded.tables["subscriptions"].path), day)
        assert found == pytest.approx(expected(folder).arr)


def _check_values(wanted, name, values, found):
    """Each expected value occurs, and the column holds no other kind of value."""
    present = [row[name] for row in found]
    for value in values:
        assert value in present or str(value).lower() in {str(item).lower() for item in present}


def _arr(terms: list[dict], day: date) -> dict[str, float]:
    """ARR of each account on a day, from the terms in force."""
    totals: Counter[str] = Counter()
    for row in terms:
        ends = [row[name] for name in ("ended_on", "renews_on") if row.get(name) is not None]
        if row["started_on"] <= day < min(ends, default=date.max):
            totals[row["account_id"]] += row["arr"] or 0.0
    return {account: arr for account, arr in totals.items() if arr}
