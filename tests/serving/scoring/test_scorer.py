"""The scoring core: what adds up, what is kept apart, and what one account cannot do to others."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from pydantic import TypeAdapter

from configs.runtime import formatting
from configs.runtime.errors import ModelError
from configs.runtime.state_directory import new_folder, read_manifest
from configs.schema.rules import active_rules
from features.feast_store import OnlineRows
from serving.batch.score_book import _ranked
from serving.pages.account.call_sheet import sheet
from serving.pages.account.page import view as account_page
from serving.pages.templating import environment
from serving.scoring.answer import Answer
from serving.scoring.export_rows import flat_row
from serving.scoring.scorer import Scorer
from training.data.training_frame import TrainingFrame
from training.fitting.fit import constant_rate
from training.model.bands import book_scores, frozen_bands, newest_vectors
from training.model.bundle import Bundle
from training.model.manifest import ModelManifest
from training.model.rule_model import rules_to_json


@pytest.fixture(scope="module")
def scorer(world) -> Scorer:
    return Scorer.load(world.workspace, world.release)


@pytest.fixture(scope="module")
def ids() -> list[str]:
    return [f"A-{i:04d}" for i in range(260)]


@pytest.fixture(scope="module")
def rows(world, scorer, ids) -> OnlineRows:
    return world.store.online(scorer.feature_hash, scorer.width, ids)


@pytest.fixture(scope="module")
def answers(world, scorer, ids, rows) -> list[dict]:
    return scorer.score(ids, rows, world.now)


def scored(answers) -> list[dict]:
    return [answer for answer in answers if answer["status"] == "scored"]


def part_of(rows: OnlineRows, chosen: list[int]) -> OnlineRows:
    return OnlineRows(
        rows.is_known[chosen],
        rows.values[chosen],
        rows.past[chosen],
        [rows.facts[i] for i in chosen],
        [rows.as_of[i] for i in chosen],
    )


def test_growth_is_withheld_from_who_has_no_room_and_the_risk_is_not(scorer, world, ids, rows):
    first = scorer.score(ids, rows, world.now)
    full = next(i for i, answer in enumerate(first) if answer["status"] == "scored")
    facts = list(rows.facts)
    facts[full] = {**facts[full], "has_room": False}
    answers = scorer.score(ids, replace(rows, facts=facts), world.now)
    answer = answers.pop(full)
    before = first.pop(full)
    assert answers == first
    assert answer["scores"] == {"churn": before["scores"]["churn"]}
    assert set(answer["withheld"]) == {"expansion"}
    assert answer["withheld"]["expansion"]["status"] == "no_room_to_grow"
    assert "expansion_propensity" not in answer
    TypeAdapter(Answer).validate_python(answer_with_ids(answer))
    row = flat_row(answer)
    assert (row["churn_risk"], row["expansion_propensity"]) == (before["churn_risk"], None)
    assert row["expansion_withheld"] == "no_room_to_grow"
    assert account_page(answer)["withheld"][0]["status_text"].startswith("has every product")


def test_where_only_growth_is_asked_no_room_is_the_status(scorer, world, ids, rows):
    models = tuple(m for m in scorer.models if m.bundle.outcome == "expansion")
    facts = [{**fact, "has_room": False} for fact in rows.facts]
    answers = replace(scorer, models=models).score(ids, replace(rows, facts=facts), world.now)
    assert "scored" not in {answer["status"] for answer in answers}
    full = [answer for answer in answers if answer["status"] == "no_room_to_grow"]
    assert len(full) > 50
    assert not any("scores" in answer for answer in full)


def test_reasons_add_up_to_the_probability(answers):
    for answer in scored(answers):
        for part in answer["scores"].values():
            total = part["base"] + sum(part["themes"].values()) + part["context"] + part["unknown"]
            assert total == pytest.approx(part["probability"], abs=1e-9)


def test_answers_follow_the_contract(answers):
    for answer in answers:
        for part in answer.get("scores", {}).values():
            part["score_id"] = "x"
        TypeAdapter(Answer).validate_json(json.dumps(answer))


def test_both_targets_come_from_one_release(world, answers):
    for answer in scored(answers):
        assert set(answer["scores"]) == {"churn", "expansion"}
        assert answer["release_id"] == world.release.release_id
        for target, part in answer["scores"].items():
            assert part["bundle_sha"] == world.release.bundles[target]["sha"]


def test_a_batch_and_one_account_say_the_same(world, scorer, ids, rows, answers):
    for i in (0, 31, 144):
        alone = scorer.score([ids[i]], part_of(rows, [i]), world.now)[0]
        together = answers[i]
        assert alone["churn_risk"] == pytest.approx(together["churn_risk"], abs=1e-12)
        assert [r["code"] for r in alone["scores"]["churn"]["raises"]] == [
            r["code"] for r in together["scores"]["churn"]["raises"]
        ]


def test_statuses_have_words_and_no_probability(answers):
    statuses = {answer["status"] for answer in answers}
    assert statuses == {"scored", "too_new", "notice_given", "closed", "insufficient_data"}
    for answer in answers:
        assert answer["status_text"]
        if answer["status"] != "scored":
            assert "churn_risk" not in answer
            assert "scores" not in answer


def test_an_unknown_account_keeps_its_place(world, scorer, rows):
    asked = ["A-0031", "nobody", "A-0032"]
    found = world.store.online(scorer.feature_hash, scorer.width, asked)
    statuses = [answer["status"] for answer in scorer.score(asked, found, world.now)]
    assert statuses == ["scored", "unknown_account", "scored"]


def test_bands_are_the_frozen_cuts(world, answers):
    cuts = world.release.bands["churn"]
    for answer in scored(answers):
        p = answer["churn_risk"]
        expected = "high" if p >= cuts["high"] else "elevated" if p >= cuts["elevated"] else "low"
        assert answer["risk_band"] == expected
    assert scorer_band_at_the_cut(world) == "elevated"


def scorer_band_at_the_cut(world) -> str:
    model = Scorer.load(world.workspace, world.release).models[0]
    return model.band(world.release.bands["churn"]["elevated"])


def test_a_range_holds_its_estimate(answers):
    for answer in scored(answers):
        for part in answer["scores"].values():
            assert 0 < part["low"] <= part["probability"] <= part["high"] < 1


def test_percentiles_count_the_book_below(world, scorer, ids, rows):
    plain = scorer.score(ids, rows, world.now)
    risks = np.sort([answer["churn_risk"] for answer in scored(plain)])
    ranked = scorer.with_ranks({"churn:renewal": risks}).score(ids, rows, world.now)
    for answer in scored(ranked):
        part = answer["scores"]["churn"]
        if part["asks_about"] == "horizon":
            assert part["percentile"] is part["percentile_of"] is None, "no renewals among them"
            continue
        assert part["percentile_of"] == f"{len(risks)} accounts with a renewal"
        below = np.mean(risks < part["probability"]) + 0.5 * np.mean(risks == part["probability"])
        assert part["percentile"] == pytest.approx(100 * below, abs=0.051)
        assert answer["scores"]["expansion"]["percentile"] is None


def test_expected_loss_is_risk_times_revenue(answers):
    for answer in scored(answers):
        assert answer["expected_arr_lost"] == answer["churn_risk"] * answer["arr"]


def test_days_to_notice_are_counted_from_now(world, scorer, ids, rows):
    today = scorer.score(ids[:40], part_of(rows, list(range(40))), world.now)
    later = scorer.score(ids[:40], part_of(rows, list(range(40))), world.now + timedelta(days=5))
    for before, after in zip(today, later, strict=True):
        if before["renewal"] and before["renewal"]["days_to_notice"] is not None:
            assert after["renewal"]["days_to_notice"] == before["renewal"]["days_to_notice"] - 5


def test_old_data_is_said_to_be_stale(world, scorer, ids, rows):
    at = world.now + timedelta(days=40)
    answer = scorer.score(ids[30:31], part_of(rows, [30]), at)[0]
    assert answer["data"]["is_stale"]
    assert answer["data"]["confidence"] != "high"
    assert "the data is 40 days old" in answer["data"]["notes"]


def test_what_is_missing_is_named_and_lowers_confidence(world, scorer, ids, rows):
    one = part_of(rows, [30])
    nothing = replace(one, values=np.full_like(one.values, np.nan))
    answer = scorer.score(ids[30:31], nothing, world.now)[0]
    assert answer["status"] == "scored"
    assert answer["data"]["confidence"] == "low"
    assert {gap["theme"] for gap in answer["data"]["gaps"]} >= {"adoption", "support"}
    assert all(gap["text"].endswith("no data") for gap in answer["data"]["gaps"])


def test_contracts_are_asked_about_their_renewal(answers):
    for answer in scored(answers):
        risk, growth = answer["scores"]["churn"], answer["scores"]["expansion"]
        assert growth["asks_about"] == "horizon"
        if answer["renewal"]:
            assert risk["asks_about"] == "renewal"
            assert risk["until"] == answer["renewal"]["renews_on"]
            day = formatting.day(date.fromisoformat(risk["until"]))
            assert risk["text"].endswith(f"such renewals are lost; this one is due on {day}")
        else:
            assert risk["asks_about"] == "horizon"
            assert risk["text"].endswith("such accounts leave within 91 days, by 1 Jun 2026")
        assert answer["expected_arr_lost_by"] == risk["until"]


def test_without_a_signal_there_are_no_reasons(world, scorer, ids, rows):
    model = scorer.models[0]
    frame = no_rows(model.bundle)
    rate = constant_rate(frame, model.bundle.encoder)
    silent = Bundle(model.bundle.manifest.changed(verdict="no_signal"), rate)
    mute = replace(scorer, models=(replace(model, bundle=silent), scorer.models[1]))
    answers = scored(mute.score(ids, rows, world.now))
    assert len({answer["churn_risk"] for answer in answers}) == 1
    for answer in answers:
        part = answer["scores"]["churn"]
        assert part["verdict"] == "no_signal"
        assert not part["raises"]
        assert not part["lowers"]
        assert part["base"] == part["probability"]


@pytest.fixture(scope="module")
def ruled(world, scorer, ids, rows) -> list[dict]:
    """Answers of the lowest rung: a rate for everybody, and the shipped rules."""
    model = scorer.models[0]
    rate = constant_rate(no_rows(model.bundle), model.bundle.encoder)
    rung = {"name": "rates", "kind": "rates", "n_events": 9, "reason": "9 events, below 40"}
    rules = rules_to_json(active_rules(world.workspace.company.rules, "churn"))
    manifest = {
        **model.bundle.manifest.to_dict(),
        "verdict": "no_signal",
        "rung": rung,
        "rules": rules,
    }
    low = replace(model, bundle=Bundle(ModelManifest.from_dict(manifest), rate))
    return scored(replace(scorer, models=(low, scorer.models[1])).score(ids, rows, world.now))


def test_on_the_lowest_rung_rules_name_what_to_look_at_and_move_no_probability(ruled, answers):
    told = [answer["scores"]["churn"] for answer in ruled]
    assert len({part["probability"] for part in told}) == 1
    assert not any(part["raises"] or part["lowers"] for part in told)
    named = {rule["rule"] for part in told for rule in part["rules"]}
    assert {"detractor", "few_seats_used"} <= named
    for part in told:
        for rule in part["rules"]:
            assert all(
                fact["points"] == 0.0 and fact["value"] is not None for fact in rule["facts"]
            )
    for answer in ruled[:20]:
        TypeAdapter(Answer).validate_json(json.dumps(answer_with_ids(answer)))
    assert not any(
        part["rules"] for answer in scored(answers) for part in answer["scores"].values()
    )


def answer_with_ids(answer) -> dict:
    parts = {name: part | {"score_id": "s"} for name, part in answer["scores"].items()}
    return answer | {"scores": parts}


def test_the_book_then_begins_with_those_of_whom_most_rules_hold(ruled):
    rows = _ranked([flat_row(answer) for answer in ruled])
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    places = [(-len(row["churn_rules"]), -row["expected_arr_lost"]) for row in rows]
    assert places == sorted(places)
    assert len(rows[0]["churn_rules"]) > len(rows[-1]["churn_rules"])
    assert {row["churn_rung"] for row in rows} == {"rates"}


def test_the_page_says_that_rules_are_judgement(ruled):
    answer = answer_with_ids(max(ruled, key=lambda one: len(one["scores"]["churn"]["rules"])))
    nothing = dict.fromkeys(
        ("release_id", "listings", "call", "precedents", "history", "levels", "case")
    )
    nothing |= dict.fromkeys(("stage_words", "known_on", "is_old", "is_outside"))
    around = {"company": "Small", "currency": "GBP", "notes": [], "here": "", "around": nothing}
    values = account_page(answer)
    call = sheet(answer, values["risk"], None, None, currency="GBP", today=date(2026, 3, 2))
    around = nothing | around | {"call": call}
    shown = environment().get_template("account.html").render(**values, **around)
    assert "the rules are not measured on your data" in shown
    assert answer["scores"]["churn"]["rules"][0]["text"] in shown
    assert "No theme moves the estimate" not in shown


def no_rows(bundle) -> TrainingFrame:
    import pandas as pd

    from training.data.training_frame import ROW_COLUMNS

    rows = pd.DataFrame({name: [0, 1] * 50 for name in ROW_COLUMNS})
    rows["entity_id"] = [str(i) for i in range(100)]
    values = pd.DataFrame(np.zeros((100, len(bundle.info))), columns=bundle.encoder.names)
    return TrainingFrame("churn", rows, values, bundle.info)


def test_a_damaged_bundle_is_refused(world, tmp_path):
    sha = world.release.bundles["churn"]["sha"]
    folder = world.workspace.state.bundles / sha
    text = next(folder.glob("model_*.txt"))
    before = text.read_bytes()
    text.write_bytes(before.replace(b"leaf_value=", b"leaf_value= ", 1))
    try:
        with pytest.raises(ModelError, match="changed after it was written"):
            Scorer.load(world.workspace, world.release)
    finally:
        text.write_bytes(before)


def test_a_model_that_needs_more_than_is_served_is_refused(world):
    short = {**world.release.feature_set, "names": world.names[1:]}
    with pytest.raises(ModelError, match="needs 1 features that the release does not serve"):
        Scorer.load(world.workspace, replace(world.release, feature_set=short))


def test_peers_come_from_the_newest_finished_book(world, scorer):
    state, feature_hash = world.workspace.state, world.feature_hash
    newest = newest_vectors(state, feature_hash)
    assert newest is not None
    assert newest.name == scorer.peers.as_of == "2026-03-02"
    half = newest.with_name("2026-04-01")
    half.mkdir()
    try:
        assert newest_vectors(state, feature_hash) == newest
        with new_folder(half, {"features": feature_hash}) as aside:
            (aside / "peers.json").write_text("{}")
        assert newest_vectors(state, feature_hash) == half
    finally:
        for path in half.iterdir():
            path.unlink()
        half.rmdir()
    assert read_manifest(newest) is not None


def test_a_peer_is_the_median_of_its_group(world, scorer, answers, rows):
    members = [i for i, fact in enumerate(rows.facts) if fact["peer_group"] != "all"]
    group = rows.facts[members[0]]["peer_group"]
    position = world.names.index("active_users_28d")
    same = [
        i
        for i in range(len(rows.facts))
        if rows.facts[i]["status"] == "scored" and (rows.facts[i]["peer_group"] == group)
    ]
    assert scorer.peers.sizes[group] >= len(same) >= 1
    assert np.isfinite(scorer.peers.medians[group][position])


def test_bands_are_sized_by_the_scores_the_book_serves(world, live):
    """What a release counts when it is published is what the book then shows."""
    folder = newest_vectors(world.workspace.state, world.feature_hash)
    for outcome, column in (("churn", "churn_risk"), ("expansion", "expansion_propensity")):
        bundle = next(
            model.bundle
            for model in live.current().scorer.models
            if model.bundle.outcome == outcome
        )
        counted = np.sort(book_scores(folder, bundle, world.names).p)
        served = [row[column] for row in live.book.table.to_pylist() if row[column] is not None]
        np.testing.assert_allclose(counted, np.sort(served), atol=1e-12)
        basis = frozen_bands(
            book_scores(folder, bundle, world.names), 0.001, world.workspace.company, "book"
        )
        assert (
            sum(p >= basis.cuts["high"] for p in served) == basis.basis["accounts_at_least"]["high"]
        )
        assert basis.basis["accounts_at_least"]["high"] == 119
