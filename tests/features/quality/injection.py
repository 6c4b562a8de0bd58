"""Faults of real data, injected into the simulated company."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from configs.runtime.state_directory import State
from configs.schema.company import SHIPPED, parse_company
from configs.schema.workspace import Environment, Workspace
from features.quality import QualityReport, check_quality
from features.simulator.export import _as_arrow
from features.simulator.simulate import Simulation
from features.sources import load_sources

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Fault:
    """A changed company, and the issue that has to be found.

    Attributes
    ----------
    tables : dict
        All tables.
    code, table : str
        The issue.
    rows : int or None
        Rows that were changed; None where accounts are asked for.
    accounts : set of str
        Accounts that were changed.
    words : tuple of str
        Texts that the detail has.
    least : int
        Smallest number of these accounts that has to be named; 0 is all of them.
    """

    tables: Tables
    code: str
    table: str
    rows: int | None = None
    accounts: set[str] = field(default_factory=set)
    words: tuple[str, ...] = ()
    least: int = 0


class SimulatedCompany:
    """A simulated company in a folder of its own, loaded from Parquet with canonical names."""

    def __init__(self, world: Simulation, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.shipped = yaml.safe_load((SHIPPED / "simulated" / "company.yaml").read_text())

    def workspace(self, tables: Tables) -> Workspace:
        """Write the tables and return the company."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        for name, frame in tables.items():
            pq.write_table(_as_arrow(frame, name), data / f"{name}.parquet")
        left = ("tables", "inputs", "grid", "now", "about", "data")
        plain = {key: value for key, value in self.shipped.items() if key not in left}
        plain["inputs"] = {name: f"{name}.parquet" for name in tables}
        company = parse_company(plain, where="test")
        return Workspace(company, self.folder, data, State(self.folder / "state"), Environment())

    def report(self, tables: Tables | None = None) -> QualityReport:
        """Load the tables and return the quality report."""
        workspace = self.workspace(self.world.tables if tables is None else tables)
        loaded = load_sources(workspace, self.world.now)
        return check_quality(workspace, loaded, self.world.now)


def day_of(world: Simulation, days_ago: int) -> pd.Timestamp:
    """Return midnight of a day before the clock."""
    return pd.Timestamp(world.now).normalize() - timedelta(days=days_ago)


def with_table(world: Simulation, name: str, frame: pd.DataFrame) -> Tables:
    """Return all tables, one of them replaced."""
    return {**world.tables, name: frame.reset_index(drop=True)}


def text(column: pd.Series) -> pd.Series:
    """Return a category as plain texts."""
    return column.astype(object)


def between(column: pd.Series, first: pd.Timestamp, days: int) -> pd.Series:
    """Return whether a time lies in some days."""
    return (column >= first) & (column < first + timedelta(days=days))


OUTAGE_AGO, OUTAGE_DAYS = 120, 6


def region_outage(world: Simulation) -> Fault:
    """All usage of the largest region is missing for six days."""
    usage, accounts = world.tables["usage_events"], world.tables["accounts"]
    region = accounts["region"].value_counts().index[0]
    members = set(accounts.loc[accounts["region"] == region, "account_id"])
    start = day_of(world, OUTAGE_AGO)
    gone = text(usage["account_id"]).isin(members) & between(usage["occurred_at"], start, 6)
    recent = between(usage["occurred_at"], start - timedelta(days=28), 28)
    active = set(text(usage.loc[recent, "account_id"])) & members
    return Fault(
        with_table(world, "usage_events", usage[~gone]),
        "partial_outage",
        "usage_events",
        accounts=active,
        words=(f"region {region}", str(start.date())),
    )


def product_outage(world: Simulation) -> Fault:
    """All usage of the product analytics is missing for six days."""
    usage = world.tables["usage_events"]
    start = day_of(world, OUTAGE_AGO)
    is_part = text(usage["product"]) == "analytics"
    gone = is_part & between(usage["occurred_at"], start, 6)
    recent = is_part & between(usage["occurred_at"], start - timedelta(days=28), 28)
    return Fault(
        with_table(world, "usage_events", usage[~gone]),
        "partial_outage",
        "usage_events",
        accounts=set(text(usage.loc[recent, "account_id"])),
        words=("product analytics", str(start.date())),
    )


