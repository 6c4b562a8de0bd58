"""From contributions to reasons: points of probability, themes, facts, what changed.

Light to import: serving explains with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from configs.errors import DataError
from features.catalog import THEMES, FeatureInfo
from training.bundle import Contributions, sigmoid
from training.words import Direction, amount, fact_text, reason_code

MAX_RAISES, MAX_LOWERS, MAX_FACTS = 3, 2, 2
"""Reasons shown per direction for a risk, and facts per reason."""

SECOND_FACT_SHARE = 0.2
"""A second fact is shown when it moves at least this share of what the first moves."""


class Fact(TypedDict):
    """One value behind a reason. `points` are in probability; unknown values are None."""

    feature: str
    label: str
    unit: str
    window_days: int | None
    value: float | str | None
    own_past: float | str | None
    peer: float | str | None
    points: float
    text: str


class Reason(TypedDict):
    """One theme that moves the score, in one direction."""

    code: str
    theme: str
    direction: str
    points: float
    text: str
    facts: list[Fact]


class Explanation(TypedDict):
    """Why one account has its score: base + sum(themes) + context = p."""

    p: float
    base: float
    themes: dict[str, float]
    context: float
    raises: list[Reason]
    lowers: list[Reason]
    circumstances: list[Fact]


@dataclass(frozen=True)
class Beside:
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
    """Return the themes of actionable features, in the catalogue's order."""
    present = {item.theme for item in info if not is_circumstance(item)}
    return [theme for theme in THEMES if theme in present]


def roll_up(values: np.ndarray, info: Sequence[FeatureInfo]) -> tuple[np.ndarray, np.ndarray]:
    """Sum points (or contributions) by theme, context apart.

    Returns
    -------
    themes : numpy.ndarray
        (rows, themes) in the order of `theme_names`.
    context : numpy.ndarray
        (rows,), everything nobody can act on. Together they sum to the row's total.
    """
    position = {theme: column for column, theme in enumerate(theme_names(info))}
    membership = np.zeros((len(info), len(position) + 1))
    for row, item in enumerate(info):
        membership[row, -1 if is_circumstance(item) else position[item.theme]] = 1.0
    sums = values @ membership
    return sums[:, :-1], sums[:, -1]


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
    beside: Beside | None = None,
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
    if columns.shape != contributions.values.shape or columns.shape[1] != len(info):
        raise DataError(
            f"{columns.shape} values, {contributions.values.shape} contributions and {len(info)} "
            "features do not line up"
        )
    moved = points(contributions)
    reader = _Reader(moved, columns, info, levels or {}, beside or Beside())
    themes, context = roll_up(moved, info)
    names = theme_names(info)
    p, base = sigmoid(contributions.logit), float(sigmoid(np.asarray(contributions.base)))
    floor = noise_floor(base)
    circumstances = [i for i, item in enumerate(info) if is_circumstance(item)]
    members = {
        name: [i for i, item in enumerate(info) if item.theme == name and not is_circumstance(item)]
        for name in names
    }

    def reasons(row: int, direction: Direction, most: int) -> list[Reason]:
        sign = 1.0 if direction == "raises" else -1.0
        strength = sign * themes[row]
        chosen = [t for t in np.argsort(-strength, kind="stable")[:most] if strength[t] >= floor]
        return [
            _reason(
                outcome,
                names[t],
                direction,
                float(themes[row, t]),
                reader.facts(row, members[names[t]], sign),
            )
            for t in chosen
        ]

    return [
        Explanation(
            p=float(p[row]),
            base=base,
            themes=dict(zip(names, themes[row].tolist(), strict=True)),
            context=float(context[row]),
            raises=reasons(row, "raises", MAX_RAISES),
            lowers=reasons(row, "lowers", MAX_LOWERS),
            circumstances=(
                reader.facts(row, circumstances, float(np.sign(context[row])))
                if abs(context[row]) >= floor
                else []
            ),
        )
        for row in range(len(columns))
    ]


def _reason(
    outcome: str, theme: str, direction: Direction, moved: float, facts: list[Fact]
) -> Reason:
    known = reason_code(outcome, theme, direction)
    return Reason(
        code=known.code,
        theme=theme,
        direction=direction,
        points=moved,
        text=known.sentence,
        facts=facts,
    )


@dataclass(frozen=True)
class _Reader:
    """Turns single values into facts."""

    points: np.ndarray
    columns: np.ndarray
    info: Sequence[FeatureInfo]
    levels: Mapping[str, Sequence[str]]
    beside: Beside

    def facts(self, row: int, features: list[int], sign: float) -> list[Fact]:
        """Return the facts of the features that move this row most in the direction `sign`."""
        strength = sign * self.points[row, features]
        order = np.argsort(-strength, kind="stable")[:MAX_FACTS]
        least = SECOND_FACT_SHARE * strength[order[0]] if len(order) else 0.0
        return [
            self._fact(row, features[i]) for i in order if strength[i] > 0 and strength[i] >= least
        ]

    def _fact(self, row: int, feature: int) -> Fact:
        info = self.info[feature]
        value = self._shown(self.columns, row, feature)
        past = self._shown(self.beside.past, row, feature)
        peer = self._shown(self.beside.peer, row, feature)
        return Fact(
            feature=info.name,
            label=info.label,
            unit=info.unit,
            window_days=info.window_days,
            value=value,
            own_past=past,
            peer=peer,
            points=float(self.points[row, feature]),
            text=fact_text(
                info,
                self._words(value, info) or "not known",
                self._words(past, info),
                self._words(peer, info),
                past_days=self.beside.past_days,
                peers=self.beside.peers,
            ),
        )

    def _shown(self, matrix: np.ndarray | None, row: int, feature: int) -> float | str | None:
        if matrix is None or np.isnan(matrix[row, feature]):
            return None
        value = float(matrix[row, feature])
        levels = self.levels.get(self.info[feature].name)
        return value if levels is None else levels[int(value)]

    def _words(self, value: float | str | None, info: FeatureInfo) -> str | None:
        if value is None or isinstance(value, str):
            return value
        return amount(value, info.unit, currency=self.beside.currency)


class Change(TypedDict):
    """What moved a score between two dates: all parts sum to after − before."""

    before: float
    after: float
    themes: dict[str, float]
    circumstances: float
    model: float


def what_changed(
    served_logit: np.ndarray,
    earlier: Contributions,
    now: Contributions,
    info: Sequence[FeatureInfo],
) -> list[Change]:
    """Split the difference between an earlier served score and the present one.

    Parameters
    ----------
    served_logit : numpy.ndarray
        (rows,) calibrated log-odds as served then.
    earlier : Contributions
        The earlier feature values under the *present* model.
    now : Contributions
        The present feature values under the present model.
    info : sequence of FeatureInfo
        The features in matrix order.

    Returns
    -------
    list of Change
        Points of probability by theme; `circumstances` holds time passing and other context,
        `model` what a new model or calibration makes of the same earlier values.
    """
    logit = now.logit
    slope = secant(logit, served_logit)
    themes, context = roll_up((now.values - earlier.values) * slope[:, None], info)
    model = (earlier.logit - served_logit) * slope
    names = theme_names(info)
    before, after = sigmoid(served_logit), sigmoid(logit)
    return [
        Change(
            before=float(before[row]),
            after=float(after[row]),
            themes=dict(zip(names, themes[row].tolist(), strict=True)),
            circumstances=float(context[row]),
            model=float(model[row]),
        )
        for row in range(len(logit))
    ]
