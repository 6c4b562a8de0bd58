"""Vendor starters: valid against the contract, and right on exports in the vendors' shapes."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from configs.schema.starter import Starter, StarterFile, load_starters
from features.sources.files.sql_expressions import one_expression
from features.sources.proposal.file_profile import plain_name
from features.sources.proposal.starters import is_overwritten_name
from features.tables.source_tables import TABLES
from tests.features.sources.proposal.vendor_exports import (
    ENTRIES,
    FOLDERS,
    StarterCompany,
    expected,
    mapping_of,
    recognised,
)

NAMES = [f"{starter.vendor}: {entry.name}" for starter, entry in ENTRIES]
EXPECTED = [table for folder in FOLDERS for table in expected(folder).tables]
LINKED = [item for item in EXPECTED if item.account]
BILLED = [item for item in EXPECTED if item.billing]
MAPPED = 0.95
"""Share of the expected columns that must be mapped as an expert would."""

each_entry = pytest.mark.parametrize(("starter", "entry"), ENTRIES, ids=NAMES)
each_table = pytest.mark.parametrize("wanted", EXPECTED, ids=[item.place for item in EXPECTED])
each_folder = pytest.mark.parametrize("folder", FOLDERS)


def _expressions(entry: StarterFile) -> list[str]:
    found = [*entry.sql.values(), *entry.leave_out_also]
    found += [link.sql for link in entry.account if link.sql]
    if entry.leave_out:
        found.append(entry.leave_out)
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
def test_required_columns_of_the_contract_do_not_rest_on_optional_ones(starter, entry):
    """An expression is dropped where one of its columns is not in the file."""
    certain = {plain_name(names[0]) for names in entry.required if len(names) == 1}
    for name, text in entry.sql.items():
        read = {plain_name(column) for column in re.findall(r'"([^"]+)"', text)}
        if TABLES[entry.table].columns[name].required and not read <= certain:
            assert name in entry.columns


@each_entry
def test_the_shape_of_billing_has_what_it_needs(starter, entry):
    if entry.billing is None:
        return
    assert entry.table == "subscriptions"
    assert "arr" not in entry.columns
    if entry.billing.rows == "subscription":
        assert entry.billing.interval or "interval" in entry.billing.sql
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


@each_table
def test_expected_columns_are_columns_of_the_file(wanted):
    headers = wanted.profile.columns.keys()
    named = {*wanted.columns.values(), *wanted.never_known_at}
    assert named <= headers, named - headers


@each_table
def test_a_file_is_recognised_by_exactly_one_entry(wanted):
    found = recognised(wanted.profile, is_also=wanted.is_also)
    assert found, "no starter knows the file"
    starter, entry = found[0]
    assert (starter.vendor, entry.name, entry.table) == (
        wanted.vendor,
        wanted.entry,
        wanted.table,
    )


def _reads(text: str | None, header: str) -> bool:
    return text is not None and (text == header or f'"{header}"' in text)


def test_starters_map_the_columns_an_expert_would(capsys):
    misses, whole = [], 0
    for wanted in EXPECTED:
        found = mapping_of(wanted.starter, wanted.profile)["columns"]
        whole += len(wanted.columns)
        misses += [
            f"{wanted.place}: {name} is {found.get(name)}, not {header}"
            for name, header in wanted.columns.items()
            if not _reads(found.get(name), header)
        ]
    share = 1 - len(misses) / whole
    with capsys.disabled():
        sys.stdout.write(f"\n{share:.1%} of {whole} columns are right")
        sys.stdout.writelines(f"\n  {miss}" for miss in misses)
    assert share >= MAPPED


@each_table
def test_known_at_is_the_time_a_row_arrived_and_never_one_that_changes(wanted):
    found = mapping_of(wanted.starter, wanted.profile).get("known_at")
    assert found == wanted.known_at
    if found is not None:
        assert found not in wanted.never_known_at
        assert found not in {wanted.profile.find((name,)) for name in wanted.starter.overwritten}


@pytest.mark.parametrize("wanted", BILLED, ids=[item.place for item in BILLED])
def test_the_shape_of_billing_is_the_documented_one(wanted):
    found = mapping_of(wanted.starter, wanted.profile)["billing"]
    assert found.keys() == wanted.billing.keys()
    for key, value in wanted.billing.items():
        assert found[key] == value or _reads(str(found[key]), str(value)), key


@pytest.mark.parametrize("wanted", LINKED, ids=[item.place for item in LINKED])
def test_a_table_is_linked_to_its_accounts_by_the_documented_column(wanted, tmp_path):
    link = StarterCompany(wanted.folder, tmp_path).links(wanted)[0]
    assert _reads(link["column"], wanted.account["column"])
    assert (link["matches"], link["by"]) == (wanted.account["matches"], wanted.account["by"])


@each_folder
def test_a_company_of_exports_loads_with_the_rows_and_the_arr_of_its_vendor(folder, tmp_path, rows):
    """No row is unreadable or without an account, except those expected to be set aside."""
    loaded = StarterCompany(folder, tmp_path).load()
    aside: dict[str, Counter[str]] = {}
    for wanted in expected(folder).tables:
        aside.setdefault(wanted.table, Counter()).update(wanted.set_aside)
    assert {table: loaded.tables[table].quarantined for table in aside} == {
        table: dict(reasons) for table, reasons in aside.items()
    }
    for wanted in expected(folder).tables:
        found = rows(loaded.tables[wanted.table].path)
        for name, values in wanted.values.items():
            assert {_plain(value) for value in values} <= {_plain(row[name]) for row in found}
    if expected(folder).arr:
        day = date.fromisoformat(str(expected(folder).arr_on))
        found = _arr(rows(loaded.tables["subscriptions"].path), day)
        assert found == pytest.approx(expected(folder).arr)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _arr(terms: list[dict[str, Any]], day: date) -> dict[str, float]:
    """ARR of each account on a day, from the terms in force."""
    totals: Counter[str] = Counter()
    for row in terms:
        ends = [row[name] for name in ("ended_on", "renews_on") if row.get(name) is not None]
        if row["started_on"] <= day < min(ends, default=date.max):
            totals[row["account_id"]] += row["arr"] or 0.0
    return {account: arr for account, arr in totals.items() if arr}
