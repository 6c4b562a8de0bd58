"""Rules against rows: what holds, what is not known, and what a company does not have."""

from __future__ import annotations

import numpy as np
import pytest

from configs.runtime.errors import ConfigError
from configs.schema.rules import Rules, active_rules, shipped
from features.signals import feature_catalogue
from training.model.reasons import ReasonWriter
from training.model.rule_model import (
    AppliedRules,
    refuse_unknown_features,
    rules_from_json,
    rules_to_json,
)

INFO = tuple(feature_catalogue())
TELLER = ReasonWriter(INFO, "churn", {})
NAMES = [item.name for item in INFO]


@pytest.fixture(scope="module")
def applied() -> AppliedRules:
    return AppliedRules.to(active_rules(Rules(), "churn"), NAMES)


def rows(**values) -> np.ndarray:
    table = np.full((1, len(NAMES)), np.nan)
    for name, value in values.items():
        table[:, NAMES.index(name)] = value
    return table


def names_of(applied: AppliedRules, table: np.ndarray) -> list[str]:
    return [item["rule"] for item in applied.flags(table, TELLER)[0]]


def test_nothing_known_fulfils_nothing(applied):
    assert names_of(applied, rows()) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"usage_change_84d": np.log(0.4)}, ["use_halved"]),
        ({"usage_change_84d": np.log(0.6)}, []),
        ({"active_days_28d": 0.0}, ["nobody_active"]),
        ({"nps_last": 6.0, "nps_age_days": 30.0}, ["detractor"]),
        ({"nps_last": 6.0, "nps_age_days": 300.0}, []),
        ({"nps_last": 6.0}, []),
        ({"days_to_notice_deadline": 45.0}, ["notice_near"]),
        ({"days_to_notice_deadline": -1.0}, []),
        ({"days_overdue": 400.0, "champion_left_364d": 1.0}, ["champion_left", "invoice_overdue"]),
    ],
)
def test_a_rule_holds_when_all_its_conditions_do(applied, values, expected):
    assert names_of(applied, rows(**values)) == expected


def test_a_flag_shows_the_values_behind_it_and_moves_nothing(applied):
    flag = applied.flags(rows(nps_last=3.0, nps_age_days=30.0), TELLER)[0][0]
    assert flag["text"] == shipped()["detractor"].text
    assert [fact["value"] for fact in flag["facts"]] == [3.0, 30.0]
    assert [fact["points"] for fact in flag["facts"]] == [0.0, 0.0]


def test_a_company_without_the_data_is_not_asked():
    lacking = [name for name in NAMES if not name.startswith("nps")]
    found = AppliedRules.to(active_rules(Rules(), "churn"), lacking)
    assert "detractor" in found.without
    assert "detractor" not in found.rules
    assert found.matches(np.zeros((2, len(lacking)))).shape == (2, len(found.rules))


def test_rules_come_back_as_kept():
    assert rules_from_json(rules_to_json(shipped())) == dict(shipped())


def test_an_unknown_feature_is_named_with_the_closest():
    wrong = shipped()["detractor"].model_dump()
    wrong["when"][0]["feature"] = "nps_lst"
    with pytest.raises(ConfigError, match=r"rules\.own\.mine\n.*did you mean \"nps_last\""):
        refuse_unknown_features(rules_from_json({"mine": wrong}), NAMES)
