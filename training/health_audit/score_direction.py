"""Direction of a score and order of its bands: configured, inferred from names, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.formatting import listing, month
from training.health_audit.history import Note, ScoreRows
from training.health_audit.options import AuditOptions, Higher
from training.health_audit.reading.parse_values import plain_word

GOODNESS: Mapping[str, float] = {
    "excellent": 1.0, "green": 0.9, "healthy": 0.9, "very good": 0.9, "low risk": 0.9, "safe": 0.9,
    "thriving": 1.0, "strong": 0.9, "good": 0.8, "stable": 0.7, "ok": 0.6, "light green": 0.7,
    "fair": 0.5, "yellow": 0.5, "amber": 0.5, "neutral": 0.5, "average": 0.5, "moderate": 0.5,
    "medium risk": 0.5, "moderate risk": 0.5, "watch": 0.45, "monitor": 0.45, "warning": 0.3,
    "needs attention": 0.3, "elevated risk": 0.3, "concerning": 0.3, "orange": 0.3,
    "at risk": 0.15, "poor": 0.15, "bad": 0.1, "weak": 0.15, "red": 0.05, "unhealthy": 0.05,
    "high risk": 0.05, "critical": 0.0, "black": 0.0, "very high risk": 0.0,
    "a": 0.95, "b": 0.75, "c": 0.55, "d": 0.35, "e": 0.2, "f": 0.02,
}  # fmt: skip
"""Rank of band names from best to worst."""

LEVELS: Mapping[str, float] = {
    "very low": 0.0, "low": 0.1, "medium": 0.5, "mid": 0.5, "elevated": 0.6, "high": 0.9,
    "very high": 1.0,
}  # fmt: skip
"""Rank of band names that express an amount; the column name decides the direction."""

RISK_WORDS = ("risk", "churn", "prob", "propens", "attrition", "danger")
SET_OVERLAP = 0.02
"""Share of a band's rows at either end of its time that may overlap with another set of bands."""


@dataclass(frozen=True)
class ScoreDirection:
    """Score history with direction and band order.

    Attributes
    ----------
    rows : pandas.DataFrame
        The history's rows with ``risk`` (higher is riskier) and ``level`` (position of the band,
        0 best; −1 without bands).
    bands : tuple of str
        Band names from best to worst; empty without bands.
    higher : str
        ``healthier`` or ``riskier``: meaning of a high number in the file.
    source : str
        Source of the direction.
    is_probability : bool
        ``risk`` is a probability in [0, 1].
    notes : tuple of Note
        Notes for the reader.
    """

    rows: pd.DataFrame
    bands: tuple[str, ...]
    higher: Higher
    source: str
    is_probability: bool
    notes: tuple[Note, ...]


def settle_direction(history: ScoreRows, options: AuditOptions) -> ScoreDirection:
    """Determine direction and band order.

    Raises
    ------
    DataError
        The order of the bands is unknown.
    """
    rows, notes = history.rows, []
    names = {guess.role: guess.column for guess in history.guesses}
    has_score = bool(rows["score"].notna().any())
    eras = _band_sets(rows) if rows["band"].notna().any() else []
    orders = [
        _order(band_set, rows, names.get("band", ""), options, has_score) for band_set in eras
    ]
    level, bands = _levels(rows, orders)
    if len(orders) > 1:
        notes.append(_renamed(rows, orders))
    higher, source = _direction(rows, names.get("score", ""), level, options, has_score)
    is_probability = has_score and _is_probability(rows["score"], names, higher, options)
    sign = 1.0 if higher == "riskier" else -1.0
    risk = sign * rows["score"] if has_score else pd.Series(level, rows.index).astype("float64")
    if is_probability and rows["score"].max() > 1:
        risk = risk / 100.0
    made = rows.assign(risk=risk, level=level)
    usable = risk.notna().to_numpy() & ((level >= 0) | has_score)
    return ScoreDirection(
        made.loc[usable].reset_index(drop=True),
        bands,
        higher,
        source,
        is_probability,
        tuple(notes),
    )


def _band_sets(rows: pd.DataFrame) -> list[list[str]]:
    """Return the sets of bands used together, oldest first; a renaming starts a new set."""
    seen = rows.dropna(subset=["band"]).groupby(rows["band"].str.casefold())["scored_at"]
    spans = sorted(
        (group.quantile(SET_OVERLAP), group.quantile(1 - SET_OVERLAP), str(name))
        for name, group in seen
    )
    eras: list[list[str]] = []
    until = None
    for start, end, name in spans:
        if until is None or start > until:
            eras.append([])
        eras[-1].append(name)
        until = end if until is None else max(until, end)
    return eras


