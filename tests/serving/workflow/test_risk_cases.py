"""Plays and the life of a risk: what is suggested, what may happen next, what is never lost."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.runtime.errors import ConfigError, DataError, StateError
from configs.schema.plays import load_plays, parse_plays
from serving.scoring.playbooks import has_conflict, suggest
from serving.workflow.risk_cases import (
    ENDED,
    MOVES,
    STAGES,
    Event,
    check_event,
    fired,
    lives,
    queue,
    tried,
)
from serving.workflow.risk_store import COOL_DOWN_DAYS, RiskStore, new_event_id

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TODAY = NOW.date()
ROW = {
    "account_id": "A-1",
    "status": "scored",
    "risk_band": "high",
    "expansion_band": "low",
    "churn_verdict": "promotable",
    "expansion_verdict": "promotable",
    "segment": "mid_market",
    "arr": 84_000.0,
    "expected_arr_lost": 26_000.0,
    "days_to_notice": 12,
    "reason_codes": ["churn.support.raises", "churn.adoption.raises"],
    "as_of": "2026-03-02T00:00:00Z",
}


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    return load_plays(tmp_path_factory.mktemp("company"))


def ids(suggestions) -> list[str]:
    return [item.play.id for item in suggestions]


def test_plays_follow_the_reasons_and_the_notice_deadline(plays):
    found = suggest(plays, ROW, tried={}, today=TODAY)
    assert ids(found) == ["ticket_review", "bring_back_users", "renewal_talk", "check_in"]
    assert found[2].due_on == TODAY + timedelta(days=5)
    assert found[2].why == "high risk; notice deadline in 12 days"
    assert found[0].why == "high risk; support among the reasons"


def test_plays_come_in_the_order_of_the_points_of_their_reason(plays):
    codes = ["churn.adoption.raises", "churn.payments.raises", "churn.support.raises"]
    row = ROW | {"reason_codes": codes, "days_to_notice": 200}
    found = suggest(plays, row | {"reason_points": [0.06, 0.03, 0.02]}, tried={}, today=TODAY)
    assert ids(found)[:3] == ["bring_back_users", "settle_payment", "ticket_review"]
    # A reason with a fifth of the points of the strongest one is the last that counts.
    found = suggest(plays, row | {"reason_points": [0.1, 0.0201, 0.0199]}, tried={}, today=TODAY)
    assert ids(found) == ["bring_back_users", "settle_payment", "check_in"]
    tiny = suggest(plays, row | {"reason_points": [0.004, 0.003, 0.002]}, tried={}, today=TODAY)
    assert ids(tiny) == ["check_in"]


def test_customers_who_do_not_answer_have_a_play_of_their_own(plays):
    row = ROW | {"reason_codes": ["churn.relationship.raises"], "reason_points": [0.05]}
    silent = row | {"reason_features": ["days_since_they_reached_out"]}
    assert ids(suggest(plays, silent, tried={}, today=TODAY))[:2] == ["reach_them", "find_sponsor"]
    left = row | {"reason_features": ["champion_left_364d"]}
    assert "reach_them" not in ids(suggest(plays, left, tried={}, today=TODAY))


def test_a_plan_is_due_before_the_notice_deadline(plays):
    near = suggest(plays, ROW | {"days_to_notice": 2}, tried={}, today=TODAY)
    assert {item.due_on for item in near} == {TODAY + timedelta(days=2)}
    passed = suggest(plays, ROW | {"days_to_notice": -3}, tried={}, today=TODAY)
    assert "renewal_talk" not in ids(passed)


def test_what_was_tried_lately_is_not_suggested_again(plays):
    recent = {"ticket_review": TODAY - timedelta(days=27)}
    assert "ticket_review" not in ids(suggest(plays, ROW, tried=recent, today=TODAY))
    old = {"ticket_review": TODAY - timedelta(days=28)}
    assert "ticket_review" in ids(suggest(plays, ROW, tried=old, today=TODAY))


def test_an_account_at_risk_is_not_asked_to_grow(plays):
    both = ROW | {"expansion_band": "high"}
    assert has_conflict(both)
    assert "grow_conversation" not in ids(suggest(plays, both, tried={}, today=TODAY))
    calm = both | {"risk_band": "low"}
    assert not has_conflict(calm)
    assert ids(suggest(plays, calm, tried={}, today=TODAY)) == ["grow_conversation"]
    owing = calm | {"expansion_is_eligible": False}
    assert suggest(plays, owing, tried={}, today=TODAY) == (), "an invoice is overdue"
    # The estimate is low again, but somebody still works on the risk.
    assert has_conflict(calm, has_open_risk=True)
    assert suggest(plays, calm, tried={}, today=TODAY, has_open_risk=True) == ()


@pytest.mark.parametrize(
    "change", [{"churn_verdict": "no_signal"}, {"status": "too_new"}, {"churn_verdict": None}]
)
def test_nothing_is_suggested_where_nothing_is_known(plays, change):
    assert suggest(plays, ROW | change, tried={}, today=TODAY) == ()


def test_every_condition_has_to_hold():
    plays = parse_plays(
        {
            "plays": [
                {
                    "id": "only",
                    "title": "Only these",
                    "steps": ["Do it"],
                    "when": {
                        "bands": ["high"],
                        "themes": ["support"],
                        "segments": ["mid_market"],
                        "arr_at_least": 84_000,
                        "days_to_notice": [12, 12],
                    },
                }
            ]
        },
        where="here",
    )
    assert ids(suggest(plays, ROW, tried={}, today=TODAY)) == ["only"]
    for change in (
        {"risk_band": "elevated"},
        {"reason_codes": ["churn.support.lowers", "expansion.support.raises"]},
        {"segment": "smb"},
        {"arr": 83_999.0},
        {"arr": None},
        {"days_to_notice": 11},
        {"days_to_notice": None},
    ):
        assert suggest(plays, ROW | change, tried={}, today=TODAY) == (), change


def event(kind, **fields) -> Event:
    base = {"event_id": new_event_id(), "entity_id": "A-1", "at": NOW, "who": "Ada"}
    return Event(**{**base, "kind": kind, **fields})


def opened(**fields) -> Event:
    return event("opened", stage="open", **fields)


def planned(days=5, **fields) -> Event:
    fields = {"on": TODAY + timedelta(days=days), "play": "renewal_talk", **fields}
    return event("moved", stage="plan", **fields)


def test_a_life_is_what_its_events_add_up_to():
    later = NOW + timedelta(days=9)
    (risk,) = lives(
        [opened(), planned(), event("touch", on=TODAY, text="called", play="renewal_talk")]
        + [event("moved", stage="saving", at=later)]
    )
    assert (risk.stage, risk.play) == ("saving", "renewal_talk")
    assert risk.stage_since == later
    assert risk.days_in_stage(later + timedelta(days=3, hours=5)) == 3
    assert risk.overdue_days(TODAY + timedelta(days=5)) is None
    assert risk.overdue_days(TODAY + timedelta(days=8)) == 3


def test_facts_before_and_after_a_risk_open_none():
    fact = event("fact", on=TODAY, text="their champion left")
    assert lives([fact]) == []
    first, second = lives([fact, opened(), event("moved", stage="lost"), fact, opened(), fact])
    assert first.has_ended
    assert len(second.events) == 2


@given(st.lists(st.sampled_from(STAGES), max_size=12))
def test_only_allowed_moves_pass_and_the_end_is_the_end(stages):
    plays = parse_plays({"plays": [{"id": "p", "title": "Play", "steps": ["s"]}]}, where="here")
    events = [opened()]
    for stage in stages:
        risk = lives(events)[-1]
        move = event("moved", stage=stage, on=TODAY if stage == "plan" else None)
        may = not risk.has_ended and (stage in MOVES[risk.stage] or stage == risk.stage)
        if may:
            check_event(move, risk, plays, TODAY)
            events.append(move)
            assert lives(events)[-1].stage == stage
        else:
            with pytest.raises(DataError):
                check_event(move, risk, plays, TODAY)
    assert len(lives(events)) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (event("fact", on=TODAY), "needs a description"),
        (event("fact", on=TODAY + timedelta(days=1), text="x"), "today at the latest"),
        (event("touch", on=None, text="x"), "needs its day"),
        (planned(-1), "due day, today at the earliest"),
        (planned(play="renewal_tlk"), "renewal_talk"),
        (event("snoozed", on=TODAY), "a future day"),
        (opened(), "already open"),
    ],
)
def test_what_makes_no_sense_is_refused(plays, wrong, words):
    (risk,) = lives([opened()])
    with pytest.raises((DataError, ConfigError), match=words):
        check_event(wrong, risk, plays, TODAY)


def test_moving_what_is_not_open_is_refused(plays):
    with pytest.raises(DataError, match="no risk of A-1 is open"):
        check_event(planned(), None, plays, TODAY)


def test_triggers_fire_on_what_they_name_and_once(plays):
    (fresh,) = lives([opened()])
    assert [item.id for item in fired(plays.escalations, fresh, ROW, NOW)] == ["large_and_near"]
    calm = ROW | {"arr": 30_000.0}
    later = NOW + timedelta(days=14)
    assert [item.id for item in fired(plays.escalations, fresh, calm, later)] == ["no_plan"]
    (late,) = lives([opened(), planned(5)])
    when = NOW + timedelta(days=12)
    assert [item.id for item in fired(plays.escalations, late, calm, when)] == ["overdue"]
    told = lives([*late.events, event("escalated", trigger="overdue", at=when)])[0]
    assert fired(plays.escalations, told, calm, when) == []
    asleep = lives([*late.events, event("snoozed", on=when.date() + timedelta(days=3))])[0]
    assert fired(plays.escalations, asleep, calm, when) == []


def test_the_queue_holds_what_can_be_worked_on():
    rows, risks = [], {}
    for i in range(6):
        name = f"A-{i}"
        rows.append(
            ROW | {"account_id": name, "expected_arr_lost": 1000.0 * i, "days_to_notice": 90}
        )
        (risks[name],) = lives([opened(entity_id=name)])
    risks["A-0"] = replace(risks["A-0"], stage="plan", due_on=TODAY + timedelta(days=2))
    rows[1] = rows[1] | {"days_to_notice": 3}
    risks["A-5"] = replace(risks["A-5"], snoozed_until=TODAY + timedelta(days=1))
    del risks["A-4"]
    now, waits = queue(rows, risks, 3, TODAY)
    assert now == ["A-0", "A-1", "A-3"]
    assert waits == ["A-2"]


def test_tried_is_the_last_time():
    events = [
        event("touch", on=TODAY - timedelta(days=9), play="call", text=""),
        event("touch", on=TODAY - timedelta(days=4), play="call"),
        event("touch", on=TODAY, text="a chat"),
    ]
    assert tried(events) == {"call": TODAY - timedelta(days=4)}


@pytest.fixture
def casebook(url, tmp_path, plays):
    made = RiskStore(url or None, tmp_path / "risks.db", "small", plays)
    yield made
    made.close()


def test_a_book_opens_risks_once(casebook):
    rows = [
        ROW,
        ROW | {"account_id": "A-2", "risk_band": "elevated"},
        ROW | {"account_id": "A-3", "risk_band": "elevated", "arr": 10.0},
        ROW | {"account_id": "A-4", "churn_verdict": "no_signal"},
    ]
    assert casebook.open_from(rows, "book-1", NOW) == ["A-1", "A-2"]
    assert casebook.open_from(rows, "book-1", NOW) == []
    assert casebook.open_from(rows, "book-2", NOW + timedelta(days=7)) == []
    assert set(casebook.open_risks()) == {"A-1", "A-2"}
    casebook.record(event("moved", stage="recovered", at=NOW + timedelta(days=8)))
    back = NOW + timedelta(days=8 + COOL_DOWN_DAYS)
    assert casebook.open_from(rows, "book-3", back - timedelta(days=1)) == []
    assert casebook.open_from(rows, "book-4", back) == ["A-1"]


def test_the_same_event_again_is_harmless_and_another_under_its_name_is_not(casebook):
    first = opened()
    casebook.record(first)
    casebook.record(first)
    assert casebook.events("A-1") == [first]
    with pytest.raises(StateError, match="another event"):
        casebook.record(replace(first, kind="fact", on=TODAY, text="x"))


def test_who_looked_at_an_older_state_is_told(casebook):
    first, second = opened(), planned()
    casebook.record(first)
    casebook.record(second, after=first.event_id)
    with pytest.raises(StateError, match="Ada changed this account"):
        casebook.record(event("moved", stage="saving"), after=first.event_id)
    assert casebook.risk("A-1").stage == "plan"


def test_two_people_at_once_open_one_risk(casebook):
    outcomes = []

    def open_it(who) -> None:
        try:
            casebook.record(opened(who=who))
            outcomes.append("kept")
        except DataError:
            outcomes.append("refused")

    threads = [threading.Thread(target=open_it, args=(f"p{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if casebook.engine.dialect.name == "sqlite":
        assert sorted(outcomes) == ["kept", "refused", "refused", "refused"]
    assert len(lives(casebook.events("A-1"))) == 1


def test_escalations_are_recorded_and_told_once(casebook):
    casebook.record(opened())
    assert [(entity, item.id) for entity, item in casebook.escalate([ROW], NOW)] == [
        ("A-1", "large_and_near")
    ]
    assert casebook.escalate([ROW], NOW) == []
    assert casebook.risk("A-1").escalated == {"large_and_near"}


def test_touches_are_kept_with_their_day(casebook):
    touch = event("touch", on=date(2026, 2, 27), play="check_in", text="called, all fine")
    casebook.record(touch)
    assert casebook.touches() == [touch]
    assert casebook.risk("A-1") is None
    with pytest.raises(DataError, match="zero byte"):
        casebook.record(replace(touch, event_id=new_event_id(), text="a\x00b"))


def test_ended_stages_lead_nowhere():
    assert all(MOVES[stage] == () for stage in ENDED)
    assert set(MOVES) == set(STAGES)
