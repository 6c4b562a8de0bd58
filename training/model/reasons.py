"""From contributions to reasons: points of probability, themes, facts.

Light to import: serving explains with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

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
"""Reasons shown per direction for a risk, and facts per reason."""

SECOND_FACT_SHARE = 0.2
"""A second fact is shown when it moves at least this share of what the first moves."""


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
    """Why one account has its score: base + sum(themes) + context + unknown = p."""

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
    """What a value is shown beside. Matrices are (rows, features), NaN where there is nothing.

    Attributes
    ----------
    past : numpy.ndarray or None
        The account's own earlier values.
    past_days : int
        How long ago that was, in days.
    peer : numpy.ndarray or None
        Typical values of peers.
    peers : str
        Whom `peer` stands for, in words.
    currency : str
        The reporting currency.
    """

    past: np.ndarray | None = None
    past_days: int = 84
    peer: np.ndarray | None = None
    peers: str = "at similar accounts"
    currency: str = ""


def secant(logit: np.ndarray, base: np.ndarray | float) -> np.ndarray:
    """Return ``(p − p₀)/(logit − base)``: probability per unit of log-odds on the way from p₀ to p.

    Notes
    -----
    With a = logit, b = base and h = (a − b)/2 it is ``sinh(h)/h / (4·cosh(a/2)·cosh(b/2))``, which
    has no cancellation near a = b. Written in exponentials of negative numbers, so that nothing
    overflows.

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
    """Return whether a feature is context that nobody can act on."""
    return not info.is_actionable or info.theme == "context"


def theme_names(info: Sequence[FeatureInfo]) -> list[str]:
    """Return the themes of actionable features: the catalogue's, in its order, then others.

    A column of a ready-made table is a theme of its own.
    """
    present = dict.fromkeys(item.theme for item in info if not is_circumstance(item))
    own = [theme for theme in present if theme not in THEMES]
    return [*(theme for theme in THEMES if theme in present), *own]


def membership(info: Sequence[FeatureInfo]) -> np.ndarray:
    """Return (features, themes + 1): 1 where a feature belongs, circumstances in the last one."""
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
        (rows,), everything nobody can act on.
    unknown : numpy.ndarray
        (rows,), what the model makes of unknown values.
    """

    themes: np.ndarray
    context: np.ndarray
    unknown: np.ndarray


def roll_up(values: np.ndarray, unknown: np.ndarray, belongs: np.ndarray) -> RolledUp:
    """Sum points (or contributions) by theme, with context and what is not known apart.

    That a value is missing moves the estimate, and says nothing of the value itself: it counts for
    no theme, and is shown as a step of its own. A circumstance that does not apply stays one.

    Parameters
    ----------
    values : numpy.ndarray
        (rows, features).
    unknown : numpy.ndarray
        (rows, features), true where nothing is known.
    belongs : numpy.ndarray
        Of `membership`.
    """
    aside = unknown & (belongs[:, -1] == 0)
    sums = np.where(aside, 0.0, values) @ belongs
    return RolledUp(sums[:, :-1], sums[:, -1], np.where(aside, values, 0.0).sum(axis=1))


def noise_floor(base: float) -> float:
    """Return the points of probability below which a theme stays silent.

    A tenth of the base probability, and never less than 0.2 points in a hundred.

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
    beside: Comparison | None = None,
) -> list[Explanation]:
    """Explain rows: the strongest themes each way, with facts, and what is only circumstance.

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
        Category levels by feature (`Encoder.levels`), to show codes as words.
    beside : Beside, optional
        Own past and peers.

    Returns
    -------
    list of Explanation
        One per row, plain JSON.
    """
    teller = ReasonWriter(tuple(info), outcome, levels or {})
    return teller.explain(contributions, columns, beside or Comparison())


def explain_alone(bundle: Bundle, matrix: np.ndarray, *, currency: str) -> list[Explanation]:
    """Explain encoded rows from the bundle alone: values next to the typical ones of training.

    For rows without a book: the rows of a ready-made table, and a model loaded from the registry.
    """
    typical = np.array([_typical(bundle.manifest["reference"][item.name]) for item in bundle.info])
    beside = Comparison(
        peer=np.broadcast_to(typical, matrix.shape), peers="typical", currency=currency
    )
    return explain_rows(
        bundle.explain(matrix),
        matrix,
        bundle.info,
        outcome=bundle.outcome,
        levels=bundle.encoder.levels,
        beside=beside,
    )


