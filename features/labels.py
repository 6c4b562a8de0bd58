"""What then happened: labels as printed, versioned contracts.

The label window of a row is ``(as_of + lead_time, end]``, where ``end`` is the renewal plus grace
for an account under contract that is asked about its renewal, and ``as_of + lead_time + horizon``
otherwise. A row enters only when its window is completely observed, early leavers included, so
``label_known_at`` is the end of the window whatever happened in it. Where terms are observed and no
grace covers it, the `COMEBACK_DAYS` are added: an account that is gone at the end of the window may
still come back. Notice is taken at its word: it can be withdrawn until the terms end.

Unlike features, labels read the sources with hindsight: everything known by ``now``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import ConfigError, DataError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import new_folder, read_manifest
from configs.schema.company import Cohort, Company, Target, midnight
from configs.schema.workspace import Workspace
from features.days import KEY, day_index
from features.revenue.revenue_changes import revenue_changes
from features.revenue.revenue_growth import allowances, kinds_of_rows
from features.revenue.terms import COMEBACK_DAYS, attach, departures, read_with_hindsight
from features.revenue.usual_spend import billing_cycles, expected_charges, is_charge, usual_days
from features.snapshots.account_status import activity_rows, activity_table, grace_days
from features.snapshots.grid import STANDING, Snapshots, standing_at
from features.tables.daily_tables import to_daily
from features.tables.duckdb_engine import connect
from features.tables.point_in_time import latest_versions

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from features.sources import Loaded

COLUMNS = {
    "entity_id": "the entity",
    "as_of": "prediction moment, UTC",
    "label": "1 it happened, 0 it did not, null excluded",
    "excluded": "why the row is not used, null when it is",
    "label_known_at": "end of the window, UTC, and of the days of coming back where terms are read",
    "decision_at": "when it was decided, UTC; null when it did not happen or is not dated",
    "effective_at": "when the revenue moved, UTC; null likewise",
    "reason": "the source's own reason, where it has one",
}

_MOMENT = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    {
        "entity_id": pa.string(),
        "as_of": _MOMENT,
        "label": pa.float64(),
        "excluded": pa.string(),
        "label_known_at": _MOMENT,
        "decision_at": _MOMENT,
        "effective_at": _MOMENT,
        "reason": pa.string(),
    }
)
"""Of `COLUMNS`: a column in which nothing is known has its type all the same."""

DAYS_AT_ONCE = 26
"""Prediction moments labelled in one query: bounds memory."""

UNITS = "entitlements"
KINDS_FILE = "kinds.parquet"


@dataclass(frozen=True)
class Labels:
    """One target's labels and their contract.

    Attributes
    ----------
    target : str
        Name of the target.
    frame : pandas.DataFrame
        One row per (entity_id, as_of) of the grid, columns of `COLUMNS`.
    contract : dict
        The definition in words and numbers, with counts of rows, events and exclusions.
    kinds : pandas.DataFrame or None
        Where growth is observed in terms: the kind and size of it per (entity_id, as_of) whose
        window saw revenue rise; as_of, and growth_kind and growth_uplift as in
        `features.revenue.revenue_growth.KIND_COLUMNS`.
    """

    target: str
    frame: pd.DataFrame
    contract: dict[str, Any]
    kinds: pd.DataFrame | None = None


def build_labels(
    workspace: Workspace,
    loaded: Loaded,
    snapshots: Snapshots,
    now: datetime,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Labels]:
    """Label every (entity, as_of) of the grid for every target, and say what was left out.

    Raises
    ------
    ConfigError
        When a target is observed in a table the company does not have.
    """
    engine = connect(workspace.state.scratch)
    today = day_index(midnight(now).date())
    tables = _tables_with_hindsight(engine, workspace.company, loaded, today)
    # The grid's own as_ofs: the folder also keeps the books of earlier runs.
    paths = [str(snapshots.sets[STANDING].path(day)) for day in snapshots.days]
    standing = engine.read_parquet(paths)
    code = code_digest(__name__)
    made = {}
    for name, target in workspace.company.targets.items():
        identity = digest(
            target.model_dump(),
            workspace.company.cohort.model_dump(),
            code,
            {table: info.identity for table, info in loaded.tables.items()},
            snapshots.sets[STANDING].version,
            [str(day) for day in snapshots.days],
            today,
        )
        folder = workspace.state.labels / name / identity
        if read_manifest(folder) is None:
            progress(f"labelling {name}")
            _write(name, target, workspace.company, tables, standing, today, folder)
        made[name] = _read(name, folder)
    return made


def labels_at(
    workspace: Workspace,
    loaded: Loaded,
    name: str,
    target: Target,
    days: Sequence[date],
    now: datetime,
) -> pd.DataFrame:
    """Label every account at any past days, as one definition of a target says; nothing is kept.

    Parameters
    ----------
    workspace, loaded : Workspace, Loaded
        The company and its source tables.
    name, target : str, Target
        What was predicted then; the company may have redefined it since.
    days : sequence of date
        Prediction moments, 00:00 UTC of each; they need not lie on the grid.
    now : datetime
        The clock: a window that is not completely observed by then has no label.

    Returns
    -------
    pandas.DataFrame
        One row per (entity_id, as_of), columns of `COLUMNS`.
    """
    engine = connect(workspace.state.scratch)
    today = day_index(midnight(now).date())
    tables = _tables_with_hindsight(engine, workspace.company, loaded, today)
    parts = []
    for start in range(0, len(days), DAYS_AT_ONCE):
        part = list(days[start : start + DAYS_AT_ONCE])
        # Read many times over: worked out once.
        standing = ibis.memtable(engine.to_pyarrow(standing_at(engine, workspace, loaded, part)))
        windows = _windows(standing, target, workspace.company)
        happened = _observers(target)(
            LabelRequest(windows, tables, name, target, workspace.company.cohort)
        )
        rows = _judge(windows, happened, today, target)
        parts.append(_stamped(rows.order_by("as_of_day", "entity_id").to_pyarrow()))
    return pa.concat_tables(parts).to_pandas()


def label_moments(
    workspace: Workspace,
    loaded: Loaded,
    company: Company,
    moments: Mapping[str, pd.DataFrame],
    now: datetime,
) -> dict[str, pd.DataFrame]:
    """Label moments that lie off the grid, by the targets and the cohort of `company`.

    Parameters
    ----------
    workspace : Workspace
        Where the sources lie.
    loaded : Loaded
        The sources.
    company : Company
        Its targets may be the contracts of an earlier release.
    moments : mapping of str to pandas.DataFrame
        Target to one row per (entity_id, as_of_day): status, arr, tenure_days, is_under_contract,
        renews_day, as they stood then.
    now : datetime
        The clock: nothing later is looked at.

    Returns
    -------
    dict of str to pandas.DataFrame
        Per target the columns of `COLUMNS`; ``label_known_at`` is the end of the window. And
        so_far: whether it has happened by now, though the window may be open; None where silence
        is the outcome, which only a whole window can show.
    """
    engine = connect(workspace.state.scratch)
    today = day_index(midnight(now).date())
    tables = _tables_with_hindsight(engine, company, loaded, today)
    found = {}
    for name, frame in moments.items():
        target = company.targets[name]
        # Who was scored had room to grow then.
        rows = pa.Table.from_pandas(frame.assign(has_room=True), preserve_index=False)
        standing = ibis.memtable(rows)
        windows = _windows(standing, target, company)
        happened = _observers(target)(LabelRequest(windows, tables, name, target, company.cohort))
        judged = _judge(windows, happened, today, target).order_by("as_of_day", "entity_id")
        table = _stamped(judged.to_pyarrow()).to_pandas()
        found[name] = table.assign(so_far=_so_far(happened, windows, target))
    return found


def _so_far(happened: ir.Table, windows: ir.Table, target: Target) -> pd.Series | None:
    """Return whether it happened by now, in the order of the labels; None where it cannot show."""
    if target.observed_in == "activity":
        return None
    rows = windows.select(*KEY).left_join(happened.select(*KEY, "happened"), KEY)
    ordered = rows.select(*KEY, "happened").order_by("as_of_day", "entity_id").to_pandas()
    return ordered["happened"].eq(True)


def _read(name: str, folder: Path) -> Labels:
    manifest = read_manifest(folder)
    assert manifest is not None
    frame = pq.read_table(folder / "labels.parquet").to_pandas()
    path = folder / KINDS_FILE
    kinds = pq.read_table(path).to_pandas() if path.is_file() else None
    return Labels(name, frame, manifest["contract"], kinds)


def _write(
    name: str,
    target: Target,
    company: Company,
    tables: Mapping[str, ir.Table],
    standing: ir.Table,
    today: int,
    folder: Path,
) -> None:
    windows = _windows(standing, target, company)
    happened = _observers(target)(LabelRequest(windows, tables, name, target, company.cohort))
    rows = _judge(windows, happened, today, target)
    frame = _stamped(rows.order_by("as_of_day", "entity_id").to_pyarrow())
    contract = _contract(name, target, company, frame)
    kinds = _kinds(target, tables, windows)
    with new_folder(folder, {"contract": contract}) as aside:
        pq.write_table(frame, aside / "labels.parquet", compression="zstd")
        if kinds is not None:
            pq.write_table(kinds, aside / KINDS_FILE, compression="zstd")


def _kinds(target: Target, tables: Mapping[str, ir.Table], windows: ir.Table) -> pa.Table | None:
    """Return `Labels.kinds`; None where no terms tell what kind of growth it was."""
    if target.outcome != "expansion" or target.observed_in != "subscriptions":
        return None
    moves = revenue_changes(tables["subscriptions"], tables.get(UNITS))
    rows = kinds_of_rows(windows, moves).order_by("as_of_day", "entity_id").to_pandas()
    rows["as_of"] = _moments(rows.pop("as_of_day"))
    return pa.Table.from_pandas(rows, preserve_index=False)


def _tables_with_hindsight(
    engine: Backend, company: Company, loaded: Loaded, today: int
) -> dict[str, ir.Table]:
    """Return the tables labels are read from: rows known by `today`, each in its latest version."""
    names = ("subscriptions", "outcomes", "labels", "usage_events", "support_tickets", "invoices")
    rates = engine.read_parquet(loaded.tables["rates"].path) if "rates" in loaded.tables else None
    tables = {}
    for name in (name for name in names if name in loaded.tables):
        has_versions = loaded.tables[name].history
        source = engine.read_parquet(loaded.tables[name].path)
        days = to_daily(
            name, source, rates, history=has_versions, currency=company.reporting_currency
        )
        seen = days.filter(days.known_day <= today)
        tables[name] = latest_versions(name, seen, history=has_versions)
    if "subscriptions" in tables:
        terms = engine.to_pyarrow(tables["subscriptions"])
        tables["subscriptions"] = ibis.memtable(read_with_hindsight(terms, today))
    if UNITS in loaded.tables:
        source = engine.read_parquet(loaded.tables[UNITS].path)
        days = to_daily(UNITS, source, None, history=False, currency=company.reporting_currency)
        tables[UNITS] = allowances(days.filter(days.known_day <= today))
    return tables


def _windows(standing: ir.Table, target: Target, company: Company) -> ir.Table:
    """Return the label window of every row: days after ``opens_day``, up to ``closes_day``."""
    opens = standing.as_of_day + target.lead_time_days
    horizon = opens + target.horizon_days
    grace = grace_days(ibis.null("int64"), company.cohort)
    asks_renewal = standing.is_under_contract & target.until_renewal
    if target.outcome != "churn":
        asks_renewal = ibis.literal(False)
    closes = asks_renewal.ifelse(standing.renews_day + grace, horizon)
    return standing.mutate(opens_day=opens, closes_day=closes, asks_renewal=asks_renewal)


@dataclass(frozen=True)
class LabelRequest:
    """What an observer reads: the windows, the tables with hindsight, target and cohort."""

    windows: ir.Table
    tables: Mapping[str, ir.Table]
    name: str
    target: Target
    cohort: Cohort

    def table(self, name: str, *columns: str) -> ir.Table:
        """Return a table the target is observed in, or say that the company lacks it."""
        if name not in self.tables:
            others = sorted({"subscriptions", "outcomes", "labels"} & set(self.tables))
            raise ConfigError(
                f"target {self.name} is observed in {name}, which the company does not have",
                where=f"targets.{self.name}.observed_in",
                fix=f"map the table {name}, or observe the target in "
                + " or ".join([*others, "activity"]),
            )
        missing = [column for column in columns if column not in self.tables[name].columns]
        if missing:
            raise ConfigError(
                f"target {self.name} is observed in {name}, which has no {', '.join(missing)}",
                where=f"targets.{self.name}.observed_in",
                fix=f"map tables.{name}.columns.{missing[0]}",
            )
        return self.tables[name]


Observer = Callable[[LabelRequest], ir.Table]


def _observers(target: Target) -> Observer:
    observed = {
        ("churn", "subscriptions"): _churn_in_terms,
        ("contraction", "subscriptions"): _movement_in_terms,
        ("expansion", "subscriptions"): _movement_in_terms,
        ("churn", "activity"): _silence,
        ("expansion", "activity"): _movement_in_spend,
        ("contraction", "activity"): _movement_in_spend,
    }
    if target.observed_in == "outcomes":
        return _in_outcomes
    if target.observed_in == "labels":
        return _in_labels
    return observed[target.outcome, target.observed_in]


def _churn_in_terms(asked: LabelRequest) -> ir.Table:
    terms = asked.table("subscriptions")
    gone = departures(terms)
    pairs = asked.windows.join(gone, "entity_id")
    ahead = pairs.filter(pairs.effective_day > pairs.as_of_day)
    first = ahead.group_by([*KEY, "opens_day", "closes_day"]).agg(
        decision_day=ahead.decision_day.argmin(ahead.effective_day),
        reason=ahead.reason.argmin(ahead.effective_day),
        effective_day=ahead.effective_day.min(),
    )
    return first.select(
        *KEY,
        "decision_day",
        "effective_day",
        "reason",
        happened=(first.decision_day > first.opens_day) & (first.decision_day <= first.closes_day),
        is_other=~first.reason.fill_null("churned").isin(asked.target.end_reasons),
    )


def _movement_in_terms(asked: LabelRequest) -> ir.Table:
    terms = asked.table("subscriptions", "arr")
    sign = 1.0 if asked.target.outcome == "expansion" else -1.0
    pairs = asked.windows.join(revenue_changes(terms), "entity_id")
    ahead = pairs.filter(pairs.day > pairs.as_of_day, pairs.day <= pairs.closes_day)
    ahead = ahead.mutate(moved=ahead.change * sign, is_inside=ahead.day > ahead.opens_day)
    sums = ahead.group_by([*KEY, "closes_day", "arr"]).agg(
        moved=ahead.moved.sum(where=ahead.is_inside),
        moved_early=ahead.moved.sum(where=~ahead.is_inside),
        day=ahead.day.min(where=ahead.is_inside & (ahead.moved > 0)),
        day_early=ahead.day.min(where=~ahead.is_inside & (ahead.moved > 0)),
    )
    gone = departures(terms)
    leavers = sums.semi_join(
        gone,
        [
            sums.entity_id == gone.entity_id,
            gone.decision_day <= sums.closes_day,
            gone.effective_day > sums.as_of_day,
        ],
    ).select(*KEY, leaves=ibis.literal(True))
    joined = sums.left_join(leavers, KEY)
    decided = _enough(joined.moved_early, joined.arr, asked.target).ifelse(
        joined.day_early, joined.day
    )
    return joined.select(
        *(joined[key] for key in KEY),
        decision_day=decided,
        effective_day=decided,
        reason=ibis.null("string"),
        happened=_enough(joined.moved, joined.arr, asked.target) & joined.leaves.isnull(),
    )


def _enough(moved: ir.Value, arr: ir.Value, target: Target) -> ir.BooleanValue:
    """Whether revenue moved by the margin, to the cent: 7 is a tenth of 70, whatever floats say."""
    moved = ibis.coalesce(moved, 0.0).round(2)
    return ((moved >= (arr * target.margin).round(2)) & (moved > 0)).fill_null(False)


def _silence(asked: LabelRequest) -> ir.Table:
    table = activity_table(asked.tables)
    if table is None:
        raise ConfigError(
            f"target {asked.name} is observed in activity, and no activity table is mapped",
            where=f"targets.{asked.name}.observed_in",
        )
    days = activity_rows(table, asked.tables[table]).select("entity_id", "day").distinct()
    pairs = asked.windows.join(days, "entity_id")
    active = pairs.filter(pairs.day > pairs.opens_day, pairs.day <= pairs.closes_day)
    seen = active.select(*KEY).distinct()
    if table == "invoices":
        seen = seen.union(_paid_ahead(asked, days), distinct=True)
    joined = attach(asked.windows, seen.mutate(is_seen=ibis.literal(True)), KEY, "is_seen")
    # Silence has no date of decision: the whole window is the outcome.
    return joined.select(*KEY, **_UNDATED, happened=joined.is_seen.isnull())


def _paid_ahead(asked: LabelRequest, charges: ir.Table) -> ir.Table:
    """Return the windows that end before the account's next charge is due and late."""
    cycles = billing_cycles(asked.tables["invoices"])
    cycles = cycles.filter(cycles.cycle_days.notnull()).select("entity_id", "cycle_days")
    pairs = asked.windows.join(charges, "entity_id")
    before = pairs.filter(pairs.day <= pairs.opens_day)
    last = before.group_by([*KEY, "closes_day"]).agg(last_day=before.day.max())
    joined = last.join(cycles, "entity_id")
    late = grace_days(joined.cycle_days, asked.cohort)
    return joined.filter(joined.last_day + joined.cycle_days + late >= joined.closes_day).select(
        *KEY
    )


