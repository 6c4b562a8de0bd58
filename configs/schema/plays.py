"""Playbooks: the play suggested for an account, and the escalation of open risks.

A ``plays.yaml`` next to ``company.yaml`` replaces the shipped plays. Plays suggest work; they
change no score and are not part of its identity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from configs.runtime.errors import ConfigError, did_you_mean
from configs.schema.base import ConfigModel, Days, Name
from configs.schema.yaml_models import parse_model, read_yaml

PLAYS_FILE = "plays.yaml"
SHIPPED = Path(__file__).parents[1] / PLAYS_FILE

Band = Literal["high", "elevated", "low"]
Role = Literal["csm", "manager", "leader"]
Theme = Literal[
    "adoption",
    "breadth",
    "support",
    "sentiment",
    "relationship",
    "commercial",
    "payments",
    "journey",
]


STEP_FACTS: dict[str, str] = {
    "tickets": "their open tickets",
    "invoices": "their open invoices",
    "survey": "their latest survey answer",
    "use": "how they use the product",
    "person": "the person who signs",
    "renewal": "the renewal",
}
"""Facts that a step may quote in braces, each with its words where the data has none."""

_FACT = re.compile(r"\{([^{}]*)\}")


class When(ConfigModel):
    """Conditions of a play, all required; an empty condition holds for every account."""

    bands: tuple[Band, ...] = Field(
        (), description="band of the risk, or of growth for expansion plays"
    )
    themes: tuple[Theme, ...] = Field((), description="theme of at least one of its reasons")
    features: tuple[str, ...] = Field(
        (), description="feature of the strongest fact of at least one of its reasons"
    )
    segments: tuple[str, ...] = Field((), description="segment of the account")
    arr_at_least: Annotated[float, Field(ge=0)] | None = Field(
        None, description="ARR in the reporting currency"
    )
    days_to_notice: tuple[int, int] | None = Field(
        None, description="fewest and most days before the notice deadline, both included"
    )
    not_tried_days: Days = Field(
        0, description="days without a record of the same play; 0 for no condition"
    )

    @model_validator(mode="after")
    def _in_order(self) -> When:
        if self.days_to_notice and self.days_to_notice[0] > self.days_to_notice[1]:
            raise ValueError("days_to_notice is [fewest, most]")
        return self


class Play(ConfigModel):
    """Work suggested for an account."""

    id: Name
    title: str = Field(min_length=3, max_length=120)
    outcome: Literal["churn", "expansion"] = "churn"
    when: When = When()
    steps: tuple[str, ...] = Field(
        min_length=1,
        description="actions, in order; they may quote "
        + ", ".join(f"{{{name}}}" for name in STEP_FACTS),
    )
    owner: Role = "csm"
    due_days: Annotated[int, Field(ge=1, le=365)] = 7

    @field_validator("steps")
    @classmethod
    def _known_facts(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        for name in (name for step in steps for name in _FACT.findall(step)):
            if name not in STEP_FACTS:
                known = ", ".join(f"{{{item}}}" for item in STEP_FACTS)
                raise ValueError(f"{{{name}}} is no fact; a step may quote {known}")
        return steps

    def steps_with(self, facts: Mapping[str, str]) -> tuple[str, ...]:
        """Return the steps with their facts filled in; missing ones get general words."""
        words = {**STEP_FACTS, **{name: text for name, text in facts.items() if text}}
        return tuple(_FACT.sub(lambda found: words[found[1]], step) for step in self.steps)


class Trigger(ConfigModel):
    """Condition under which an open risk is escalated to a role."""

    id: Name
    title: str = Field(min_length=3, max_length=120)
    bands: tuple[Band, ...] = ()
    arr_at_least: Annotated[float, Field(ge=0)] | None = None
    days_to_notice: tuple[int, int] | None = None
    overdue_days: Annotated[int, Field(ge=0, le=365)] | None = Field(
        None, description="days by which the planned action is late"
    )
    days_without_plan: Annotated[int, Field(ge=0, le=365)] | None = Field(
        None, description="days a risk has been open without a plan"
    )
    to: Role = "manager"

    @model_validator(mode="after")
    def _not_always(self) -> Trigger:
        conditions = self.model_dump(exclude={"id", "title", "to"}, exclude_none=True)
        if not any(value != () for value in conditions.values()):
            raise ValueError("a trigger without a condition would fire for every risk")
        return self


class Opening(ConfigModel):
    """Condition under which a score run opens a risk."""

    bands: tuple[Band, ...] = ("high",)
    or_arr_at_least: Annotated[float, Field(ge=0)] | None = Field(
        None, description="ARR from which an elevated risk opens a case, too"
    )


class Plays(ConfigModel):
    """Content of ``plays.yaml``: plays in order of preference, escalations, opening of risks."""

    plays: tuple[Play, ...]
    escalations: tuple[Trigger, ...] = ()
    opening: Opening = Opening()

    @model_validator(mode="before")
    @classmethod
    def _no_capacity(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "workable_per_week" in raw:
            raise ValueError(
                "`workable_per_week` was replaced: the team's capacity is "
                "serving.capacity_per_month in company.yaml, and owners.capacity shares it among "
                "CSMs"
            )
        return raw

    @model_validator(mode="after")
    def _unique(self) -> Plays:
        for name, items in (("plays", self.plays), ("escalations", self.escalations)):
            ids = [item.id for item in items]
            if repeated := sorted({item for item in ids if ids.count(item) > 1}):
                raise ValueError(f"{name} repeats the id {', '.join(repeated)}")
        return self

    def play(self, play_id: str) -> Play:
        """Return a play by its id.

        Raises
        ------
        ConfigError
            The play does not exist; the error names the closest id.
        """
        known = {play.id: play for play in self.plays}
        if play_id not in known:
            raise ConfigError(f"there is no play {play_id!r}", fix=did_you_mean(play_id, known))
        return known[play_id]


def load_plays(folder: Path) -> Plays:
    """Read the plays of a company folder, or the shipped ones when it has none.

    Raises
    ------
    ConfigError
        The file is invalid; the error names the key and the closest known one.
    """
    own = (folder if folder.is_dir() else folder.parent) / PLAYS_FILE
    path = own if own.is_file() else SHIPPED
    return parse_plays(read_yaml(path), where=str(path))


def parse_plays(raw: Any, *, where: str) -> Plays:
    """Validate parsed plays; the error lists every mistake."""
    return parse_model(
        Plays,
        raw,
        what="the plays have mistakes",
        where=where,
        fix="correct these keys; the shipped configs/plays.yaml shows all of them",
    )
