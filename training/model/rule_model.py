"""Rule model: which of a company's rules hold for which account.

Imported by serving, so it needs neither pandas nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads this one before Python 3.12

from configs.runtime.errors import ConfigError, did_you_mean
from configs.schema.rules import Rule
from training.model.bundle import Bundle
from training.model.reasons import Comparison, Fact, ReasonWriter


class Flag(TypedDict):
    """Expert rule that applies to an account. It is not measured and moves no probability."""

    rule: Annotated[str, Field(description="name in the configuration")]
    theme: str
    text: Annotated[str, Field(description="what the rule found")]
    facts: Annotated[list[Fact], Field(description="values behind the rule, each with 0 points")]


def refuse_unknown_features(rules: Mapping[str, Rule], known: Iterable[str]) -> None:
    """Raise for rules that use unknown features.

    Raises
    ------
    ConfigError
        With the rule, the feature and the closest known one.
    """
    names = set(known)
    for name, rule in rules.items():
        for condition in rule.when:
            if condition.feature not in names:
                raise ConfigError(
                    f"there is no feature {condition.feature!r}",
                    where=f"rules.own.{name}",
                    fix=did_you_mean(condition.feature, names)
                    or "`bellwether catalogue` lists the features",
                )


@dataclass(frozen=True)
class AppliedRules:
    """Rules applied to the columns of one matrix, without rules that need a missing column.

    Attributes
    ----------
    rules : mapping of str to Rule
        By name, only those with all their features.
    without : tuple of str
        Names of the others, which need more data.
    places : mapping of str to int
        Column of each feature.
    """

    rules: Mapping[str, Rule]
    without: tuple[str, ...]
    places: Mapping[str, int]

    @classmethod
    def to(cls, rules: Mapping[str, Rule], numeric: Sequence[str | None]) -> AppliedRules:
        """Apply rules to columns.

        Parameters
        ----------
        rules : mapping of str to Rule
            By name.
        numeric : sequence of str or None
            Name of each column; None for categories.
        """
        places = {name: i for i, name in enumerate(numeric) if name is not None}
        applicable = {
            name: rule
            for name, rule in rules.items()
            if all(condition.feature in places for condition in rule.when)
        }
        return cls(applicable, tuple(name for name in rules if name not in applicable), places)

    def matches(self, matrix: np.ndarray) -> np.ndarray:
        """Return which rules hold for which rows, (rows, rules), bool.

        Examples
        --------
        >>> conditions = [{"feature": "a", "at_most": 0}]
        >>> rule = Rule(theme="adoption", text="No active users", when=conditions)
        >>> applied = AppliedRules.to({"idle": rule}, ["b", "a"])
        >>> applied.matches(np.array([[9, 0], [9, np.nan]])).tolist()
        [[True], [False]]
        """
        found = np.ones((len(matrix), len(self.rules)), dtype=bool)
        for column, rule in enumerate(self.rules.values()):
            for condition in rule.when:
                value = matrix[:, self.places[condition.feature]]
                found[:, column] &= ~np.isnan(value)
                if condition.at_least is not None:
                    found[:, column] &= value >= condition.at_least
                if condition.at_most is not None:
                    found[:, column] &= value <= condition.at_most
        return found

    def flags(
        self, matrix: np.ndarray, writer: ReasonWriter, comparison: Comparison | None = None
    ) -> list[list[Flag]]:
        """Return per row the rules that hold, with the values behind them, in declared order.

        The facts have 0 points, because rules do not change the probability.
        """
        matched = self.matches(matrix)
        rows, which = np.nonzero(matched)
        conditions = [rule.when for rule in self.rules.values()]
        counts = [len(conditions[rule]) for rule in which.tolist()]
        features = [
            self.places[condition.feature]
            for rule in which.tolist()
            for condition in conditions[rule]
        ]
        rows_of = np.repeat(rows, counts)
        facts = iter(writer.facts(matrix, rows_of, np.array(features, dtype=np.int64), comparison))
        flags: list[list[Flag]] = [[] for _ in matrix]
        names = list(self.rules)
        for row, rule, n in zip(rows.tolist(), which.tolist(), counts, strict=True):
            known = self.rules[names[rule]]
            flags[row].append(
                {
                    "rule": names[rule],
                    "theme": known.theme,
                    "text": known.text,
                    "facts": [next(facts) for _ in range(n)],
                }
            )
        return flags


def rules_to_json(rules: Mapping[str, Rule]) -> dict[str, object]:
    """Return rules as plain JSON."""
    return {name: rule.model_dump(mode="json") for name, rule in rules.items()}


def rules_from_json(plain: Mapping[str, object]) -> dict[str, Rule]:
    """Read what `rules_to_json` returned."""
    return {name: Rule.model_validate(item) for name, item in plain.items()}


def rules_of(bundle: Bundle) -> AppliedRules:
    """Return the rules shown instead of reasons in the lowest model tier; empty in others."""
    rules = bundle.manifest.rules
    return AppliedRules.to(rules, numeric_names(bundle.encoder.names, bundle.encoder.levels))


def numeric_names(names: Sequence[str], levels: Mapping[str, Sequence[str]]) -> list[str | None]:
    """Return the names of columns, None for categories."""
    return [None if name in levels else name for name in names]
