"""A stored answer is served only while nothing it was computed from changed, as new scores."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import orjson
import pytest

from configs.runtime.errors import UnavailableError
from features.feast_store import FeastStore
from serving.batch import stored_answers as module
from serving.batch.score_book import score_book
from serving.batch.stored_answers import StoredAnswer, answer_key, valid_answer
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import replay
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import as_json
from serving.online.server_state import ServerState
from serving.scoring.scorer import Scorer
from training.registry.releases import open_store, publish, rollback

IDS = [f"A-{i:04d}" for i in range(20, 80)]
ENTITY = "A-0030"


def without_ids(body: bytes) -> dict:
    answer = orjson.loads(body)
    for part in answer.get("scores", {}).values():
        del part["score_id"]
    return answer


def assert_alike(one: object, other: object, place: str = "") -> None:
    """The same, but for the last bits of sums: those hang on how many are computed together."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_alike(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other), place
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{place}/{i}")
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-12), place
    else:
        assert one == other, place


class Altered:
    """An online store in which something of every row differs."""

    def __init__(self, store, **changed) -> None:
        self._store, self._changed = store, changed

    def held(self, feature_hash, entities):
        return [
            item and item._replace(**{name: change(item) for name, change in self._changed.items()})
            for item in self._store.held(feature_hash, entities)
        ]


def without_answers(serving: ServerState) -> Altered:
    return Altered(serving.current().store, answer=lambda _: b"")


@pytest.fixture
def published(fresh, world):
    """A score run of the copy, published: its answers are stored."""
    with Ledger.open(fresh) as ledger:
        return score_book(fresh, world.release, ledger, world.now)


@pytest.fixture
def stored(published, fresh):
    """A process that serves the run."""
    state = ServerState(fresh)
    state.refresh()
    yield state
    state.close()


@pytest.fixture
def nothing_computed(monkeypatch):
    """From the moment it is called, no answer can be computed."""

    def from_now_on() -> None:
        def score(*_):
            raise AssertionError("computed, although it is stored")

        monkeypatch.setattr(Scorer, "score", score)

    return from_now_on


def is_stored(serving: ServerState, entity: str = ENTITY) -> bool:
    stage = serving.current()
    [row] = stage.store.held(stage.scorer.feature_hash, [entity])
    return valid_answer(stage.scorer, row, serving.clock()) is not None


def computed(serving: ServerState, ids=IDS):
    """Score without stored answers."""
    stage = serving.current()
    serving.stage = replace(stage, store=without_answers(serving))
    try:
        return serving.score(ids, request_id="computed")
    finally:
        serving.stage = stage


def assert_served_as_computed(serving: ServerState, ids=IDS) -> None:
    found, expected = serving.score(ids, request_id="x"), computed(serving, ids)
    for one, other in zip(found.given, expected.given, strict=True):
        assert_alike(without_ids(one.body), without_ids(other.body))


def test_stored_answers_and_their_ledger_rows_are_those_computed(stored, nothing_computed):
    expected = computed(stored)
    nothing_computed()
    served = stored.score(IDS, request_id="served", channel="batch")
    assert {item.status for item in served.given} == {"scored"}
    assert served.release_id == expected.release_id
    for one, other in zip(served.given, expected.given, strict=True):
        assert one.status == other.status
        assert_alike(without_ids(one.body), without_ids(other.body))
    told = [part["score_id"] for item in served.answers for part in item["scores"].values()]
    assert told == [row.score_id for row in served.rows]
    of_request = {"score_id", "request_id", "served_at", "channel"}
    assert len(served.rows) == len(expected.rows) == 2 * len(IDS)
    for one, other in zip(served.rows, expected.rows, strict=True):
        same = {name: value for name, value in one._asdict().items() if name not in of_request}
        same["reasons"] = orjson.loads(str(as_json(one.reasons)))
        assert_alike(same, {name: getattr(other, name) for name in same})
        assert (one.request_id, one.channel) == ("served", "batch")


