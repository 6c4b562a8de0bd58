"""Kinds and amounts of growth: estimated from past growths, tested on the model's own folds.

The probability of a kind is the calibrated probability of growth times the share of that kind among
past growths of accounts in the same state. The state is the utilisation of the allowance and the
number of products; its shares are shrunk towards those of all accounts with that utilisation, and
these towards the overall shares, by `PRIOR_EVENTS` growths each. The amount is the revenue added by
past growths of the kind relative to the revenue before: 10th, 50th and 90th percentile.

Both are fitted at every cut-off on growths known by then and tested on later ones. A kind with
fewer growths than the company's minimum has neither: a rule can suggest it, without a probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from configs.schema.company import Growth
from features.revenue.growth_kinds import (
    FULLNESS,
    KINDS,
    N_CELLS,
    N_FULL,
    N_HELD,
    N_PRODUCTS,
    UNKNOWN_KIND,
    cells,
)
from training.data.splits import Folds
from training.data.training_frame import GROWTH_COLUMNS, TrainingFrame
from training.evaluation.metrics import Sample, auc, none_if_nan, wilson
from training.model.manifest import ModelManifest
from training.model.manifest_parts import GrowthBacktest, GrowthKind, GrowthKinds

PRIOR_EVENTS = 10.0
"""Weight of the wider group, in growths, in the shares of a state."""

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
ALL_KINDS = (*KINDS, UNKNOWN_KIND)

Z_95 = 1.96
"""Standard errors of a 95 % limit."""

NOT_KNOWN = "the kinds of past growth are not known: there are no contract terms"


class GrowthTargetJson(TypedDict):
    """Kinds of growth of one target in the report: pairs of kind and `GrowthKind` content."""

    target: str
    words: str
    n_unknown: int
    kinds: list[tuple[str, dict[str, Any]]]


class GrowthSectionJson(TypedDict):
    """The report's section on kinds of growth."""

    targets: list[GrowthTargetJson]


@dataclass(frozen=True)
class GrowthEvents:
    """Past growths, one entry per row that precedes one.

    Attributes
    ----------
    kind : numpy.ndarray
        Position in `ALL_KINDS`.
    uplift : numpy.ndarray
        Revenue gained over the revenue at as_of; NaN unknown.
    weight : numpy.ndarray
        1 over the number of rows that precede the same growth, so that each counts once.
    cell : numpy.ndarray
        State at as_of (`features.revenue.growth_kinds.cells`).
    """

    kind: np.ndarray
    uplift: np.ndarray
    weight: np.ndarray
    cell: np.ndarray

    def counts(self) -> np.ndarray:
        """Return the number of growths of each of `ALL_KINDS`."""
        return np.bincount(self.kind, self.weight, len(ALL_KINDS))


@dataclass(frozen=True)
class FittedSizes:
    """Fitted shares and amounts of growth.

    Attributes
    ----------
    shares : numpy.ndarray
        (cells, kinds): share of each of `ALL_KINDS` among growths from that state; rows add up to
        1.
    quantiles : numpy.ndarray
        (kinds, 3): uplift at `QUANTILES`; NaN without a growth of the kind.
    means : numpy.ndarray
        (kinds,): mean uplift.
    counts : numpy.ndarray
        (all kinds,): growths of each.
    """

    shares: np.ndarray
    quantiles: np.ndarray
    means: np.ndarray
    counts: np.ndarray


def events_of(rows: pd.DataFrame, cell: np.ndarray) -> GrowthEvents:
    """Return the growths among training rows.

    Parameters
    ----------
    rows : pandas.DataFrame
        entity_id, label, decision_at, and `GROWTH_COLUMNS`.
    cell : numpy.ndarray
        State of each row.
    """
    happened = (rows["label"] == 1).to_numpy()
    grown = rows[happened]
    kind = grown["growth_kind"].where(grown["growth_kind"].isin(KINDS), UNKNOWN_KIND)
    seen = grown.groupby(["entity_id", "decision_at"], dropna=False)["label"].transform("size")
    return GrowthEvents(
        kind.map({name: place for place, name in enumerate(ALL_KINDS)}).to_numpy(dtype=np.int64),
        grown["growth_uplift"].to_numpy(dtype=np.float64),
        1.0 / seen.to_numpy(dtype=np.float64),
        cell[happened],
    )


def fit_growth(events: GrowthEvents) -> FittedSizes:
    """Return shares by state and amounts by kind."""
    counts = np.zeros((N_CELLS, len(ALL_KINDS)))
    np.add.at(counts, (events.cell, events.kind), events.weight)
    total = counts.sum(axis=0)
    shares = _shrunk_shares(counts, np.broadcast_to(_shares(total), counts.shape))
    per_kind = [_amounts(events, place) for place in range(len(KINDS))]
    quantiles = np.array([found[:-1] for found in per_kind])
    return FittedSizes(shares, quantiles, np.array([found[-1] for found in per_kind]), total)


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), 1.0 / len(counts))


