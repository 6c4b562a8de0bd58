"""Feast: the historical row equals the snapshot equals the online row, on every store."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import features.snapshots.grid
from configs.runtime.errors import StateError, UnavailableError
from configs.runtime.state_directory import State
from configs.schema.workspace import Environment
from features.feast_store import CONFIG, ONLINE, FeastStore, vector_view
from features.online_vectors import build_vectors, feature_set, lived_through, matrix, past_day
from features.signals import FAMILIES
from features.snapshots.grid import build_snapshots, read_snapshot
from features.sources import load_sources

NOW = datetime(2025, 4, 1, 6, tzinfo=UTC)
NAMES = [f"a{number:02d}" for number in range(24)]


@pytest.fixture(scope="module")
def book(company_of, tmp_path_factory):
    """A company of two families, its snapshots, and the vectors of two books."""
    rng = np.random.default_rng(5)
    created = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 430, 24), unit="D")
    bills = [
        {
            "account_id": name,
            "invoice_id": f"{name}-{number}",
            "issued_on": (day + pd.Timedelta(days=int(rng.integers(0, 500)))).date(),
            "amount": round(float(rng.normal(100, 60)), 2),
            "due_on": "2025-01-15",
            "paid_on": "2025-02-01" if number % 3 else None,
            "is_failed_charge": number % 5 == 0,
        }
        for name, day in zip(NAMES, created, strict=True)
        for number in range(8)
    ]
    tables = {
        "accounts": pd.DataFrame(
            {"account_id": NAMES, "created_at": created, "name": [f"Ärger & {n}" for n in NAMES]}
        ),
        "invoices": pd.DataFrame(bills),
        "milestones": [
            {
                "account_id": name,
                "milestone": "m",
                "occurred_on": "2024-05-01",
                "due_on": "2024-06-01",
            }
            for name in NAMES[::2]
        ],
    }
    workspace = company_of(
        tmp_path_factory.mktemp("store"), tables, grid={"every": "month", "start_on": "2024-12-01"}
    )
    few = tuple(family for family in FAMILIES if family.name in {"journey", "payments"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.snapshots.grid, "FAMILIES", few)
        loaded = load_sources(workspace, NOW)
        snapshots = build_snapshots(workspace, loaded, NOW)
    earlier = replace(snapshots, days=snapshots.days[:-1])
    for item in (earlier, snapshots):
        build_vectors(workspace, loaded, item)
    return Book(workspace, snapshots, feature_set(snapshots))


class Book:
    """What the stores are filled from."""

    def __init__(self, workspace, snapshots, features):
        self.workspace, self.snapshots, self.features = workspace, snapshots, features
        self.days = snapshots.days

    def values(self, day: date) -> tuple[list[str], np.ndarray]:
        """The vectors of one day, from the snapshots."""
        ids, values = matrix(self.snapshots, self.features, day)
        return list(ids), values

    def store(self, **places: str) -> FeastStore:
        """A store of its own: its project, its registry and its online table."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        company = self.workspace.company.model_copy(update={"name": name})
        state = State(self.workspace.state.root.with_name(name))
        # the snapshots stay where they are
        (state.root).mkdir()
        (state.root / "snapshots").symlink_to(self.workspace.state.snapshots)
        return FeastStore(
            replace(self.workspace, company=company, state=state, places=Environment(**places))
        )


def filled(book: Book, store: FeastStore, day: date | None = None) -> FeastStore:
    store.apply(book.snapshots, book.features, ["churn"])
    store.materialize(book.features, day or book.days[-1])
    return store


def read(book: Book, store: FeastStore, entities: list[str]):
    return store.online(book.features.hash, len(book.features.names), entities)


@pytest.fixture(scope="module")
def embedded(book):
    return filled(book, book.store())


def test_who_loads_a_book_keeps_no_reader_waiting(book, embedded):
    file = embedded._workspace.state.feast / ONLINE
    ids, _ = book.values(book.days[-1])
    with closing(sqlite3.connect(file)) as loading:
        assert loading.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        loading.execute("BEGIN EXCLUSIVE")
        tables = loading.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert len(tables) == 1 + len(book.features.versions)
        for (table,) in tables:
            loading.execute(f'UPDATE "{table}" SET event_ts = event_ts')
        started = time.perf_counter()
        assert read(book, embedded, ids).is_known.all()
        assert time.perf_counter() - started < 1
        loading.rollback()