_UNDATED = {
    "decision_day": ibis.null("int64"),
    "effective_day": ibis.null("int64"),
    "reason": ibis.null("string"),
}
"""Of outcomes that have no day of their own."""


def _movement_in_spend(asked: LabelRequest) -> ir.Table:
    """Compare what the window cost with what as many days usually cost.

    Usual is the spend of the last 364 days, or since the first charge. Accounts billed in a regular
    cycle are compared by the charge, so that a window with one bill more or less is no movement;
    without a charge in the window nothing moved. An account with less than `horizon_days` of
    charges has nothing usual: ``happened`` is null.
    """
    sums = _spend_around(asked)
    horizon, margin = asked.target.horizon_days, asked.target.margin
    fewest = ibis.greatest(expected_charges(sums.cycle_days, horizon), 1)
    is_regular = sums.cycle_days.notnull()
    spent = is_regular.ifelse(sums.spent / ibis.greatest(sums.n_after, fewest), sums.spent)
    usual = is_regular.ifelse(
        sums.usual / ibis.greatest(sums.n_before, 1),
        sums.usual * horizon / ibis.greatest(sums.billed_days, 1),
    )
    up = spent.round(2) >= (usual * (1 + margin)).round(2)
    down = (spent.round(2) <= (usual * (1 - margin)).round(2)) & (spent > 0)
    moved = (up if asked.target.outcome == "expansion" else down) & (usual > 0)
    is_usual = sums.billed_days >= horizon
    return sums.select(*KEY, **_UNDATED, happened=is_usual.ifelse(moved, ibis.null("boolean")))


