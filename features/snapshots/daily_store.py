"""Daily tables in the state directory: ``daily/<table>/<part>/``, and the facts known by each day.

Tables of activity have one part per month in which their rows became known; the others have one
part. A part is written again only when its rows, the configuration or the code changed. Next to
its rows it holds the number and a hash of the facts that became known on each day, from which the
identity of everything known by an as_of is a sum.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.hashing import digest
from configs.runtime.state_directory import State, new_folder, read_manifest
from configs.schema.workspace import Workspace
from features.days import day_index
from features.tables.daily_tables import MONEY, known_day, to_daily, visibility
from features.text import TEXT_COLUMNS
from features.text.columns import with_text_scores
from features.text.score import scores_version

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from features.sources import Loaded, TableInfo

Progress = Callable[[str], None]

NOT_SIGNALS = {"labels", "outcomes", "owners", "rates", "health_scores"}
"""Source tables that no signal reads."""

DATA, FACTS = "data.parquet", "facts.parquet"
WHOLE = "all"
"""Part of a table that is not kept by month."""

BATCH_MONTHS = 12
"""Months converted in one query: bounds memory."""


@dataclass(frozen=True)
class _Build:
    """Inputs shared by all tables of one build."""

    engine: Backend
    workspace: Workspace
    loaded: Loaded
    history: Mapping[str, bool]
    identity: str


def daily_tables(
    engine: Backend, workspace: Workspace, loaded: Loaded, progress: Progress
) -> tuple[dict[str, ir.Table], dict[str, bool], str]:
    """Write outdated daily tables; return all daily tables, history flags and an identity."""
    company = workspace.company
    history = {name: company.keeps_history(name) for name in loaded.tables}
    identity = digest(company.reporting_currency, sorted(history.items()))
    build = _Build(engine, workspace, loaded, history, identity)
    daily = {}
    for name, info in loaded.tables.items():
        if name in NOT_SIGNALS:
            continue
        _update(build, info, progress)
        files = [str(path) for path in daily_files(workspace.state, name)]
        daily[name] = engine.read_parquet(files)
    return daily, history, identity


def daily_files(state: State, name: str) -> list[Path]:
    """Return the files of a daily table, oldest month first."""
    return sorted((state.daily / name).glob(f"[!.]*/{DATA}"))


def _update(build: _Build, info: TableInfo, progress: Progress) -> None:
    """Write the outdated parts of one daily table, and remove parts without rows."""
    folder = build.workspace.state.daily / info.name
    wanted = _wanted(build, info)
    stale = [part for part, item in wanted.items() if read_manifest(folder / part) != item]
    if stale:
        words = f", {len(stale)} of {len(wanted)} months" if WHOLE not in wanted else ""
        progress(f"daily table {info.name} ({info.rows:,} rows{words})")
    for start in range(0, len(stale), BATCH_MONTHS):
        _write(build, info, folder, {part: wanted[part] for part in stale[start:][:BATCH_MONTHS]})
    for path in folder.iterdir():
        if path.name not in wanted and not path.name.startswith("."):
            # Months without rows, and the one file of earlier versions.
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _wanted(build: _Build, info: TableInfo) -> dict[str, dict[str, str]]:
    """Return the manifest of every part of a daily table."""
    rates = build.loaded.tables.get("rates")
    is_money = info.name in MONEY and "currency" in info.columns
    shared = digest(
        build.identity,
        rates.identity if rates is not None and is_money else "",
        code_digest(__name__),
        scores_version() if info.name in TEXT_COLUMNS else "",
        list(info.columns),
    )
    parts = info.months or {WHOLE: info.identity}
    return {part: {"identity": digest(rows, shared)} for part, rows in parts.items()}


def _write(
    build: _Build, info: TableInfo, folder: Path, parts: Mapping[str, Mapping[str, str]]
) -> None:
    """Convert the rows of some parts in one query, and write each part."""
    engine, name = build.engine, info.name
    source = engine.read_parquet([str(path) for path in info.files_of(parts)])
    if WHOLE not in parts:
        days = known_day(name, source)
        spans = [(days >= first) & (days < end) for first, end in map(_span, parts)]
        source = source.filter(ibis.or_(*spans))
    rates = build.loaded.tables.get("rates")
    table = to_daily(
        name,
        with_text_scores(name, source),
        engine.read_parquet(rates.path) if rates is not None else None,
        history=build.history.get(name, False),
        currency=build.workspace.company.reporting_currency,
    )
    staged = engine.create_table(f"staged_{name}", table, temp=True)
    for part, manifest in parts.items():
        rows = staged
        if part != WHOLE:
            first, end = _span(part)
            rows = staged.filter(staged.known_day >= first, staged.known_day < end)
        with new_folder(folder / part, manifest) as aside:
            rows.to_parquet(aside / DATA)
            pq.write_table(_facts_by_day(name, rows), aside / FACTS)
    engine.raw_sql(f"DROP TABLE staged_{name}")


def _span(month: str) -> tuple[int, int]:
    """Return the first day of a month, and of the next one, as day indices."""
    first = date.fromisoformat(f"{month}-01")
    after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return day_index(first), day_index(after)


def _facts_by_day(name: str, table: ir.Table) -> pa.Table:
    facts = _facts(name, table)
    return (
        facts.group_by("known_day")
        .agg(n=facts.count(), h=facts.fact.sum().cast("int64"))
        .order_by("known_day")
        .to_pyarrow()
    )


def _facts(name: str, table: ir.Table) -> ir.Table:
    """Return a hash per fact and the day it was known.

    The initial values of a row are one fact; each value that becomes visible later is another one.
    """
    since = {c: day for c, day in visibility(name).items() if c in table.columns}
    written = [column for column in table.columns if column not in since]
    facts = [table.select("known_day", fact=_row_hash(table, written))]
    for moment in sorted(set(since.values())):
        late = table.filter(table[moment].notnull())
        named = [*written, *sorted(column for column in since if since[column] == moment)]
        facts.append(
            late.select(
                known_day=ibis.greatest(late.known_day, late[moment]),
                fact=_row_hash(late, named, moment),
            )
        )
    return ibis.union(*facts)


def _row_hash(table: ir.Table, columns: list[str], kind: str = "") -> ir.IntegerValue:
    """Return a hash below 2³¹ of each whole row; sums of it identify a set of rows.

    Hashing column by column would miss values swapped between rows.
    """
    values = {f"c{place}": table[column] for place, column in enumerate(columns)}
    return ibis.struct({"kind": ibis.literal(kind), **values}).hash() % 2147483647


def fact_prints(
    state: State, names: Iterable[str], days: Sequence[date]
) -> dict[date, dict[str, str]]:
    """Return the identity of all facts known by each day, per daily table."""
    prints: dict[date, dict[str, str]] = {day: {} for day in days}
    for name in sorted(names):
        known, counts, hashes = _sums(state, name)
        for day in days:
            upto = int(np.searchsorted(known, day_index(day), side="right"))
            prints[day][name] = digest(int(counts[upto]), int(hashes[upto]))
    return prints


def _sums(state: State, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return days, and the sums of counts and hashes before each of them and after the last."""
    parts = [pq.read_table(path.with_name(FACTS)) for path in daily_files(state, name)]
    rows = pa.concat_tables(parts)
    by_day = rows.group_by("known_day").aggregate([("n", "sum"), ("h", "sum")])
    by_day = by_day.sort_by("known_day")
    known = by_day["known_day"].to_numpy()
    counts, hashes = (
        np.cumsum(np.append(0, by_day[column].to_numpy())) for column in ("n_sum", "h_sum")
    )
    return known, counts, hashes
