import re

import pytest

from configs.runtime.errors import ConfigError
from features.tables.catalog import THEMES, FeatureInfo
from training.model.reason_text import (
    amount,
    catalogue_version,
    earlier,
    phrase,
    reason_catalogue,
    reason_code,
)


def test_every_theme_and_direction_has_a_code_for_every_outcome():
    codes = [item.code for item in reason_catalogue()]
    assert len(codes) == len(set(codes)) == 3 * len(THEMES) * 2
    for outcome in ("churn", "contraction", "expansion"):
        for theme in THEMES:
            assert reason_code(outcome, theme, "raises").theme == theme


def test_reasons_claim_association_never_cause_or_fate():
    for item in reason_catalogue():
        assert "associated with" in item.sentence
        assert not re.search(r"\b(because|will|cause[sd]?|due to)\b", item.sentence, re.IGNORECASE)
        assert ("chance of growth" in item.sentence) == (item.outcome == "expansion")


def test_the_catalogue_has_a_stable_version():
    assert re.fullmatch(r"[0-9a-f]{12}", catalogue_version())
    assert catalogue_version() == catalogue_version()


def test_an_unknown_code_is_refused_with_the_closest():
    with pytest.raises(ConfigError, match=r"churn\.adoptoin\.raises") as error:
        reason_code("churn", "adoptoin", "raises")
    assert "churn.adoption.raises" in error.value.fix


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (16.0, "count", "16"),
        (16.4, "count", "16.4"),
        (12345.6, "count", "12,346"),
        (1.0, "hours", "1 hour"),
        (0.5, "days", "0.5 days"),
        (0.005, "share", "0.5\xa0%"),
        (1.25, "share", "125\xa0%"),
        (1.84, "ratio", "184\xa0%"),
        (0.0, "log_ratio", "unchanged"),
        (0.6931471805599453, "log_ratio", "up 100\xa0%"),
        (0.0, "flag", "no"),
        (-0.4, "score", "−0.4"),
        (-1200.0, "money", "−€1,200"),
        (float("nan"), "money", "not known"),
    ],
)
def test_amounts_read_as_people_write_them(value, unit, words):
    assert amount(value, unit, currency="EUR") == words


@pytest.mark.parametrize("days", [1, 7, 30, 84, 91, 364])
def test_lags_are_words(days):
    assert re.fullmatch(r"\w+ (day|week)s? earlier", earlier(days))


def test_states_have_no_window_and_words_get_a_colon():
    flag = FeatureInfo("champion", "r", "champion present", "", "flag", None, "relationship")
    assert phrase(flag)(0.0, 1.0, None) == "Champion present: no (yes twelve weeks earlier)"
    share = FeatureInfo("seats", "u", "seats in use", "", "share", None, "adoption")
    assert phrase(share)(0.35, None, None) == "Seats in use 35\xa0%"
    assert phrase(share, peers="at peers")(0.35, None, 0.6) == (
        "Seats in use 35\xa0% (60\xa0% at peers)"
    )
