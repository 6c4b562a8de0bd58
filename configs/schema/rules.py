"""Expert rules that rank accounts where a company has too few events for a model.

A rule names a condition that customer success teams watch and the outcome it points to. It is
expert judgement, not measured at the company, and changes no probability.

The shipped rules (``rules.yaml``) apply unless ``rules`` in ``company.yaml`` leaves them out; a
company adds its own there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from configs.runtime.errors import did_you_mean
from configs.schema.base import ConfigModel, Name
from configs.schema.plays import Theme
from configs.schema.yaml_models import read_yaml

SHIPPED = Path(__file__).parents[1] / "rules.yaml"

Outcome = Literal["churn", "contraction", "expansion"]


class Condition(ConfigModel):
    """Range of one feature, limits included; a missing value fulfils no condition."""

    feature: str = Field(description="a name of `bellwether catalogue`, or a column of your table")
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_limit(self) -> Condition:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"{self.feature}: give `at_least`, `at_most` or both")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(f"{self.feature}: `at_least` lies above `at_most`")
        return self


class Rule(ConfigModel):
    """One expert rule. It holds when all its conditions do."""

    outcome: Outcome = Field("churn", description="outcome the rule points to")
    theme: Literal[Theme, "context"] = Field(description="theme among the reasons")
    text: str = Field(
        min_length=8, max_length=160, description="the condition in words, without a full stop"
    )
    when: tuple[Condition, ...] = Field(min_length=1, max_length=4)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in shipped():
            raise ValueError(f"there is no shipped rule {name!r}; {did_you_mean(name, shipped())}")
    return names


class Rules(ConfigModel):
    """Rules of a company: shipped rules left out, and its own."""

    leave_out: Annotated[tuple[str, ...], AfterValidator(_known)] = Field(
        (), description="shipped rules that do not apply"
    )
    own: dict[Name, Rule] = Field(
        default={}, description="additional rules; one with the name of a shipped rule replaces it"
    )


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Rule]:
    """Return the shipped rules by name."""
    return TypeAdapter(dict[Name, Rule]).validate_python(read_yaml(SHIPPED))


def active_rules(rules: Rules, outcome: str) -> dict[str, Rule]:
    """Return the rules of a company for an outcome by name, shipped ones first.

    >>> "use_halved" in active_rules(Rules(), "churn")
    True
    >>> "use_halved" in active_rules(Rules(leave_out=("use_halved",)), "churn")
    False
    """
    remaining = {name: rule for name, rule in shipped().items() if name not in rules.leave_out}
    return {
        name: rule for name, rule in {**remaining, **rules.own}.items() if rule.outcome == outcome
    }