def assert_same(book: Book, store: FeastStore, day: date) -> None:
    """The online rows are the snapshot's, feature by feature, in vector order."""
    ids, values = book.values(day)
    rows = read(book, store, ids)
    assert rows.is_known.all()
    np.testing.assert_array_equal(rows.values, values)
    assert rows.as_of == [datetime(day.year, day.month, day.day, tzinfo=UTC)] * len(ids)
    for position, info in enumerate(book.features.info):
        column = read_snapshot(book.snapshots, info.family, day)[info.name].to_numpy()
        np.testing.assert_array_equal(rows.values[:, position], column, err_msg=info.name)


def assert_historical(book: Book, store: FeastStore) -> None:
    pairs = [(name, day) for day in book.days for name in book.values(day)[0]]
    rows = pd.DataFrame(pairs, columns=["entity_id", "as_of"])
    rows["as_of"] = pd.to_datetime(rows["as_of"]).dt.tz_localize("UTC")
    rows = rows.sample(frac=1.0, random_state=3).assign(other=1)
    rows.index = pd.Index(np.arange(len(rows))[::-1] * 7, name="row")
    before = rows.copy()
    info = book.features.info[::-1]
    found = store.historical(rows, "churn", info)
    pd.testing.assert_frame_equal(rows, before)
    assert list(found.columns) == [item.name for item in info]
    assert found.index.equals(rows.index)
    assert (found.dtypes == "float64").all()
    for day in book.days:
        ids, values = book.values(day)
        expected = pd.DataFrame(values, index=ids, columns=book.features.names)
        here = (rows["as_of"] == pd.Timestamp(day, tz="UTC")).to_numpy()
        got = found[here].set_axis(rows["entity_id"][here], axis=0)[book.features.names]
        np.testing.assert_array_equal(got.to_numpy(), expected.loc[got.index].to_numpy())


def test_the_historical_frame_is_the_snapshots(book, embedded):
    assert len(book.features.names) > 15
    assert_historical(book, embedded)


def test_rows_without_a_snapshot_are_unknown_and_not_dropped(book, embedded):
    rows = pd.DataFrame(
        {
            "entity_id": ["nobody", NAMES[0], NAMES[0], "nobody"],
            "as_of": pd.to_datetime(
                ["2025-03-01", "2019-01-01", "2025-03-01", "2025-04-01"], utc=True
            ),
        }
    )
    found = embedded.historical(rows, "churn", book.features.info)
    assert len(found) == 4
    assert found.loc[[0, 1, 3]].isna().all(axis=None)
    assert found.loc[2, "tenure_days"] > 0


def test_one_feature_alone(book, embedded):
    rows = pd.DataFrame({"entity_id": NAMES[:3], "as_of": pd.Timestamp("2025-03-01", tz="UTC")})
    [info] = [item for item in book.features.info if item.name == "tenure_days"]
    assert list(embedded.historical(rows, "churn", [info]).columns) == ["tenure_days"]


def test_training_goes_through_a_service_that_offers_what_may_be_trained_on(book):
    store = book.store()
    company = store._workspace.company.model_copy(update={"exclude_features": ("tenure*",)})
    store = FeastStore(replace(store._workspace, company=company))
    assert not store.declares(["churn"])
    store.apply(book.snapshots, book.features, ["churn", "expansion"])
    assert store.declares(["churn", "expansion"])
    assert not store.declares(["churn", "contraction"])
    [service] = [s for s in store._feast.list_feature_services() if s.name == "churn_training"]
    offered = {f.name for view in service.feature_view_projections for f in view.features}
    kept = {name for name in book.features.names if not name.startswith("tenure")}
    assert offered == kept < set(book.features.names)
    rows = pd.DataFrame({"entity_id": NAMES[:2], "as_of": pd.Timestamp("2025-03-01", tz="UTC")})
    with pytest.raises(StateError, match="churn_training returned 2 rows for 2, without 1 feat"):
        store.historical(rows, "churn", book.features.info)


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_the_end(content: bytes) -> bytes:
    return content[:-5000]


