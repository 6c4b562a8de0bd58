"""Reasons from contributions: points of probability, themes, facts.

Imported by serving, so it needs neither pandas nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads this one before Python 3.12

from configs.runtime.errors import DataError
from features.tables.catalog import THEMES, FeatureInfo
from training.model.bundle import Bundle, Contributions, sigmoid
from training.model.reason_text import (
    Direction,
    Phrase,
    ReasonCode,
    column_reason,
    phrase,
    reason_code,
)

MAX_RAISES, MAX_LOWERS, MAX_FACTS = 3, 2, 2
"""Number of reasons per direction, and of facts per reason."""

SECOND_FACT_SHARE = 0.2
"""Smallest effect of a second fact, relative to the first."""


class Fact(TypedDict):
    """One value behind a reason, with the account's own past and its peers."""

    feature: str
    label: Annotated[str, Field(description="short noun phrase")]
    unit: str
    window_days: int | None
    value: Annotated[float | str | None, Field(description="null: not known")]
    own_past: Annotated[float | str | None, Field(description="twelve weeks earlier")]
    peer: Annotated[float | str | None, Field(description="median of similar accounts")]
    points: Annotated[float, Field(description="change of the probability, -1 to 1")]
    text: Annotated[str, Field(description="the fact as text")]


class Reason(TypedDict):
    """One theme that moves the score in one direction."""

    code: Annotated[str, Field(description="stable; see GET /v1/reasons")]
    theme: str
    direction: Direction
    points: Annotated[float, Field(description="change of the probability, -1 to 1")]
    text: str
    facts: list[Fact]


class Explanation(TypedDict):
    """Explanation of one score: base + sum(themes) + context + unknown = p."""

    p: float
    base: float
    themes: dict[str, float]
    context: float
    unknown: float
    raises: list[Reason]
    lowers: list[Reason]
    circumstances: list[Fact]


@dataclass(frozen=True)
class Comparison:
    """Values for comparison. Matrices are (rows, features), NaN where unknown.

    Attributes
    ----------
    past : numpy.ndarray or None
        The account's own earlier values.
    past_days : int
        Age of the earlier values in days.
    peer : numpy.ndarray or None
        Typical values of peers.
    peers : str
        Description of the peers.
    currency : str
        The reporting currency.
    """

    past: np.ndarray | None = None
    past_days: int = 84
    peer: np.ndarray | None = None
    peers: str = "at similar accounts"
    currency: str = ""


def secant(logit: np.ndarray, base: np.ndarray | float) -> np.ndarray:
    """Return ``(p − p₀)/(logit − base)``: probability per unit of log-odds between p₀ and p.

    Notes
    -----
    With a = logit, b = base and h = (a − b)/2 it is ``sinh(h)/h / (4·cosh(a/2)·cosh(b/2))``, which
    has no cancellation near a = b. It is written in exponentials of negative numbers to avoid
    overflow.

    Examples
    --------
    >>> secant(np.array([0.0]), 0.0).tolist()
    [0.25]
    """
    base = np.broadcast_to(np.asarray(base, dtype=np.float64), logit.shape)
    half = np.abs(logit - base) / 2.0
    # sinh(h)/h = e^h · (1 − e^(−2h))/(2h), and 1/(2·cosh(x/2)) = e^(−|x|/2)/(1 + e^(−|x|))
    twice = np.where(half > 0, 2.0 * half, 1.0)
    ratio = np.where(half > 0, -np.expm1(-twice) / twice, 1.0)
    exponent = half - (np.abs(logit) + np.abs(base)) / 2.0
    damping = (1.0 + np.exp(-np.abs(logit))) * (1.0 + np.exp(-np.abs(base)))
    slope: np.ndarray = ratio * np.exp(exponent) / damping
    return slope


def points(contributions: Contributions) -> np.ndarray:
    """Return contributions as points of probability, (rows, features): they sum to p − p₀."""
    slope = secant(contributions.logit, contributions.base)
    scaled: np.ndarray = contributions.values * slope[:, None]
    return scaled


def is_circumstance(info: FeatureInfo) -> bool:
    """Return whether a feature is context that cannot be acted on."""
    return not info.is_actionable or info.theme == "context"


