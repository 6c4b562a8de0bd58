"""The book as vectors, which the online store serves for one account in one read.

One row per entity at the book's as_of: the feature values in a fixed order, the same values
at an earlier moment, and the facts that are shown with a score. Peers are kept apart, one small
table for the whole book.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.hashing import digest
from configs.runtime.state_directory import (
    new_folder,
    read_json,
    read_manifest,
    write_json_atomically,
)
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.days import index_day
from features.offers import OfferInputs, candidate_facts, held_terms, product_shares
from features.snapshots.grid import ACCOUNT_STATUS, Snapshots, daily_tables, read_snapshot
from features.tables.catalog import FeatureInfo
from features.tables.duckdb_engine import connect

if TYPE_CHECKING:
    from features.sources import Loaded

PAST_DAYS = 84
"""Age in days of the earlier values in explanations."""

LEAST_LIFE_DAYS = 28
"""Days an account must have lived for what has no window of its own to be compared with."""

MIN_PEERS = 20

TENURE = "tenure_days"
"""The feature that says how old an account is."""

SEAT_USE = "seat_use_28d"
"""The feature that says how full seats are where no allowance is recorded."""

ACCOUNT_FACTS = ("name", "segment", "plan", "industry", "region", "parent_account_id", "owner_id")
"""Attributes shown with a score; without history they are never features."""


@dataclass(frozen=True)
class FeatureSet:
    """The ordered features a release is made of.

    Attributes
    ----------
    info : tuple of FeatureInfo
        In vector order.
    versions : dict of str to str
        Family to snapshot version.
    """

    info: tuple[FeatureInfo, ...]
    versions: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Feature names in vector order."""
        return [item.name for item in self.info]

    @property
    def hash(self) -> str:
        """Identity: names, their order, and the code that computes them."""
        return digest(self.names, self.versions)


def feature_set(snapshots: Snapshots) -> FeatureSet:
    """Return all features that were built, families in alphabetical order."""
    families = sorted(name for name in snapshots.sets if name != ACCOUNT_STATUS)
    info = tuple(item for name in families for item in snapshots.sets[name].info)
    return FeatureSet(info, {name: snapshots.sets[name].version for name in families})


def matrix(snapshots: Snapshots, features: FeatureSet, day: date) -> tuple[np.ndarray, np.ndarray]:
    """Return entity ids, sorted, and their values: float64, one row per entity."""
    parts = [read_snapshot(snapshots, family, day) for family in features.versions]
    ids = parts[0]["entity_id"].to_numpy(zero_copy_only=False)
    columns = {
        name: part[name].to_numpy(zero_copy_only=False)
        for part in parts
        for name in part.column_names
        if name in set(features.names)
    }
    stacked = [np.asarray(columns[name], dtype=np.float64) for name in features.names]
    return ids, np.column_stack(stacked) if len(ids) else np.empty((0, len(stacked)))


def past_day(snapshots: Snapshots) -> date | None:
    """Return the latest as_of at least `PAST_DAYS` before the book, if there is one."""
    before = [d for d in snapshots.days if d <= snapshots.book_on - timedelta(days=PAST_DAYS)]
    return before[-1] if before else None


def build_vectors(workspace: Workspace, loaded: Loaded, snapshots: Snapshots) -> Path:
    """Write the book's vectors for Feast; return the folder ``vectors/<hash>/<as_of>``.

    The folder holds ``part.parquet`` (entity_id, as_of, created_at, values, past, facts, and an
    empty answer), ``peers.json`` (see `peer_table`) and ``owners.json`` (see `owner_table`).
    """
    served = feature_set(snapshots)
    folder = workspace.state.snapshots / "vector" / served.hash / str(snapshots.book_on)
    wanted = {
        "features": served.hash,
        "code": code_digest(__name__),
        "book": _book_identity(snapshots, loaded),
        "candidates": _candidates_identity(workspace.company, loaded),
    }
    if read_manifest(folder) == wanted:
        return folder
    ids, values = matrix(snapshots, served, snapshots.book_on)
    past = _aligned_past(snapshots, served, ids)
    facts = account_facts(snapshots, loaded, ids)
    peers, groups = peer_table(values, facts, served)
    facts["peer_group"] = groups
    for name, told in _told_of_terms(workspace, loaded, snapshots, served, ids, values).items():
        facts[name] = pd.Series(told, facts.index, dtype=object)
    table = pa.table(
        {
            "entity_id": pa.array(ids, pa.string()),
            "as_of": read_snapshot(snapshots, ACCOUNT_STATUS, snapshots.book_on)["as_of"],
            "created_at": read_snapshot(snapshots, ACCOUNT_STATUS, snapshots.book_on)["created_at"],
            "values": _lists(values),
            "past": _lists(past),
            "facts": pa.array([_json(row) for row in facts.to_dict("records")], pa.string()),
            # A score run fills it in the online store: loading new vectors empties it.
            "answer": pa.array([b""] * len(ids), pa.binary()),
        }
    )
    with new_folder(folder, wanted) as aside:
        pq.write_table(table, aside / "part.parquet", compression="zstd")
        write_json_atomically(aside / "peers.json", peers)
        write_json_atomically(aside / "owners.json", owner_table(loaded))
    _remove_other_columns(folder)
    return folder


