"""One release at a time: two promotions at once cannot corrupt it, and the mirror repairs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import training.registry.releases as module
from configs.runtime.errors import ConfigError, ModelError, StateError, UnavailableError
from configs.runtime.hashing import file_digest
from configs.runtime.state_directory import MANIFEST, State, write_json_atomically
from configs.schema.company import Company, Target
from configs.schema.workspace import Environment, Workspace
from training.registry.releases import (
    CURRENT,
    Release,
    ReleaseStore,
    current,
    get,
    history,
    mark_served,
    mirror,
    new_release,
    open_store,
    publish,
    read_current,
    read_served,
    release_from_dict,
    rollback,
)
from training.registry.shadow import publish_shadow, read_shadow, shadow_of, withdraw_shadow

ROOT = Path(module.__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)

PUBLISHER = """
import json, sys, time
from pathlib import Path
from configs.schema.company import Company, Target
from configs.runtime.errors import StateError
from configs.schema.workspace import Environment, Workspace
from configs.runtime.state_directory import State
from training.registry.releases import open_store, publish, release_from_dict

url, root, gate, body = sys.argv[1] or None, Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
company = Company(name="acme", targets={"churn": Target(outcome="churn", observed_in="labels")})
store = open_store(Workspace(company, root, root, State(root), Environment(ledger_url=url)))
release = release_from_dict(json.loads(body))
print("ready", flush=True)
while not gate.exists():
    time.sleep(0.001)
try:
    publish(store, release, None, by=release.note)
    print("won")
except StateError as error:
    print("lost" if "meanwhile" in str(error) else repr(error))
