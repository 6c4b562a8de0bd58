"""The service over HTTP: one account, a batch, and its start, beside its peers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree
from typing import Any

import orjson
import pyarrow.parquet as pq

from configs.runtime.state_directory import State
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore
from serving.batch.score_book import read_latest, read_table, score_book
from serving.ledger.store.ledger import Ledger
from tests.benchmarks.measure import Measure, quantiles
from tests.benchmarks.serving import servers
from tests.benchmarks.serving.load import Load, get, post, run
from tests.benchmarks.serving.reference import BOOSTER_FILE
from tests.benchmarks.serving.servers import Running
from training.model.bands import newest_vectors
from training.registry.releases import Release

CONCURRENCY = 16
"""Connections at once where throughput is measured."""

CORES = 2
"""Workers where a service that may use all cores is measured."""

COMPUTED = "each computed when asked"

EMPTY = {"shipped": "its own settings", "bare": "all off that we switch off"}

GOALS = {"bare": 6.0, "mlflow": 2.5, "batch": 4_000.0, "start": 4.0}


@dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Attributes
    ----------
    rounds : int
        The servers take turns so often.
    singles : int
        Requests per round, one after the other.
    many : int
        Requests per round over `CONCURRENCY` connections.
    batches, batch : int
        Batches per round, and accounts in each.
    starts : int
        Starts of each server.
    """

    rounds: int = 5
    singles: int = 800
    many: int = 1_200
    batches: int = 6
    batch: int = 500
    starts: int = 3


@dataclass(frozen=True)
class _Book:
    """Accounts that are predicted, and their vectors."""

    ids: list[str]
    names: list[str]
    values: list[list[float]]


def _book(workspace: Workspace, release: Release) -> _Book:
    folder = newest_vectors(workspace.state, release.feature_set["hash"])
    assert folder is not None  # a published release has its book
    run = read_latest(workspace.state)
    assert run is not None  # the reference release has one
    told = read_table(run).select(["account_id", "status"]).to_pylist()
    scored = {row["account_id"] for row in told if row["status"] == "scored"}
    rows = pq.read_table(folder / "part.parquet", columns=["entity_id", "values"])
    kept = [row for row in rows.to_pylist() if row["entity_id"] in scored]
    values = [[0.0 if x != x else x for x in row["values"]] for row in kept]
    return _Book([row["entity_id"] for row in kept], release.feature_set["names"], values)


def _singles(book: _Book, n: int, rng: random.Random) -> list[bytes]:
    return [get(f"/v1/accounts/{rng.choice(book.ids)}/score") for _ in range(n)]


def _batches(book: _Book, sizes: Sizes, rng: random.Random) -> list[bytes]:
    return [
        post("/v1/scores", orjson.dumps({"account_ids": rng.sample(book.ids, sizes.batch)}))
        for _ in range(sizes.batches)
    ]


def _invocations(book: _Book, n: int, rng: random.Random) -> list[bytes]:
    """Return requests with the features in them; zeros for what is missing.

    A column of a single missing value reaches MLflow as an object, which LightGBM refuses.
    """
    picked = [rng.randrange(len(book.ids)) for _ in range(n)]
    return [
        post(
            "/invocations",
            orjson.dumps({"dataframe_split": {"columns": book.names, "data": [book.values[i]]}}),
        )
        for i in picked
    ]


def _in_turns(rounds: int, loads: dict[str, Callable[[], Load]]) -> dict[str, list[Load]]:
    """Run loads in turns; the first turn warms up and does not count."""
    found: dict[str, list[Load]] = {name: [] for name in loads}
    for turn in range(rounds + 1):
        for name, load in loads.items():
            result = load()
            if turn:
                found[name].append(result)
    return found


def _load(server: Running, requests: Sequence[bytes], concurrency: int) -> Load:
    before = server.processor_seconds()
    found = run(server.port, requests, concurrency)
    return replace(found, processor_seconds=server.processor_seconds() - before)


def _processor_ms(loads: Sequence[Load]) -> dict[str, float]:
    """Return the processor time of the server per request."""
    n_requests = sum(len(load.seconds) for load in loads)
    return {"processor_ms": 1e3 * sum(load.processor_seconds for load in loads) / n_requests}


def _all_seconds(loads: Sequence[Load]) -> list[float]:
    return [seconds for load in loads for seconds in load.seconds]


def _without_answers(workspace: Workspace, book: _Book, release: Release, root: Path) -> Workspace:
    """Return the same company in a state directory of its own, without ledger and answers."""
    rmtree(root, ignore_errors=True)
    copytree(workspace.state.root, root, ignore=ignore_patterns("ledger", "bentoml", ".scratch"))
    apart = replace(workspace, state=State(root))
    run = read_latest(apart.state)
    assert run is not None  # the reference release has one
    FeastStore(apart).store_answers(
        release.feature_set["hash"],
        dict.fromkeys(book.ids, b""),
        datetime.fromisoformat(run.as_of),
    )
    return apart


