"""The book as vectors: order, past, facts and peers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import features.online_vectors
import features.snapshots.grid
from configs.runtime.state_directory import read_manifest
from features.online_vectors import (
    MIN_PEERS,
    FeatureSet,
    account_facts,
    build_vectors,
    feature_set,
    lived_through,
    matrix,
    past_day,
    peer_table,
    read_peers,
)
from features.signals import FAMILIES
from features.snapshots.grid import Snapshots, build_snapshots
from features.sources import load_sources
from features.tables.catalog import FeatureInfo

NOW = datetime(2025, 4, 1, 6, tzinfo=UTC)
TABLES = {
    "accounts": [
        {
            "account_id": n,
            "created_at": f"2024-0{k}-01T00:00:00",
            "known_at": f"2024-0{k}-01T00:00:00",
        }
        | {"name": f"Name of {n}", "segment": "mid_market" if k < 3 else None, "owner_id": owner}
        for k, (n, owner) in enumerate({"c": "o1", "a": "o2", "b": "gone"}.items(), start=1)
    ]
    + [
        {
            "account_id": "new",
            "created_at": "2025-03-10T00:00:00",
            "known_at": "2025-03-10T00:00:00",
            "name": "First name",
            "segment": "small",
            "owner_id": None,
        },
        {
            "account_id": "new",
            "created_at": "2025-03-10T00:00:00",
            "known_at": "2025-05-10T00:00:00",
            "name": "Name of the future",
            "segment": "small",
            "owner_id": "o1",
        },
    ],
    "milestones": [
        {"account_id": "a", "milestone": "m", "occurred_on": "2024-05-01", "due_on": "2024-06-01"}
    ],
    "touches": [
        {"account_id": "a", "touched_at": "2025-03-20T10:00:00", "kind": "call"},
        {"account_id": "b", "touched_at": "2024-12-20T10:00:00", "kind": "call"},
    ],
    "subscriptions": [
        {"account_id": "a", "subscription_id": "s", "started_on": "2024-06-01", "arr": 1234.56}
        | {"renews_on": "2025-06-01", "notice_period_days": 30}
    ],
    "usage_events": [{"account_id": "a", "occurred_at": "2025-03-30T12:00:00"}],
    "owners": [
        {"owner_id": "o1", "created_at": "2020-01-01T00:00:00", "name": "Ada"},
        {"owner_id": "o2", "created_at": "2020-01-01T00:00:00", "name": "Grace"},
    ],
}


@pytest.fixture(scope="module")
def made(company_of, tmp_path_factory):
    workspace = company_of(
        tmp_path_factory.mktemp("vector"),
        TABLES,
        grid={"every": "month", "start_on": "2024-12-01"},
        tables={"accounts": {"history": True}},
    )
    few = tuple(family for family in FAMILIES if family.name in {"journey", "relationship"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.snapshots.grid, "FAMILIES", few[::-1])
        loaded = load_sources(workspace, NOW)
        snapshots = build_snapshots(workspace, loaded, NOW)
    return workspace, loaded, snapshots


def test_features_come_in_family_order_and_the_set_has_a_name(made):
    _, _, snapshots = made
    chosen = feature_set(snapshots)
    assert [item.family for item in chosen.info] == sorted(item.family for item in chosen.info)
    assert chosen.names[:2] == ["tenure_days", "is_first_year"]
    assert list(chosen.versions) == ["journey", "relationship"]
    assert replace(chosen, info=chosen.info[::-1]).hash != chosen.hash
    assert replace(chosen, versions={**chosen.versions, "journey": "other"}).hash != chosen.hash
    assert feature_set(snapshots).hash == chosen.hash


def test_the_matrix_is_sorted_by_entity_and_in_vector_order(made):
    _, _, snapshots = made
    chosen = feature_set(snapshots)
    ids, values = matrix(snapshots, chosen, snapshots.book_on)
    assert list(ids) == ["a", "b", "c", "new"]
    assert values.dtype == np.float64
    assert values[:, chosen.names.index("tenure_days")].tolist() == [425.0, 396.0, 456.0, 22.0]
    assert values[:, chosen.names.index("days_since_meeting")].tolist()[:2] == [11.0, 101.0]
    assert np.isnan(values[2:, chosen.names.index("days_since_meeting")]).all()


def test_the_past_is_the_last_as_of_at_least_twelve_weeks_before(made):
    _, _, snapshots = made
    assert snapshots.book_on == date(2025, 4, 1)
    assert past_day(snapshots) == date(2025, 1, 1)
    assert past_day(replace(snapshots, days=snapshots.days[-2:])) is None


def test_the_folder_holds_values_past_facts_and_peers(made):
    workspace, loaded, snapshots = made
    chosen = feature_set(snapshots)
    folder = build_vectors(workspace, loaded, snapshots)
    assert folder.name == "2025-04-01"
    rows = pq.read_table(folder / "part.parquet").to_pylist()
    ids, values = matrix(snapshots, chosen, snapshots.book_on)
    assert [row["entity_id"] for row in rows] == list(ids)
    np.testing.assert_array_equal([row["values"] for row in rows], values)
    then_ids, then = matrix(snapshots, chosen, date(2025, 1, 1))
    assert "new" not in then_ids
    np.testing.assert_array_equal([row["past"] for row in rows[:3]], then)
    assert np.isnan(rows[3]["past"]).all()
    assert all(row["as_of"] == row["created_at"] for row in rows)
    stamp = (folder / "part.parquet").stat().st_mtime_ns
    assert build_vectors(workspace, loaded, snapshots) == folder
    assert (folder / "part.parquet").stat().st_mtime_ns == stamp
    assert read_peers(folder)["all"]["words"] == "all accounts"


def test_facts_are_those_of_the_day_of_the_book(made):
    workspace, loaded, snapshots = made
    rows = pq.read_table(build_vectors(workspace, loaded, snapshots) / "part.parquet").to_pylist()
    facts = {row["entity_id"]: json.loads(row["facts"]) for row in rows}
    assert facts["a"] == {
        "name": "Name of a",
        "segment": "mid_market",
        "owner_id": "o2",
        "owner": "Grace",
        "status": "scored",
        "arr": 1234.56,
        "has_room": True,
        "is_under_contract": True,
        "renews_on": "2025-06-01",
        "notice_on": "2025-05-02",
        "days_to_renewal": 61.0,
        "days_to_notice": 31.0,
        "tenure_days": 425,
        "last_active_days": 1.0,
        "peer_group": "all",
        "growth": {"kinds": {}, "rules": [], "blockers": [], "contact": None},
        "products": [],  # its terms name none
    }
    assert facts["new"]["name"] == "First name"  # renamed after the book
    assert facts["new"]["owner"] is None
    assert facts["b"]["owner"] is None  # an owner the owners table does not have
    assert facts["b"]["status"] == "insufficient_data"
    assert facts["b"]["arr"] is None
    assert facts["b"]["renews_on"] is None


def test_facts_keep_the_order_asked(made):
    _, loaded, snapshots = made
    asked = np.array(["new", "a", "c"], dtype=object)
    assert account_facts(snapshots, loaded, asked)["entity_id"].tolist() == list(asked)


# Peers: groups of 20 and more, widened where they are smaller


def info(name: str) -> FeatureInfo:
    return FeatureInfo(name, "f", name, f"{name}.", "count", None, "support")


ONE = FeatureSet((info("x"), info("y")), {"f": "1"})


def book(n: int, **columns: object) -> pd.DataFrame:
    plain = {"status": "scored", "tenure_days": 800, "is_under_contract": True, "segment": "small"}
    return pd.DataFrame(
        {name: columns.get(name, value) for name, value in plain.items()}, index=range(n)
    )


def test_peers_are_scored_accounts_alike_in_segment_age_and_contract():
    n = 2 * MIN_PEERS
    facts = book(n, tenure_days=[100] * MIN_PEERS + [800] * MIN_PEERS)
    values = np.column_stack([np.arange(n, dtype=float), np.full(n, np.nan)])
    peers, groups = peer_table(values, facts, ONE)
    young = "small accounts under contract, in their first year"
    old = "small accounts under contract, older than two years"
    assert groups == [young] * MIN_PEERS + [old] * MIN_PEERS
    assert peers[young]["n"] == MIN_PEERS
    assert peers[young]["quartiles"] == {"x": [4.75, 9.5, 14.25]}  # of 0 … 19; y is unknown
    assert peers[old]["quartiles"]["x"][1] == 29.5
    assert peers["all"]["n"] == n


def test_a_group_too_small_is_widened_and_says_so():
    facts = book(
        MIN_PEERS + 5,
        tenure_days=[800] * (MIN_PEERS - 1) + [400] * 6,
        is_under_contract=[True] * (MIN_PEERS + 4) + [False],
    )
    peers, groups = peer_table(np.zeros((len(facts), 2)), facts, ONE)
    assert set(groups[:-1]) == {"small accounts under contract"}
    assert groups[-1] == "all"
    assert peers["small accounts under contract"]["n"] == MIN_PEERS + 4
    assert peers["all"]["words"] == "all accounts"


def test_accounts_that_are_not_scored_are_nobodys_peers():
    facts = book(MIN_PEERS + 3, status=["scored"] * MIN_PEERS + ["closed"] * 3)
    values = np.column_stack([[1.0] * MIN_PEERS + [99.0] * 3, np.zeros(MIN_PEERS + 3)])
    peers, groups = peer_table(values, facts, ONE)
    [group] = set(groups)
    assert peers[group]["n"] == MIN_PEERS
    assert peers[group]["quartiles"]["x"] == [1.0, 1.0, 1.0]


def test_without_a_segment_an_account_is_compared_with_all_of_its_kind():
    n = MIN_PEERS
    facts = book(2 * n, segment=["small"] * n + [None] * n)
    values = np.column_stack([np.arange(2 * n, dtype=float)] * 2)
    peers, groups = peer_table(values, facts, ONE)
    assert set(groups[n:]) == {"accounts under contract, older than two years"}
    assert peers[groups[-1]]["n"] == 2 * n
    assert peers[groups[-1]]["quartiles"]["x"][1] == n - 0.5
    assert peers[groups[0]]["n"] == n


def test_a_company_without_segments_has_peers_by_age_and_contract():
    facts = book(MIN_PEERS).drop(columns="segment")
    _, groups = peer_table(np.zeros((MIN_PEERS, 2)), facts, ONE)
    assert set(groups) == {"accounts under contract, older than two years"}


def test_an_empty_book():
    empty = Snapshots(days=(date(2025, 1, 1),), sets={})
    assert feature_set(empty).names == []
    peers, groups = peer_table(np.empty((0, 2)), book(0), ONE)
    assert groups == []
    assert peers == {"all": {"words": "all accounts", "n": 0, "quartiles": {}}}


def test_vectors_are_made_again_when_their_code_changes(made, monkeypatch):
    folder = build_vectors(*made)
    first = (folder / "manifest.json").stat().st_mtime_ns
    assert build_vectors(*made) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == first
    monkeypatch.setattr(features.online_vectors, "code_digest", lambda name: f"another {name}")
    assert build_vectors(*made) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns > first
    assert read_manifest(folder)["code"] == "another features.online_vectors"


def test_days_with_the_columns_of_an_earlier_version_are_removed(made):
    """The view reads all days at once, and fails where one lacks a column."""
    workspace, loaded, snapshots = made
    earlier = build_vectors(workspace, loaded, replace(snapshots, days=snapshots.days[:-1]))
    kept = build_vectors(workspace, loaded, replace(snapshots, days=snapshots.days[:-2]))
    table = pq.read_table(earlier / "part.parquet")
    pq.write_table(table.drop_columns(["answer"]), earlier / "part.parquet")
    newest = build_vectors(workspace, loaded, snapshots)
    (newest / "manifest.json").unlink()
    assert build_vectors(workspace, loaded, snapshots) == newest
    assert not earlier.exists()
    assert kept.exists()
    assert set(pq.read_table(newest / "part.parquet")["answer"].to_pylist()) == {b""}


def test_a_young_account_is_not_compared_with_itself_of_before_its_window(made):
    """What it did in a window that began before it was there is no comparison."""
    features = feature_set(made[2])
    tenure = features.names.index("tenure_days")
    values = np.ones((3, len(features.names)))
    values[:, tenure] = (13, 84, 500)
    kept = ~np.isnan(lived_through(values, features))
    kept[:, tenure] = True
    windows = np.array([item.window_days or 28 for item in features.info])
    windows[tenure] = 0
    assert not kept[0, windows > 13].any()
    np.testing.assert_array_equal(kept[1], windows <= 84)
    assert kept[2].all() == (windows.max() <= 500)