def _spend_around(asked: LabelRequest) -> ir.Table:
    """Return per window: spent, usual (both sums), n_after, n_before (charges), billed_days."""
    rows = asked.table("invoices", "amount").filter(lambda t: t.amount.notnull())
    cycles = billing_cycles(rows).select("entity_id", "cycle_days")
    first = rows.filter(is_charge(rows)).group_by("entity_id").agg(first_day=lambda t: t.day.min())
    rows = rows.select("entity_id", "day", "amount", is_charge=is_charge(rows))
    rows = attach(attach(rows, cycles, ["entity_id"], "cycle_days"), first, ["entity_id"],
                  "first_day")  # fmt: skip
    pairs = asked.windows.join(rows, "entity_id")
    after = (pairs.day > pairs.opens_day) & (pairs.day <= pairs.closes_day)
    back = usual_days(pairs.cycle_days)
    before = (pairs.day <= pairs.as_of_day) & (pairs.day > pairs.as_of_day - back)
    return pairs.group_by(KEY).agg(
        spent=pairs.amount.sum(where=after).fill_null(0.0),
        usual=pairs.amount.sum(where=before).fill_null(0.0),
        n_after=pairs.day.nunique(where=after & pairs.is_charge),
        n_before=pairs.day.nunique(where=before & pairs.is_charge),
        cycle_days=pairs.cycle_days.max(),
        billed_days=ibis.least(pairs.as_of_day.max() - pairs.first_day.max() + 1, 364),
    )


