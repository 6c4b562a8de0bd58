"""What is seen of drift and performance: on a real book, and on outcomes made to order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from configs.runtime.state_directory import write_json_atomically
from features.sources import load_sources
from serving.api.gauges import set_gauges
from serving.batch.score_book import score_book, watched_book
from serving.http.prometheus import Metrics
from serving.ledger.outcomes import contract_id, join_outcomes
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookScores, JudgedScore, RecordedOutcome
from serving.monitoring.monitor import monitor, realised
from serving.monitoring.report import Monitoring
from serving.online.server_state import ServerState
from training.model.bundle import sigmoid
from training.registry.releases import new_release
from training.validation import served_scores


@pytest.fixture(scope="module")
def watched(world):
    return watched_book(world.workspace, world.release)


@pytest.fixture
def kept(fresh):
    with Ledger.open(fresh) as ledger:
        yield ledger


def past_book(world, month: int, *, n=300, level=0.0, channel="book", sha="") -> BookScores:
    """A book of an earlier month; `level` moves what is said away from what is true."""
    rng = np.random.default_rng(month)
    logit = rng.normal(-1.5, 1.2, n)
    as_of = datetime(2025, month, 1, tzinfo=UTC)
    return BookScores(
        book_id=f"{channel}-{month}",
        target="churn",
        as_of=as_of,
        served_at=as_of + timedelta(hours=6),
        release_id=world.release.release_id,
        bundle_sha=sha or world.release.bundles["churn"]["sha"],
        verdict="promotable",
        feature_set=world.feature_hash,
        entity_ids=[f"P-{i:03d}" for i in range(n)],
        probability=sigmoid(logit + level),
        logit=logit + level,
        band=["low"] * n,
        features=np.zeros((n, 1)),
        channel=channel,
    )


def came_about(world, book: BookScores, *, level=0.0) -> list[RecordedOutcome]:
    """Outcomes that follow the probabilities of a book, but for its level."""
    rng = np.random.default_rng(book.as_of.month + 100)
    happened = rng.random(len(book.logit)) < sigmoid(book.logit - level)
    contract = contract_id(world.release.label_contracts["churn"])
    known = book.as_of + timedelta(days=91)
    return [
        RecordedOutcome(entity, "churn", book.as_of, int(label), known, contract=contract)
        for entity, label in zip(book.entity_ids, happened, strict=True)
    ]


def history(world, ledger, *, level=0.0) -> None:
    for month in (3, 6, 9):
        book = past_book(world, month, level=level)
        ledger.append_book(book)
        ledger.outcomes.record(came_about(world, book, level=level), recorded_at=world.now)


def test_a_young_company_is_told_what_cannot_be_said_yet(fresh, world, watched, kept):
    report = monitor(fresh, watched, kept, world.now)
    TypeAdapter(Monitoring).validate_python(report)
    churn = report["targets"]["churn"]
    assert churn["realised"]["n"] == 0
    assert churn["realised"]["auc"] is None
    assert any("too few to measure performance" in words for words in churn["words"])
    assert not any(words.startswith("ALARM") for words in churn["words"])
    assert report["freshness"]["age_days"] == 0
    expected = churn["expected"]
    assert expected["n"] == report["freshness"]["n_scored"] == len(watched.values)
    assert expected["auc_low"] < expected["auc"] < expected["auc_high"]


def test_a_book_like_the_training_rows_is_steady(fresh, world, watched, kept):
    inputs = monitor(fresh, watched, kept, world.now)["targets"]["churn"]["inputs"]
    assert inputs["n_features"] == len(watched.models[0].bundle.encoder.names)
    moved = {i["name"] for i in inputs["features"] if i["verdict"].startswith("moved")}
    assert not {"active_users_28d", "tickets_opened_28d"} & moved


def test_an_input_that_moved_is_named(fresh, world, watched, kept):
    values = watched.values.copy()
    values[:, world.names.index("active_users_28d")] += 30.0
    told = monitor(fresh, replace(watched, values=values), kept, world.now)["targets"]["churn"]
    first = told["inputs"]["features"][0]
    assert (first["name"], first["verdict"]) == ("active_users_28d", "moved much")
    assert any("active users" in words for words in told["words"])


def first_book(world, watched, level=0.0) -> BookScores:
    """The model's own book of an earlier month, its log-odds moved by `level`."""
    model = watched.models[0]
    logit = model.bundle.predict(model.encode(watched.values)).logit + level
    n = len(logit)
    return replace(
        past_book(world, 9, n=n), probability=sigmoid(logit), logit=logit, band=["low"] * n
    )


