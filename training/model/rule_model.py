"""Rules held against rows: which of a company's plain rules hold for which account.

Light to import: serving stands on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

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
    """Refuse rules that ask for features nobody has.

    Raises
    ------
    ConfigError
        Naming the rule, the feature and the closest known one.
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
    """Rules on the columns of one matrix; those that need a column it lacks are left aside.

    Attributes
    ----------
    rules : mapping of str to Rule
        By name, only those whose features are all there.
    without : tuple of str
        Names of the others: what more data would bring.
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
            Name of each column; None for one that holds no numbers.
        """
        places = {name: i for i, name in enumerate(numeric) if name is not None}
        kept = {
            name: rule
            for name, rule in rules.items()
            if all(condition.feature in places for condition in rule.when)
        }
        return cls(kept, tuple(name for name in rules if name not in kept), places)

    def held(self, matrix: np.ndarray) -> np.ndarray:
        """Return which rules hold for which rows, (rows, rules), bool.

        Examples
        --------
        >>> asked = [{"feature": "a", "at_most": 0}]
        >>> rule = Rule(theme="adoption", text="Nobody used it", when=asked)
        >>> Applied.to({"idle": rule}, ["b", "a"]).held(np.array([[9, 0], [9, np.nan]])).tolist()
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
        self, matrix: np.ndarray, teller: ReasonWriter, beside: Comparison | None = None
    ) -> list[list[Flag]]:
        """Return per row the rules that hold, with the values behind them, in declared order.

        The facts carry 0 points: a rule moves no probability.
        """
        held = self.held(matrix)
        rows, which = np.nonzero(held)
        asked = [rule.when for rule in self.rules.values()]
        counts = [len(asked[rule]) for rule in which.tolist()]
        features = [
            self.places[condition.feature] for rule in which.tolist() for condition in asked[rule]
        ]
        asked_of = np.repeat(rows, counts)
        facts = iter(teller.facts(matrix, asked_of, np.array(features, dtype=np.int64), beside))
        told: list[list[Flag]] = [[] for _ in matrix]
        names = list(self.rules)
        for row, rule, n in zip(rows.tolist(), which.tolist(), counts, strict=True):
            known = self.rules[names[rule]]
            told[row].append(
                {
                    "rule": names[rule],
                    "theme": known.theme,
                    "text": known.text,
                    "facts": [next(facts) for _ in range(n)],
                }
            )
        return told


def as_kept(rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Return rules as plain JSON, as a bundle keeps them."""
    return {name: rule.model_dump(mode="json") for name, rule in rules.items()}


def from_kept(plain: Mapping[str, Any]) -> dict[str, Rule]:
    """Read back what `as_kept` returned."""
    return {name: Rule.model_validate(item) for name, item in plain.items()}


def rules_of(bundle: Bundle) -> AppliedRules:
    """Return the plain rules that stand in for reasons on the lowest rung; none on any other."""
    kept = from_kept(bundle.manifest.get("rules", {}))
    return AppliedRules.to(kept, numeric_names(bundle.encoder.names, bundle.encoder.levels))


def numeric_names(names: Sequence[str], levels: Mapping[str, Sequence[str]]) -> list[str | None]:
    """Return the names of columns, None in the place of those that hold categories."""
    return [None if name in levels else name for name in names]