def _in_outcomes(asked: LabelRequest) -> ir.Table:
    table = asked.table("outcomes")
    rows = table.filter(table.outcome == asked.target.outcome)
    effective = rows.effective_day if "effective_day" in rows.columns else rows.day
    # One row per day: of several on one day the first effective, whatever the order in the file.
    rows = rows.group_by("entity_id", "day").agg(
        effective_day=ibis.greatest(ibis.coalesce(effective, rows.day), rows.day).min(),
        reason=(rows.reason if "reason" in rows.columns else ibis.null("string")).min(),
    )
    pairs = asked.windows.join(rows, "entity_id")
    # A loss decided before as_of that is yet to come says that the row is no prediction any more.
    until = pairs.effective_day if asked.target.outcome == "churn" else pairs.day
    ahead = pairs.filter(until > pairs.as_of_day)
    first = ahead.group_by([*KEY, "opens_day", "closes_day"]).agg(
        decision_day=ahead.day.min(),
        effective_day=ahead.effective_day.argmin(ahead.day),
        reason=ahead.reason.argmin(ahead.day),
    )
    return first.mutate(
        happened=(first.decision_day > first.opens_day) & (first.decision_day <= first.closes_day)
    ).drop("opens_day", "closes_day")


def _in_labels(asked: LabelRequest) -> ir.Table:
    table = asked.table("labels")
    rows = table.filter(table.target == asked.name)
    # a date-only moment was put on the next midnight; here the date itself is the moment
    # and a label written down on a date is known at the next midnight
    known = rows.label_known_day + 1 if "label_known_day" in rows.columns else ibis.null("int64")
    rows = rows.select(
        "entity_id", as_of_day=rows.day - 1, happened=rows.label, given_known_day=known
    )
    return rows.mutate(
        decision_day=ibis.null("int64"),
        effective_day=ibis.null("int64"),
        reason=ibis.null("string"),
    )