def _order(
    band_set: Sequence[str], rows: pd.DataFrame, column: str, options: AuditOptions, has_score: bool
) -> list[str]:
    """Return one set of bands from best to worst."""
    for given in options.bands:
        order = [name.casefold().strip() for name in given]
        if set(band_set) <= set(order):
            return [name for name in order if name in band_set]
    known = _by_name(band_set, column)
    if known is not None:
        return known
    if has_score:
        return _by_score(band_set, rows, options)
    raise DataError(
        f"the order of the bands is unknown: {listing(sorted(band_set))}",
        where=f"column {column}",
        fix=f'--bands "{", ".join(sorted(band_set))}", from best to worst',
    )


def _by_name(band_set: Sequence[str], column: str) -> list[str] | None:
    words = {name: plain_word(name) for name in band_set}
    if all(word in GOODNESS for word in words.values()):
        return sorted(band_set, key=lambda name: -GOODNESS[words[name]])
    if all(word in LEVELS for word in words.values()):
        if any(word in column.lower() for word in RISK_WORDS):
            return sorted(band_set, key=lambda name: LEVELS[words[name]])
        if "health" in column.lower() or "score" in column.lower():
            return sorted(band_set, key=lambda name: -LEVELS[words[name]])
    return None


def _by_score(band_set: Sequence[str], rows: pd.DataFrame, options: AuditOptions) -> list[str]:
    here = rows[rows["band"].str.casefold().isin(band_set)]
    typical = here.groupby(here["band"].str.casefold())["score"].median()
    rising = options.higher == "riskier"
    return [str(name) for name in typical.sort_values(ascending=rising).index]


def _levels(rows: pd.DataFrame, orders: Sequence[list[str]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return each row's band as its position among the bands of the latest set."""
    if not orders:
        return np.full(len(rows), -1), ()
    last = orders[-1]
    place: dict[str, int] = {}
    for order in orders:
        for position, name in enumerate(order):
            part = position / max(len(order) - 1, 1)
            place[name] = round(part * (len(last) - 1))
    band = rows["band"].str.casefold()
    shown = {str(name).casefold(): str(name) for name in rows["band"].dropna()}
    level = band.map(place).fillna(-1).astype("int64").to_numpy()
    return level, tuple(shown[name] for name in last)


def _renamed(rows: pd.DataFrame, orders: Sequence[list[str]]) -> Note:
    begun = [
        pd.Timestamp(
            rows.loc[rows["band"].str.casefold().isin(order), "scored_at"].quantile(SET_OVERLAP)
        )
        for order in orders[1:]
    ]
    changes = [
        f"{', '.join(before)} became {', '.join(after)} in {month(when)}"
        for before, after, when in zip(orders, orders[1:], begun, strict=False)
    ]
    return Note(
        "renamed",
        f"the bands were renamed: {listing(changes)} (each from best to worst); they are matched "
        "by rank",
        "warning",
    )


def _direction(
    rows: pd.DataFrame, column: str, level: np.ndarray, options: AuditOptions, has_score: bool
) -> tuple[Higher, str]:
    if options.higher is not None:
        return options.higher, "as configured"
    if not has_score:
        return "healthier", "by the order of the bands"
    both = (level >= 0) & rows["score"].notna().to_numpy()
    if len(set(level[both])) > 1:
        moves = float(np.corrcoef(level[both], rows["score"].to_numpy()[both])[0, 1])
        if abs(moves) > 0.2:
            return ("riskier" if moves > 0 else "healthier"), "by the bands in the file"
    if any(word in column.lower() for word in RISK_WORDS):
        return "riskier", f"by its name, {column}"
    named = "health" in column.lower()
    return (
        "healthier",
        f"by its name, {column}" if named else "assumed; set --higher riskier to reverse",
    )


def _is_probability(
    score: pd.Series, names: Mapping[str, str], higher: Higher, options: AuditOptions
) -> bool:
    inside = bool(score.min() >= 0 and score.max() <= 100)
    if options.is_probability is not None:
        if options.is_probability and not inside:
            raise DataError(
                f"the score runs from {score.min():g} to {score.max():g}, so it is not a "
                "probability",
                fix="remove --probability",
            )
        return options.is_probability
    is_named = "prob" in names.get("score", "").lower()
    return inside and higher == "riskier" and (is_named or bool(score.max() <= 1))
