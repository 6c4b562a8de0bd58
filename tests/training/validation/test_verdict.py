"""Verdicts: each word for its reason, each mark met, missed or undecided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.reporting.report_text import OUTCOMES
from training.validation.verdict import (
    Criterion,
    PassMarks,
    at_least,
    at_most,
    band_criteria,
    calibration_criteria,
    half_width,
    lead_criteria,
    leakage_criteria,
    lower_above,
    ranking_criteria,
    sample_criteria,
    sample_grade,
    verdict,
    within,
)

CHURN = OUTCOMES["churn"]
MARKS = PassMarks()


def spread(value, half):
    return {"value": value, "low": value - half, "high": value + half}


def criteria(*, area=0.75, half=0.03, events=250, gain=0.1, folds=4, others="met", leak="met"):
    model = {"auc": spread(area, half), "lift_at_capacity": spread(3.0, 0.5)}
    calendar = {"difference": spread(gain, half), "at": "ninety days", "events": 60}
    return [
        *sample_criteria(folds, events, MARKS),
        *ranking_criteria(model, calendar, MARKS),
        Criterion("slope", "slope", "1.0", "0.8 to 1.25", others),
        Criterion("lead", "lead", "no dates", "60", "does not apply"),
        Criterion("leakage", "every leakage check passes", "failed: x", "all", leak),
    ]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "PROVEN"),
        ({"others": "missed"}, "PROMISING"),
        ({"others": "undecided"}, "PROMISING"),
        ({"leak": "not measured"}, "PROMISING"),
        ({"folds": 3}, "PROMISING"),
        ({"area": 0.63, "half": 0.05}, "PROMISING"),
        ({"gain": -0.1}, "NOT PROVEN"),
        ({"area": 0.57, "half": 0.04}, "NOT PROVEN"),
        ({"area": 0.50, "half": 0.03}, "NOT PROVEN"),
        ({"area": 0.55, "half": 0.08}, "NOT PROVEN"),
        ({"area": 0.55, "half": 0.08, "events": 60}, "INCONCLUSIVE"),
        ({"area": 0.40, "half": 0.05, "events": 60}, "NOT PROVEN"),
        ({"events": 19}, "INCONCLUSIVE"),
        ({"events": 60}, "PROMISING"),
        ({"leak": "missed"}, "SUSPECT"),
        ({"leak": "missed", "events": 5}, "SUSPECT"),
    ],
)
def test_word(changes, word):
    found = verdict(criteria(**changes), CHURN)
    assert found.word == word
    assert found.sentence.endswith(".")


def test_sentence_says_the_numbers():
    found = verdict(criteria(), CHURN)
    assert "In 75\xa0% of pairs" in found.sentence
    assert "72 to 78" in found.sentence
    assert found.grade == "A"
    assert found.lacking == ()


def test_lacking_is_named():
    assert verdict(criteria(others="undecided"), CHURN).lacking == ("slope: undecided",)


@given(
    st.floats(0.3, 0.99), st.floats(0.01, 0.2), st.integers(0, 500), st.floats(-0.2, 0.3),
    st.sampled_from(["met", "missed", "undecided", "not measured"]),
)  # fmt: skip
def test_only_everything_met_is_proven(area, half, events, gain, other):
    made = criteria(area=area, half=half, events=events, gain=gain, others=other)
    is_met = all(item.status in ("met", "does not apply") for item in made)
    assert (verdict(made, CHURN).word == "PROVEN") == is_met


@pytest.mark.parametrize(
    ("events", "grade"), [(200, "A"), (100, "B"), (99, "C"), (49, "D"), (20, "D"), (0, None)]
)
def test_grade(events, grade):
    assert sample_grade(events) == grade


def calibrated(found):
    return dict.fromkeys(("observed_to_expected", "calibration_slope", "brier_skill"), found)


def led(found):
    return {"models": {"model": {"median_days": found}}, "difference": found}


class TestRules:
    nothing = {"value": None, "low": None, "high": None}  # noqa: RUF012  a constant of the test

    alone = {"value": 1.0, "low": None, "high": None}  # noqa: RUF012

    def test_lower_above(self):
        assert lower_above(spread(0.7, 0.1), 0.6) == "undecided"
        assert lower_above(spread(0.71, 0.1), 0.6) == "met"
        assert lower_above(spread(0.5, 0.1), 0.6) == "missed"

    def test_at_least(self):
        assert at_least(spread(4.0, 3.3), 3.0) == "undecided"
        assert at_least(spread(3.0, 2.0), 3.0) == "undecided"
        assert at_least(spread(5.0, 2.0), 3.0) == "met"
        assert at_least(spread(2.9, 2.0), 3.0) == "undecided"
        assert at_least(spread(1.0, 0.5), 3.0) == "missed"

    def test_at_most(self):
        assert at_most(spread(0.94, 0.01), 0.95) == "met"
        assert at_most(spread(0.94, 0.02), 0.95) == "undecided"
        assert at_most(spread(0.96, 0.02), 0.95) == "undecided"
        assert at_most(spread(0.98, 0.01), 0.95) == "missed"

    def test_within(self):
        assert within(spread(1.0, 0.2), (0.8, 1.25)) == "met"
        assert within(spread(1.22, 0.28), (0.8, 1.25)) == "undecided"
        assert within(spread(1.0, 0.5), (0.8, 1.25)) == "undecided"
        assert within(spread(1.3, 0.2), (0.8, 1.25)) == "undecided"
        assert within(spread(0.5, 0.2), (0.8, 1.25)) == "missed"
        assert within(spread(1.6, 0.2), (0.8, 1.25)) == "missed"

    @pytest.mark.parametrize(
        "rule", [lower_above, at_least, at_most, lambda found, mark: within(found, (mark, 2.0))]
    )
    def test_without_an_interval_nothing_is_decided(self, rule):
        assert rule(self.nothing, 0.5) == "not measured"
        assert rule(self.alone, 0.5) == "undecided"

    @given(st.floats(0.0, 4.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.data())
    def test_every_mark_is_met_or_missed_by_the_whole_interval(self, value, below, above, data):
        """Whatever the truth within the interval, the answer is the same, or it is undecided."""
        found = {"value": value, "low": value - below, "high": value + above}
        truth = data.draw(st.floats(found["low"], found["high"]))
        exact = {"value": truth, "low": truth, "high": truth}
        every = [
            *ranking_criteria(
                {"auc": found, "lift_at_capacity": found},
                {"difference": found, "at": "any time"},
                MARKS,
            ),
            *calibration_criteria(calibrated(found), MARKS),
            *band_criteria({"rows": [{}, {}], "ratio": found, "inversions": []}, MARKS)[:1],
            *lead_criteria(led(found), MARKS, applies=True, why_not=""),
            *leakage_criteria(found, [], MARKS)[:1],
        ]
        sure = [
            *ranking_criteria(
                {"auc": exact, "lift_at_capacity": exact},
                {"difference": exact, "at": "any time"},
                MARKS,
            ),
            *calibration_criteria(calibrated(exact), MARKS),
            *band_criteria({"rows": [{}, {}], "ratio": exact, "inversions": []}, MARKS)[:1],
            *lead_criteria(led(exact), MARKS, applies=True, why_not=""),
            *leakage_criteria(exact, [], MARKS)[:1],
        ]
        assert len(every) == 10
        for item, known in zip(every, sure, strict=True):
            assert item.status in ("undecided", known.status), item.code

    def test_inverted_bands(self):
        bands = {
            "rows": [{}, {}],
            "ratio": spread(4.0, 0.5),
            "inversions": [{"lower": "elevated", "upper": "high"}],
        }
        ratio, order = band_criteria(bands, MARKS)
        assert (ratio.status, order.status) == ("met", "missed")
        assert order.found == "elevated above high"

    def test_one_band(self):
        bands = {"rows": [{}], "ratio": self.nothing, "inversions": []}
        assert {item.status for item in band_criteria(bands, MARKS)} == {"not measured"}

    def test_lead_not_asked_for(self):
        found = lead_criteria({}, MARKS, applies=False, why_not="no dates")
        assert {item.status for item in found} == {"does not apply"}
        assert {item.found for item in found} == {"no dates"}

    def test_leakage(self):
        checks = [
            {"title": "cliff", "passed": False, "words": ""},
            {"title": "random split", "passed": None, "words": ""},
        ]
        good, leak = leakage_criteria(spread(0.98, 0.01), checks, MARKS)
        assert (good.status, good.threshold) == ("missed", "at most 0.95")
        assert (leak.status, leak.found) == ("missed", "failed: cliff")
        assert leakage_criteria(None, checks[1:], MARKS)[0].status == "not measured"
        assert leakage_criteria(None, [checks[0] | {"passed": True}], MARKS)[0].status == "met"


@pytest.mark.parametrize(
    ("area", "half", "status", "word"),
    [
        (0.93, 0.01, "met", "PROVEN"),
        (0.94, 0.02, "undecided", "PROMISING"),
        (0.96, 0.02, "undecided", "SUSPECT"),
        (0.97, 0.01, "missed", "SUSPECT"),
    ],
)
def test_a_leak_is_suspected_before_it_is_certain(area, half, status, word):
    found = leakage_criteria(spread(area, half), [], MARKS)[0]
    assert found.status == status
    made = [item for item in criteria(area=area, half=half) if item.code != "leakage"]
    assert verdict([*made, found], CHURN).word == word


def test_the_sentence_counts_what_is_undecided():
    made = [*criteria(others="undecided"), Criterion("level", "level", "2.0", "1", "missed")]
    assert verdict(made, CHURN).sentence.endswith(
        "6 of 8 criteria are met, 1 missed and 1 undecided."
    )


def test_half_width_of_an_auc():
    # what a base rate of 10 % and a true AUC of 0.75 allow, after Hanley and McNeil
    found = [half_width(n, 0.1) for n in (30, 100, 200)]
    assert found == pytest.approx([0.10, 0.057, 0.040], abs=0.005)
    assert half_width(0, 0.1) is None