def _judge(windows: ir.Table, happened: ir.Table, today: int, target: Target) -> ir.Table:
    """Join what happened, and say for each row whether it counts and why not."""
    joined = windows.left_join(happened, KEY)
    is_given = target.observed_in == "labels"
    closes = joined.closes_day
    if is_given:
        closes = ibis.coalesce(joined.given_known_day, ibis.least(closes, ibis.literal(today)))
    settles = closes
    if target.observed_in == "subscriptions":
        settles = joined.asks_renewal.ifelse(closes, closes + COMEBACK_DAYS)
    unlabelled = joined.happened.isnull() & is_given
    inside_gap = (
        joined.decision_day.notnull()
        & (joined.decision_day <= joined.opens_day)
        & (joined.decision_day > joined.as_of_day)
    )
    already = joined.decision_day.notnull() & (joined.decision_day <= joined.as_of_day)
    excluded = ibis.cases(
        (unlabelled, "no label given"),
        (joined.status != "scored", joined.status),
        (already.fill_null(False) & (target.outcome == "churn"), "already decided"),
        (inside_gap.fill_null(False), "decided inside the lead time"),
        *_not_asked(joined, target),
        *_no_usual_spend(joined, target),
        *_other_reason(joined),
        (settles > today, "window not yet observed"),
        else_=ibis.null("string"),
    )
    label = excluded.isnull().ifelse(
        joined.happened.fill_null(False).cast("int8"), ibis.null("int8")
    )
    is_event = (label == 1).fill_null(False)
    nothing = ibis.null("int64")
    return joined.select(
        entity_id=joined.entity_id,
        as_of_day=joined.as_of_day,
        label=label,
        excluded=excluded,
        known_day=settles,
        decision_day=is_event.ifelse(joined.decision_day, nothing),
        effective_day=is_event.ifelse(joined.effective_day, nothing),
        reason=is_event.ifelse(joined.reason, ibis.null("string")),
    )


