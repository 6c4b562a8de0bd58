"""Which kind of growth, and how much: measured on past growths, tested on the model's own folds.

The chance of a kind is the calibrated chance of growth times the share of that kind among past
growths of accounts in such a state. The state is how full the allowance is and how many products
are held; its shares are drawn to those of all accounts at that fullness, and these to the shares
of everybody, by `PRIOR_EVENTS` growths each time. The amount is what past growths of the kind added
to the revenue they began with: their 10th, 50th and 90th hundredth.

Both are fitted at every cut-off on growths known by then and tested on what came after. A kind with
fewer growths than the company asks for is measured in neither: a rule may name it, without a
chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
"""Growths of the wider group that the shares of a state are mixed with."""

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
TOLD = (*KINDS, UNKNOWN_KIND)

Z_95 = 1.96
"""Standard errors of a 95 % limit."""

NOT_KNOWN = "the kinds of past growth are not known: there are no terms that tell them"

Plain = dict[str, Any]


@dataclass(frozen=True)
class GrowthEvents:
    """Past growths, one entry per row that saw one coming.

    Attributes
    ----------
    kind : numpy.ndarray
        Position in `TOLD`.
    uplift : numpy.ndarray
        Revenue gained over the revenue at as_of; NaN unknown.
    weight : numpy.ndarray
        1 over the rows that saw the same growth: each growth counts once.
    cell : numpy.ndarray
        State at as_of (`features.revenue.growth_kinds.cells`).
    """

    kind: np.ndarray
    uplift: np.ndarray
    weight: np.ndarray
    cell: np.ndarray

    def counts(self) -> np.ndarray:
        """Return how many growths there were of each of `TOLD`."""
        return np.bincount(self.kind, self.weight, len(TOLD))


@dataclass(frozen=True)
class FittedSizes:
    """What past growths say.

    Attributes
    ----------
    shares : numpy.ndarray
        (cells, told): share of each of `TOLD` among growths from that state; rows add up to 1.
    quantiles : numpy.ndarray
        (kinds, 3): uplift at `QUANTILES`; NaN without a growth of the kind.
    means : numpy.ndarray
        (kinds,): mean uplift.
    counts : numpy.ndarray
        (told,): growths of each.
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
        kind.map({name: place for place, name in enumerate(TOLD)}).to_numpy(dtype=np.int64),
        grown["growth_uplift"].to_numpy(dtype=np.float64),
        1.0 / seen.to_numpy(dtype=np.float64),
        cell[happened],
    )


def fit_growth(events: GrowthEvents) -> FittedSizes:
    """Return shares by state and amounts by kind."""
    counts = np.zeros((N_CELLS, len(TOLD)))
    np.add.at(counts, (events.cell, events.kind), events.weight)
    total = counts.sum(axis=0)
    shares = _mixed(counts, np.broadcast_to(_shares(total), counts.shape))
    per_kind = [_amounts(events, place) for place in range(len(KINDS))]
    quantiles = np.array([found[:-1] for found in per_kind])
    return FittedSizes(shares, quantiles, np.array([found[-1] for found in per_kind]), total)


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), 1.0 / len(counts))


def _mixed(counts: np.ndarray, everybody: np.ndarray) -> np.ndarray:
    """Draw the shares of states to those at the same fullness, and these to everybody's."""
    by_full = counts.reshape(N_FULL, N_HELD, -1).sum(axis=1)
    wide = _toward(by_full, everybody[::N_HELD])
    return _toward(counts, np.repeat(wide, N_HELD, axis=0))


