"""Whether a score does in every test period what it does on the average, ranking and level apart.

A season moves the level of everybody's risk. A calibration fitted before a period knows the levels
of the periods before, not that of the one to come; so each period's observed over expected events
stands by itself, with its interval, and what it means is said in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2

from training.evaluation.metrics import Measure, bootstrap, estimate
from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL, Drawing, Plain, is_thin, sample_of

MOVED, LIKELY = 0.01, 0.05
"""Chance of such a spread among equal periods below which it has moved, and below which it may."""

SPREAD = ("auc", "observed_to_expected")


def by_period(
    headline: pd.DataFrame, drawing: Drawing, measures: Mapping[str, Measure]
) -> list[Plain]:
    """Return what the model did in each test period, with intervals over entities.

    Returns
    -------
    list of dict
        Per fold, in order: fold, from and until (first and last as_of), n, events, rate, mean_p,
        and with enough of both outcomes one estimate per measure.
    """
    table = []
    for number, rows in headline.groupby("fold", sort=True):
        rows = rows.reset_index(drop=True)
        sample = sample_of(rows, MODEL, drawing.capacity_per_fold)
        entry: Plain = {
            "fold": int(str(number)),
            "from": rows["as_of"].min().isoformat(),
            "until": rows["as_of"].max().isoformat(),
            "n": len(rows),
            "events": int(sample.label.sum()),
            "rate": float(sample.label.mean()),
            "mean_p": float(sample.p.mean()),
        }
        if not is_thin(sample.label):
            drawn = bootstrap(sample, measures, draws=drawing.draws, seed=drawing.seed)
            for name, values in drawn.items():
                entry[name] = {**estimate(values).as_dict(), "se": _error(values, name)}
        table.append(entry)
    return table


def _error(values: np.ndarray, name: str) -> float | None:
    """Return the standard error; of a ratio that of its logarithm, which is nearer to normal."""
    drawn = values[1:][np.isfinite(values[1:]) & (values[1:] > 0)]
    if len(drawn) < 2:
        return None
    return float(np.std(np.log(drawn) if name == "observed_to_expected" else drawn, ddof=1))


def stability(periods: Sequence[Mapping[str, Plain]]) -> Plain:
    """Return how far the periods lie apart, and whether chance alone does that.

    Parameters
    ----------
    periods : sequence of mapping
        Of `by_period`.

    Returns
    -------
    dict
        periods (measured), and with two or more: rate (lowest, highest), auc and
        observed_to_expected (lowest, highest, chance of such a spread among equal periods by
        Cochran's Q, moved: ``yes``, ``perhaps``, ``no``), and words.
    """
    known = [item for item in periods if all(name in item for name in SPREAD)]
    found: Plain = {"periods": len(known)}
    if len(known) < 2:
        return found | {
            "words": f"{len(known)} test period with {MIN_SLICE_EVENTS} events or more, so nothing "
            "can be said about one period against another"
        }
    rates = [float(str(item["rate"])) for item in known]
    found["rate"] = {"lowest": min(rates), "highest": max(rates)}
    for name in SPREAD:
        found[name] = _spread(known, name)
    return found | {"words": _words(known, found)}


def _spread(periods: Sequence[Mapping[str, Plain]], name: str) -> Plain:
    values = np.array([item[name]["value"] for item in periods], dtype=np.float64)
    errors = np.array([item[name]["se"] for item in periods], dtype=np.float64)
    scale = np.log(values) if name == "observed_to_expected" else values
    usable = np.isfinite(scale) & np.isfinite(errors)
    chance = chance_of_spread(scale[usable], errors[usable] ** 2) if usable.sum() > 1 else 1.0
    moved = "yes" if chance < MOVED else "perhaps" if chance < LIKELY else "no"
    return {
        "lowest": float(values.min()),
        "highest": float(values.max()),
        "chance": chance,
        "moved": moved,
    }


def chance_of_spread(values: np.ndarray, variances: np.ndarray) -> float:
    """Return the chance that equal quantities measured with these variances spread as much.

    Cochran's Q: Σ (x − x̄)²/v, x̄ weighted by 1/v, is χ² with k − 1 degrees of freedom.

    >>> round(chance_of_spread(np.array([0.7, 0.8]), np.array([0.00125, 0.00125])), 4)
    0.0455
    """
    weight = 1.0 / np.maximum(variances, 1e-12)
    middle = (weight * values).sum() / weight.sum()
    return float(chi2.sf((weight * (values - middle) ** 2).sum(), len(values) - 1))


def _words(periods: Sequence[Mapping[str, Plain]], found: Plain) -> str:
    """Say what the periods show, and what is done about a level that moves."""
    rate, area, level = found["rate"], found["auc"], found["observed_to_expected"]
    said = (
        f"over {len(periods)} test periods {_percent(rate['lowest'])} to "
        f"{_percent(rate['highest'])} had the event; the AUC of a period ran from "
        f"{area['lowest']:.2f} to {area['highest']:.2f}{_beyond(area)}, observed over "
        f"expected events from {level['lowest']:.2f} to {level['highest']:.2f}{_beyond(level)}"
    )
    if level["moved"] != "yes":
        return said
    return f"{said}. {_level_words(periods)}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _beyond(spread: Plain) -> str:
    return {
        "yes": " (more than chance)",
        "perhaps": " (perhaps more than chance)",
        "no": " (no more than chance)",
    }[spread["moved"]]


def _level_words(periods: Sequence[Mapping[str, Plain]]) -> str:
    """Say what a moving level does to the probabilities, and what is done."""
    shown = [
        f"{str(item['from'])[:7]}: {item['observed_to_expected']['value']:.2f} "
        f"({item['observed_to_expected']['low']:.2f} to {item['observed_to_expected']['high']:.2f})"
        for item in periods
    ]
    worst = max(periods, key=lambda item: abs(np.log(item["observed_to_expected"]["value"])))
    ratio = worst["observed_to_expected"]["value"]
    side = "low" if ratio > 1 else "high"
    return (
        f"The level moves between periods, as a season moves it ({'; '.join(shown)}). A "
        "calibration fitted before a period cannot know its level, and before the first there is "
        "none: in the one beginning "
        f"{str(worst['from'])[:7]} the probabilities were too {side}, by a factor of "
        f"{max(ratio, 1.0 / ratio):.2f}. The order of accounts and the team's list do not depend "
        "on it. The published model is calibrated on all test periods together, so that no single "
        "season sets its level; read a probability as that of a usual period, and train again each "
        "season"
    )