def _typical(reference: Mapping[str, Any]) -> float:
    """Return the median of a number, the most frequent level of a category."""
    if "shares" in reference:
        return float(np.argmax(reference["shares"])) if reference["shares"] else np.nan
    quantiles = reference["quantiles"]
    return float(quantiles[len(quantiles) // 2]) if quantiles else np.nan


def _code(outcome: str, theme: str, direction: Direction, label: str) -> ReasonCode:
    if theme in THEMES:
        return reason_code(outcome, theme, direction)
    return column_reason(outcome, theme, direction, label)


@dataclass(frozen=True)
class ReasonWriter:
    """Tells the reasons of one model; what does not depend on rows is worked out once.

    Rows are explained together: numbers are picked and ordered for all of them by theme, and only
    what is shown is put into words.

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
        """Columns of each theme, and of circumstances at last."""
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
        """(themes + 1, most members): columns by theme, filled up with one beyond the last."""
        most = max(map(len, self._members))
        choices = np.full((len(self._members), most), len(self.info), dtype=np.int64)
        for row, columns in zip(choices, self._members, strict=True):
            row[: len(columns)] = columns
        return choices

    @cached_property
    def _names(self) -> list[Sequence[str] | None]:
        """Per feature the names of its levels; None where it is a number."""
        return [self.levels.get(item.name) for item in self.info]

    def explain(
        self, contributions: Contributions, columns: np.ndarray, beside: Comparison
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
        facts = self._facts(shown, known, columns, beside)
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
        beside: Comparison | None = None,
    ) -> list[Fact]:
        """Return one fact per pair of row and feature, of 0 points: what is the case, no more."""
        return self._told(rows, features, np.zeros_like(columns), columns, beside or Comparison())

    def _facts(
        self, shown: _Shown, moved: np.ndarray, columns: np.ndarray, beside: Comparison
    ) -> list[list[Fact]]:
        """Return per shown theme the facts that move its row most the way the theme does."""
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
        told: list[list[Fact]] = [[] for _ in order]
        for i, fact in zip(
            place.tolist(),
            self._told(shown.rows[place], choices[every, order][kept], moved, columns, beside),
            strict=True,
        ):
            told[i].append(fact)
        return told

    def _told(
        self,
        rows: np.ndarray,
        features: np.ndarray,
        moved: np.ndarray,
        columns: np.ndarray,
        beside: Comparison,
    ) -> list[Fact]:
        """Return one fact per pair of row and feature."""
        chosen = features.tolist()
        values, past, peer = (
            self._plain(matrix, rows, features) for matrix in (columns, beside.past, beside.peer)
        )
        info, phrases = self.info, self._phrases_of(beside)
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
        """Phrases by what all rows share: how long ago, which peers, which currency."""
        return {}

    def _phrases_of(self, beside: Comparison) -> list[Phrase]:
        about = beside.past_days, beside.peers, beside.currency
        if about not in self._phrases:
            self._phrases[about] = [phrase(item, *about) for item in self.info]
        return self._phrases[about]

    def _plain(
        self, matrix: np.ndarray | None, rows: np.ndarray, features: np.ndarray
    ) -> list[float | str | None]:
        """Return values as they are shown: levels by name, nothing where nothing is known."""
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
    """What is worth telling of some rows: one entry per row and theme, in the order it is told.

    Attributes
    ----------
    rows, themes : numpy.ndarray
        Which; circumstances count as the theme after the last.
    signs, amounts : numpy.ndarray
        1 or −1: which way it moves the row, and by how many points of probability.
    """

    rows: np.ndarray
    themes: np.ndarray
    signs: np.ndarray
    amounts: np.ndarray


def _shown(sums: RolledUp, floor: float) -> _Shown:
    """Choose what is told: the strongest themes, and circumstances."""
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
    """Choose per row the themes that move it most in one direction, strongest first."""
    order = np.argsort(-sign * themes, axis=1, kind="stable")[:, :most]
    amounts = themes[np.arange(len(themes))[:, None], order]
    shown = sign * amounts >= floor
    rows = np.nonzero(shown)[0]
    return _Shown(rows, order[shown], np.full(len(rows), sign), amounts[shown])