def test_every_time_it_is_served_its_scores_are_new_ones_and_replay(stored, fresh):
    for name in ("first", "again"):
        scored = stored.score([ENTITY], request_id=name)
        stored.ledger.append(scored.rows)
    rows = [row for row in stored.ledger.scores.history(ENTITY, "churn") if row.channel == "api"]
    assert [row.request_id for row in rows] == ["again", "first"]
    assert len({row.score_id for row in rows}) == 2
    again, first = rows
    assert again.reasons == first.reasons != []
    assert again.facts == first.facts
    assert again.served_at > first.served_at
    for row in rows:
        assert replay(ModelArchive(fresh.state), row).is_identical


def test_accounts_that_are_not_predicted_are_stored_too(stored, nothing_computed, world):
    nothing_computed()
    scored = stored.score(["A-0007"], request_id="x")
    assert scored.rows == []
    assert scored.answers[0]["account_id"] == "A-0007"
    assert scored.given[0].status == scored.answers[0]["status"] != "scored"


def test_the_api_gives_the_stored_answer_once_its_scores_are_committed(
    stored, nothing_computed, client_for
):
    nothing_computed()
    answer = client_for(stored).get(f"/v1/accounts/{ENTITY}/score")
    assert answer.status_code == 200
    for part in answer.json()["scores"].values():
        row = stored.ledger.scores.find(part["score_id"])
        assert (row.probability, row.channel) == (part["probability"], "api")
        assert row.request_id == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "changed",
    [
        {"facts": lambda item: item.facts.replace(b'"arr":', b'"arr_then":')},
        {"values": lambda item: item.values[:-8] + bytes(8)},
        {"past": lambda item: item.past[:-8] + bytes(8)},
        {"as_of": lambda item: item.as_of - timedelta(days=1)},
        {"answer": lambda item: item.answer[1:]},
    ],
    ids=["facts", "values", "past", "as_of", "damaged"],
)
def test_an_account_whose_row_changed_is_computed(stored, changed):
    stage = stored.current()
    assert is_stored(stored)
    stored.stage = replace(stage, store=Altered(stage.store, **changed))
    assert not is_stored(stored)
    assert_served_as_computed(stored, [ENTITY, "A-0031"])


@pytest.mark.parametrize("days", [1, 40])
def test_on_another_day_answers_are_computed(stored, days):
    before = stored.score(IDS, request_id="x").answers
    now = stored.clock()
    stored.clock = lambda: now + timedelta(days=days)
    assert not is_stored(stored)
    later = stored.score(IDS, request_id="x").answers
    renewals = [
        (one["renewal"]["days_to_renewal"], other["renewal"]["days_to_renewal"])
        for one, other in zip(before, later, strict=True)
        if one["renewal"]
    ]
    assert renewals
    assert all(one - other == days for one, other in renewals)


def test_later_the_same_day_it_is_served_with_the_clock_of_the_request(stored, nothing_computed):
    now = stored.clock()
    stored.clock = lambda: now + timedelta(minutes=30)
    nothing_computed()
    row = stored.score([ENTITY], request_id="x").rows[0]
    assert row.clock == now + timedelta(minutes=30)


def test_another_release_computes_until_its_own_run_and_a_rollback_serves_again(
    stored, fresh, world, recalibrated_for
):
    other, releases = recalibrated_for(fresh, world, 0.4, "another level"), open_store(fresh)
    publish(releases, other, world.release.release_id)
    assert is_stored(stored)
    stored.refresh()
    assert stored.current().release.release_id == other.release_id
    assert not is_stored(stored)
    assert stored.score([ENTITY], request_id="x").answers[0]["release_id"] == other.release_id
    rollback(releases)
    stored.refresh()
    assert is_stored(stored)
    assert_served_as_computed(stored)


def test_a_run_of_another_release_is_never_served_for_this_one(
    stored, fresh, world, recalibrated_for
):
    other = recalibrated_for(fresh, world, 0.4, "another level")
    with Ledger.open(fresh) as ledger:
        score_book(fresh, other, ledger, world.now)
    assert not is_stored(stored)
    answer = stored.score([ENTITY], request_id="x").answers[0]
    assert answer["release_id"] == world.release.release_id
    stored.refresh()  # the ranks are of the other release's book: there are none
    assert_served_as_computed(stored)