def theme_names(info: Sequence[FeatureInfo]) -> list[str]:
    """Return the themes of actionable features in catalogue order, then other themes.

    A column of a ready-made table is its own theme.
    """
    present = dict.fromkeys(item.theme for item in info if not is_circumstance(item))
    own = [theme for theme in present if theme not in THEMES]
    return [*(theme for theme in THEMES if theme in present), *own]


def membership(info: Sequence[FeatureInfo]) -> np.ndarray:
    """Return (features, themes + 1): 1 for the theme of a feature, the last one for context."""
    position = {theme: column for column, theme in enumerate(theme_names(info))}
    belongs = np.zeros((len(info), len(position) + 1))
    for row, item in enumerate(info):
        belongs[row, -1 if is_circumstance(item) else position[item.theme]] = 1.0
    return belongs


class RolledUp(NamedTuple):
    """Points (or contributions) by theme; together they sum to each row's total.

    Attributes
    ----------
    themes : numpy.ndarray
        (rows, themes) in the order of `theme_names`.
    context : numpy.ndarray
        (rows,), features that cannot be acted on.
    unknown : numpy.ndarray
        (rows,), effect of unknown values.
    """

    themes: np.ndarray
    context: np.ndarray
    unknown: np.ndarray


def roll_up(values: np.ndarray, unknown: np.ndarray, belongs: np.ndarray) -> RolledUp:
    """Sum points (or contributions) by theme, with separate sums for context and unknown values.

    The effect of a missing value is independent of the value itself, so it counts for no theme and
    is shown separately. Missing context features count as context.

    Parameters
    ----------
    values : numpy.ndarray
        (rows, features).
    unknown : numpy.ndarray
        (rows, features), true for unknown values.
    belongs : numpy.ndarray
        Of `membership`.
    """
    aside = unknown & (belongs[:, -1] == 0)
    sums = np.where(aside, 0.0, values) @ belongs
    return RolledUp(sums[:, :-1], sums[:, -1], np.where(aside, values, 0.0).sum(axis=1))


def noise_floor(base: float) -> float:
    """Return the points of probability below which a theme is not shown.

    A tenth of the base probability, at least 0.2 percentage points.

    >>> noise_floor(0.25), noise_floor(0.005)
    (0.025, 0.002)
    """
    return max(0.002, 0.1 * base)


def explain_rows(
    contributions: Contributions,
    columns: np.ndarray,
    info: Sequence[FeatureInfo],
    *,
    outcome: str,
    levels: Mapping[str, Sequence[str]] | None = None,
    comparison: Comparison | None = None,
) -> list[Explanation]:
    """Explain rows: the strongest themes in each direction with facts, and context.

    Parameters
    ----------
    contributions : Contributions
        Of these rows, from `Bundle.explain`.
    columns : numpy.ndarray
        (rows, features) encoded values, as scored.
    info : sequence of FeatureInfo
        The features in matrix order.
    outcome : str
        ``churn``, ``contraction`` or ``expansion``.
    levels : mapping of str to sequence of str, optional
        Category levels by feature (`Encoder.levels`), to show codes as names.
    comparison : Comparison, optional
        Past and peer values.

    Returns
    -------
    list of Explanation
        One per row, plain JSON.
    """
    writer = ReasonWriter(tuple(info), outcome, levels or {})
    return writer.explain(contributions, columns, comparison or Comparison())


def explain_alone(bundle: Bundle, matrix: np.ndarray, *, currency: str) -> list[Explanation]:
    """Explain encoded rows from the bundle alone, compared with typical values of training.

    Used for ready-made tables and for models loaded from the registry.
    """
    typical = np.array([bundle.manifest.reference[item.name].typical for item in bundle.info])
    comparison = Comparison(
        peer=np.broadcast_to(typical, matrix.shape), peers="typical", currency=currency
    )
    return explain_rows(
        bundle.explain(matrix),
        matrix,
        bundle.info,
        outcome=bundle.outcome,
        levels=bundle.encoder.levels,
        comparison=comparison,
    )


def _code(outcome: str, theme: str, direction: Direction, label: str) -> ReasonCode:
    if theme in THEMES:
        return reason_code(outcome, theme, direction)
    return column_reason(outcome, theme, direction, label)