def _remove_other_columns(folder: Path) -> None:
    """Remove days written with other columns by an earlier version: one view reads them all."""
    columns = pq.read_schema(folder / "part.parquet").names
    for other in folder.parent.glob("*-*-*/part.parquet"):
        if pq.read_schema(other).names != columns:
            shutil.rmtree(other.parent)


def read_peers(folder: Path) -> dict[str, Any]:
    """Return the peers of a book (see `peer_table`)."""
    peers: dict[str, Any] = read_json(folder / "peers.json")
    return peers


def _book_identity(snapshots: Snapshots, loaded: Loaded) -> str:
    known = [
        read_manifest(item.folder / str(snapshots.book_on)) for item in snapshots.sets.values()
    ]
    owners = loaded.tables["owners"].identity if "owners" in loaded.tables else ""
    return digest(
        known, loaded.tables["accounts"].identity, owners, [str(d) for d in snapshots.days]
    )


def _candidates_identity(company: Company, loaded: Loaded) -> str:
    """Return the identity of all that `features.offers` reads."""
    return digest(
        company.growth.model_dump(),
        company.room.model_dump(),
        {name: info.identity for name, info in sorted(loaded.tables.items())},
    )


def _told_of_terms(
    workspace: Workspace,
    loaded: Loaded,
    snapshots: Snapshots,
    served: FeatureSet,
    ids: np.ndarray,
    values: np.ndarray,
) -> dict[str, list[Any]]:
    """Return what each account holds, and what could be sold to it (`features.offers`)."""
    engine = connect(workspace.state.scratch)
    daily, history, _ = daily_tables(engine, workspace, loaded, lambda _: None)
    book = OfferInputs(engine, daily, history, loaded, workspace.company, snapshots.book_on)
    place = served.names.index(SEAT_USE) if SEAT_USE in served.names else None
    seat_use = np.full(len(ids), np.nan) if place is None else values[:, place]
    names, held = [str(entity) for entity in ids], held_terms(book)
    return {
        "products": product_shares(held, names),
        "growth": candidate_facts(book, held, names, seat_use),
    }


def _lists(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).ravel(), pa.float64())
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def lived_through(values: np.ndarray, features: FeatureSet) -> np.ndarray:
    """Return earlier values without those whose window began before their account did.

    A young account is not compared with itself as it was before it was there: its use in the 84
    days to a day on which it was 13 days old is its use in 13 days.

    Parameters
    ----------
    values : numpy.ndarray
        (accounts, features) at the earlier moment.
    features : FeatureSet
        Their windows; ``tenure_days`` among them says how old each account was.
    """
    if TENURE not in features.names:
        return values
    tenure = values[:, [features.names.index(TENURE)]]
    needed = np.array([item.window_days or LEAST_LIFE_DAYS for item in features.info], dtype=float)
    return np.where(tenure >= needed, values, np.nan)


def _aligned_past(snapshots: Snapshots, features: FeatureSet, ids: np.ndarray) -> np.ndarray:
    past = np.full((len(ids), len(features.names)), np.nan)
    day = past_day(snapshots)
    if day is not None:
        then_ids, then = matrix(snapshots, features, day)
        then = lived_through(then, features)
        position = pd.Index(then_ids).get_indexer(pd.Index(ids))
        past[position >= 0] = then[position[position >= 0]]
    return past


def account_facts(snapshots: Snapshots, loaded: Loaded, ids: np.ndarray) -> pd.DataFrame:
    """Return the facts shown with a score: one row per entity of `ids`, in that order.

    Columns: entity_id, status, tenure_days, arr, is_under_contract, renews_on, notice_on,
    days_to_notice, last_active_days, those of `ACCOUNT_FACTS` that the company has, and with an
    owner_id the owner's name.
    """
    book = snapshots.book_on
    facts = (
        read_snapshot(snapshots, ACCOUNT_STATUS, book).to_pandas().set_index("entity_id").loc[ids]
    )
    facts = facts.reset_index().drop(columns=["as_of", "created_at"])
    facts["renews_on"] = _dates(facts["renews_day"])
    facts["notice_on"] = _dates(facts["notice_day"])
    facts["days_to_notice"] = facts["notice_day"] - facts["as_of_day"]
    facts["days_to_renewal"] = facts["renews_day"] - facts["as_of_day"]
    accounts = pq.read_table(loaded.tables["accounts"].path).to_pandas()
    accounts = accounts[accounts["known_at"] <= pd.Timestamp(book)]
    accounts = accounts.sort_values("known_at").drop_duplicates("account_id", keep="last")
    shown = [name for name in ACCOUNT_FACTS if name in accounts]
    attributes = accounts.set_index("account_id")[shown].reindex(ids).reset_index(drop=True)
    if "owner_id" in attributes:
        attributes["owner"] = attributes["owner_id"].map(_owner_names(loaded))
    return pd.concat(
        [facts.drop(columns=["as_of_day", "renews_day", "notice_day"]), attributes], axis=1
    )


