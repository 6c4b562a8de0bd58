"""The ledger stays small, and loses nothing that replay, validation or an open outcome needs."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

import serving.online.background as background
from configs.runtime.database import reading, writing
from configs.runtime.errors import ConfigError, StateError
from configs.runtime.tables import contents_table, scores_table
from configs.schema.company import Retention, parse_company
from configs.schema.workspace import Environment
from serving.commands.app import app
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import replay
from serving.ledger.retention import EVERY, RetentionWorker
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import (
    BookScores,
    RecordedOutcome,
    ScoreRow,
    new_score_ids,
    pack_features,
)
from serving.online.server_state import ServerState

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
CLOSED, OPEN = timedelta(days=300), timedelta(days=100)
"""The window is 91 days; a late renewal has 45 more, and an outcome 31 to come in."""


@pytest.fixture
def workspace(fresh, url):
    """A company whose clock runs, with its releases, on each database."""
    company = fresh.company.model_copy(update={"now": None})
    return replace(fresh, company=company, places=Environment(ledger_url=url or None))


@pytest.fixture
def ledger(workspace):
    with Ledger.open(workspace) as opened:
        yield opened


def scored(world, entity: str, age: timedelta, n: int = 1, **values) -> list[ScoreRow]:
    """Return the same score given `n` times, a second apart."""
    served_at = NOW - age
    as_of = served_at.replace(hour=0, minute=0)
    row = ScoreRow(
        score_id="",
        request_id="r",
        served_at=served_at,
        entity_id=entity,
        as_of=as_of,
        target="churn",
        release_id=world.release.release_id,
        bundle_sha=world.release.bundles["churn"]["sha"],
        probability=0.25,
        logit=float(np.log(1 / 3)),
        band="low",
        verdict="promotable",
        features=pack_features(np.arange(len(world.names)) + len(entity)),
        feature_set=world.feature_hash,
        reasons=[{"code": "churn.usage.raises", "points": 0.5, "facts": [f"of {entity}"] * 9}],
        channel="api",
        facts={"status": "scored", "arr": 1200.0, "segment": "small"},
        clock=served_at,
    )
    return [
        row._replace(score_id=score_id, served_at=served_at + timedelta(seconds=i), **values)
        for i, score_id in enumerate(new_score_ids(served_at, n))
    ]


def n_contents(ledger: Ledger) -> int:
    with reading(ledger.engine) as connection:
        return int(
            connection.execute(select(func.count()).select_from(contents_table)).scalar_one()
        )


def bytes_of_rows(ledger: Ledger) -> int:
    size = func.sum(func.length(scores_table.c.features) + func.length(scores_table.c.reasons))
    with reading(ledger.engine) as connection:
        return int(connection.execute(select(size)).scalar_one())


def everything_of(ledger: Ledger, rows: list[ScoreRow]) -> list[ScoreRow | None]:
    return [ledger.scores.find(row.score_id) for row in rows]


def test_compaction_loses_nothing_and_keeps_what_is_shared_once(world, workspace, ledger):
    rows = scored(world, "A-1", CLOSED, 2_500) + scored(world, "A-22", OPEN, 300)
    ledger.append(rows)
    young = scored(world, "A-1", timedelta(hours=1), 5)
    ledger.append(young)
    shown, told = ledger.scores.everything(), everything_of(ledger, rows[::97])
    upkeep = RetentionWorker(workspace, ledger)
    assert upkeep.tidy(NOW, NOW).compacted == len(rows)
    assert upkeep.tidy(NOW, NOW).compacted == 0
    assert ledger.scores.count() == len(rows) + len(young)
    assert everything_of(ledger, rows[::97]) == told
    assert ledger.scores.everything() == shown
    assert ledger.scores.history("A-1", "churn", 3)[0] == young[-1]
    assert [row.features for row in ledger.scores.served_by("A-22")] == [rows[-1].features]
    assert n_contents(ledger) == 5, "two vectors, two lists of reasons, one set of facts"
    assert bytes_of_rows(ledger) < 10_000


def test_compaction_goes_on_where_it_was(world, workspace, ledger):
    ledger.append(scored(world, "A-1", CLOSED, 2_500))
    calls = iter([True, False, False, False])
    stopped = RetentionWorker(workspace, ledger, pause=lambda: next(calls)).tidy(NOW, NOW)
    assert 0 < stopped.compacted < 2_500
    rest = RetentionWorker(workspace, ledger).tidy(NOW, NOW)
    assert stopped.compacted + rest.compacted == 2_500


def test_two_that_compact_at_the_same_time_lose_nothing(world, workspace, ledger):
    rows = scored(world, "A-1", CLOSED, 1_500)
    ledger.append(rows)
    late = RetentionWorker(workspace, ledger)
    late._compacted_through = lambda: 0  # as it was before the other began
    assert RetentionWorker(workspace, ledger).tidy(NOW, NOW).compacted == 1_500
    assert late.tidy(NOW, NOW).compacted == 0
    with_both = scored(world, "A-2", CLOSED, 1_500)
    ledger.append(with_both)
    held = late._next(0, NOW, ("features", "reasons", "facts"), scores_table.c.vector_ref.is_(None))
    RetentionWorker(workspace, ledger).tidy(NOW, NOW)
    with writing(ledger.engine) as connection:
        late._share(connection, held)
    some = [*rows[::50], *with_both[::50]]
    assert everything_of(ledger, some) == some


def test_a_compacted_score_can_be_appended_again_and_not_be_changed(world, workspace, ledger):
    rows = scored(world, "A-1", CLOSED, 3)
    ledger.append(rows)
    book = BookScores(
        book_id="b",
        target="churn",
        as_of=NOW - CLOSED,
        served_at=NOW - CLOSED,
        release_id=world.release.release_id,
        bundle_sha="s",
        verdict="promotable",
        feature_set=world.feature_hash,
        entity_ids=["A-1", "A-2"],
        probability=np.array([0.2, 0.3]),
        logit=np.log(np.array([0.25, 3 / 7])),
        band=["low", "low"],
        features=np.ones((2, 4)),
    )
    assert ledger.append_book(book) == 2
    kept = ledger.runs.last("churn")
    RetentionWorker(workspace, ledger).tidy(NOW, NOW)
    assert ledger.append(rows) == 3
    assert ledger.append_book(book) == 0
    assert ledger.scores.count() == 5
    assert ledger.runs.last("churn") == kept
    with pytest.raises(StateError, match="something else is kept"):
        ledger.append([rows[0]._replace(probability=0.5, logit=0.0)])


def test_real_scores_replay_to_the_last_bit_after_compaction(world, fresh):
    serving = ServerState(fresh)
    serving.refresh()
    try:
        for _ in range(4):
            serving.score([f"A-{i:04d}" for i in range(20, 50)], request_id="x",
                          keep=serving.ledger.append)  # fmt: skip
        before = serving.ledger.scores.count()
        later = datetime.now(UTC) + timedelta(days=2)
        assert RetentionWorker(fresh, serving.ledger).tidy(later, NOW).compacted == before
        rows = serving.ledger.scores.sample(before)
        assert len(rows) == before
        archive = ModelArchive(fresh.state)
        assert all(replay(archive, row).is_identical for row in rows)
        answer = serving.score(["A-0030"], request_id="y", keep=serving.ledger.append)
        assert serving.changes(answer.rows) is not None
    finally:
        serving.close()


def test_nothing_is_removed_while_its_outcome_is_open(world, workspace, ledger):
    closed, open_ = scored(world, "A-1", CLOSED), scored(world, "A-2", OPEN)
    renewal = {"is_under_contract": True, "renews_on": (NOW + timedelta(days=9)).date().isoformat()}
    renewing = scored(world, "A-3", CLOSED, facts={"status": "scored", **renewal})
    unknown = scored(world, "A-4", CLOSED, release_id="20200101-gone")
    told_early = scored(world, "A-5", OPEN)
    ledger.append([*closed, *open_, *renewing, *unknown, *told_early])
    outcome = RecordedOutcome("A-5", "churn", told_early[0].as_of, 1, NOW - timedelta(days=20))
    ledger.outcomes.record_one(outcome, recorded_at=NOW)
    keeping = Retention(scores_days=30)
    done = RetentionWorker(workspace, ledger, keeping).tidy(NOW, NOW)
    assert (done.removed, done.kept_open) == (2, 3)
    left = {row.entity_id for row in ledger.scores.sample(100)}
    assert left == {"A-2", "A-3", "A-4"}
    assert ledger.outcomes.known("churn")[0].label == 1, "what became of it stays"
    told = keeping.model_copy(update={"keep_open": False})
    assert RetentionWorker(workspace, ledger, told).tidy(NOW, NOW).removed == 3
    assert ledger.scores.count() == n_contents(ledger) == 0


def test_too_many_scores_lose_repeats_first_and_then_the_oldest(world, workspace, ledger):
    first = scored(world, "A-1", CLOSED, 40)
    second = scored(world, "A-2", CLOSED - timedelta(days=40), 40)
    open_ = scored(world, "A-3", OPEN, 10)
    ledger.append([*first, *second, *open_])
    done = RetentionWorker(workspace, ledger, Retention(max_scores=12)).tidy(NOW, NOW)
    assert (ledger.scores.count(), done.removed) == (12, 78)
    assert everything_of(ledger, [first[0], second[0]]) == [first[0], second[0]]
    RetentionWorker(workspace, ledger, Retention(max_scores=11)).tidy(NOW, NOW)
    assert everything_of(ledger, [first[0], second[0]]) == [None, second[0]]
    done = RetentionWorker(workspace, ledger, Retention(max_scores=5)).tidy(NOW, NOW)
    assert (ledger.scores.count(), done.kept_open) == (10, 10), "what is open stays, and it is said"


def test_old_vectors_go_and_what_validation_needs_stays(world, workspace, ledger):
    old, young = scored(world, "A-1", CLOSED, 5), scored(world, "A-22", OPEN, 5)
    ledger.append([*old, *young])
    shown = ledger.scores.everything()
    done = RetentionWorker(workspace, ledger, Retention(vectors_days=200)).tidy(NOW, NOW)
    assert done.vectors == 2
    assert ledger.scores.everything() == shown
    kept = ledger.scores.find(old[0].score_id)
    assert kept == old[0]._replace(features=b"", reasons=[])
    assert ledger.scores.find(young[0].score_id) == young[0]
    assert {row.entity_id for row in ledger.scores.sample(10)} == {"A-22"}
    told = replay(ModelArchive(workspace.state), kept)
    assert not told.is_reproduced
    assert "ledger.vectors_days" in told.words


def test_an_example_whose_clock_is_pinned_grows_no_older(world, workspace, ledger):
    """Its books were served at its clock, years ago by the calendar."""
    rows = scored(world, "A-1", timedelta(days=0), 5)
    ledger.append(rows)
    done = RetentionWorker(workspace, ledger).tidy(NOW + timedelta(days=4_000), NOW)
    assert (done.compacted, done.vectors, done.removed) == (5, 0, 0)
    assert everything_of(ledger, rows) == rows


def test_scores_are_kept_while_it_is_tidied(world, workspace, ledger):
    ledger.append(scored(world, "A-1", CLOSED, 3_000))
    given, stop = [], threading.Event()

    def give() -> None:
        while not stop.is_set():
            rows = scored(world, "A-2", timedelta(minutes=1), 5)
            ledger.append(rows)
            given.extend(rows)

    threads = [threading.Thread(target=give) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        others = [RetentionWorker(workspace, ledger, Retention(scores_days=30)) for _ in range(2)]
        tidying = [threading.Thread(target=item.tidy, args=(NOW, NOW)) for item in others]
        for thread in tidying:
            thread.start()
        for thread in tidying:
            thread.join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert given
    assert everything_of(ledger, given) == given
    assert ledger.scores.count() == len(given)


def test_one_of_all_workers_tidies_in_an_hour(workspace, ledger):
    upkeep = RetentionWorker(workspace, ledger)
    assert [upkeep.is_due(NOW), upkeep.is_due(NOW)] == [True, False]
    assert RetentionWorker(workspace, ledger).is_due(NOW + EVERY)


def test_a_running_service_tidies_by_itself(world, workspace, ledger, monkeypatch):
    monkeypatch.setattr(background, "TIDY_SECONDS", 0.1)
    ledger.append(scored(world, "A-1", CLOSED, 50))
    serving = ServerState(workspace)
    serving.start(check_seconds=1)
    try:
        ends = time.monotonic() + 30
        while bytes_of_rows(ledger) and time.monotonic() < ends:
            time.sleep(0.1)
        assert n_contents(ledger) == 3
    finally:
        serving.close()


def test_the_command_says_how_it_is_and_makes_it_smaller(world, fresh):
    with Ledger.open(fresh) as ledger:
        ledger.append(scored(world, "A-1", CLOSED, 3_000))
    words = ["ledger", str(fresh.folder), "--state", str(fresh.state.root), "--json"]

    def run(*more: str) -> dict:
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    looked = run("--look")
    assert looked["before"] == looked["after"]
    assert looked["after"]["scores"] == 3_000
    made = run("--shrink")
    assert made["done"]["compacted"] == made["after"]["scores"] == 3_000
    assert made["after"]["bytes"] < made["before"]["bytes"] / 2
    removed = run("--scores-days", "30", "--shrink")
    assert removed["done"]["removed"] == 3_000
    assert removed["after"]["bytes"] < made["after"]["bytes"] / 4


def test_how_long_scores_are_kept_changes_no_model(world):
    raw = json.loads((world.workspace.folder / "company.yaml").read_text())
    other = raw | {"ledger": {"scores_days": 90}, "limits": {"requests_per_minute": 5}}
    assert parse_company(other, where="x").config_hash == world.workspace.company.config_hash
    with pytest.raises(ConfigError, match='did you mean "scores_days"'):
        parse_company(raw | {"ledger": {"score_days": 90}}, where="x")