@dataclass(frozen=True)
class ReasonWriter:
    """Writer of the reasons of one model, with cached parts that do not depend on rows.

    Rows are explained together: themes and facts are selected for all of them in arrays, and only
    displayed ones are rendered as text.

    Attributes
    ----------
    info : tuple of FeatureInfo
        The features in matrix order.
    outcome : str
        ``churn``, ``contraction`` or ``expansion``.
    levels : mapping of str to sequence of str
        Category levels by feature.
    """

    info: tuple[FeatureInfo, ...]
    outcome: str
    levels: Mapping[str, Sequence[str]]

    @cached_property
    def _themes(self) -> list[str]:
        return theme_names(self.info)

    @cached_property
    def _membership(self) -> np.ndarray:
        return membership(self.info)

    @cached_property
    def _members(self) -> list[np.ndarray]:
        """Columns of each theme, and of context last."""
        found: dict[str, list[int]] = {name: [] for name in (*self._themes, "")}
        for column, item in enumerate(self.info):
            found["" if is_circumstance(item) else item.theme].append(column)
        return [np.array(columns, dtype=np.int64) for columns in found.values()]

    @cached_property
    def _codes(self) -> dict[Direction, list[ReasonCode]]:
        return {
            direction: [
                _code(self.outcome, theme, direction, self.info[columns[0]].label)
                for theme, columns in zip(self._themes, self._members, strict=False)
            ]
            for direction in _DIRECTIONS
        }

    @cached_property
    def _choices(self) -> np.ndarray:
        """(themes + 1, most members): columns by theme, padded with the number of columns."""
        most = max(map(len, self._members))
        choices = np.full((len(self._members), most), len(self.info), dtype=np.int64)
        for row, columns in zip(choices, self._members, strict=True):
            row[: len(columns)] = columns
        return choices

    @cached_property
    def _names(self) -> list[Sequence[str] | None]:
        """Names of the levels per feature; None for numbers."""
        return [self.levels.get(item.name) for item in self.info]

    def explain(
        self, contributions: Contributions, columns: np.ndarray, comparison: Comparison
    ) -> list[Explanation]:
        """Explain rows; see `explain_rows`."""
        shape = contributions.values.shape
        if columns.shape != shape or columns.shape[1] != len(self.info):
            raise DataError(
                f"{columns.shape} values, {shape} contributions and {len(self.info)} features do "
                "not line up"
            )
        moved, missing = points(contributions), np.isnan(columns)
        sums = roll_up(moved, missing, self._membership)
        base = float(sigmoid(np.asarray(contributions.base)))
        explained: list[Explanation] = [
            {
                "p": p,
                "base": base,
                "themes": dict(zip(self._themes, by_theme, strict=True)),
                "context": aside,
                "unknown": gaps,
                "raises": [],
                "lowers": [],
                "circumstances": [],
            }
            for p, by_theme, aside, gaps in zip(
                sigmoid(contributions.logit).tolist(),
                sums.themes.tolist(),
                sums.context.tolist(),
                sums.unknown.tolist(),
                strict=True,
            )
        ]
        shown = _shown(sums, noise_floor(base))
        known = np.where(missing & (self._membership[:, -1] == 0), 0.0, moved)
        facts = self._facts(shown, known, columns, comparison)
        for row, theme, sign, added, found in zip(
            shown.rows.tolist(),
            shown.themes.tolist(),
            shown.signs.tolist(),
            shown.amounts.tolist(),
            facts,
            strict=True,
        ):
            if theme == len(self._themes):
                explained[row]["circumstances"] = found
                continue
            direction: Direction = "raises" if sign > 0 else "lowers"
            code = self._codes[direction][theme]
            explained[row][direction].append(
                {
                    "code": code.code,
                    "theme": code.theme,
                    "direction": direction,
                    "points": added,
                    "text": code.sentence,
                    "facts": found,
                }
            )
        return explained

    def facts(
        self,
        columns: np.ndarray,
        rows: np.ndarray,
        features: np.ndarray,
        comparison: Comparison | None = None,
    ) -> list[Fact]:
        """Return one fact with 0 points per pair of row and feature."""
        return self._render_facts(
            rows, features, np.zeros_like(columns), columns, comparison or Comparison()
        )

    def _facts(
        self, shown: _Shown, moved: np.ndarray, columns: np.ndarray, comparison: Comparison
    ) -> list[list[Fact]]:
        """Return per shown theme the facts with the largest effect in its direction."""
        choices = self._choices[shown.themes]
        beyond = choices == len(self.info)
        strength = moved[shown.rows[:, None], np.where(beyond, 0, choices)]
        strength *= shown.signs[:, None]
        strength[beyond] = -np.inf
        order = np.argsort(-strength, axis=1, kind="stable")[:, :MAX_FACTS]
        every = np.arange(len(order))[:, None]
        strongest = strength[every, order]
        kept = (strongest > 0) & (strongest >= SECOND_FACT_SHARE * strongest[:, :1])
        place = np.nonzero(kept)[0]
        facts_by_theme: list[list[Fact]] = [[] for _ in order]
        for i, fact in zip(
            place.tolist(),
            self._render_facts(
                shown.rows[place], choices[every, order][kept], moved, columns, comparison
            ),
            strict=True,
        ):
            facts_by_theme[i].append(fact)
        return facts_by_theme

    def _render_facts(
        self,
        rows: np.ndarray,
        features: np.ndarray,
        moved: np.ndarray,
        columns: np.ndarray,
        comparison: Comparison,
    ) -> list[Fact]:
        """Return one fact per pair of row and feature."""
        chosen = features.tolist()
        values, past, peer = (
            self._plain(matrix, rows, features)
            for matrix in (columns, comparison.past, comparison.peer)
        )
        info, phrases = self.info, self._phrases_of(comparison)
        return [
            {
                "feature": (item := info[feature]).name,
                "label": item.label,
                "unit": item.unit,
                "window_days": item.window_days,
                "value": value,
                "own_past": own,
                "peer": typical,
                "points": point,
                "text": phrases[feature](value, own, typical),
            }
            for feature, value, own, typical, point in zip(
                chosen, values, past, peer, moved[rows, features].tolist(), strict=True
            )
        ]

    @cached_property
    def _phrases(self) -> dict[tuple[int, str, str], list[Phrase]]:
        """Cache of text functions by age of past values, peers and currency."""
        return {}

    def _phrases_of(self, comparison: Comparison) -> list[Phrase]:
        about = comparison.past_days, comparison.peers, comparison.currency
        if about not in self._phrases:
            self._phrases[about] = [phrase(item, *about) for item in self.info]
        return self._phrases[about]

    def _plain(
        self, matrix: np.ndarray | None, rows: np.ndarray, features: np.ndarray
    ) -> list[float | str | None]:
        """Return displayed values: level names for categories, None if unknown."""
        if matrix is None:
            return [None] * len(rows)
        found = matrix[rows, features].tolist()
        if not self.levels:
            return [None if value != value else value for value in found]
        names = [self._names[feature] for feature in features.tolist()]
        return [
            None if value != value else value if known is None else known[int(value)]
            for value, known in zip(found, names, strict=True)
        ]


