"""An answer is given again only while nothing it rests on changed, and is a score of its own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import date, timedelta

import orjson
import pytest
from sqlalchemy import func, select

from configs.runtime.database import reading, writing
from configs.runtime.errors import UnavailableError
from configs.runtime.tables import scores_table
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import replay
from serving.online.answer_cache import Basis, Given, Recall, basis_of
from serving.online.cache_warmer import PART_ACCOUNTS, PAUSES, Ahead
from serving.online.score_request import LoadedRelease, ScoreRequest
from serving.online.server_state import ServerState
from serving.scoring.scorer import Scorer

IDS = [f"A-{i:04d}" for i in range(20, 80)]


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
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), place
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{place}/{i}")
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-12), place
    else:
        assert one == other, place


def bodies(serving: ServerState, ids=IDS) -> list[bytes]:
    return [item.body for item in serving.score(ids, request_id="x").given]


def n_scores(serving: ServerState) -> int:
    with reading(serving.ledger.engine) as connection:
        return connection.execute(select(func.count()).select_from(scores_table)).scalar_one()


@pytest.fixture
def nothing_computed(monkeypatch):
    """From the moment it is called, nobody can compute an answer."""

    def from_now_on() -> None:
        def score(*_):
            raise AssertionError("computed, where it was known")

        monkeypatch.setattr(Scorer, "score", score)

    return from_now_on


class Altered:
    """An online store in which something of one account differs."""

    def __init__(self, store, entity: str, **changed) -> None:
        self._store, self._entity, self._changed = store, entity, changed

    def held(self, feature_hash, entities):
        return [
            item._replace(**{name: change(item) for name, change in self._changed.items()})
            if entity == self._entity
            else item
            for entity, item in zip(entities, self._store.held(feature_hash, entities), strict=True)
        ]


def test_what_is_recalled_is_what_was_computed_under_new_ids(serving, nothing_computed):
    first = serving.score(IDS, request_id="first")
    nothing_computed()
    again = serving.score(IDS, request_id="again", channel="batch")
    assert {item.status for item in again.given} == {"scored"}
    for one, other in zip(first.given, again.given, strict=True):
        assert without_ids(one.body) == without_ids(other.body)
    told = [part["score_id"] for item in again.answers for part in item["scores"].values()]
    assert told == [row.score_id for row in again.rows]
    assert not set(told) & {row.score_id for row in first.rows}
    for one, other in zip(first.rows, again.rows, strict=True):
        assert (other.request_id, other.channel) == ("again", "batch")
        assert other.served_at > one.served_at
        for name in ("entity_id", "target", "probability", "logit", "features", "facts", "as_of"):
            assert getattr(one, name) == getattr(other, name)


def test_both_are_in_the_ledger_alike_and_replay(serving, fresh):
    scored = [serving.score(["A-0030"], request_id=name) for name in ("first", "again")]
    for one in scored:
        serving.ledger.append(one.rows)
    first, again = (serving.ledger.scores.find(one.rows[0].score_id) for one in scored)
    assert first.reasons == again.reasons != []
    assert first.facts == again.facts
    assert first.clock == again.clock
    for row in (first, again):
        assert replay(ModelArchive(fresh.state), row).is_identical


@pytest.mark.parametrize(
    "changed",
    [
        {"facts": lambda item: item.facts.replace(b'"arr":', b'"arr_then":')},
        {"values": lambda item: item.values[:-8] + bytes(8)},
        {"past": lambda item: item.past[:-8] + bytes(8)},
        {"as_of": lambda item: item.as_of - timedelta(days=1)},
    ],
    ids=["facts", "values", "past", "as_of"],
)
def test_an_account_whose_data_moved_is_computed_anew(serving, changed):
    bodies(serving)
    stage = serving.current()
    serving.stage = replace(stage, store=Altered(stage.store, "A-0030", **changed))
    found = bodies(serving, ["A-0030", "A-0031"])
    serving.stage = replace(serving.stage, recall=Recall(0))
    computed = bodies(serving, ["A-0030", "A-0031"])
    for one, other in zip(found, computed, strict=True):
        assert_alike(without_ids(one), without_ids(other))


@pytest.mark.parametrize("days", [1, 40])
def test_another_day_is_counted_from(serving, days):
    before = bodies(serving)
    now = serving.clock()
    serving.clock = lambda: now + timedelta(days=days)
    later = bodies(serving)
    serving.stage = replace(serving.current(), recall=Recall(0))
    for one, other in zip(later, bodies(serving), strict=True):
        assert_alike(without_ids(one), without_ids(other))
    renewals = [
        (one["renewal"]["days_to_renewal"], other["renewal"]["days_to_renewal"])
        for one, other in zip(map(orjson.loads, before), map(orjson.loads, later), strict=True)
        if one["renewal"]
    ]
    assert renewals
    assert all(one - other == days for one, other in renewals)


def test_a_stage_that_changes_forgets_and_one_that_does_not_remembers(serving, live):
    bodies(serving)
    recall = serving.current().recall
    serving.refresh()
    assert serving.current().recall is recall
    assert len(recall) == len(IDS)
    serving.book = live.book  # ranks: percentiles change
    serving.refresh()
    assert serving.current().scorer.ranks
    assert len(serving.current().recall) == 0
    stage = serving.current()
    moved = serving._brought_up_to_date(replace(stage, vectors="of another book"))
    assert moved.recall is not stage.recall


def test_who_does_not_see_an_account_is_told_nothing_of_it(serving):
    owner = serving.score(["A-0030"], request_id="x").answers[0]["owner_id"]
    seen = serving.score(["A-0030"], request_id="x", owners=frozenset({owner}))
    unseen = serving.score(["A-0030"], request_id="x", owners=frozenset({"somebody else"}))
    assert seen.given[0].status == "scored"
    assert (unseen.given[0].status, unseen.rows) == ("unknown_account", [])


def test_a_release_in_the_shadow_scores_every_time(serving):
    bodies(serving, ["A-0030"])
    stage = serving.current()
    serving.stage = replace(stage, shadow=stage.scorer)
    for _ in range(2):
        scored = serving.score(["A-0030"], request_id="x")
        assert [row.target for row in scored.shadow] == [row.target for row in scored.rows]


def test_what_does_not_fit_is_forgotten_the_oldest_first(serving):
    bodies(serving)
    whole = serving.current().recall
    room = Recall(whole._n_bytes // 2)
    serving.stage = replace(serving.current(), recall=room)
    bodies(serving)
    assert len(IDS) / 3 < len(room) < 2 * len(IDS) / 3
    assert room._n_bytes <= room._room_bytes
    assert room.is_full
    assert IDS[-1] in room
    assert IDS[0] not in room
    bodies(serving, [IDS[-1]])
    assert room._n_bytes == pytest.approx(len(room) * whole._n_bytes / len(whole), rel=0.1)


def test_without_room_nothing_is_kept(serving):
    serving.stage = replace(serving.current(), recall=Recall(0))
    assert bodies(serving)
    assert len(serving.current().recall) == 0
    assert serving.current().recall.is_full


def test_a_basis_differs_by_day_age_and_bytes(serving):
    stage, now = serving.current(), serving.clock()
    one, other = stage.store.held(stage.scorer.feature_hash, ["A-0030", "A-0031"])
    assert basis_of(one, now) == basis_of(one, now)
    assert basis_of(one, now) != basis_of(other, now)
    assert basis_of(one, now) != basis_of(one, now + timedelta(days=1))


async def ask(serving: ServerState, ids) -> list:
    asked = [ScoreRequest(entity, f"r-{entity}", "api", None) for entity in ids]
    return await asyncio.gather(*(serving.together.ask(item, 10.0) for item in asked))


@pytest.fixture
def no_thread(serving, monkeypatch):
    """From the moment it is called, the thread answers nobody."""

    def from_now_on() -> None:
        def answer(_):
            raise AssertionError("the thread was asked")

        monkeypatch.setattr(serving.together, "_answer", answer)

    return from_now_on


def test_what_is_known_is_answered_in_the_event_loop_and_committed(serving, no_thread):
    first = asyncio.run(ask(serving, IDS))
    n_before = n_scores(serving)
    assert n_before == sum(len(one.rows) for one in first)
    no_thread()
    again = asyncio.run(ask(serving, IDS))
    assert n_scores(serving) == 2 * n_before
    for entity, one in zip(IDS, again, strict=True):
        assert one.given[0].value["account_id"] == entity
        assert {row.request_id for row in one.rows} == {f"r-{entity}"}
        assert serving.ledger.scores.find(one.rows[0].score_id).entity_id == entity


def test_known_and_unknown_together_get_each_their_own(serving):
    asyncio.run(ask(serving, IDS[:3]))
    asked = [IDS[0], "nobody", IDS[5], IDS[1], IDS[0]]
    found = asyncio.run(ask(serving, asked))
    assert [one.given[0].value["account_id"] for one in found] == asked
    assert found[1].given[0].status == "unknown_account"
    assert all(serving.ledger.scores.find(row.score_id) for one in found for row in one.rows)


def test_while_another_writes_the_event_loop_goes_on_and_a_thread_waits(serving):
    asyncio.run(ask(serving, IDS[:2]))
    n_before = n_scores(serving)
    gaps = []

    async def go():
        waiting = asyncio.ensure_future(ask(serving, IDS[:2]))
        with writing(serving.ledger.engine):
            last = time.perf_counter()
            for _ in range(30):
                await asyncio.sleep(0.01)
                gaps.append(time.perf_counter() - last)
                last = time.perf_counter()
            assert not waiting.done(), "nothing is given out before it is committed"
        return await waiting

    found = asyncio.run(go())
    assert max(gaps) < 0.2
    assert n_scores(serving) == n_before + sum(len(one.rows) for one in found)


def test_after_a_slow_disk_a_thread_commits_for_a_while(serving, monkeypatch):
    asyncio.run(ask(serving, IDS[:1]))
    commit_now = serving.ledger.commit_now

    def slowly(rows):
        time.sleep(0.05)
        return commit_now(rows)

    monkeypatch.setattr(serving.ledger, "commit_now", slowly)
    asyncio.run(ask(serving, IDS[:1]))
    assert serving._slow_until > time.perf_counter() + 0.3
    monkeypatch.setattr(serving.ledger, "commit_now", None)  # asked by nobody now
    assert asyncio.run(ask(serving, IDS[:1]))[0].given[0].status == "scored"


def test_who_has_gone_is_given_no_score(serving):
    asyncio.run(ask(serving, IDS[:3]))
    n_before = n_scores(serving)

    async def go():
        waiting = asyncio.ensure_future(ask(serving, IDS[:3]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.2)

    asyncio.run(go())
    assert n_scores(serving) == n_before


def test_trouble_in_the_event_loop_is_told_by_the_thread(serving, monkeypatch):
    asyncio.run(ask(serving, IDS[:1]))

    def held(*_):
        raise UnavailableError("the online store does not answer")

    monkeypatch.setattr(serving.current().store, "held", held)
    with pytest.raises(UnavailableError, match="does not answer"):
        asyncio.run(ask(serving, IDS[:1]))


def test_a_book_is_computed_ahead_and_nothing_of_it_is_a_score(serving, book, live):
    scored = book.statuses["scored"]
    serving._refresh_book = lambda: ""  # the copy has none of its own
    serving.book = live.book
    serving.start(check_seconds=60)
    ends = time.monotonic() + 60
    while len(serving.current().recall) < scored and time.monotonic() < ends:
        time.sleep(0.05)
    assert len(serving.current().recall) == scored
    assert n_scores(serving) == 0


class Quiet:
    """A machine with nothing else to do; remembers how long it was left to others."""

    def __init__(self) -> None:
        self.computed: list[list[str]] = []
        self.waited: list[float] = []
        self.fails: list[Exception] = []

    def compute(self, accounts) -> None:
        if self.fails:
            raise self.fails.pop()
        time.sleep(0.001)
        self.computed.append(list(accounts))

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return False

    @property
    def ahead(self) -> Ahead:
        return Ahead(self.compute, self.wait)


TODAY = date(2026, 3, 2)
MANY = [f"A-{i}" for i in range(2 * PART_ACCOUNTS + 1)]


def test_parts_are_computed_in_order_with_pauses_once_a_day():
    machine, recall = Quiet(), Recall()
    ahead = machine.ahead
    ahead.run(recall, TODAY, MANY, lambda: True)
    assert [entity for part in machine.computed for entity in part] == MANY
    assert max(map(len, machine.computed)) == PART_ACCOUNTS
    assert all(seconds >= PAUSES * 0.001 for seconds in machine.waited)
    assert ahead.is_done(recall, TODAY)
    assert not ahead.is_done(recall, TODAY + timedelta(days=1))
    assert not ahead.is_done(Recall(), TODAY)


def test_it_stops_for_another_stage_and_begins_again_after_an_outage():
    machine, recall = Quiet(), Recall()
    ahead = machine.ahead
    ahead.run(recall, TODAY, MANY, lambda: False)
    assert len(machine.computed) == 1
    machine.fails = [UnavailableError("the store is away")]
    ahead.run(recall, TODAY, MANY, lambda: True)
    assert len(machine.computed) == 1
    machine.fails = [ValueError("a broken account")]
    ahead.run(recall, TODAY, MANY, lambda: True)
    assert len(machine.computed) == 3, "one part is broken, the others are not"


def test_answers_of_yesterday_make_room_for_todays(serving):
    bodies(serving)
    recall = Recall(serving.current().recall._n_bytes // 2)
    serving.stage = replace(serving.current(), recall=recall)
    now = serving.clock()
    ready = []
    ahead = Ahead(serving._remember_answers, lambda _: False)
    for days in (0, 1):
        serving.clock = lambda days=days: now + timedelta(days=days)
        today = serving.clock().date()
        ahead.run(recall, today, IDS, lambda: True)
        assert ahead.is_done(recall, today)
        ready.append(sum(kept.basis.day == today for kept in recall._kept.values()))
    assert ready[0] == ready[1] > len(IDS) / 3


def test_a_full_recall_is_left_as_it_is():
    machine = Quiet()
    machine.ahead.run(Recall(0), TODAY, MANY, lambda: True)
    assert machine.computed == []


def test_an_answer_that_does_not_name_its_scores_is_not_kept(serving):
    scored = serving.score(["A-0030"], request_id="x")
    recall = Recall()
    basis = Basis(TODAY, 0, serving.clock(), b"")
    recall.keep(Given({"status": "scored"}), scored.rows, basis)
    assert len(recall) == 0
    recall.keep(scored.given[0], scored.rows, basis)
    assert recall.find("A-0030", basis) is not None
    assert recall.find("A-0030", basis._replace(digest=b"other")) is None


def test_stages_remember_apart(serving):
    stage = serving.current()
    assert LoadedRelease(stage.scorer, stage.store, "").recall is not stage.recall