def owner_table(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Return each owner's name, team, manager_id and weekly capacity; nothing without owners."""
    if "owners" not in loaded.tables:
        return {}
    frame = pq.read_table(loaded.tables["owners"].path).to_pandas().drop_duplicates("owner_id")
    told = frame.reindex(columns=["name", "team", "manager_id", "capacity"]).astype(object)
    rows = told.where(told.notna(), None).to_dict("records")
    return dict(zip(frame["owner_id"].astype(str), rows, strict=True))


def _owner_names(loaded: Loaded) -> dict[str, str]:
    if "owners" not in loaded.tables or "name" not in loaded.tables["owners"].columns:
        return {}
    owners = pq.read_table(loaded.tables["owners"].path, columns=["owner_id", "name"]).to_pandas()
    return dict(zip(owners["owner_id"], owners["name"], strict=True))


def _dates(days: pd.Series) -> list[str | None]:
    return [None if pd.isna(day) else str(index_day(int(day))) for day in days]


def _json(row: dict[Any, Any]) -> str:
    clean = {
        str(key): None if isinstance(value, float) and np.isnan(value) else _plain(value)
        for key, value in row.items()
        if key != "entity_id"
    }
    return json.dumps(clean, ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> Any:
    if value is pd.NA or value is pd.NaT:
        return None
    return value.item() if isinstance(value, np.generic) else value


def peer_table(
    values: np.ndarray, facts: pd.DataFrame, features: FeatureSet
) -> tuple[dict[str, Any], list[str]]:
    """Return each peer group's size, name and quartiles per feature, and each entity's group.

    Peers are scored accounts alike in segment, age and contract; with fewer than `MIN_PEERS` of
    them the group is widened, and its name says so.

    Returns
    -------
    peers : dict
        group → {"words", "n", "quartiles": {feature → [p25, median, p75]}}.
    groups : list of str
        One key of `peers` per row of `facts`.
    """
    scored = (facts["status"] == "scored").to_numpy()
    levels = _group_levels(facts)
    groups = np.array(["all"] * len(facts), dtype=object)
    for keys in reversed(levels):
        counts = keys[scored].value_counts()
        big = set(counts[counts >= MIN_PEERS].index)
        fits = keys.isin(big).to_numpy()
        groups[fits] = keys[fits]
    peers = {
        str(group): _peer_entry(
            str(group), values, scored, _members(levels, str(group), len(facts)), features
        )
        for group in sorted(set(groups) | {"all"})
    }
    return peers, [str(group) for group in groups]


def _group_levels(facts: pd.DataFrame) -> list[pd.Series]:
    """Return group names from narrow to wide."""
    ages = ["in their first year", "in their second year", "older than two years"]
    years = np.digitize(facts["tenure_days"].to_numpy(dtype=float), [364, 728])
    age = [ages[year] for year in years]
    contract = [
        "accounts under contract" if under else "accounts without contract"
        for under in facts["is_under_contract"]
    ]
    wide = [_joined(contract, age), pd.Series(contract)]
    if "segment" not in facts:
        return wide
    # Without a segment, an account has no group as narrow as that.
    within = [
        None if pd.isna(name) else f"{str(name).replace('_', ' ')} {group}"
        for name, group in zip(facts["segment"], contract, strict=True)
    ]
    return [_joined(within, age), pd.Series(within, dtype=object), *wide]


def _joined(groups: Sequence[str | None], age: list[str]) -> pd.Series:
    pairs = zip(groups, age, strict=True)
    return pd.Series([group and f"{group}, {years}" for group, years in pairs], dtype=object)


def _members(levels: list[pd.Series], group: str, n: int) -> np.ndarray:
    for keys in levels:
        found = (keys == group).to_numpy()
        if found.any():
            return found
    return np.ones(n, dtype=bool)


def _peer_entry(
    group: str, values: np.ndarray, scored: np.ndarray, members: np.ndarray, features: FeatureSet
) -> dict[str, Any]:
    chosen = values[scored & members]
    known = ~np.isnan(chosen)
    quartiles: dict[str, list[float]] = {}
    for position, name in enumerate(features.names):
        column = chosen[known[:, position], position]
        if len(column) >= MIN_PEERS or (group == "all" and len(column)):
            quartiles[name] = [float(q) for q in np.quantile(column, [0.25, 0.5, 0.75])]
    words = "all accounts" if group == "all" else group
    return {"words": words, "n": len(chosen), "quartiles": quartiles}