def measure(
    workspace: Workspace, release: Release, folder: Path, sizes: Sizes = Sizes()
) -> list[Measure]:
    """Return latency, throughput and batches of the running service beside its peers.

    Once as it runs, with the answers stored by the score run, and once with every answer computed
    when it is asked for.
    """
    with Ledger.open(workspace) as ledger:  # the answers of the present code
        score_book(workspace, release, ledger, workspace.company.clock())
    book, rng, log = _book(workspace, release), random.Random(7), folder / "servers.log"  # noqa: S311
    with ExitStack() as stack:
        ours = stack.enter_context(servers.ours(workspace, log))
        apart = _without_answers(workspace, book, release, folder / "computed")
        computed = stack.enter_context(servers.ours(apart, log))
        bare = stack.enter_context(servers.bare(log))
        shipped = stack.enter_context(servers.bare(log, "Shipped"))
        booster = workspace.state.root / BOOSTER_FILE
        mlflow = stack.enter_context(servers.mlflow(booster, folder, log))

        def asked(server: Running, n: int, at_once: int) -> Callable[[], Load]:
            return lambda: _load(server, _singles(book, n, rng), at_once)

        def told(n: int, at_once: int) -> Callable[[], Load]:
            return lambda: _load(mlflow, _invocations(book, n, rng), at_once)

        def batches(server: Running, at_once: int) -> Callable[[], Load]:
            return lambda: _load(server, _batches(book, sizes, rng), at_once)

        constant = [get("/constant")]
        one = sizes.singles
        single = _in_turns(
            sizes.rounds,
            {
                "ours": asked(ours, one, 1),
                "computed": asked(computed, one, 1),
                "bare": lambda: _load(bare, constant * one, 1),
                "shipped": lambda: _load(shipped, constant * one, 1),
                "mlflow": told(one // 4, 1),
            },
        )
        several = sizes.many
        many = _in_turns(
            sizes.rounds,
            {
                "ours": asked(ours, several, CONCURRENCY),
                "computed": asked(computed, several, CONCURRENCY),
                "bare": lambda: _load(bare, constant * several, CONCURRENCY),
                "mlflow": told(several // 4, CONCURRENCY),
            },
        )
        both = stack.enter_context(servers.ours(workspace, log, workers=CORES))
        both_computed = stack.enter_context(servers.ours(apart, log, workers=CORES))
        by_batch = _in_turns(
            sizes.rounds,
            {
                "1 at once": batches(ours, 1),
                # of few connections one worker may take all
                f"{2 * CORES} at once, {CORES} workers": batches(both, 2 * CORES),
                f"1 at once, {COMPUTED}": batches(computed, 1),
                f"{2 * CORES} at once, {CORES} workers, {COMPUTED}": batches(
                    both_computed, 2 * CORES
                ),
            },
        )
    return [
        _latency(single, "ours", "shipped", ""),
        _latency(single, "ours", "bare", ""),
        _latency(single, "computed", "shipped", f", {COMPUTED}"),
        _throughput(many, "ours", ""),
        _throughput(many, "computed", f", {COMPUTED}"),
        *(_batch(loads, sizes, how) for how, loads in by_batch.items()),
    ]


def _latency(loads: dict[str, list[Load]], name: str, peer: str, how: str) -> Measure:
    found = {
        server: quantiles(_all_seconds(each)) | _processor_ms(each)
        for server, each in loads.items()
    }
    ours, bare = found[name]["p50_ms"], found[peer]["p50_ms"]
    return Measure(
        f"one account by id, one connection, p50{how}",
        ours,
        "ms",
        f"a constant from an empty BentoML service, {EMPTY[peer]}",
        bare,
        ours / bare,
        f"≤ {GOALS['bare']:g} × a constant",
        ours / bare <= GOALS["bare"],
        found,
    )


def _rate(loads: Sequence[Load]) -> float:
    return statistics.median(load.per_second for load in loads)


def _throughput(loads: dict[str, list[Load]], name: str, how: str) -> Measure:
    ours, theirs = _rate(loads[name]), _rate(loads["mlflow"])
    detail: dict[str, Any] = {
        server: quantiles(_all_seconds(each)) | _processor_ms(each) | {"per_second": _rate(each)}
        for server, each in loads.items()
    }
    return Measure(
        f"one account by id, {CONCURRENCY} connections, one worker each{how}",
        ours,
        "/s",
        "mlflow models serve, no reasons",
        theirs,
        ours / theirs,
        f"≥ {GOALS['mlflow']:g} × mlflow",
        ours / theirs >= GOALS["mlflow"],
        detail,
    )


def _batch(loads: Sequence[Load], sizes: Sizes, how: str) -> Measure:
    rate = sizes.batch * _rate(loads)
    per_account = sum(load.body_bytes for load in loads) / (
        sizes.batch * sum(len(load.seconds) for load in loads)
    )
    return Measure(
        f"batches of {sizes.batch} by id, with reasons, {how}",
        rate,
        "accounts/s",
        goal=f"≥ {GOALS['batch']:,.0f} accounts/s",
        is_met=rate >= GOALS["batch"],
        detail=quantiles(_all_seconds(loads))
        | _processor_ms(loads)
        | {"answer_bytes_per_account": per_account},
    )


def measure_start(workspace: Workspace, folder: Path, sizes: Sizes = Sizes()) -> list[Measure]:
    """Return how long the service takes until it is ready, beside an empty one."""
    log = folder / "servers.log"
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    processor: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(sizes.starts):
        with servers.bare(log) as bare:
            seconds["bare"].append(bare.seconds)
            processor["bare"].append(bare.processor_seconds())
        with servers.ours(workspace, log) as ours:
            seconds["ours"].append(ours.seconds)
            processor["ours"].append(ours.processor_seconds())
    mine, theirs = (statistics.median(seconds[name]) for name in ("ours", "bare"))
    return [
        Measure(
            "start to ready",
            mine,
            "s",
            "an empty BentoML service",
            theirs,
            mine / theirs,
            f"within {GOALS['start']:g} s of the empty one",
            mine - theirs <= GOALS["start"],
            {"seconds": seconds, "processor_seconds": processor},
        )
    ]
