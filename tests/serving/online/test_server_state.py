"""What is served switches at once, and only when it can be answered."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import serving.online.score_request as module
from configs.runtime.errors import StateError, UnavailableError
from configs.runtime.state_directory import State
from configs.schema.workspace import Workspace
from features.feast_store import OnlineRow
from serving.ledger.store.ledger import Ledger
from serving.online.release_loader import LoadedRelease
from serving.online.server_state import ServerState
from training.model.bundle import load
from training.registry.releases import current, open_store, publish, rollback


@pytest.fixture
def next_release(fresh, world, release_for):
    return lambda feature_hash=None: release_like(fresh, world, release_for, feature_hash)


def release_like(fresh, world, release_for, feature_hash):
    bundles = {
        target: load(fresh.state.bundles / part["sha"])
        for target, part in world.release.bundles.items()
    }

    class Features:
        hash = feature_hash or world.feature_hash
        names = world.names

    return release_for(fresh, bundles, Features, note="the next one")


def test_nothing_published_is_not_ready(world, tmp_path):
    empty = Workspace(world.workspace.company, tmp_path, tmp_path, State(tmp_path))
    serving = ServerState(empty)
    serving.refresh()
    try:
        assert not serving.is_ready()
        assert serving.notes["release"] == "no release is published"
        assert serving.notes["book"] == "no book is published yet"
        with pytest.raises(StateError, match="no release is published"):
            serving.score(["A-0001"], request_id="x")
    finally:
        serving.close()


def test_a_published_release_is_ready(serving, world):
    assert serving.is_ready()
    assert serving.current().release == world.release


def test_a_new_release_takes_over_and_can_be_rolled_back(serving, fresh, world, next_release):
    store = open_store(fresh)
    publish(store, next_release(), world.release.release_id)
    assert serving.current().release.note == ""
    serving.refresh()
    assert serving.current().release.note == "the next one"
    rollback(store)
    serving.refresh()
    assert serving.current().release.release_id == current(store).release_id
    assert serving.current().release.note == ""


def test_a_release_whose_features_are_not_online_waits(serving, fresh, world, next_release):
    waiting = next_release("feedbeef")
    publish(open_store(fresh), waiting, world.release.release_id)
    serving.refresh()
    assert serving.current().release == world.release
    assert "waits" in serving.notes["release"]
    answer = serving.score(["A-0030"], request_id="x").answers[0]
    assert answer["release_id"] == world.release.release_id


def test_a_damaged_mirror_keeps_what_is_served(serving, fresh, world):
    (fresh.state.releases / "current.json").write_text("{")
    serving.refresh()
    assert serving.current().release == world.release
    assert "damaged" in serving.notes["release"]


def test_a_switch_never_mixes_two_releases(serving, fresh, world, next_release):
    store = open_store(fresh)
    other = next_release()
    publish(store, other, world.release.release_id)
    seen, stop = set(), threading.Event()
    ids = [f"A-{i:04d}" for i in range(20, 40)]

    def ask() -> None:
        while not stop.is_set():
            answers = serving.score(ids, request_id="x").answers
            seen.add(frozenset(answer["release_id"] for answer in answers))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3):
            serving.refresh()
            rollback(store)
            serving.refresh()
            publish(store, other, world.release.release_id)
    finally:
        stop.set()
        thread.join()
    assert all(len(releases) == 1 for releases in seen)


def test_percentiles_wait_for_a_book_of_the_same_release(serving, live, book):
    assert serving.current().scorer.ranks == {}
    assert set(live.current().scorer.ranks) == {
        "churn:renewal",
        "churn:horizon",
        "expansion:horizon",
    }
    part = live.score(["A-0030"], request_id="x").answers[0]["scores"]["churn"]
    assert 0 <= part["percentile"] <= 100


def test_repeats_are_scored_and_kept_once(live):
    scored = live.score(["A-0030", "A-0031", "A-0030"], request_id="x")
    assert [answer["account_id"] for answer in scored.answers] == ["A-0030", "A-0031", "A-0030"]
    assert len(scored.rows) == 4
    assert len({row.score_id for row in scored.rows}) == 4


def test_the_ledger_gets_a_batch_part_by_part(live, monkeypatch):
    monkeypatch.setattr(module, "PART_ACCOUNTS", 2)
    ids = ["A-0030", "A-0031", "nobody", "A-0030", "A-0032", "A-0033"]
    kept = []
    scored = live.score(ids, request_id="x", keep=kept.append)
    assert [answer["account_id"] for answer in scored.answers] == ids
    assert [{row.entity_id for row in part} for part in kept] == [
        {"A-0030", "A-0031"},
        {"A-0032"},
        {"A-0033"},
    ]
    assert [row for part in kept for row in part] == [*scored.rows, *scored.shadow]


def test_all_parts_of_a_batch_are_answered_by_one_release(
    serving, fresh, world, next_release, monkeypatch
):
    monkeypatch.setattr(module, "PART_ACCOUNTS", 1)
    before, other = world.release.release_id, next_release()

    def switch(_) -> None:
        if serving.current().release.release_id == before:
            publish(open_store(fresh), other, before)
            serving.refresh()

    scored = serving.score(["A-0030", "A-0031", "A-0032"], request_id="x", keep=switch)
    assert serving.current().release.release_id == other.release_id
    assert {answer["release_id"] for answer in scored.answers} == {before}


class OneBadAccount:
    """An online store in which one account's row is broken, and with it every batch it is in."""

    def __init__(self, store, bad: str) -> None:
        self._store, self._bad = store, bad

    def held(self, feature_hash, entities) -> list[OnlineRow | None]:
        if self._bad in entities:
            raise ValueError("setting an array element with a sequence")
        return self._store.held(feature_hash, entities)


def test_one_bad_account_costs_nobody_else_an_answer(serving):
    stage = serving.current()
    serving.stage = LoadedRelease(stage.scorer, OneBadAccount(stage.store, "A-0031"), stage.vectors)
    answers = serving.score(["A-0030", "A-0031", "A-0032"], request_id="x").answers
    assert [answer["status"] for answer in answers] == ["scored", "score_failed", "scored"]


def test_a_ledger_row_replays_to_the_same_score(live, world):
    scored = live.score(["A-0030"], request_id="replay", channel="api")
    with Ledger.open(world.workspace) as ledger:
        ledger.append(scored.rows)
        kept = ledger.scores.find(scored.rows[0].score_id)
    bundle = load(world.workspace.state.bundles / kept.bundle_sha, kept.bundle_sha)
    vector = np.frombuffer(kept.features, dtype="<f8")
    columns = {name: [vector[world.names.index(name)]] for name in bundle.encoder.names}
    assert bundle.predict(bundle.encode(columns).matrix).p[0] == kept.probability
    assert kept.as_of.date() == world.now.date()


def test_a_ledger_that_cannot_be_opened_is_not_ready(fresh):
    (fresh.state.root / "ledger").write_text("in the way")
    serving = ServerState(fresh)
    serving.refresh()
    try:
        assert not serving.is_ready()
        assert serving.notes["ledger"]
        with pytest.raises(UnavailableError):
            _ = serving.ledger
    finally:
        serving.close()


def test_the_background_check_finds_a_release(fresh, world, next_release):
    serving = ServerState(fresh)
    serving.start(check_seconds=0.05)
    try:
        publish(open_store(fresh), next_release(), world.release.release_id)
        found = threading.Event()
        for _ in range(100):
            if serving.current().release.note:
                found.set()
                break
            found.wait(0.1)
        assert found.is_set()
    finally:
        serving.close()