"""


def workspace(root: Path, url: str = "", name: str = "acme") -> Workspace:
    company = Company(name=name, targets={"churn": Target(outcome="churn", observed_in="labels")})
    return Workspace(company, root, root, State(root), Environment(ledger_url=url or None))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[ReleaseStore]:
    opened = open_store(workspace(tmp_path, url))
    yield opened
    opened.engine.dispose()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[ReleaseStore]:
    opened = open_store(workspace(tmp_path))
    yield opened
    opened.engine.dispose()


def make_bundle(bundles: Path, text_: str = "tree") -> str:
    """Write a folder of the shape of a bundle, and return its sha."""
    aside = bundles / "new"
    aside.mkdir(parents=True)
    (aside / "model.txt").write_text(text_)
    write_json_atomically(
        aside / MANIFEST,
        {"kind": "rates", "files": {"model.txt": file_digest(aside / "model.txt")}},
    )
    sha = file_digest(aside / MANIFEST)
    if (bundles / sha).exists():
        (aside / "model.txt").unlink()
        (aside / MANIFEST).unlink()
        aside.rmdir()
    else:
        aside.rename(bundles / sha)
    return sha


def parts(sha: str, **changes: Any) -> dict[str, Any]:
    return {
        "created_at": NOW,
        "bundles": {"churn": {"sha": sha, "verdict": "promotable"}},
        "feature_set": {"hash": "f0", "names": ["n_users_28d", "arr"]},
        "bands": {"churn": {"elevated": 0.1, "high": 0.3}},
        "reason_catalogue_version": "1",
        "label_contracts": {"churn": {"outcome": "churn", "horizon_days": 91}},
        "config_hash": "c0",
        "evidence": {"gates": [{"name": "auc", "passed": True, "limit": float("nan")}]},
        "note": "",
    } | changes


def release(store: ReleaseStore, note: str = "") -> Release:
    return new_release(**parts(make_bundle(store.bundles, f"tree of {note}"), note=note))


def publish_all(store: ReleaseStore, notes: str) -> list[Release]:
    """Publish one release after the other."""
    made: list[Release] = []
    for note in notes:
        made.append(release(store, note))
        publish(store, made[-1], made[-2].release_id if made[:-1] else None)
    return made


def test_nothing_is_current_at_first(store: ReleaseStore) -> None:
    assert current(store) is None
    assert history(store) == []
    assert mirror(store, store.mirror_folder) is None
    assert read_current(store.mirror_folder) is None


def test_a_published_release_is_current_everywhere(store: ReleaseStore) -> None:
    first = release(store)
    publish(store, first, None, by="dana", note="first model")
    assert current(store) == first
    assert get(store, first.release_id) == first
    assert read_current(store.mirror_folder) == first
    (entry,) = history(store)
    assert (entry.sequence, entry.release_id, entry.previous) == (1, first.release_id, None)
    assert (entry.action, entry.published_by, entry.note) == ("publish", "dana", "first model")
    assert entry.published_at.utcoffset() is not None


def test_the_loser_is_told_who_won_and_changes_nothing(store: ReleaseStore) -> None:
    first, second = publish_all(store, "AB")
    late = release(store, "late")
    with pytest.raises(StateError, match=f"{second.release_id} was published meanwhile"):
        publish(store, late, first.release_id)
    assert current(store) == second
    assert len(history(store)) == 2
    with pytest.raises(StateError, match="no release"):
        get(store, late.release_id)
    assert not (store.mirror_folder / f"{late.release_id}.json").exists()


def test_of_many_threads_one_wins(store: ReleaseStore) -> None:
    candidates = [release(store, str(k)) for k in range(8)]

    def attempt(candidate: Release) -> bool:
        try:
            publish(store, candidate, None)
        except StateError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [
            item
            for item, is_won in zip(candidates, pool.map(attempt, candidates), strict=True)
            if is_won
        ]
    assert won == [current(store)] == [read_current(store.mirror_folder)]
    assert [item.release_id for item in history(store)] == [won[0].release_id]


def test_of_many_processes_one_wins(url: str, tmp_path: Path) -> None:
    bundles = State(tmp_path).bundles
    candidates = [new_release(**parts(make_bundle(bundles, str(k)), note=str(k))) for k in range(4)]
    gate = tmp_path / "go"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, url, str(tmp_path), str(gate)]
            + [json.dumps(candidate.as_dict())],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for candidate in candidates
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    gate.touch()
    said = [child.communicate(timeout=60)[0].strip() for child in children]
    assert sorted(said) == ["lost", "lost", "lost", "won"]
    store = open_store(workspace(tmp_path, url))
    winner = candidates[said.index("won")]
    assert current(store) == winner == read_current(store.mirror_folder)
    assert [item.published_by for item in history(store)] == [winner.note]
    store.engine.dispose()


def test_rolling_back_is_one_step_and_is_recorded(store: ReleaseStore) -> None:
    first, second, third = publish_all(store, "ABC")
    assert rollback(store, by="dana", note="alerts doubled") == second
    assert current(store) == second == read_current(store.mirror_folder)
    assert rollback(store) == first
    with pytest.raises(StateError, match="no earlier release"):
        rollback(store)
    actions = [(item.sequence, item.action) for item in history(store)]
    assert actions == [
        (1, "publish"),
        (2, "publish"),
        (3, "publish"),
        (4, "rollback"),
        (5, "rollback"),
    ]
    assert history(store)[3].previous == third.release_id
    assert history(store)[3].note == "alerts doubled"
    assert rollback(store, to=third.release_id) == third


def test_rolling_back_to_what_was_never_published_is_refused(store: ReleaseStore) -> None:
    with pytest.raises(StateError, match="no earlier release"):
        rollback(store)
    publish_all(store, "AB")
    with pytest.raises(StateError, match="never published"):
        rollback(store, to="20260101-0000000000")


def test_companies_sharing_a_database_have_their_own_current(
    store: ReleaseStore, url: str, tmp_path: Path
) -> None:
    publish_all(store, "A")
    root = tmp_path / "globex"
    shared = url or f"sqlite:///{tmp_path / 'releases' / 'releases.db'}"
    other = open_store(workspace(root, shared, "globex"))
    assert current(other) is None
    theirs = publish_all(other, "Z")
    assert current(other) == theirs[-1]
    assert len(history(store)) == 1
    other.engine.dispose()


@pytest.mark.parametrize("damage", ["changed", "gone", "renamed", "unfinished"])
def test_a_bundle_that_is_not_what_it_was_is_not_published(
    embedded: ReleaseStore, damage: str
) -> None:
    candidate = release(embedded)
    folder = embedded.bundles / candidate.bundles["churn"]["sha"]
    if damage == "changed":
        (folder / "model.txt").write_text("another tree")
    elif damage == "gone":
        (folder / "model.txt").unlink()
    elif damage == "renamed":
        write_json_atomically(folder / MANIFEST, {"kind": "rates", "files": {}})
    else:
        (folder / MANIFEST).unlink()
    with pytest.raises(ModelError, match="bundle"):
        publish(embedded, candidate, None)
    assert current(embedded) is None


def test_a_rollback_checks_its_bundle_too(embedded: ReleaseStore) -> None:
    first, second = publish_all(embedded, "AB")
    (embedded.bundles / first.bundles["churn"]["sha"] / "model.txt").unlink()
    with pytest.raises(ModelError):
        rollback(embedded)
    assert current(embedded) == second


def test_the_mirror_is_repaired_from_the_store(embedded: ReleaseStore) -> None:
    first, second = publish_all(embedded, "AB")
    folder = embedded.mirror_folder
    (folder / f"{first.release_id}.json").unlink()
    (folder / f"{second.release_id}.json").write_text('{"half": ')
    write_json_atomically(folder / CURRENT, {"release_id": first.release_id})
    assert mirror(embedded, folder) == second.release_id
    assert read_current(folder) == second
    assert release_from_dict(json.loads((folder / f"{first.release_id}.json").read_text())) == first


def test_a_second_machine_can_have_its_own_mirror(embedded: ReleaseStore, tmp_path: Path) -> None:
    (only,) = publish_all(embedded, "A")
    assert mirror(embedded, tmp_path / "elsewhere") == only.release_id
    assert read_current(tmp_path / "elsewhere") == only


def test_a_damaged_mirror_is_told(embedded: ReleaseStore) -> None:
    (only,) = publish_all(embedded, "A")
    path = embedded.mirror_folder / f"{only.release_id}.json"
    body = json.loads(path.read_text())
    body["bands"]["churn"]["high"] = 0.01
    path.write_text(json.dumps(body))
    with pytest.raises(StateError, match="was changed after its creation"):
        read_current(embedded.mirror_folder)
    path.unlink()
    with pytest.raises(StateError, match="mirror"):
        read_current(embedded.mirror_folder)
    (embedded.mirror_folder / CURRENT).write_text("[]")
    with pytest.raises(StateError, match="mirror"):
        read_current(embedded.mirror_folder)


def test_an_empty_store_does_not_wipe_a_mirror(embedded: ReleaseStore, tmp_path: Path) -> None:
    (only,) = publish_all(embedded, "A")
    wrong = open_store(workspace(tmp_path / "wrong"))
    with pytest.raises(StateError, match="wrong database"):
        mirror(wrong, embedded.mirror_folder)
    assert read_current(embedded.mirror_folder) == only
    wrong.engine.dispose()


def test_a_mirror_that_cannot_be_written_leaves_the_publication(embedded: ReleaseStore) -> None:
    only = release(embedded)
    (embedded.mirror_folder / f"{only.release_id}.json").mkdir()
    with pytest.raises(StateError, match="mirror cannot be written"):
        publish(embedded, only, None)
    assert current(embedded) == only


def test_serving_reads_the_mirror_while_the_database_is_away(embedded: ReleaseStore) -> None:
    (only,) = publish_all(embedded, "A")
    away = workspace(embedded.mirror_folder.parent, "postgresql://u:hunter2@127.0.0.1:1/x")
    with pytest.raises(UnavailableError) as caught:
        open_store(away)
    assert "hunter2" not in str(caught.value)
    assert read_current(away.state.releases) == only


@pytest.mark.parametrize("wrong", ["nonsense", "mysql://u@h/d", "sqlite://", "oracle://u@h/d"])
def test_another_kind_of_database_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="BELLWETHER_LEDGER_URL"):
        open_store(workspace(tmp_path, wrong))


def test_a_stored_release_is_never_replaced(embedded: ReleaseStore) -> None:
    (first,) = publish_all(embedded, "A")
    with pytest.raises(StateError):
        publish(embedded, replace(first, note="edited"), first.release_id)
    assert get(embedded, first.release_id) == first


def test_the_id_names_the_day_and_the_content() -> None:
    one, same = new_release(**parts("s")), new_release(**parts("s"))
    other = new_release(**parts("s", config_hash="c1"))
    assert one == same
    assert one.release_id.startswith("20260302-")
    assert one.release_id != other.release_id


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"bundles": {}}, "no bundle"),
        ({"bundles": {"churn": {"sha": "", "verdict": "promotable"}}}, "no sha"),
        ({"bundles": {"churn": {"sha": "s", "verdict": "fine"}}}, "'fine' is none of"),
        ({"label_contracts": {}}, "missing for churn"),
        ({"bands": {}}, "bands: missing for churn"),
        ({"bands": {"churn": {"elevated": 0.5, "high": 1.5}}}, "probabilities"),
        ({"bands": {"churn": {"elevated": 0.5, "high": float("nan")}}}, "probabilities"),
        ({"bands": {"churn": {"elevated": 0.5, "high": 0.3}}}, "above high"),
        ({"feature_set": {"hash": "f", "names": ["a", "a"]}}, "without repeats"),
    ],
)
def test_a_release_that_contradicts_itself_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ModelError, match=word):
        new_release(**parts("s", **changes))


def test_a_shadow_is_kept_apart_from_what_is_published(store: ReleaseStore) -> None:
    folder = store.mirror_folder
    assert shadow_of(store) is None
    (shown,) = publish_all(store, "A")
    first, second = release(store, "B"), release(store, "C")
    publish_shadow(store, first)
    publish_shadow(store, second, note="the second takes its place")
    assert (shadow_of(store), read_shadow(folder)) == (second.release_id, second)
    assert (current(store), read_current(folder)) == (shown, shown)
    assert [item.release_id for item in history(store)] == [shown.release_id]
    (folder / f"{first.release_id}.json").unlink()
    mirror(store, folder)
    assert (folder / f"{first.release_id}.json").is_file()  # the ledger names it
    assert withdraw_shadow(store) == second.release_id
    assert (shadow_of(store), read_shadow(folder)) == (None, None)


def test_the_release_taken_up_last_is_remembered(store: ReleaseStore) -> None:
    folder = store.mirror_folder
    assert read_served(folder) is None
    first, second = publish_all(store, "AB")
    mark_served(folder, first)
    assert read_served(folder) == first
    mark_served(folder, second)
    assert read_served(folder) == second
    (folder / f"{second.release_id}.json").write_text("{}")
    assert read_served(folder) is None
