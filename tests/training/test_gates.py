from dataclasses import replace

import pytest

from configs.company import Gates
from training.evaluate import Evaluation
from training.fit import choose_rung
from training.gates import judge

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
    return judge(found, choose_rung(n_events), GATES)


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
    assert [gate.code for gate in found.failed] == ["rung"]


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
    assert judge(evaluation(), choose_rung(400), strict).verdict == "provisional"


def test_the_judgement_is_plain():
    plain = judged(evaluation(value=0.99)).as_dict()
    assert plain["verdict"] == "provisional"
    assert {"code", "title", "value", "threshold", "passed", "words"} == set(plain["gates"][0])