def _shrunk_shares(counts: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """Shrink the shares of states towards those of the same utilisation, and these towards all."""
    by_full = counts.reshape(N_FULL, N_HELD, -1).sum(axis=1)
    wide = _shrink(by_full, overall[::N_HELD])
    return _shrink(counts, np.repeat(wide, N_HELD, axis=0))


def _shrink(counts: np.ndarray, wider: np.ndarray) -> np.ndarray:
    mixed = counts + PRIOR_EVENTS * wider
    shares: np.ndarray = mixed / mixed.sum(axis=1, keepdims=True)
    return shares


def _amounts(events: GrowthEvents, place: int) -> list[float]:
    """Return the quantiles and the mean of the uplift of one kind."""
    here = (events.kind == place) & np.isfinite(events.uplift)
    if not here.any():
        return [float("nan")] * (len(QUANTILES) + 1)
    uplift, weight = events.uplift[here], events.weight[here]
    found = [weighted_quantiles(uplift, weight, share) for share in QUANTILES.values()]
    return [*found, float(np.average(uplift, weights=weight))]


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return a weighted quantile with linear interpolation.

    With equal weights it is Hazen's: the i-th of n values is the (i − ½)/n quantile.

    >>> weighted_quantiles(np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4), 0.5)
    2.5
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = (reached - weights[order] / 2.0) / reached[-1]
    return float(np.interp(share, places, values[order]))


def growth_kinds(
    frame: TrainingFrame, predictions: pd.DataFrame, folds: Folds, settings: Growth, verdict: str
) -> GrowthKinds:
    """Return kinds and amounts of growth for the bundle, with the backtest of both.

    Parameters
    ----------
    frame : TrainingFrame
        All training rows; with `GROWTH_COLUMNS` if contract terms contain kinds.
    predictions : pandas.DataFrame
        Out-of-time predictions: position, fold, is_headline, p_model.
    folds : Folds
        Their cut-offs.
    settings : Growth
        Minimum numbers of growths.
    verdict : str
        Verdict of the growth model: without a signal no kind has a probability.
    """
    if not set(GROWTH_COLUMNS) <= set(frame.rows.columns):
        return GrowthKinds(status="not known", words=NOT_KNOWN, kinds={}, shares=())
    cell = _cells_of(frame)
    fitted = fit_growth(events_of(frame.rows, cell))
    tested = backtest_sizes(frame, cell, predictions, folds)
    kinds = {
        kind: _kind(kind, place, fitted, tested, settings, verdict)
        for place, kind in enumerate(KINDS)
    }
    measured = [kind for kind, item in kinds.items() if item.basis == "measured"]
    return GrowthKinds(
        status="measured" if measured else "rules",
        words=_words(measured, settings, verdict),
        kinds=kinds,
        n_unknown=round(float(fitted.counts[-1])),
        shares=fitted.shares[:, : len(KINDS)].round(9).tolist(),
    )


def _cells_of(frame: TrainingFrame) -> np.ndarray:
    wanted = [name for name in (*FULLNESS, N_PRODUCTS) if name in frame.features]
    return cells({n: frame.features[n].to_numpy(dtype=np.float64) for n in wanted}, len(frame))


def _words(measured: list[str], settings: Growth, verdict: str) -> str:
    floor = f"{settings.min_events} growths of a kind, {settings.min_tested} of them tested"
    if verdict == "no_signal":
        return "rules only: the growth model has no signal"
    if not measured:
        return f"rules only: no kind reaches the minimum of {floor}"
    rest = [kind for kind in KINDS if kind not in measured]
    later = f"; {', '.join(rest)} by rules, below the minimum of {floor}" if rest else ""
    return f"measured: {', '.join(measured)}{later}"


def _kind(
    kind: str,
    place: int,
    fitted: FittedSizes,
    tested: pd.DataFrame,
    settings: Growth,
    verdict: str,
) -> GrowthKind:
    """Return basis, amounts and backtest of one kind."""
    found = backtest_kind(tested, kind)
    n_events = round(float(fitted.counts[place]))
    is_measured = (
        verdict != "no_signal"
        and n_events >= settings.min_events
        and (found.events or 0) >= settings.min_tested
    )
    names = (*QUANTILES, "mean")
    amounts = [*fitted.quantiles[place], fitted.means[place]]
    return GrowthKind(
        basis="measured" if is_measured else "rules",
        n_events=n_events,
        uplift={name: none_if_nan(value) for name, value in zip(names, amounts, strict=True)},
        backtest=found,
    )