_DIRECTIONS: tuple[Direction, ...] = ("raises", "lowers")


@dataclass(frozen=True)
class _Shown:
    """Themes to show: one entry per row and theme, in display order.

    Attributes
    ----------
    rows, themes : numpy.ndarray
        Row and theme; context is the theme after the last.
    signs, amounts : numpy.ndarray
        Direction (1 or −1) and size of the effect in points of probability.
    """

    rows: np.ndarray
    themes: np.ndarray
    signs: np.ndarray
    amounts: np.ndarray


def _shown(sums: RolledUp, floor: float) -> _Shown:
    """Select the strongest themes, and context."""
    themes, context = sums.themes, sums.context
    parts = [
        _strongest(themes, floor, 1.0, MAX_RAISES),
        _strongest(themes, floor, -1.0, MAX_LOWERS),
    ]
    aside = np.flatnonzero(np.abs(context) >= floor)
    last = np.full(len(aside), themes.shape[1])
    parts.append(_Shown(aside, last, np.sign(context[aside]), context[aside]))
    return _Shown(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.themes for part in parts]),
        np.concatenate([part.signs for part in parts]),
        np.concatenate([part.amounts for part in parts]),
    )


def _strongest(themes: np.ndarray, floor: float, sign: float, most: int) -> _Shown:
    """Select per row the strongest themes in one direction, strongest first."""
    order = np.argsort(-sign * themes, axis=1, kind="stable")[:, :most]
    amounts = themes[np.arange(len(themes))[:, None], order]
    shown = sign * amounts >= floor
    rows = np.nonzero(shown)[0]
    return _Shown(rows, order[shown], np.full(len(rows), sign), amounts[shown])
