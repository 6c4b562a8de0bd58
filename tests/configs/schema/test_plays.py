"""Plays: the shipped ones hold, a company's own replace them, mistakes are named."""

from __future__ import annotations

import pytest
import yaml

from configs.runtime.errors import ConfigError
from configs.schema.plays import SHIPPED, load_plays, parse_plays

SMALL = {"plays": [{"id": "call", "title": "Call them", "steps": ["Call"]}]}


def test_the_shipped_plays_are_whole(tmp_path):
    plays = load_plays(tmp_path)
    assert {play.outcome for play in plays.plays} == {"churn", "expansion"}
    themes = {theme for play in plays.plays for theme in play.when.themes}
    assert themes >= {"payments", "support", "sentiment", "relationship", "adoption"}
    assert all(play.steps and play.due_days for play in plays.plays)
    assert plays.opening.bands == ("high",)


def test_a_companys_own_plays_replace_them(tmp_path):
    (tmp_path / "plays.yaml").write_text(yaml.safe_dump(SMALL))
    assert [play.id for play in load_plays(tmp_path).plays] == ["call"]
    assert [play.id for play in load_plays(tmp_path / "company.yaml").plays] == ["call"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plays": [{**SMALL["plays"][0], "step": []}]}, 'did you mean "steps"'),
        ({"plays": [{**SMALL["plays"][0], "when": {"band": ["high"]}}]}, 'did you mean "bands"'),
        ({"plays": SMALL["plays"] * 2}, "repeats the id call"),
        ({"plays": [{**SMALL["plays"][0], "steps": []}]}, "plays.0.steps"),
        ({"plays": [{**SMALL["plays"][0], "when": {"days_to_notice": [30, 0]}}]}, "fewest, most"),
        ({**SMALL, "escalations": [{"id": "all", "title": "Always"}]}, "without a condition"),
        ({**SMALL, "escalation": []}, 'did you mean "escalations"'),
        ({"plays": [{**SMALL["plays"][0], "steps": ["Ask {contact}"]}]}, "{contact} is no fact"),
        ([], "plays have mistakes"),
    ],
)
def test_a_mistake_is_named(change, words):
    with pytest.raises(ConfigError, match="plays have mistakes") as told:
        parse_plays(change, where="plays.yaml")
    assert words in str(told.value).replace("'", '"')


def test_yaml_that_is_none_is_told(tmp_path):
    (tmp_path / "plays.yaml").write_text("plays: [")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_plays(tmp_path)
    assert SHIPPED.is_file()


def test_a_play_that_is_not_there_is_answered_with_the_closest(tmp_path):
    with pytest.raises(ConfigError, match="renewal_talk"):
        load_plays(tmp_path).play("renewal_tlk")


def test_steps_quote_facts_or_general_words():
    play = parse_plays(
        {"plays": [{"id": "call", "title": "Call", "steps": ["Ask {person} about {tickets}"]}]},
        where="here",
    ).plays[0]
    assert play.steps_with({"tickets": "3 open tickets"}) == (
        "Ask the person who signs about 3 open tickets",
    )
    assert play.steps_with({"person": ""}) == ("Ask the person who signs about their open tickets",)


def test_every_shipped_step_reads_well_without_facts(tmp_path):
    for play in load_plays(tmp_path).plays:
        for step in play.steps_with({}):
            assert "{" not in step
            assert len(step) <= 100