def backtest_sizes(
    frame: TrainingFrame, cell: np.ndarray, predictions: pd.DataFrame, folds: Folds
) -> pd.DataFrame:
    """Return the probabilities and amounts predicted at each cut-off for the later rows.

    Returns
    -------
    pandas.DataFrame
        One row per entity and test period: fold, happened (one of `ALL_KINDS`, or the empty
        string), uplift, and per kind ``p_<kind>`` (probability of growth × share by state),
        ``flat_<kind>`` (× overall share), ``low_<kind>`` and ``high_<kind>`` (P10 and P90 of the
        uplift).
    """
    first = predictions[predictions["is_headline"]]
    parts = []
    for fold in folds.first.folds:
        test = first[first["fold"] == fold.number]
        known = fit_growth(events_of(frame.rows.iloc[fold.train], cell[fold.train]))
        parts.append(_tested(test, cell[test["position"].to_numpy()], known))
    return pd.concat(parts, ignore_index=True)


def _tested(test: pd.DataFrame, cell: np.ndarray, known: FittedSizes) -> pd.DataFrame:
    happened = test["growth_kind"].where(test["growth_kind"].isin(KINDS), UNKNOWN_KIND)
    p = test["p_model"].to_numpy(dtype=np.float64)
    flat = _shares(known.counts)
    columns: dict[str, object] = {
        "fold": test["fold"].to_numpy(),
        "happened": happened.where(test["label"] == 1, "").to_numpy(),
        "uplift": test["growth_uplift"].to_numpy(dtype=np.float64),
    }
    for place, kind in enumerate(KINDS):
        columns[f"p_{kind}"] = p * known.shares[cell, place]
        columns[f"flat_{kind}"] = p * flat[place]
        columns[f"low_{kind}"] = known.quantiles[place, 0]
        columns[f"high_{kind}"] = known.quantiles[place, -1]
    return pd.DataFrame(columns)


def backtest_kind(tested: pd.DataFrame, kind: str) -> GrowthBacktest:
    """Return the backtest of probability and amount of one kind."""
    y = (tested["happened"] == kind).to_numpy(dtype=np.float64)
    p, flat = (tested[f"{name}_{kind}"].to_numpy(dtype=np.float64) for name in ("p", "flat"))
    low, high = (tested[f"{name}_{kind}"].to_numpy(dtype=np.float64) for name in ("low", "high"))
    uplift = tested["uplift"].to_numpy(dtype=np.float64)
    has_amount = (y == 1) & np.isfinite(low) & np.isfinite(uplift)
    inside = has_amount & (uplift >= low) & (uplift <= high)
    events, expected = int(y.sum()), float(p.sum())
    interval = (
        wilson(int(inside.sum()), int(has_amount.sum())) if has_amount.any() else (None, None)
    )
    return GrowthBacktest(
        n=len(tested),
        events=events,
        expected=expected,
        observed_to_expected=events / expected if expected else None,
        brier=none_if_nan(np.mean((p - y) ** 2)) if len(y) else None,
        brier_flat=none_if_nan(np.mean((flat - y) ** 2)) if len(y) else None,
        beats_flat=_beats(p, flat, y),
        auc=none_if_nan(_auc(y, p, tested["fold"].to_numpy())),
        n_amounts=int(has_amount.sum()),
        n_inside=int(inside.sum()),
        inside_low=interval[0],
        inside_high=interval[1],
    )


def _beats(p: np.ndarray, flat: np.ndarray, y: np.ndarray) -> bool:
    """Return whether a Brier score is significantly lower than that of one share for all."""
    if len(y) < 2:
        return False
    gain = (flat - y) ** 2 - (p - y) ** 2
    return bool(gain.mean() > Z_95 * gain.std(ddof=1) / np.sqrt(len(gain)))


def _auc(y: np.ndarray, p: np.ndarray, fold: np.ndarray) -> float:
    """Return the AUC of probabilities within test periods."""
    nothing = np.zeros(len(y))
    sample = Sample(y, p, nothing, nothing, np.arange(len(y)), fold)
    return float(auc(sample, np.ones((1, len(y))))[0])


def growth_section(manifests: Mapping[str, ModelManifest]) -> GrowthSectionJson | None:
    """Return the report's section on kinds of growth, one entry per target.

    None without an expansion target.
    """
    targets: list[GrowthTargetJson] = [
        {
            "target": target,
            "words": growth.words,
            "n_unknown": growth.n_unknown,
            "kinds": [
                (kind, growth.kinds[kind].to_dict()) for kind in KINDS if kind in growth.kinds
            ],
        }
        for target, manifest in manifests.items()
        if (growth := manifest.growth) is not None
    ]
    return {"targets": targets} if targets else None
