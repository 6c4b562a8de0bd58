"""Raw tables to a filled store in one call, and what a second call does again: nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import features.snapshots.grid
from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State
from features.feast_store import CONFIG as STORE_CONFIG
from features.feast_store import FeastStore
from features.online_vectors import matrix
from features.pipeline import build_features
from features.signals import FAMILIES

NOW = datetime(2025, 4, 1, 6, tzinfo=UTC)
TABLES = {
    "accounts": [{"account_id": n, "created_at": "2024-01-01"} for n in "abcd"],
    "usage_events": [
        {"account_id": n, "occurred_at": f"2024-{month}-15T10:00:00"}
        for n in "abc"
        for month in ("01", "06", "12")
    ],
    "milestones": [
        {"account_id": "a", "milestone": "m", "occurred_on": "2024-05-01", "due_on": "2024-06-01"}
    ],
}
CONFIG = {"name": "built", "grid": {"every": "month", "start_on": "2024-12-01"}}


@pytest.fixture(autouse=True)
def one_family(monkeypatch):
    monkeypatch.setattr(
        features.snapshots.grid, "FAMILIES", tuple(f for f in FAMILIES if f.name == "journey")
    )


@pytest.fixture(scope="module")
def template(company_of, tmp_path_factory):
    """A built company, to be copied."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            features.snapshots.grid, "FAMILIES", tuple(f for f in FAMILIES if f.name == "journey")
        )
        workspace = company_of(folder, TABLES, **CONFIG)
        said: list[str] = []
        built = build_features(workspace, NOW, said.append)
    return workspace, built, said


@pytest.fixture
def copied(template, tmp_path):
    """The built company in a state directory of its own, as another machine would have it."""
    workspace = template[0]
    shutil.copytree(workspace.state.root, tmp_path / "state")
    return replace(workspace, state=State(tmp_path / "state"))


def steps(workspace, now=NOW) -> list[str]:
    said: list[str] = []
    build_features(workspace, now, said.append)
    return [words for words in said if "unchanged" not in words]


def test_everything_is_there(template):
    _, built, said = template
    assert list(built.labels) == ["churn"]
    assert list(built.snapshots.sets) == ["journey", "standing"]
    ids, values = matrix(built.snapshots, built.features, built.snapshots.book_on)
    rows = built.store.online(built.features.hash, len(built.features.names), list(ids))
    np.testing.assert_array_equal(rows.values, values)
    frame = built.labels["churn"].frame
    joined = built.store.historical(frame, "churn", built.features.info)
    assert len(joined) == len(frame) == 4 * len(built.snapshots.days)
    assert joined["tenure_days"].notna().all()
    order = ["accounts:", "daily table", "journey:", "standing:", "feature store: declaring"]
    order += ["feature store: loading", "labelling churn"]
    places = [next(i for i, words in enumerate(said) if words.startswith(start)) for start in order]
    assert places == sorted(places)


def test_a_second_build_does_nothing_again(template, one_family):
    assert steps(template[0]) == []


def test_a_state_directory_that_was_moved_reads_its_own_files(copied, template, monkeypatch):
    assert [words.split(":")[0] for words in steps(copied)] == ["feature store"] * 2
    original = template[0].state.root
    original.rename(original.with_name("away"))
    try:
        built = build_features(copied, NOW)
        frame = built.labels["churn"].frame
        assert (
            built.store.historical(frame, "churn", built.features.info)["tenure_days"].notna().all()
        )
    finally:
        original.with_name("away").rename(original)
    assert steps(copied) == []


def test_a_relative_state_directory_may_be_read_from_anywhere(copied, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    relative = replace(copied, state=State(Path("state")))
    built = build_features(relative, NOW)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    frame = built.labels["churn"].frame
    found = FeastStore(copied).historical(frame, "churn", built.features.info)
    assert found["tenure_days"].notna().all()


def test_a_new_day_builds_its_own_rows_and_loads_its_book(copied):
    steps(copied)
    words = steps(copied, NOW + timedelta(days=1))
    assert "journey: building 1 of 6 snapshots" in words
    assert any("of 2025-04-02" in said for said in words)
    assert "labelling churn" in words
    assert steps(copied, NOW + timedelta(days=1)) == []


def test_an_online_store_that_was_lost_is_filled_again(copied):
    steps(copied)
    (copied.state.feast / "online.db").unlink()
    assert [words.split(":")[0] for words in steps(copied)] == ["feature store"] * 2
    assert steps(copied) == []


def test_a_large_book_is_not_loaded_by_name(copied):
    """By name, each value takes a row of its own: how many accounts are too many is a setting."""
    serving = copied.company.serving.model_copy(update={"online_by_name_up_to": 3})
    company = copied.company.model_copy(update={"serving": serving})
    assert company.config_hash == copied.company.config_hash  # changes no score
    large = replace(copied, company=company)
    said = steps(large)
    assert said[-1].endswith("no features by name: 4 accounts, serving.online_by_name_up_to is 3")
    views = FeastStore(large)._feast.list_feature_views()
    assert [view.name.split("_")[0] for view in views if view.online] == ["vector"]
    assert steps(large) == []
    assert steps(copied)[-1].endswith("families by name")
    assert (copied.state.feast / STORE_CONFIG).is_file()


def test_a_build_that_ended_before_its_store_was_filled_is_completed(copied, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("features.feast_store.FeastStore.materialize", full_disk)
        with pytest.raises(OSError, match="no space"):
            steps(copied)
    assert [words.split(":")[0] for words in steps(copied)] == ["feature store"] * 2


def test_a_target_that_cannot_be_observed_stops_with_what_to_map(company_of, tmp_path):
    target = {"outcome": "churn", "observed_in": "subscriptions"}
    workspace = company_of(tmp_path, TABLES, **CONFIG | {"targets": {"churn": target}})
    with pytest.raises(ConfigError, match="observed in subscriptions") as error:
        build_features(workspace, NOW)
    assert "map the table subscriptions" in error.value.fix


def test_the_same_input_gives_the_same_features_and_labels(template, company_of, tmp_path):
    _, built, _ = template
    again = build_features(company_of(tmp_path, TABLES, **CONFIG), NOW)
    assert again.features == built.features
    pd.testing.assert_frame_equal(again.labels["churn"].frame, built.labels["churn"].frame)
    assert again.labels["churn"].contract == built.labels["churn"].contract