def half_of(world: Simulation) -> set[str]:
    """Return a random half of the accounts."""
    ids = np.sort(text(world.tables["accounts"]["account_id"]).to_numpy(dtype=str))
    return set(np.random.default_rng(5).permutation(ids)[: len(ids) // 2])


def random_outage(world: Simulation) -> Fault:
    """All usage of a random half of the accounts is missing for six days."""
    usage, half = world.tables["usage_events"], half_of(world)
    start = day_of(world, OUTAGE_AGO)
    gone = text(usage["account_id"]).isin(half) & between(usage["occurred_at"], start, 6)
    return Fault(
        with_table(world, "usage_events", usage[~gone]),
        "partial_outage",
        "usage_events",
        accounts=half,
        words=(str(start.date()),),
        least=45,  # of the half, those that use the product on most days
    )


def falling_half(world: Simulation, days: int = 56, left: float = 0.2) -> Tables:
    """Return the tables of a company in which half of the accounts really use less and less."""
    usage, half = world.tables["usage_events"], half_of(world)
    start = day_of(world, OUTAGE_AGO)
    rng = np.random.default_rng(11)
    begins = {name: start + timedelta(days=int(rng.integers(0, 21))) for name in sorted(half)}
    account = text(usage["account_id"])
    begin = account.map(begins)
    passed = (usage["occurred_at"] - pd.to_datetime(begin, utc=True)).dt.total_seconds() / 86_400
    kept = 1 - (1 - left) * (passed / days).clip(0, 1).fillna(0)
    return with_table(world, "usage_events", usage[rng.random(len(usage)) < kept])


def renamed_feature(world: Simulation) -> Fault:
    """The tracker renames a feature overnight, volumes as before."""
    usage = world.tables["usage_events"]
    start = day_of(world, 60)
    feature = text(usage["feature"]).replace("reports", "export_clicked")
    late = (feature == "export_clicked") & (usage["occurred_at"] >= start)
    return Fault(
        with_table(
            world, "usage_events", usage.assign(feature=feature.mask(late, "export.clicked"))
        ),
        "value_renamed",
        "usage_events",
        int(late.sum()),
        words=("'export_clicked' ends", "'export.clicked' starts", str(start.date())[:7]),
    )


def _scaled(world: Simulation, table: str, column: str, moment: str, by: float) -> Fault:
    frame = world.tables[table]
    start = day_of(world, 100)
    known = frame[moment]
    start = start if getattr(known.dt, "tz", None) is not None else start.tz_localize(None)
    late = known >= start
    values = frame[column].astype(float)
    return Fault(
        with_table(world, table, frame.assign(**{column: values.where(~late, values * by)})),
        "unit_change",
        table,
        int((late & (values > 0)).sum()),
        words=(f"{by:g} times as large",),
    )


def seconds_for_minutes(world: Simulation) -> Fault:
    """The quantity of usage is in seconds from one day on, in minutes before."""
    return _scaled(world, "usage_events", "quantity", "occurred_at", 60)


def cents_for_euros(world: Simulation) -> Fault:
    """The amounts of invoices are in cents from one day on."""
    return _scaled(world, "invoices", "amount", "issued_on", 100)


def csat_to_ten(world: Simulation) -> Fault:
    """Satisfaction is asked from 1 to 10 from one day on."""
    tickets = world.tables["support_tickets"]
    late = (tickets["opened_at"] >= day_of(world, 100)) & tickets["csat"].notna()
    csat = tickets["csat"].where(~late, 1 + (tickets["csat"] - 1) * 9 / 4)
    return Fault(
        with_table(world, "support_tickets", tickets.assign(csat=csat)),
        "scale_change",
        "support_tickets",
        int((csat > 5).sum()),
        words=("csat",),
    )


def nps_as_index(world: Simulation) -> Fault:
    """Answers of the NPS survey are delivered as -100 to 100 from one day on."""
    surveys = world.tables["survey_responses"]
    late = (surveys["responded_at"] >= day_of(world, 100)) & (text(surveys["kind"]) == "nps")
    score = surveys["score"].where(~late, surveys["score"] * 20 - 100)
    return Fault(
        with_table(world, "survey_responses", surveys.assign(score=score)),
        "scale_change",
        "survey_responses",
        words=("score",),
        rows=int((late & ((score < 0) | (score > 10))).sum()),
    )


def emptied_column(world: Simulation) -> Fault:
    """The user id is no longer delivered."""
    usage = world.tables["usage_events"]
    late = usage["occurred_at"] >= day_of(world, 30)
    users = text(usage["user_id"]).mask(late, None)
    return Fault(
        with_table(world, "usage_events", usage.assign(user_id=users)),
        "column_stops",
        "usage_events",
        int(late.sum()),
        words=("user_id",),
    )


def started_column(world: Simulation) -> Fault:
    """The quantity is delivered only since some months ago."""
    usage = world.tables["usage_events"]
    early = usage["occurred_at"] < day_of(world, 200)
    return Fault(
        with_table(world, "usage_events", usage.assign(quantity=usage["quantity"].mask(early))),
        "column_starts",
        "usage_events",
        int(early.sum()),
        words=("quantity",),
    )


def vanished_category(world: Simulation) -> Fault:
    """The category of a fifth of the tickets is no longer delivered."""
    tickets = world.tables["support_tickets"]
    category = text(tickets["category"])
    gone = (category == "bug") & (tickets["opened_at"] >= day_of(world, 90))
    kept = tickets[~gone]
    return Fault(
        with_table(world, "support_tickets", kept),
        "value_vanished",
        "support_tickets",
        int((category[~gone] == "bug").sum()),
        words=("'bug'",),
    )


def new_large_category(world: Simulation) -> Fault:
    """A new ticket category takes a third of the tickets."""
    tickets = world.tables["support_tickets"]
    rng = np.random.default_rng(3)
    late = (tickets["opened_at"] >= day_of(world, 90)) & (rng.random(len(tickets)) < 0.35)
    return Fault(
        with_table(
            world,
            "support_tickets",
            tickets.assign(category=text(tickets["category"]).mask(late, "ai_assistant")),
        ),
        "new_value",
        "support_tickets",
        int(late.sum()),
        words=("ai_assistant",),
    )


def missing_days(world: Simulation) -> Fault:
    """Twelve days of tickets were never loaded."""
    tickets = world.tables["support_tickets"]
    gone = between(tickets["opened_at"], day_of(world, 150), 12)
    return Fault(
        with_table(world, "support_tickets", tickets[~gone]),
        "missing_partition",
        "support_tickets",
        12,
        words=(str(day_of(world, 150).date())[:8],),
    )


def missing_month(world: Simulation) -> Fault:
    """One month of a monthly table was never loaded."""
    table = world.tables["entitlements"]
    months = np.sort(table["occurred_on"].unique())
    return Fault(
        with_table(world, "entitlements", table[table["occurred_on"] != months[-4]]),
        "missing_partition",
        "entitlements",
        words=(str(months[-4])[:7],),
    )


def late_day(world: Simulation) -> Fault:
    """The last two days of usage have not arrived."""
    usage = world.tables["usage_events"]
    return Fault(
        with_table(world, "usage_events", usage[usage["occurred_at"] < day_of(world, 3)]),
        "late_partition",
        "usage_events",
        3,
    )


def half_a_day(world: Simulation) -> Fault:
    """The last two days have a quarter of their rows."""
    usage = world.tables["usage_events"]
    rng = np.random.default_rng(1)
    gone = (usage["occurred_at"] >= day_of(world, 3)) & (rng.random(len(usage)) < 0.75)
    return Fault(
        with_table(world, "usage_events", usage[~gone]), "late_partition", "usage_events", 3
    )


def delivered_twice(world: Simulation) -> Fault:
    """A week of usage is delivered again two days later, without an event id."""
    usage = world.tables["usage_events"]
    again = usage[between(usage["occurred_at"], day_of(world, 40), 7)]
    moved = again.assign(known_at=again["known_at"] + timedelta(days=2))
    return Fault(
        with_table(world, "usage_events", pd.concat([usage, moved])),
        "delivered_twice",
        "usage_events",
        len(again),
        accounts=set(text(again["account_id"])),
    )


def delivered_again(world: Simulation) -> Fault:
    """A week of usage is delivered again two days later, with event ids."""
    usage = world.tables["usage_events"]
    usage = usage.assign(event_id=[f"e{n}" for n in range(len(usage))])
    again = usage[between(usage["occurred_at"], day_of(world, 40), 7)]
    moved = again.assign(known_at=again["known_at"] + timedelta(days=2))
    return Fault(
        with_table(world, "usage_events", pd.concat([usage, moved])),
        "delivered_again",
        "usage_events",
        len(again),
    )


def _twins(world: Simulation, **columns: str) -> tuple[pd.DataFrame, set[str]]:
    accounts = world.tables["accounts"]
    originals = accounts.iloc[[10, 30, 50]]
    twins = originals.assign(
        account_id=[f"B-{n}" for n in range(3)], parent_account_id=None, **columns
    )
    ids = set(originals["account_id"]) | set(twins["account_id"])
    return pd.concat([accounts, twins]), ids


def same_name(world: Simulation) -> Fault:
    """Three accounts exist twice, with the same name in another spelling."""
    accounts, ids = _twins(world)
    copies = accounts["account_id"].str.startswith("B-")
    accounts["name"] = accounts["name"].mask(copies, accounts["name"].str.upper() + ", Inc.")
    return Fault(
        with_table(world, "accounts", accounts), "same_identity", "accounts", 3, ids, ("name",)
    )


def same_domain(world: Simulation) -> Fault:
    """Three accounts exist twice, with the same domain and different names."""
    accounts, ids = _twins(world)
    accounts["domain"] = [f"company{n}.example" for n in range(len(accounts))]
    copies = accounts["account_id"].str.startswith("B-").to_numpy()
    for new, old in zip(np.flatnonzero(copies), (10, 30, 50), strict=True):
        accounts.iloc[new, accounts.columns.get_loc("domain")] = f"www.Company{old}.example/"
    accounts["name"] = accounts["name"].mask(copies, "Branch " + accounts["account_id"])
    return Fault(
        with_table(world, "accounts", accounts), "same_identity", "accounts", 3, ids, ("domain",)
    )


def same_billing_id(world: Simulation) -> Fault:
    """Three accounts exist twice, with the same billing id."""
    accounts, ids = _twins(world)
    accounts["billing_id"] = [f"cus_{n}" for n in range(len(accounts))]
    copies = accounts["account_id"].str.startswith("B-").to_numpy()
    for new, old in zip(np.flatnonzero(copies), (10, 30, 50), strict=True):
        accounts.iloc[new, accounts.columns.get_loc("billing_id")] = f"cus_{old}"
    accounts["name"] = accounts["name"].mask(copies, "Branch " + accounts["account_id"])
    return Fault(
        with_table(world, "accounts", accounts), "same_identity", "accounts", 3, ids, ("billing",)
    )


def merged_accounts(world: Simulation) -> Fault:
    """Three accounts continue under new ids, with the same users."""
    accounts, usage = world.tables["accounts"], world.tables["usage_events"]
    start = day_of(world, 90)
    account = text(usage["account_id"])
    late = usage["occurred_at"] >= start
    steady = account[late].value_counts().index[:3]
    new = {old: f"M-{n}" for n, old in enumerate(steady)}
    moved = account.where(~late, account.replace(new))
    added = accounts[accounts["account_id"].isin(new)]
    added = added.assign(
        account_id=added["account_id"].map(new),
        created_at=start,
        name="Merged " + added["account_id"].map(new),
        parent_account_id=None,
    )
    tables = with_table(world, "usage_events", usage.assign(account_id=moved))
    tables["accounts"] = pd.concat([accounts, added]).reset_index(drop=True)
    return Fault(
        tables, "account_id_changed", "accounts", 3, set(new) | set(new.values()), ("users",)
    )


def shifted_zone(world: Simulation) -> Fault:
    """Usage is written seven hours later from one day on."""
    usage = world.tables["usage_events"]
    late = usage["occurred_at"] >= day_of(world, 80)
    moved = usage["occurred_at"].where(~late, usage["occurred_at"] + timedelta(hours=7))
    known = usage["known_at"].where(~late, usage["known_at"] + timedelta(hours=7))
    return Fault(
        with_table(world, "usage_events", usage.assign(occurred_at=moved, known_at=known)),
        "zone_change",
        "usage_events",
        int(late.sum()),
        words=("7 hours later",),
    )


def bulk_reload(world: Simulation) -> Fault:
    """A reload sets the time of loading of all older rows to one morning."""
    usage = world.tables["usage_events"]
    day = day_of(world, 45)
    old = usage["known_at"] < day
    aged = usage["occurred_at"] < day - timedelta(days=7)
    return Fault(
        with_table(
            world,
            "usage_events",
            usage.assign(known_at=usage["known_at"].mask(old, day + timedelta(hours=3))),
        ),
        "bulk_reload",
        "usage_events",
        int((old & aged).sum()),
        words=(str(day.date()),),
    )


FAULTS = (
    region_outage,
    product_outage,
    random_outage,
    renamed_feature,
    seconds_for_minutes,
    cents_for_euros,
    csat_to_ten,
    nps_as_index,
    emptied_column,
    started_column,
    new_large_category,
    vanished_category,
    missing_days,
    missing_month,
    late_day,
    half_a_day,
    delivered_twice,
    delivered_again,
    same_name,
    same_domain,
    same_billing_id,
    merged_accounts,
    shifted_zone,
    bulk_reload,
)
"""Faults that show in the tables themselves; those between two loads are in test_history.py."""