def _toward(counts: np.ndarray, wider: np.ndarray) -> np.ndarray:
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
    """Return the value below which a share of the weight lies, between neighbours in proportion.

    With equal weights it is Hazen's: the i-th of n values stands at (i − ½)/n.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4), 0.5)
    2.5
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = (reached - weights[order] / 2.0) / reached[-1]
    return float(np.interp(share, places, values[order]))


def growth_kinds(
    frame: TrainingFrame, predictions: pd.DataFrame, folds: Folds, settings: Growth, verdict: str
) -> GrowthKinds:
    """Return what the bundle knows of kinds and amounts, with the backtest of both.

    Parameters
    ----------
    frame : TrainingFrame
        All training rows; with `GROWTH_COLUMNS` where the terms tell kinds.
    predictions : pandas.DataFrame
        Out-of-time predictions: position, fold, is_headline, p_model.
    folds : Folds
        Their cut-offs.
    settings : Growth
        The evidence floor.
    verdict : str
        Of the chance of growth: without a signal no kind gets a chance.

    Returns
    -------
    dict
        ``status`` (measured, rules, or not known) and ``words``; ``kinds``: per kind n_events,
        basis (measured or rules), uplift and backtest; ``n_unknown``; ``shares`` by state and kind.
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
    measured = [kind for kind, told in kinds.items() if told.basis == "measured"]
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
        return "rules only: the chance of growth itself shows no signal"
    if not measured:
        return f"rules only: no kind reaches the floor of {floor}"
    rest = [kind for kind in KINDS if kind not in measured]
    later = f"; {', '.join(rest)} by rules, below the floor of {floor}" if rest else ""
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
    found = measured_kind(tested, kind)
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
    """Return the chances and amounts that each cut-off gave for what came after it.

    Returns
    -------
    pandas.DataFrame
        One row per entity and test period: fold, happened (one of `TOLD`, or the empty string),
        uplift, and per kind ``p_<kind>`` (chance of growth × share by state), ``flat_<kind>``
        (× share of everybody), ``low_<kind>`` and ``high_<kind>`` (P10 and P90 of the uplift).
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
    told: dict[str, Any] = {
        "fold": test["fold"].to_numpy(),
        "happened": happened.where(test["label"] == 1, "").to_numpy(),
        "uplift": test["growth_uplift"].to_numpy(dtype=np.float64),
    }
    for place, kind in enumerate(KINDS):
        told[f"p_{kind}"] = p * known.shares[cell, place]
        told[f"flat_{kind}"] = p * flat[place]
        told[f"low_{kind}"] = known.quantiles[place, 0]
        told[f"high_{kind}"] = known.quantiles[place, -1]
    return pd.DataFrame(told)


def measured_kind(tested: pd.DataFrame, kind: str) -> GrowthBacktest:
    """Return how well chance and amount of a kind came out.

    Returns
    -------
    dict
        n (accounts, each once per test period), events, expected, observed_to_expected, brier,
        brier_flat (one share for all instead), beats_flat (its Brier score is lower beyond chance:
        the lower 95 % limit of the difference is above 0), auc; n_amounts and n_inside (growths
        whose uplift lay within P10 to P90, of which 8 in 10 should), and the 95 % interval of that
        share.
    """
    y = (tested["happened"] == kind).to_numpy(dtype=np.float64)
    p, flat = (tested[f"{name}_{kind}"].to_numpy(dtype=np.float64) for name in ("p", "flat"))
    low, high = (tested[f"{name}_{kind}"].to_numpy(dtype=np.float64) for name in ("low", "high"))
    uplift = tested["uplift"].to_numpy(dtype=np.float64)
    asked = (y == 1) & np.isfinite(low) & np.isfinite(uplift)
    inside = asked & (uplift >= low) & (uplift <= high)
    events, expected = int(y.sum()), float(p.sum())
    interval = wilson(int(inside.sum()), int(asked.sum())) if asked.any() else (None, None)
    return GrowthBacktest(
        n=len(tested),
        events=events,
        expected=expected,
        observed_to_expected=events / expected if expected else None,
        brier=none_if_nan(np.mean((p - y) ** 2)) if len(y) else None,
        brier_flat=none_if_nan(np.mean((flat - y) ** 2)) if len(y) else None,
        beats_flat=_beats(p, flat, y),
        auc=none_if_nan(_auc(y, p, tested["fold"].to_numpy())),
        n_amounts=int(asked.sum()),
        n_inside=int(inside.sum()),
        inside_low=interval[0],
        inside_high=interval[1],
    )


def _beats(p: np.ndarray, flat: np.ndarray, y: np.ndarray) -> bool:
    """Whether a Brier score is surely lower than that of one share for all."""
    if len(y) < 2:
        return False
    gain = (flat - y) ** 2 - (p - y) ** 2
    return bool(gain.mean() > Z_95 * gain.std(ddof=1) / np.sqrt(len(gain)))


def _auc(y: np.ndarray, p: np.ndarray, fold: np.ndarray) -> float:
    """Return how well chances rank the accounts of one test period, over all of them."""
    nothing = np.zeros(len(y))
    sample = Sample(y, p, nothing, nothing, np.arange(len(y)), fold)
    return float(auc(sample, np.ones((1, len(y))))[0])


def growth_section(manifests: Mapping[str, ModelManifest]) -> Plain | None:
    """Return the part of the report on kinds of growth: per target what its bundle knows.

    None where no target is about growth.
    """
    told = [
        {
            "target": target,
            "words": growth.words,
            "n_unknown": growth.n_unknown,
            "kinds": [
                [kind, growth.kinds[kind].to_dict()] for kind in KINDS if kind in growth.kinds
            ],
        }
        for target, manifest in manifests.items()
        if (growth := manifest.growth) is not None
    ]
    return {"targets": told} if told else None