def _not_asked(rows: ir.Table, target: Target) -> list[tuple[ir.BooleanValue, str]]:
    """Return the rows that are no example of a movement of revenue, and why."""
    cases = []
    if target.outcome == "expansion":
        cases.append((~rows.has_room, "no_room_to_grow"))
    if target.outcome != "churn" and target.observed_in == "subscriptions":
        cases.append((rows.arr.isnull(), "recurring revenue not known"))
    if target.observed_in == "subscriptions":
        cases.append(((rows.arr == 0).fill_null(False), "no paid terms"))
    return cases


def _no_usual_spend(rows: ir.Table, target: Target) -> list[tuple[ir.BooleanValue, str]]:
    """Return the rows whose spend has nothing usual to be compared with."""
    if target.observed_in == "activity" and target.outcome != "churn":
        return [(rows.happened.isnull(), "billed for too short a time")]
    return []


def _other_reason(rows: ir.Table) -> list[tuple[ir.BooleanValue, str]]:
    """Return the rows of accounts that left for a reason that is not asked about."""
    if "is_other" not in rows.columns:
        return []
    return [((rows.is_other & rows.happened).fill_null(False), "left for another reason")]


def _stamped(rows: pa.Table) -> pa.Table:
    """Turn day indices into UTC timestamps."""
    frame = rows.to_pandas()
    for day, moment in (
        ("as_of_day", "as_of"),
        ("known_day", "label_known_at"),
        ("decision_day", "decision_at"),
        ("effective_day", "effective_at"),
    ):
        frame[moment] = _moments(frame[day])
    return pa.Table.from_pandas(frame[list(COLUMNS)], schema=_SCHEMA, preserve_index=False)


