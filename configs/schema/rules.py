"""Plain rules for where nothing can be measured yet, as typed, frozen models.

A rule says what people in customer success would look at, and in which direction it points. It is
judgement: nobody measured it at this company. Rules name accounts and put them in order where a
company has seen too few events for a model; they move no probability.

The shipped ones (``rules.yaml``) hold unless ``rules`` in ``company.yaml`` leaves them out; a
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
    """Where one feature must lie, limits included; what is not known fulfils no condition."""

    feature: str = Field(description="a name of `bellwether catalogue`, or a column of your table")
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Condition:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"{self.feature}: give `at_least`, `at_most` or both")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(f"{self.feature}: `at_least` lies above `at_most`")
        return self


class Rule(ConfigModel):
    """One thing to look at. It holds when all its conditions do."""

    outcome: Outcome = Field("churn", description="what it points to, more of it")
    theme: Literal[Theme, "context"] = Field(description="where it stands among the reasons")
    text: str = Field(
        min_length=8, max_length=160, description="what is the case, in plain words, no full stop"
    )
    when: tuple[Condition, ...] = Field(min_length=1, max_length=4)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in shipped():
            raise ValueError(f"there is no shipped rule {name!r}; {did_you_mean(name, shipped())}")
    return names


class Rules(ConfigModel):
    """Which rules hold at a company."""

    leave_out: Annotated[tuple[str, ...], AfterValidator(_known)] = Field(
        (), description="shipped rules that do not fit here"
    )
    own: dict[Name, Rule] = Field(
        default={}, description="rules of yours; one with the name of a shipped rule replaces it"
    )


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Rule]:
    """Return the rules that come with Bellwether, by name."""
    return TypeAdapter(dict[Name, Rule]).validate_python(read_yaml(SHIPPED))


def in_force(rules: Rules, outcome: str) -> dict[str, Rule]:
    """Return the rules of a company that point to an outcome, by name, shipped ones first.

    >>> "use_halved" in in_force(Rules(), "churn")
    True
    >>> "use_halved" in in_force(Rules(leave_out=("use_halved",)), "churn")
    False
    """
    left = {name: rule for name, rule in shipped().items() if name not in rules.leave_out}
    return {name: rule for name, rule in {**left, **rules.own}.items() if rule.outcome == outcome}
