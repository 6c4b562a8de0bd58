"""Rows that repeat a row of another group: copies, later versions of a key, redelivered events.

Only rows whose hash occurs in a new group, or belongs to a row that was dropped before, are
compared; all others were compared when their groups were new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from features.sources.cleaning.redelivered_events import suspected
from features.sources.files.sql import ident, literal, text_list
from features.sources.manifest import RepeatedIds
from features.sources.per_file.groups import KEYS

COPY = "copy"
"""Reason of a row that repeats another one in every column; it is counted, not quarantined."""


@dataclass(frozen=True)
class Repeats:
    """Rows of a table that do not count, because another group has them.

    Attributes
    ----------
    places : dict of str to list of int
        Group → positions in its ``data.parquet``, ascending.
    reasons : dict of str to int
        Reason → rows.
    """

    places: dict[str, list[int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Indexed:
    """Groups of a table with their index of keys.

    Attributes
    ----------
    folders : dict of str to Path
        Group → folder, in the order of the input.
    fresh : frozenset of str
        Groups that were built in this run.
    dropped : dict of str to list of int
        `Repeats.places` of the last run.
    has_key : bool
        The table has a key: the latest version counts. Otherwise the first delivery of an event
        counts.
    are_copies_events : bool
        Equal rows are separate events.
    """

    folders: Mapping[str, Path]
    fresh: frozenset[str]
    dropped: Mapping[str, Sequence[int]]
    has_key: bool
    are_copies_events: bool

    @property
    def files(self) -> str:
        """The key files as a SQL list."""
        return text_list(folder / KEYS for folder in self.folders.values())


def find_repeats(db: duckdb.DuckDBPyConnection, groups: Indexed) -> Repeats:
    """Return the rows that repeat a row of another group; writes the table ``dropped``.

    The rows that count are those that count when all files are read at once.
    """
    db.execute("CREATE OR REPLACE TABLE group_order (group_id VARCHAR, number INTEGER)")
    numbered = [(group, number) for number, group in enumerate(groups.folders)]
    db.executemany("INSERT INTO group_order VALUES (?, ?)", numbered)
    db.execute("CREATE OR REPLACE TABLE dropped (group_id VARCHAR, place BIGINT, reason VARCHAR)")
    if len(groups.folders) > 1:
        _probe(db, groups)
        if not groups.are_copies_events:
            _drop_copies(db)
        _drop_versions(db, has_key=groups.has_key)
    rows = db.execute("SELECT group_id, place, reason FROM dropped ORDER BY ALL").fetchall()
    found = Repeats()
    for group, place, reason in rows:
        found.places.setdefault(str(group), []).append(int(place))
        found.reasons[str(reason)] = found.reasons.get(str(reason), 0) + 1
    return found


def _probe(db: duckdb.DuckDBPyConnection, groups: Indexed) -> None:
    """Write the table ``suspects``: rows that share a hash with a row that has to be compared."""
    shown = "group_id, place, source_row, row_hash, key_hash, known_at"
    everything = f"(SELECT {shown} FROM read_parquet({groups.files}))"
    db.execute("CREATE OR REPLACE TABLE asked (row_hash UBIGINT, key_hash UBIGINT)")
    fresh = [folder / KEYS for group, folder in groups.folders.items() if group in groups.fresh]
    if fresh:
        db.execute(
            f"INSERT INTO asked SELECT row_hash, key_hash FROM read_parquet({text_list(fresh)})"
        )
    for group, places in groups.dropped.items():
        if group in groups.folders and group not in groups.fresh and places:
            path = groups.folders[group] / KEYS
            chosen = ", ".join(map(str, places))
            db.execute(
                f"INSERT INTO asked SELECT row_hash, key_hash FROM read_parquet({literal(path)}) "
                f"WHERE place IN ({chosen})"
            )
    db.execute(
        f"CREATE OR REPLACE TABLE suspects AS SELECT * FROM {everything} "
        f"JOIN group_order USING (group_id) "
        f"WHERE row_hash IN (SELECT row_hash FROM asked) "
        f"OR key_hash IN (SELECT key_hash FROM asked WHERE key_hash IS NOT NULL)"
    )


def _drop_copies(db: duckdb.DuckDBPyConnection) -> None:
    db.execute(
        f"INSERT INTO dropped SELECT group_id, place, {literal(COPY)} FROM suspects "
        f"QUALIFY row_number() OVER (PARTITION BY row_hash ORDER BY number, source_row) > 1"
    )


def _drop_versions(db: duckdb.DuckDBPyConnection, *, has_key: bool) -> None:
    reason = "superseded" if has_key else "delivered_again"
    first = "known_at DESC, number DESC, source_row DESC" if has_key else (
        "known_at, number, source_row"
    )  # fmt: skip
    db.execute(
        f"INSERT INTO dropped SELECT group_id, place, {literal(reason)} FROM "
        f"(SELECT * FROM suspects ANTI JOIN dropped USING (group_id, place)) "
        f"WHERE key_hash IS NOT NULL "
        f"QUALIFY row_number() OVER (PARTITION BY key_hash ORDER BY {first}) > 1"
    )


def repeated_in_groups(
    db: duckdb.DuckDBPyConnection, groups: Indexed, names: Iterable[str]
) -> dict[str, RepeatedIds]:
    """Return unmapped columns that look like an event id and repeat over all groups."""
    found = {}
    for name in names:
        column = ident(f"id {name}")
        rows = db.execute(
            f"WITH by_id AS (SELECT {column} AS id, count(*) AS n, "
            f"count(DISTINCT account_hash) AS accounts, count(DISTINCT happened) AS times "
            f"FROM read_parquet({groups.files}) ANTI JOIN dropped USING (group_id, place) "
            f"WHERE {column} IS NOT NULL GROUP BY 1) "
            f"SELECT count(*), coalesce(sum(n), 0), count(*) FILTER (n > 1), "
            f"coalesce(sum(n - 1), 0), count(*) FILTER (n > 1 AND accounts = 1 AND times = 1) "
            f"FROM by_id"
        ).fetchone()
        labels = ("ids", "given", "repeated", "rows", "same")
        found[name] = {label: int(n) for label, n in zip(labels, rows or (0,) * 5, strict=True)}
    return suspected(found)