def test_ranks_peers_and_configuration_are_part_of_the_key(stored, monkeypatch):
    stage, now = stored.current(), stored.clock()
    [row] = stage.store.held(stage.scorer.feature_hash, [ENTITY])
    scorer = stage.scorer
    assert valid_answer(scorer, row, now) is not None
    target = next(iter(scorer.ranks))
    group = next(iter(scorer.peers.medians))
    serving = scorer.company.serving.model_copy(update={"stale_after_days": 1})
    others = [
        scorer.with_ranks({}),
        scorer.with_ranks({**scorer.ranks, target: scorer.ranks[target][:-1]}),
        scorer.with_peers(
            replace(
                scorer.peers,
                medians={**scorer.peers.medians, group: np.zeros(scorer.width)},
            )
        ),
        scorer.with_peers(replace(scorer.peers, words={**scorer.peers.words, group: "others"})),
        replace(scorer, company=scorer.company.model_copy(update={"serving": serving})),
        replace(scorer, company=scorer.company.model_copy(update={"reporting_currency": "EUR"})),
    ]
    keys = {answer_key(other, row, now) for other in others}
    assert len(keys) == len(others)
    assert all(valid_answer(other, row, now) is None for other in others)
    monkeypatch.setattr(module, "code_digest", lambda _: "another version")
    assert valid_answer(scorer, row, now) is None


def test_loading_vectors_again_empties_the_answers(stored, fresh, world):
    from features.online_vectors import feature_set
    from features.snapshots.grid import build_snapshots
    from features.sources import load_sources

    loaded = load_sources(world.workspace, world.now)
    snapshots = build_snapshots(world.workspace, loaded, world.now)
    FeastStore(fresh).materialize(feature_set(snapshots), snapshots.book_on)
    [row] = FeastStore(fresh).held(world.feature_hash, [ENTITY])
    assert row.answer == b""
    assert not is_stored(stored)
    assert_served_as_computed(stored)


def test_answers_are_stored_only_next_to_what_they_were_computed_from(fresh, world, monkeypatch):
    """Where the online store holds another book than the offline store, nothing is stored."""
    read = FeastStore.held

    def other(self, feature_hash, entities):
        rows = read(self, feature_hash, entities)
        return [row and row._replace(values=row.values[:-8] + bytes(8)) for row in rows]

    before = FeastStore(fresh).held(world.feature_hash, IDS)
    monkeypatch.setattr(FeastStore, "held", other)
    with Ledger.open(fresh) as ledger:
        score_book(fresh, world.release, ledger, world.now)
    monkeypatch.setattr(FeastStore, "held", read)
    assert FeastStore(fresh).held(world.feature_hash, IDS) == before


def test_an_online_store_that_is_away_costs_the_run_nothing(fresh, world, monkeypatch):
    tries, told = [], []

    def away(*_):
        tries.append(1)
        raise UnavailableError("the online store does not answer")

    monkeypatch.setattr(FeastStore, "held", away)
    monkeypatch.setattr("serving.batch.score_book.CHUNK_ROWS", 50)
    with Ledger.open(fresh) as ledger:
        run = score_book(fresh, world.release, ledger, world.now, told.append)
    assert run.statuses["scored"] > 200
    assert len(tries) == 1
    [words] = [words for words in told if "not stored" in words]
    assert "does not answer" in words


def test_accounts_of_other_owners_are_as_good_as_unknown(stored):
    owner = stored.score([ENTITY], request_id="x").answers[0]["owner_id"]
    seen = stored.score([ENTITY], request_id="x", owners=frozenset({owner}))
    unseen = stored.score([ENTITY], request_id="x", owners=frozenset({"somebody else"}))
    assert seen.given[0].status == "scored"
    assert (unseen.given[0].status, unseen.rows) == ("unknown_account", [])


def test_a_release_in_the_shadow_scores_every_time(stored):
    stage = stored.current()
    stored.stage = replace(stage, shadow=stage.scorer)
    for _ in range(2):
        scored = stored.score([ENTITY, "A-0031"], request_id="x")
        assert len(scored.shadow) == 4
        assert [(row.entity_id, row.target) for row in scored.shadow] == [
            (row.entity_id, row.target)
            for row in sorted(scored.rows, key=lambda row: (row.target, row.entity_id))
        ]


def test_what_is_packed_is_unpacked():
    stored = StoredAnswer("ab" * 16, "scored", None, [{"score_id": "x"}], b'{"a":"b\\n"}')
    assert StoredAnswer.unpack(stored.pack()) == stored