def test_the_first_book_of_a_model_has_nothing_to_have_moved_from(fresh, world, watched, kept):
    run = score_book(fresh, world.release, kept, world.now)
    told = monitor(fresh, watched, kept, world.now)["targets"]["churn"]
    assert run.statuses["scored"] > 0
    assert told["scores"] is None


@pytest.mark.parametrize(("level", "verdict"), [(0.0, "steady"), (1.5, "moved much")])
def test_scores_are_held_against_the_first_book_of_the_same_model(
    fresh, world, watched, kept, level, verdict
):
    other = past_book(world, 6, level=3.0, sha="0" * 64)
    kept.append_book(replace(other, release_id="of another model"))
    kept.append_book(first_book(world, watched, level))
    report = monitor(fresh, watched, kept, world.now)
    TypeAdapter(Monitoring).validate_python(report)
    told = report["targets"]["churn"]
    assert (told["scores"]["verdict"], told["scores"]["since"][:10]) == (verdict, "2025-09-01")
    alarms = [words for words in told["words"] if words.startswith("ALARM: the scores")]
    assert len(alarms) == (verdict != "steady")


def test_a_handful_of_accounts_raises_no_alarm(fresh, world, watched, kept):
    report = monitor(fresh, replace(watched, values=watched.values[:12]), kept, world.now)
    inputs = report["targets"]["churn"]["inputs"]
    assert inputs["n_moved"] == 0
    assert inputs["n_too_few_to_tell"] > inputs["n_features"] / 2
    empty = monitor(fresh, replace(watched, values=watched.values[:0]), kept, world.now)
    assert empty["targets"]["churn"]["expected"] is None


def test_outcomes_are_set_beside_what_was_said(fresh, world, watched, kept):
    history(world, kept)
    told = monitor(fresh, watched, kept, world.now)["targets"]["churn"]
    found = told["realised"]
    assert (found["n"], found["n_accounts"]) == (900, 300)
    assert found["auc"]["low"] < found["expected_auc"] < found["auc"]["high"]
    assert found["observed_to_expected"]["low"] < 1 < found["observed_to_expected"]["high"]
    # the only alarm is that the first book, which is made up, is unlike the present one
    assert [words[:17] for words in told["words"] if "ALARM" in words] == ["ALARM: the scores"]
    assert told["realised_of_this_model"]["n"] == 900


def test_a_level_that_is_off_raises_an_alarm(fresh, world, watched, kept):
    history(world, kept, level=1.0)
    told = monitor(fresh, watched, kept, world.now)["targets"]["churn"]
    assert told["words"][0].startswith("ALARM: the observed rate differs from the estimates")


def test_a_ranking_that_broke_raises_an_alarm(world):
    rng = np.random.default_rng(3)
    n = 800
    p = sigmoid(rng.normal(-1.5, 1.5, n))
    label = (rng.random(n) < p.mean()).astype(float)
    moments = [datetime(2025, 3, 1, tzinfo=UTC)] * n
    found = realised(JudgedScore([str(i) for i in range(n)], ["s"] * n, moments, p, label), seed=1)
    assert found["auc"]["high"] < found["expected_auc"]


def test_the_shadow_is_compared_on_the_same_accounts(fresh, world, watched, kept):
    history(world, kept)
    for month in (3, 6, 9):
        kept.append_book(past_book(world, month, level=1.5, channel="shadow", sha="f" * 64))
    told = monitor(fresh, watched, kept, world.now)["targets"]["churn"]
    shadow = told["shadow"]
    assert shadow["n_books"] == 3
    assert shadow["agreement"]["mean_difference"] > 0.1
    assert shadow["outcomes"]["n"] == 900
    assert shadow["outcomes"]["brier"]["difference"]["low"] > 0
    assert abs(shadow["outcomes"]["auc"]["difference"]["value"]) < 0.01
    assert any("shadow release" in words and "worse" in words for words in told["words"])


def test_it_is_read_over_http_and_as_gauges(fresh, world, watched, kept, client_for):
    serving = ServerState(fresh)
    serving.refresh()
    try:
        assert client_for(serving).get("/v1/monitoring").status_code == 404
        history(world, kept)
        report = monitor(fresh, watched, kept, world.now)
        serving.refresh()
        assert client_for(serving).get("/v1/monitoring").json() == report
        metrics = Metrics()
        set_gauges(metrics, serving)
        text = metrics.expose().decode()
        assert 'bellwether_realised_scores{target="churn"} 900.0' in text
        assert 'bellwether_alarms{target="churn"} 1.0' in text, "the first book is made up"
        assert 'bellwether_score_psi{target="churn"}' in text
        assert 'bellwether_alarms{target="expansion"} 0.0' in text
        assert "bellwether_feature_age_seconds 34200.0" in text
    finally:
        serving.close()


