"""The rules that hold where nothing can be measured yet, and what a company may change of them."""

from __future__ import annotations

import pytest

from configs.runtime.errors import ConfigError
from configs.schema.company import parse_company
from configs.schema.rules import Rules, active_rules, shipped
from features.signals import feature_catalogue

ALONE = {
    "name": "small",
    "targets": {"churn": {"outcome": "churn", "observed_in": "subscriptions"}},
}
OWN = {
    "theme": "breadth",
    "text": "Nobody ran a report for three weeks",
    "when": [{"feature": "features_used_28d", "at_most": 1}],
}


def test_every_shipped_rule_asks_for_features_there_are_and_points_where_they_do():
    known = {item.name: item for item in feature_catalogue()}
    for name, rule in shipped().items():
        first = known[rule.when[0].feature]
        assert {condition.feature for condition in rule.when} <= set(known), name
        assert rule.theme == first.theme, name
        sign = first.expansion_sign if rule.outcome == "expansion" else first.churn_sign
        points = 1 if rule.when[0].at_least is not None else -1
        assert sign in (0, points), f"{name} points against the catalogue"


def test_words_are_plain():
    for rule in shipped().values():
        assert not rule.text.endswith(".")
        assert not {"will", "because"} & set(rule.text.lower().split())


def test_a_company_leaves_out_replaces_and_adds():
    company = parse_company(
        {
            **ALONE,
            "rules": {"leave_out": ["no_meeting"], "own": {"detractor": OWN, "reports": OWN}},
        },
        where="company.yaml",
    )
    found = active_rules(company.rules, "churn")
    assert "no_meeting" not in found
    assert found["detractor"].text == found["reports"].text == OWN["text"]
    assert "limit_near" in active_rules(company.rules, "expansion")
    assert "limit_near" not in found
    assert company.config_hash != parse_company(ALONE, where="").config_hash


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (
            {"leave_out": ["use_halfed"]},
            "no shipped rule 'use_halfed'; did you mean \"use_halved\"",
        ),
        ({"owns": {}}, 'rules.owns: unknown key; did you mean "own"'),
        ({"own": {"a": {**OWN, "theme": "bredth"}}}, "rules.own.a.theme"),
        ({"own": {"a": {**OWN, "text": ""}}}, "rules.own.a.text"),
        ({"own": {"a": {**OWN, "wen": []}}}, 'rules.own.a.wen: unknown key; did you mean "when"'),
        ({"own": {"a": {**OWN, "when": [{"feature": "x"}]}}}, "x: give `at_least`"),
        (
            {"own": {"a": {**OWN, "when": [{"feature": "x", "at_least": 2, "at_most": 1}]}}},
            "x: `at_least` lies above `at_most`",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(rules, words):
    with pytest.raises(ConfigError) as error:
        parse_company({**ALONE, "rules": rules}, where="company.yaml")
    assert words in str(error.value)


def test_without_a_word_of_the_company_the_shipped_ones_hold():
    both = {**active_rules(Rules(), "churn"), **active_rules(Rules(), "expansion")}
    assert both == dict(shipped())