def _moments(days: pd.Series) -> pd.Series:
    """Return 00:00 UTC of day indices, NaT where there is none."""
    # Not pd.to_datetime: it multiplies what lies behind a missing value, and overflows at random.
    known = days.notna()
    whole = days.where(known, 0).astype("int64").to_numpy()
    moments = pd.Series(whole.astype("datetime64[D]").astype("datetime64[us]"), index=days.index)
    return moments.where(known).dt.tz_localize("UTC")


def _contract(name: str, target: Target, company: Company, table: pa.Table) -> dict[str, Any]:
    frame = table.to_pandas()
    used = frame[frame["excluded"].isna()]
    events = used[used["label"] == 1]
    return {
        "target": name,
        **target.model_dump(),
        "grace_days": company.cohort.grace_days,
        "words": definition(target, company),
        "rows": len(frame),
        "used_rows": len(used),
        "entities": int(used["entity_id"].nunique()),
        "event_rows": len(events),
        "event_entities": int(events["entity_id"].nunique()),
        "reasons": {
            str(reason): int(n)
            for reason, n in events.fillna({"reason": "not stated"})
            .drop_duplicates(["entity_id", "effective_at"])["reason"]
            .value_counts()
            .sort_index()
            .items()
        },
        "excluded": {
            str(reason): int(count)
            for reason, count in frame["excluded"].value_counts().sort_index().items()
        },
    }


def definition(target: Target, company: Company) -> str:
    """Return the label contract as one sentence."""
    horizon = f"within {target.horizon_days} days"
    if target.lead_time_days:
        horizon += f", counted from {target.lead_time_days} days after the prediction"
    what = {
        ("churn", "activity"): f"no activity at all {horizon}",
        ("churn", "subscriptions"): f"the decision to leave falls {horizon}",
        ("expansion", "activity"): f"spend {horizon} at least {target.margin:.0%} above usual",
        ("contraction", "activity"): f"spend {horizon} at least {target.margin:.0%} below usual",
        ("expansion", "subscriptions"): f"recurring revenue rises {target.margin:.0%} {horizon}, "
        "signed uplifts and currency apart",
        ("contraction", "subscriptions"): f"recurring revenue falls {target.margin:.0%} {horizon} "
        "while the account stays",
    }.get(
        (target.outcome, target.observed_in),
        f"a {target.outcome} is recorded {horizon}"
        if target.observed_in == "outcomes"
        else "as given in the labels table",
    )
    asks_renewal = target.outcome == "churn" and target.observed_in == "subscriptions"
    if asks_renewal and len(target.end_reasons) == 1:
        what += f", by the reason {target.end_reasons[0]}"
    if asks_renewal and target.until_renewal:
        what += (
            "; for an account under contract, by the renewal date plus "
            f"{company.cohort.grace_days} days of grace"
        )
    return f"{target.outcome}: {what}"


def require_events(labels: Labels) -> None:
    """Raise when a target has no events or nothing but events."""
    used, events = labels.contract["used_rows"], labels.contract["event_rows"]
    if used == 0 or events in {0, used}:
        raise DataError(
            f"target {labels.target} has {events} events in {used} usable rows: "
            "nothing to tell apart",
            where=f"labels of {labels.target}; {_left_out(labels.contract['excluded'])}",
            fix="check the table the target is observed in with `bellwether check`, "
            "or shorten horizon_days",
        )


def _left_out(excluded: Mapping[str, int]) -> str:
    """Say why rows are not used, in words.

    >>> _left_out({"closed": 1200, "too_new": 3})
    'not used: 1,200 rows closed, 3 rows too new'
    """
    parts = [f"{count:,} rows {reason.replace('_', ' ')}" for reason, count in excluded.items()]
    return f"not used: {', '.join(parts)}" if parts else "every row is used"


__all__ = [
    "Labels",
    "build_labels",
    "definition",
    "label_moments",
    "labels_at",
    "require_events",
]