def test_outcomes_join_under_the_contract_a_score_was_made_under(fresh, world, kept):
    """The same accounts were asked twice: until renewal, and within 91 days."""
    body = world.release.as_dict()
    del body["release_id"]
    body["created_at"] = datetime.fromisoformat(body["created_at"])
    asked = body["label_contracts"]["churn"]
    body["label_contracts"]["churn"] = asked | {"until_renewal": False}
    within = new_release(**body)
    write_json_atomically(fresh.state.releases / f"{within.release_id}.json", within.as_dict())
    loaded = load_sources(world.workspace, world.now)
    as_of = datetime(2025, 10, 30, tzinfo=UTC)
    ids = [f"A-{i:04d}" for i in range(60)]
    book = replace(past_book(world, 11, n=60), as_of=as_of, served_at=as_of, entity_ids=ids)
    kept.append_book(book)
    kept.append_book(replace(book, book_id="again", release_id=within.release_id))
    assert join_outcomes(fresh, loaded, kept, as_of + timedelta(days=1)) == 0
    n = join_outcomes(fresh, loaded, kept, world.now)
    until, horizon = (
        {item.entity_id: item for item in kept.outcomes.known("churn") if item.contract == contract}
        for contract in map(contract_id, (asked, within.label_contracts["churn"]))
    )
    assert n == len(until) + len(horizon)
    assert len(horizon) > len(until) > 3  # most renewals lie ahead still
    left = {entity: item for entity, item in horizon.items() if item.label == 1}
    assert set(left) == {"A-0007"}
    ended_on = (world.now - timedelta(days=100)).date()  # known at the next midnight
    assert left["A-0007"].decision_at.date() == ended_on + timedelta(days=1)
    assert all(item.known_at <= world.now for item in horizon.values())
    assert join_outcomes(fresh, loaded, kept, world.now) == 0
    judged = kept.outcomes.judged(kept.runs.every(), contract_id(asked))
    assert len(judged.p) == len(until)


def test_a_book_whose_release_is_lost_is_told_and_left_out(fresh, world, kept):
    kept.append_book(replace(past_book(world, 3), release_id="20250301-0000000000"))
    told = []
    loaded = load_sources(world.workspace, world.now)
    assert join_outcomes(fresh, loaded, kept, world.now, told.append) == 0
    assert "cannot be judged" in told[0]


def test_a_scored_book_is_watched(fresh, world, kept):
    score_book(fresh, world.release, kept, world.now)
    assert {book.channel for book in kept.runs.every()} == {"book"}


def judged_over(months, level, n=200, seed=4) -> JudgedScore:
    """Scores of two books a month whose ranking is good and whose level follows `level`."""
    rng = np.random.default_rng(seed)
    moments = [datetime(2025, month, day, tzinfo=UTC) for month in months for day in (3, 17)]
    ids, as_of, p, label = [], [], [], []
    for moment in moments:
        chance = sigmoid(level(moment.month) + rng.normal(size=n))
        ids += [f"a{i}" for i in range(n)]
        as_of += [moment] * n
        p.append(chance)
        label.append((rng.random(n) < chance).astype(float))
    return JudgedScore(ids, ["m"] * len(ids), as_of, np.concatenate(p), np.concatenate(label))


def test_the_track_record_and_the_monitoring_tell_the_same_auc():
    judged = judged_over(range(1, 5), lambda month: -2.0 + 0.8 * (month % 2))
    closed = pd.DataFrame(
        {
            "entity_id": judged.entity_id,
            "as_of": pd.to_datetime(judged.as_of),
            "label": judged.label,
            "p": judged.p,
            "arr": 1.0,
        }
    )
    recorded, found = served_scores._measures(closed, seed=3), realised(judged, 3)
    for name in ("auc", "auc_pooled"):
        assert recorded[name]["value"] == found[name]["value"]
    assert found["auc"]["value"] < found["auc_pooled"]["value"]


def test_a_level_that_moves_with_the_season_promises_no_ranking():
    """Within a month all scores are alike: nothing is promised, and nothing is missed."""
    judged = judged_over(range(1, 7), lambda month: -3.0 + month)
    months = np.array([moment.month for moment in judged.as_of])
    flat = replace(judged, p=sigmoid(-3.0 + months))
    found = realised(flat, 3)
    assert found["expected_auc"] == pytest.approx(0.5)
    assert found["auc"]["value"] == pytest.approx(0.5)
    assert found["auc_pooled"]["value"] > 0.6
