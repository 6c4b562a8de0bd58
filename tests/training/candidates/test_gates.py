from dataclasses import replace

import pytest

from configs.schema.company import Gates
from training.candidates.gates import evaluate_gates
from training.evaluation.evaluate import Evaluation
from training.fitting.fit import choose_tier

GATES = Gates()


def evaluation(*, value=0.75, low=0.70, loss=-0.02, calendar=0.1, slope=1.0, level=1.0, **changes):
    def point(x):
        return {"value": x, "low": x, "high": x}

    measures = {
        "auc": {"value": value, "low": low, "high": 0.8},
        "observed_to_expected": point(level),
        "calibration_slope": point(slope),
    }
    made = Evaluation(
        target="churn",
        n_rows=2000,
        n_entities=900,
        n_events=200,
        n_decisions=200,
        base_rate=0.1,
        capacity={},
        models={"model": measures},
        differences={
            "constant": {"log_loss": point(loss), "auc": point(0.2)},
            "calendar": {"auc": point(calendar)},
        },
        folds=[{}] * 4,
        over="time",
        lead_times=[],
        segments=[],
        contracts=[],
        newcomers=[],
        reliability=[],
        notes=[],
    )
    return replace(made, **changes)


def judged(found, n_events=400):
    return evaluate_gates(found, choose_tier(n_events), GATES)


def test_a_sound_model_is_promotable():
    found = judged(evaluation())
    assert found.verdict == "promotable"
    assert found.failed == ()
    assert len({gate.code for gate in found.gates}) == len(found.gates)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"n_decisions": 99}, "events"),
        ({"folds": [{}] * 2}, "folds"),
        ({"over": "accounts"}, "folds"),
        ({"low": 0.60}, "discrimination"),
        ({"calendar": 0.0}, "calendar"),
        ({"level": 1.26}, "calibration_level"),
        ({"level": 0.79}, "calibration_level"),
        ({"slope": 1.3}, "calibration_slope"),
        ({"slope": None}, "calibration_slope"),
        ({"value": 0.951}, "too_good"),
    ],
)
def test_one_failed_gate_makes_it_provisional_and_is_named(changes, code):
    found = judged(evaluation(**changes))
    assert found.verdict == "provisional"
    assert [gate.code for gate in found.failed] == [code]


@pytest.mark.parametrize("changes", [{"low": 0.5}, {"low": None}, {"loss": 0.0}, {"loss": 0.01}])
def test_no_signal_publishes_the_base_rate(changes):
    assert judged(evaluation(**changes)).verdict == "no_signal"


def test_pooled_rates_are_never_promoted():
    found = judged(evaluation(), n_events=39)
    assert found.verdict == "provisional"
    assert [gate.code for gate in found.failed] == ["model_tier"]


def test_a_leak_is_called_by_its_name():
    gate = judged(evaluation(value=0.99)).failed[0]
    assert "suspected leak" in gate.words


@pytest.mark.parametrize(("loss", "passed"), [(-0.01, True), (0.005, True), (0.006, False)])
def test_a_challenger_may_not_lose_much_to_the_champion(loss, passed):
    found = evaluation()
    found.differences["champion"] = {"log_loss": {"value": loss, "low": loss, "high": loss}}
    gates = {gate.code: gate for gate in judged(found).gates}
    assert gates["champion"].passed is passed


def test_thresholds_are_the_companys():
    strict = Gates(min_auc_lower=0.72)
    assert evaluate_gates(evaluation(), choose_tier(400), strict).verdict == "provisional"


def test_the_judgement_is_plain():
    plain = judged(evaluation(value=0.99)).as_dict()
    assert plain["verdict"] == "provisional"
    assert {"code", "title", "value", "threshold", "passed", "words"} == set(plain["gates"][0])


def part(auc=(0.7, 0.6, 0.8), level=(1.0, 0.8, 1.2), **more):
    value, low, high = auc
    ratio, least, most = level
    return {
        "auc": {"value": value, "low": low, "high": high},
        "observed_to_expected": {"value": ratio, "low": least, "high": most},
        "slice": "small",
        "n": 500,
        "events": 30,
        **more,
    }


def lead(days, auc, counted_from="decision"):
    found = {"value": auc, "low": auc - 0.1, "high": auc + 0.1}
    return {
        "counted_from": counted_from, "days": days, "n": 400, "events": 40, "auc": {"model": found},
    }  # fmt: skip


@pytest.mark.parametrize(("auc", "passed"), [(0.55, True), (0.54, False)])
def test_it_must_see_decisions_coming(auc, passed):
    found = judged(evaluation(lead_times=[lead(30, 0.9), lead(60, auc), lead(90, 0.4)]))
    gates = {gate.code: gate for gate in found.gates}
    assert gates["lead_time"].passed is passed
    assert "60 days before the decision, 40 events among 400 rows" in gates["lead_time"].words


def test_before_a_notice_deadline_counts_more_than_before_the_decision():
    both = [lead(60, 0.9), lead(60, 0.4, "notice deadline"), lead(90, 0.9, "notice deadline")]
    found = {gate.code: gate for gate in judged(evaluation(lead_times=both)).gates}["lead_time"]
    assert (found.passed, found.value) == (False, 0.4)


def test_a_short_horizon_has_no_lead_time_gate():
    found = judged(evaluation(lead_times=[lead(30, 0.9), {"days": 60}]))
    assert "lead_time" not in {gate.code for gate in found.gates}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (part(auc=(0.40, 0.32, 0.49)), "small: AUC within test periods 0.400 (0.320 to 0.490)"),
        (part(level=(2.0, 1.6, 2.5)), "small: observed/expected 2.000 (1.600 to 2.500)"),
        (part(level=(0.4, 0.3, 0.6)), "small: observed/expected 0.400"),
    ],
)
def test_a_segment_that_surely_falls_apart_is_named(bad, words):
    found = judged(evaluation(segments=[part(slice="large"), bad]))
    (gate,) = found.failed
    assert gate.code == "segments"
    assert words in gate.words


@pytest.mark.parametrize("noise", [part(auc=(0.40, 0.2, 0.6)), part(level=(2.0, 0.9, 3.0))])
def test_what_may_be_chance_is_not_held_against_a_segment(noise):
    assert judged(evaluation(segments=[part(slice="large"), noise])).verdict == "promotable"


def test_one_segment_that_is_everything_is_not_asked_twice():
    found = judged(evaluation(segments=[part(auc=(0.3, 0.2, 0.4), n=2000)]))
    assert "segments" not in {gate.code for gate in found.gates}


@pytest.mark.parametrize(("loss", "passed"), [(-0.01, True), (0.02, False)])
def test_the_published_model_itself_is_asked_after_its_cutoff(loss, passed):
    estimate = {"value": loss, "low": loss - 0.01, "high": loss + 0.01}
    since = {"since": "2026-01-01T00:00:00+00:00", "n": 300, "n_events": 30}
    told = evaluation(champion_since={**since, "difference": {"log_loss": estimate}})
    gates = {gate.code: gate for gate in judged(told).gates}
    assert gates["champion_since"].passed is passed
    assert "30 events since 2026-01-01" in gates["champion_since"].words
    assert f"({loss - 0.01:.3f} to {loss + 0.01:.3f})" in gates["champion_since"].words
    assert "champion_since" not in {
        gate.code for gate in judged(evaluation(champion_since=since)).gates
    }
