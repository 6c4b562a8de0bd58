"""Issues between two loads, and the history of quality that is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.errors import StateError
from features.quality import check_and_keep, read_history
from features.quality.history.codes import DRIFT_CODES
from features.quality.history.store import MAX_PROFILES, history_path
from features.simulator import simulate
from features.sources import load_sources
from features.tables.source_tables import TABLES
from tests.features.quality.injection import SimulatedCompany, day_of, text

LOADED = ("accounts", "subscriptions", "contacts", "owners", "support_tickets", "invoices")


@pytest.fixture(scope="module")
def world():
    return simulate(7, 80, 10, with_errors=False)


@pytest.fixture
def company(world, tmp_path):
    return TwoLoads(world, tmp_path)


class TwoLoads(SimulatedCompany):
    """A company that is loaded twice, the second time with a fault."""

    def load(self, tables, raw=None):
        workspace = self.workspace(tables)
        for name, table in (raw or {}).items():
            pq.write_table(table, workspace.data / f"{name}.parquet")
        loaded = load_sources(workspace, self.world.now)
        return check_and_keep(workspace, loaded, self.world.now)

    def drift(self, after, raw=None):
        before = {name: self.world.tables[name] for name in LOADED}
        first = self.load(before)
        assert not DRIFT_CODES.keys() & {item.code for item in first.issues}
        report = self.load({**before, **after}, raw)
        return {(i.code, i.table): i for i in report.issues if i.code in DRIFT_CODES}


def test_a_smaller_table_of_contacts(company, world):
    contacts = world.tables["contacts"]
    found = company.drift({"contacts": contacts.iloc[: len(contacts) // 3]})
    issue = found["table_shrank", "contacts"]
    assert issue.rows == len(contacts) - len(contacts) // 3
    assert set(found) == {("table_shrank", "contacts")}


def test_a_smaller_table_of_owners(company, world):
    owners = pd.concat([world.tables["owners"]] * 10).reset_index(drop=True)
    owners["owner_id"] = [f"csm-{n:02d}" for n in range(1, len(owners) + 1)]
    before = {name: world.tables[name] for name in LOADED} | {"owners": owners}
    company.load(before)
    report = company.load({**before, "owners": owners.iloc[: len(owners) // 2]})
    issue = next(i for i in report.issues if i.code == "table_shrank")
    assert (issue.table, issue.rows) == ("owners", len(owners) // 2)


def test_a_column_that_disappears_and_one_that_appears(company, world):
    invoices = world.tables["invoices"].drop(columns="due_on")
    found = company.drift({"invoices": invoices.assign(status="paid")})
    assert found["column_gone", "invoices"].detail.startswith("due_on")
    assert found["column_new", "invoices"].detail == "status"


def test_a_type_that_changes(company, world):
    invoices = world.tables["invoices"]
    columns = {name: pa.Array.from_pandas(invoices[name]) for name in invoices}
    columns["amount"] = pa.array([f"{value:.2f}" for value in invoices["amount"]])
    columns |= {
        name: columns[name].cast(pa.date32()) for name in ("issued_on", "due_on", "paid_on")
    }
    found = company.drift({}, raw={"invoices": pa.table(columns)})
    assert found["type_changed", "invoices"].detail == (
        "amount: DOUBLE at the load before, VARCHAR now"
    )


def test_a_unit_that_changes_in_all_rows(company, world):
    invoices = world.tables["invoices"]
    found = company.drift({"invoices": invoices.assign(amount=100 * invoices["amount"])})
    assert found["values_moved", "invoices"].rows == len(invoices)


def test_a_column_that_loses_half_of_its_values(company, world):
    tickets = world.tables["support_tickets"]
    lost = np.random.default_rng(0).random(len(tickets)) < 0.5
    found = company.drift(
        {"support_tickets": tickets.assign(category=text(tickets["category"]).mask(lost, None))}
    )
    assert found["more_missing", "support_tickets"].rows == pytest.approx(lost.sum(), rel=0.02)


def test_values_that_are_renamed_in_all_rows(company, world):
    tickets = world.tables["support_tickets"]
    category = text(tickets["category"]).replace("bug", "defect")
    found = company.drift({"support_tickets": tickets.assign(category=category)})
    issue = found["values_replaced", "support_tickets"]
    assert issue.rows == (category == "defect").sum()
    assert "bug" in issue.detail
    assert "defect" in issue.detail


def test_past_months_that_are_rewritten(company, world):
    tickets = world.tables["support_tickets"]
    opened = tickets["opened_at"]
    old = (opened >= day_of(world, 200)) & (opened < day_of(world, 120))
    recent = tickets[opened >= day_of(world, 20)]
    again = pd.concat([recent] * 20).assign(ticket_id=[f"N-{n}" for n in range(20 * len(recent))])
    found = company.drift({"support_tickets": pd.concat([tickets[~old], again])})
    assert found["history_rewritten", "support_tickets"].rows == pytest.approx(old.sum(), rel=0.1)


def test_a_table_that_is_gone(company, world):
    before = {name: world.tables[name] for name in LOADED}
    company.load(before)
    report = company.load({name: frame for name, frame in before.items() if name != "contacts"})
    issue = next(i for i in report.issues if i.code == "table_gone")
    assert (issue.table, issue.rows) == ("contacts", len(world.tables["contacts"]))


def test_renamed_accounts(company, world):
    accounts = world.tables["accounts"]
    names = accounts["name"].where(accounts.index >= 3, "Renamed " + accounts["account_id"])
    issue = company.drift({"accounts": accounts.assign(name=names)})["accounts_renamed", "accounts"]
    assert set(issue.accounts) == set(accounts["account_id"][:3])


def test_accounts_under_other_ids(company, world):
    accounts = world.tables["accounts"]
    last = accounts["account_id"].iloc[-4:]
    free = accounts[~accounts["account_id"].isin(accounts["parent_account_id"])].index[-4:]
    ids = accounts["account_id"].copy()
    ids.loc[free] = "X-" + ids.loc[free]
    found = company.drift({"accounts": accounts.assign(account_id=ids)})
    issue = found["ids_replaced", "accounts"]
    assert issue.rows == len(last)
    assert set(ids.loc[free]) <= set(issue.accounts)


def test_deleted_accounts(company, world):
    accounts = world.tables["accounts"]
    found = company.drift({"accounts": accounts.iloc[5:]})
    assert set(found["accounts_gone", "accounts"].accounts) == set(accounts["account_id"][:5])


def as_of(world, days_ago):
    """Return the tables as exported some days before."""
    moment = day_of(world, days_ago)
    tables = {}
    for name, frame in world.tables.items():
        happened = frame[TABLES[name].happened]
        limit = moment if happened.dt.tz is not None else moment.tz_localize(None)
        tables[name] = frame[happened < limit].reset_index(drop=True)
    return tables


@pytest.mark.parametrize("seed", [1, 2])
def test_a_month_of_growth_is_no_drift(seed, tmp_path):
    grown = simulate(seed, 150, 14, with_errors=False)
    company = TwoLoads(grown, tmp_path)
    names = [name for name in grown.tables if name != "usage_events"]
    before = as_of(grown, 30)
    company.load({name: before[name] for name in names})
    report = company.load({name: grown.tables[name] for name in names})
    found = [(i.code, i.table, i.detail) for i in report.issues if i.code in DRIFT_CODES]
    assert not found


class TestStore:
    def test_a_repeated_check_is_one_entry_and_keeps_its_issues(self, company, world):
        before = {name: world.tables[name] for name in LOADED}
        company.load(before)
        after = {**before, "contacts": world.tables["contacts"].iloc[:50]}
        once, twice = company.load(after), company.load(after)
        assert once.issues == twice.issues
        loads = read_history(company.workspace(after).state)
        assert len(loads) == 2
        assert loads[-1].rows["contacts"] == 50
        assert loads[-1].grade == twice.grade
        assert set(loads[-1].readiness) == {"churn", "expansion"}

    def test_only_the_newest_loads_keep_profiles(self, company, world):
        tables = {name: world.tables[name] for name in LOADED}
        for n in range(MAX_PROFILES + 2):
            contacts = world.tables["contacts"]
            company.load({**tables, "contacts": contacts.iloc[: len(contacts) - n]})
        loads = read_history(company.workspace(tables).state)
        assert [bool(load.profiles) for load in loads] == [False] * 2 + [True] * MAX_PROFILES

    def test_a_damaged_history_says_what_to_do(self, company, world):
        tables = {name: world.tables[name] for name in LOADED}
        company.load(tables)
        path = history_path(company.workspace(tables).state)
        path.write_text(path.read_text()[:50])
        with pytest.raises(StateError, match="damaged history") as refused:
            company.load(tables)
        assert "delete the file" in refused.value.fix

    def test_entries_are_json(self, company, world):
        company.load({name: world.tables[name] for name in LOADED})
        load = read_history(company.workspace({}).state)[0]
        plain = json.loads(json.dumps(load.as_dict()))
        assert "profiles" not in plain
        assert plain["at"] == world.now.isoformat()

    def test_the_clock_of_another_day_is_another_entry(self, company, world):
        tables = {name: world.tables[name] for name in LOADED}
        company.load(tables)
        company.world = replace(world, now=world.now + timedelta(days=1))
        company.load(tables)
        assert len(read_history(company.workspace(tables).state)) == 2