def garbage(content: bytes) -> bytes:
    return np.random.default_rng(3).bytes(len(content))


def bitten(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + garbage(content[:300]) + content[middle + 300 :]


def emptied(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("name", ["registry.db", "online.db"])
@pytest.mark.parametrize("spoil", [cut_in_half, cut_the_end, garbage, bitten, emptied])
def test_a_damaged_file_is_found_and_made_again(book, embedded, tmp_path, name, spoil):
    """What is left may be read in part: then the rows are right, or the file is dropped."""
    store = book.store()
    shutil.copytree(embedded._workspace.state.feast, store._workspace.state.feast)
    same = store._workspace.company.model_copy(update={"name": embedded._workspace.company.name})
    workspace = replace(store._workspace, company=same)
    path = workspace.state.feast / name
    path.write_bytes(spoil(path.read_bytes()))
    dropped = FeastStore(workspace).drop_damaged()
    assert set(dropped) <= {name}
    assert bool(dropped) == (spoil is not emptied)
    again = filled(book, FeastStore(workspace))
    assert_same(book, again, book.days[-1])
    assert FeastStore(workspace).drop_damaged() == []


def test_damage_that_appears_under_way_is_told(book):
    store = filled(book, book.store())
    folder = store._workspace.state.feast
    for name in ("registry.db", "online.db"):
        (folder / name).write_bytes(b"damaged" * 1000)
    with pytest.raises(StateError, match="the feature registry is damaged") as error:
        FeastStore(store._workspace).apply(book.snapshots, book.features, ["churn"])
    assert "delete the folder STATE/feast" in error.value.fix
    assert not FeastStore(store._workspace).is_ready(book.features.hash)
    (folder / "registry.db").unlink()
    with pytest.raises(StateError, match=r"is damaged: file is not a database"):
        filled(book, FeastStore(store._workspace))


def test_the_online_row_is_the_snapshot(book, embedded):
    assert_same(book, embedded, book.days[-1])


def test_the_past_travels_with_the_present(book, embedded):
    ids, _ = book.values(book.days[-1])
    then_ids, before = book.values(past_day(book.snapshots))
    then = lived_through(before, book.features)
    assert np.isfinite(then).any()
    rows = read(book, embedded, ids)
    assert len(then_ids) < len(ids)
    for place, name in enumerate(ids):
        if name in then_ids:
            np.testing.assert_array_equal(rows.past[place], then[then_ids.index(name)])
        else:
            assert np.isnan(rows.past[place]).all()
    assert rows.facts[0]["name"] == f"Ärger & {ids[0]}"
    assert {"status", "tenure_days", "arr"} <= set(rows.facts[0])


def test_order_duplicates_and_strangers(book, embedded):
    ids, values = book.values(book.days[-1])
    asked = [ids[3], "nobody", ids[0], ids[3], "", "O'Brien; --", ids[1]]
    rows = read(book, embedded, asked)
    assert rows.is_known.tolist() == [True, False, True, True, False, False, True]
    np.testing.assert_array_equal(rows.values[[0, 2, 3, 6]], values[[3, 0, 3, 1]])
    assert np.isnan(rows.values[[1, 4, 5]]).all()
    assert np.isnan(rows.past[[1, 4, 5]]).all()
    assert [bool(facts) for facts in rows.facts] == rows.is_known.tolist()
    assert rows.as_of[1] is None


def test_a_newer_book_replaces_and_may_be_loaded_again(book):
    store = filled(book, book.store(), book.days[-2])
    assert_same(book, store, book.days[-2])
    store.materialize(book.features, book.days[-1])
    assert_same(book, store, book.days[-1])
    assert store.holds(book.features, NAMES[0], book.days[-1])
    assert not store.holds(book.features, NAMES[0], book.days[-2])
    assert not store.holds(book.features, "nobody", book.days[-1])
    store.materialize(book.features, book.days[-1])
    assert_same(book, store, book.days[-1])


def test_reads_go_on_while_a_book_is_loaded(book):
    store = filled(book, book.store(), book.days[-2])
    ids, _ = book.values(book.days[-2])
    moments, failures, done = set(), [], threading.Event()

    def keep_reading() -> None:
        while not done.is_set():
            try:
                rows = read(book, store, ids)
            except UnavailableError as error:
                failures.append(error)
            else:
                moments.update(moment for moment in rows.as_of)

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for reader in readers:
        reader.start()
    for day in [*book.days[-2:], *book.days[-2:]]:
        store.materialize(book.features, day)
    done.set()
    for reader in readers:
        reader.join(timeout=30)
    assert failures == []
    assert {moment.date() for moment in moments} <= set(book.days[-2:])


def test_declaring_and_loading_say_nothing(book, capfd):
    filled(book, book.store())
    assert capfd.readouterr() == ("", "")


def test_a_store_that_was_never_filled_is_not_ready(book):
    store = book.store()
    assert not store.is_ready(book.features.hash)
    with pytest.raises(UnavailableError, match="online store") as error:
        read(book, store, NAMES[:1])
    assert vector_view(book.features.hash) in error.value.where
    store.apply(book.snapshots, book.features, ["churn"])
    assert not store.is_ready(book.features.hash)
    store.materialize(book.features, book.days[-1])
    assert store.is_ready(book.features.hash)
    assert not store.is_ready("another")
    store.apply(book.snapshots, book.features, ["churn", "expansion"])
    assert store.is_ready(book.features.hash)


def test_a_first_book_half_loaded_is_not_ready(book, monkeypatch):
    """Reads go on while a book is replaced; a store that never held one must not be switched to."""
    store = book.store()
    store.apply(book.snapshots, book.features, ["churn"])
    provider = store._feast._get_provider()
    load, seen = provider.materialize_single_feature_view, []

    def look_first(**options: object) -> None:
        load(**options)
        seen.append(FeastStore(store._workspace).is_ready(book.features.hash))

    monkeypatch.setattr(provider, "materialize_single_feature_view", look_first)
    store.materialize(book.features, book.days[-2])
    store.materialize(book.features, book.days[-1])
    # the vectors are loaded first, then the families by name
    assert seen == [False, *[True] * (2 * len(book.features.versions) + 1)]


def test_another_process_of_the_same_state_reads_the_same(book, embedded):
    """Nothing is held in memory: a second store on the same files sees the first one's book."""
    again = FeastStore(embedded._workspace)
    assert_same(book, again, book.days[-1])


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_online_store_that_is_down_is_told_at_once(book):
    store = book.store(redis_url=f"127.0.0.1:{closed_port()}")
    store.apply(book.snapshots, book.features, ["churn"])
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="does not answer: ConnectionError"):
        read(book, store, NAMES[:1])
    assert not store.is_ready(book.features.hash)
    with pytest.raises(UnavailableError, match="the online store does not answer"):
        store.materialize(book.features, book.days[-1])
    assert time.monotonic() - began < 4


def test_a_registry_that_is_down_is_told_without_its_password(book):
    url = f"postgresql://someone:secret@127.0.0.1:{closed_port()}/nothing"
    store = book.store(registry_url=url)
    assert not store.is_ready(book.features.hash)
    with pytest.raises(UnavailableError, match="registry does not answer") as error:
        store.apply(book.snapshots, book.features, ["churn"])
    assert "secret" not in str(error.value)


def test_limits_of_a_redis_connection_are_added_where_none_are_given(book):
    settings = book.store(redis_url="host:6379,db=3,socket_timeout=9")._settings()
    parts = settings["online_store"]["connection_string"].split(",")
    assert parts[:3] == ["host:6379", "db=3", "socket_timeout=9"]
    assert {part.split("=")[0] for part in parts[3:]} == {"socket_connect_timeout", "retry"}


def assert_holds_answers(book: Book, store: FeastStore) -> None:
    """Answers lie next to the vectors, change nothing of them, and go when a book is loaded."""
    day, ids = book.days[-1], book.values(book.days[-1])[0]
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    before = store.held(book.features.hash, ids)
    assert {row.answer for row in before} == {b""}
    answers = {ids[0]: b'{"a": "\xc3\x84\x00"}', ids[3]: b"other", "nobody": b"no vector"}
    store.store_answers(book.features.hash, answers, moment)
    rows = store.held(book.features.hash, [*ids, "nobody"])
    assert [row and row.answer for row in rows] == [*(answers.get(name, b"") for name in ids), None]
    assert [row._replace(answer=b"") for row in rows[:-1]] == before
    store.store_answers(book.features.hash, {ids[0]: b"newer"}, moment)
    [row] = store.held(book.features.hash, ids[:1])
    assert row.answer == b"newer"
    store.materialize(book.features, day)
    assert store.held(book.features.hash, ids) == before


def test_answers_are_stored_next_to_the_vectors(book):
    assert_holds_answers(book, filled(book, book.store()))


def test_answers_cannot_be_stored_where_no_vectors_are_declared(book):
    with pytest.raises(UnavailableError, match="online store"):
        book.store().store_answers(book.features.hash, {"x": b"y"}, NOW)


# Feast's own tools


def sdk(store: FeastStore, folder: Path | None = None):
    """The store as a notebook opens it: by the file that lies in its folder."""
    from feast import FeatureStore

    store.write_config()
    return FeatureStore(repo_path=str(folder or store._workspace.state.feast))


def every_name(book: Book) -> list[str]:
    return [f"{info.family}:{info.name}" for info in book.features.info]


def by_name(book: Book, opened, ids: list[str]) -> np.ndarray:
    """Every feature of some accounts as Feast's users ask for it: by view and name."""
    found = opened.get_online_features(
        features=every_name(book), entity_rows=[{"entity_id": name} for name in ids]
    ).to_dict()
    assert found["entity_id"] == ids
    columns = [found[name] for name in book.features.names]
    return np.array(columns, dtype=float).T


def assert_same_by_name(book: Book, opened, store: FeastStore, day: date) -> None:
    """Name by name, the online value is the snapshot's and the vector's; strangers have none."""
    ids, values = book.values(day)
    assert np.isfinite(values).any(axis=0).sum() > 10
    found = by_name(book, opened, [*ids, "nobody"])
    np.testing.assert_array_equal(found[:-1], values)
    np.testing.assert_array_equal(found[:-1], read(book, store, ids).values)
    assert np.isnan(found[-1]).all()


def test_a_notebook_reads_online_and_offline_values_by_name(book, embedded, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # from whatever folder it is run in
    opened, day = sdk(embedded), book.days[-1]
    assert_same_by_name(book, opened, embedded, day)
    ids, values = book.values(day)
    asked = pd.DataFrame({"entity_id": ids, "event_timestamp": pd.Timestamp(day, tz="UTC")})
    offline = opened.get_historical_features(entity_df=asked, features=every_name(book)).to_df()
    ordered = offline.set_index("entity_id").loc[ids, book.features.names]
    np.testing.assert_array_equal(ordered.to_numpy(dtype=float), values)
    served = opened.get_online_features(
        features=opened.get_feature_service("churn_training"),
        entity_rows=[{"entity_id": ids[0]}],
    ).to_dict()
    assert set(served) == {"entity_id", *book.features.names}
    assert list(tmp_path.iterdir()) == []


def test_the_feast_command_lists_the_views(book, embedded, tmp_path):
    embedded.write_config()
    command = [str(Path(sys.executable).with_name("feast"))]
    command += ["--chdir", str(embedded._workspace.state.feast), "feature-views", "list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    views = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()[1:]}
    names = [*book.features.versions, vector_view(book.features.hash)]
    assert views == dict.fromkeys(names, "AVAILABLE_ONLINE")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_moved_is_read_where_it_is(book, tmp_path):
    store = filled(book, book.store())
    store.write_config()
    there = tmp_path / "elsewhere"
    shutil.move(store._workspace.state.feast, there)
    opened = sdk(store, there)
    ids, values = book.values(book.days[-1])
    np.testing.assert_array_equal(by_name(book, opened, ids), values)
    assert str(store._workspace.state.root) not in (there / CONFIG).read_text()


def test_family_views_may_be_left_out_of_the_online_store(book):
    store = filled(book, book.store())
    ids, _ = book.values(book.days[-1])
    store.apply(book.snapshots, book.features, ["churn"], is_named=False)
    store.materialize(book.features, book.days[-1])
    assert_same(book, store, book.days[-1])
    assert store.holds(book.features, ids[0], book.days[-1])
    opened = sdk(store)
    online = {view.name for view in opened.list_feature_views() if view.online}
    assert online == {vector_view(book.features.hash)}
    # What was loaded before is gone, so that it cannot be taken for current.
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        by_name(book, opened, ids)
    assert_same_by_name(book, sdk(filled(book, store)), store, book.days[-1])


def test_a_family_that_is_built_no_more_is_declared_no_more(book):
    store = filled(book, book.store())
    [kept, gone] = book.features.versions
    fewer = replace(
        book.features,
        info=tuple(item for item in book.features.info if item.family == kept),
        versions={kept: book.features.versions[kept]},
    )
    store.apply(book.snapshots, fewer, ["churn"])
    views = {view.name for view in sdk(store).list_feature_views()}
    assert views == {kept, vector_view(book.features.hash), vector_view(fewer.hash)}
    assert gone not in views


def test_values_by_name_that_were_lost_are_noticed(book):
    store = filled(book, book.store())
    ids, _ = book.values(book.days[-1])
    assert store.holds(book.features, ids[0], book.days[-1])
    name = store._workspace.company.name
    with closing(sqlite3.connect(store._workspace.state.feast / ONLINE)) as database:
        database.execute(f'DELETE FROM "{name}_journey"')
        database.commit()
    assert not store.holds(book.features, ids[0], book.days[-1])


@pytest.mark.parametrize("password", ["plain", "a #b: c", "[x]{y}", "it's", 'a"b\\n', "%40&*!|>"])
def test_the_file_names_variables_and_never_what_they_hold(book, password):
    redis_url = f"cache:6379,password={password},socket_timeout=9"
    registry_url = f"postgresql+psycopg://someone:{password}@db/feast"
    store = book.store(redis_url=redis_url, registry_url=registry_url)
    store.write_config()
    text = (store._workspace.state.feast / CONFIG).read_text()
    assert password not in text
    assert "someone" not in text
    environment = {"BELLWETHER_REDIS": redis_url, "BELLWETHER_FEAST_REGISTRY_URL": registry_url}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        found = yaml.safe_load(os.path.expandvars(text))
    assert found["registry"] == store._settings()["registry"]
    assert found["registry"]["path"] == registry_url
    wanted = store._settings()["online_store"]
    assert found["online_store"] == wanted
    assert wanted["connection_string"].startswith(redis_url + ",socket_connect_timeout=1")


# Servers


@pytest.fixture
def on_redis(book, redis_address):
    """A store whose online half is Redis; its keys are deleted after."""
    import redis

    host, _, port = redis_address.partition(":")
    store = book.store(redis_url=redis_address)
    yield store
    client = redis.Redis(host=host, port=int(port))
    project = store._workspace.company.name.encode()
    for key in client.scan_iter(b"*" + project + b"*"):
        client.delete(key)
    client.close()


@pytest.mark.server
def test_redis_holds_the_same_rows(book, on_redis):
    store = filled(book, on_redis, book.days[-2])
    assert_same(book, store, book.days[-2])
    store.materialize(book.features, book.days[-1])
    assert_same(book, store, book.days[-1])
    rows = read(book, store, ["nobody", NAMES[1], NAMES[1]])
    assert rows.is_known.tolist() == [False, True, True]
    assert_historical(book, store)


@pytest.mark.server
def test_redis_holds_answers_next_to_the_vectors(book, on_redis):
    assert_holds_answers(book, filled(book, on_redis))


@pytest.mark.server
def test_a_notebook_reads_redis_and_postgresql_by_name(book, on_redis, registry_url, monkeypatch):
    workspace = on_redis._workspace
    places = workspace.places.model_copy(update={"registry_url": registry_url})
    store = filled(book, FeastStore(replace(workspace, places=places)))
    monkeypatch.setenv("BELLWETHER_REDIS", places.redis_url)
    monkeypatch.setenv("BELLWETHER_FEAST_REGISTRY_URL", registry_url)
    opened = sdk(store)
    assert_same_by_name(book, opened, store, book.days[-1])
    opened.registry.read_engine.dispose()
    opened.registry.write_engine.dispose()


@pytest.mark.server
def test_on_redis_a_book_of_the_same_day_is_replaced(book, on_redis):
    """Late data change the values of a day that was loaded before."""
    filled(book, on_redis)
    day, folder = book.days[-1], on_redis._workspace.state.snapshots
    shutil.copytree(folder.resolve(), folder.with_name("changed"))
    folder.unlink()
    folder.with_name("changed").rename(folder)
    changed = folder / "vector" / book.features.hash / str(day) / "part.parquet"
    table = pq.read_table(changed)
    column = pa.array([[1.0] * len(book.features.names)] * len(table), table["values"].type)
    pq.write_table(table.set_column(table.column_names.index("values"), "values", column), changed)
    again = FeastStore(on_redis._workspace)
    again.apply(book.snapshots, book.features, ["churn"])
    again.materialize(book.features, day)
    assert (read(book, again, book.values(day)[0]).values == 1.0).all()


@pytest.mark.server
def test_a_redis_that_was_emptied_is_noticed(book, on_redis, redis_address):
    import redis

    store = filled(book, on_redis)
    assert store.holds(book.features, NAMES[0], book.days[-1])
    host, _, port = redis_address.partition(":")
    client = redis.Redis(host=host, port=int(port))
    keys = list(client.scan_iter(b"*" + store._workspace.company.name.encode() + b"*"))
    assert len(keys) == len(book.values(book.days[-1])[0])
    client.delete(*keys)
    client.close()
    assert store.is_ready(book.features.hash)  # it answers
    assert not store.holds(book.features, NAMES[0], book.days[-1])


@pytest.fixture
def registry_url(postgres_url):
    """A database of its own, dropped after."""
    import psycopg

    name = f"bellwether_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_url.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.server
def test_a_registry_on_postgresql(book, registry_url):
    store = filled(book, book.store(registry_url=registry_url))
    assert_same(book, store, book.days[-1])
    assert_historical(book, store)
    # declared once, seen by every process
    again = FeastStore(store._workspace)
    assert again.is_ready(book.features.hash)
    assert_same(book, again, book.days[-1])


@pytest.mark.server
def test_redis_and_postgresql_together(book, on_redis, registry_url):
    workspace = on_redis._workspace
    places = workspace.places.model_copy(update={"registry_url": registry_url})
    store = filled(book, FeastStore(replace(workspace, places=places)))
    assert_same(book, store, book.days[-1])
    assert_historical(book, store)


def assert_forgets(book: Book, store: FeastStore) -> None:
    """One entity leaves every view, facts of another are replaced, all others stay."""
    day, ids = book.days[-1], book.values(book.days[-1])[0]
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    others = store.held(book.features.hash, ids[2:])
    n = store.forget(ids[0], is_trial=True)
    assert n > len(book.features.versions), "a value in each view at least"
    assert store.held(book.features.hash, ids[:1]) != [None]
    assert store.forget(ids[0]) == n
    assert store.forget(ids[0]) == 0
    assert store.held(book.features.hash, ids[:1]) == [None]
    store.store_answers(book.features.hash, {ids[1]: b"names the parent"}, moment)
    store.replace_facts(book.features.hash, {ids[1]: '{"parent":"x"}'}, moment)
    [changed] = store.held(book.features.hash, ids[1:2])
    assert (changed.facts, changed.answer, changed.as_of) == (b'{"parent":"x"}', b"", moment)
    assert store.held(book.features.hash, ids[2:]) == others
    store.replace_facts("0" * 12, {ids[1]: "{}"}, moment)  # was never declared


def test_a_forgotten_entity_leaves_the_embedded_store(book, tmp_path):
    store = filled(book, book.store())
    assert_forgets(book, store)
    ids = book.values(book.days[-1])[0]
    file = store._workspace.state.feast / ONLINE
    assert ids[0].encode() not in file.read_bytes(), "deleted rows are overwritten"
    filled(book, store)


@pytest.mark.server
def test_a_forgotten_entity_leaves_redis(book, on_redis):
    assert_forgets(book, filled(book, on_redis))
