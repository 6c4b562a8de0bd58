"""Stability of ranking and level over test periods.

Seasons move the level of risk of all accounts. A calibration fitted before a period reflects the
levels of earlier periods, not of the coming one; so observed over expected events are reported per
period, with an interval and an interpretation in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import chi2

from training.evaluation.metrics import Measure, bootstrap, estimate
from training.evaluation.parts import PeriodEstimate, PeriodJson, SpreadJson, StabilityJson
from training.evaluation.sampling import (
    MIN_SLICE_EVENTS,
    MODEL,
    Drawing,
    has_too_few_events,
    sample_of,
)

MOVED, LIKELY = 0.01, 0.05
"""P-values of equal periods below which the level has moved, and may have moved."""

SPREAD = ("auc", "observed_to_expected")


def by_period(
    headline: pd.DataFrame, drawing: Drawing, measures: Mapping[str, Measure]
) -> list[PeriodJson]:
    """Return the model's performance in each test period, with intervals over entities.

    Returns
    -------
    list of dict
        Per fold, in order: fold, from and until (first and last as_of), n, events, rate, mean_p,
        and with enough of both outcomes one estimate per measure.
    """
    table: list[PeriodJson] = []
    for number, rows in headline.groupby("fold", sort=True):
        rows = rows.reset_index(drop=True)
        sample = sample_of(rows, MODEL, drawing.capacity_per_fold)
        entry: dict[str, object] = {
            "fold": int(str(number)),
            "from": rows["as_of"].min().isoformat(),
            "until": rows["as_of"].max().isoformat(),
            "n": len(rows),
            "events": int(sample.label.sum()),
            "rate": float(sample.label.mean()),
            "mean_p": float(sample.p.mean()),
        }
        if not has_too_few_events(sample.label):
            drawn = bootstrap(sample, measures, draws=drawing.draws, seed=drawing.seed)
            for name, values in drawn.items():
                entry[name] = {**estimate(values).as_json(), "se": _error(values, name)}
        table.append(cast("PeriodJson", entry))
    return table


def _error(values: np.ndarray, name: str) -> float | None:
    """Return the standard error; for a ratio, of its logarithm, which is closer to normal."""
    drawn = values[1:][np.isfinite(values[1:]) & (values[1:] > 0)]
    if len(drawn) < 2:
        return None
    return float(np.std(np.log(drawn) if name == "observed_to_expected" else drawn, ddof=1))


def stability(periods: Sequence[PeriodJson]) -> StabilityJson:
    """Return the spread over test periods and whether it exceeds chance.

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
    found: StabilityJson = {"periods": len(known)}
    if len(known) < 2:
        found["words"] = (
            f"{len(known)} test period with {MIN_SLICE_EVENTS} events or more, too few to compare "
            "periods"
        )
        return found
    rates = [item["rate"] for item in known]
    found["rate"] = {"lowest": min(rates), "highest": max(rates)}
    found["auc"] = _spread([item["auc"] for item in known], is_ratio=False)
    found["observed_to_expected"] = _spread(
        [item["observed_to_expected"] for item in known], is_ratio=True
    )
    found["words"] = _words(known, found)
    return found


def _spread(estimates: Sequence[PeriodEstimate], *, is_ratio: bool) -> SpreadJson:
    values = np.array([item["value"] for item in estimates], dtype=np.float64)
    errors = np.array([item["se"] for item in estimates], dtype=np.float64)
    scale = np.log(values) if is_ratio else values
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
    """Return the p-value of equal quantities measured with these variances.

    Cochran's Q: Σ (x − x̄)²/v, x̄ weighted by 1/v, is χ² with k − 1 degrees of freedom.

    >>> round(chance_of_spread(np.array([0.7, 0.8]), np.array([0.00125, 0.00125])), 4)
    0.0455
    """
    weight = 1.0 / np.maximum(variances, 1e-12)
    middle = (weight * values).sum() / weight.sum()
    return float(chi2.sf((weight * (values - middle) ** 2).sum(), len(values) - 1))


def _words(periods: Sequence[PeriodJson], found: StabilityJson) -> str:
    """Return the spread over periods in words."""
    rate, area, level = found["rate"], found["auc"], found["observed_to_expected"]
    words = (
        f"over {len(periods)} test periods {_percent(rate['lowest'])} to "
        f"{_percent(rate['highest'])} had the event; the AUC of a period ran from "
        f"{area['lowest']:.2f} to {area['highest']:.2f}{_chance_words(area)}, observed over "
        f"expected events from {level['lowest']:.2f} to {level['highest']:.2f}"
        f"{_chance_words(level)}"
    )
    if level["moved"] != "yes":
        return words
    return f"{words}. {_level_words(periods)}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _chance_words(spread: SpreadJson) -> str:
    return {
        "yes": " (more than chance)",
        "perhaps": " (perhaps more than chance)",
        "no": " (no more than chance)",
    }[spread["moved"]]


def _level_words(periods: Sequence[PeriodJson]) -> str:
    """Return the effect of a moving level on the probabilities, and its treatment."""
    shown = [
        f"{item['from'][:7]}: {item['observed_to_expected']['value']:.2f} "
        f"({item['observed_to_expected']['low']:.2f} to {item['observed_to_expected']['high']:.2f})"
        for item in periods
    ]
    worst = max(periods, key=lambda item: abs(np.log(_ratio(item))))
    ratio = _ratio(worst)
    side = "low" if ratio > 1 else "high"
    return (
        f"The level differs between periods, as with seasons ({'; '.join(shown)}). A calibration "
        "fitted before a period cannot reflect its level, and before the first period there is no "
        f"calibration: in the period starting {worst['from'][:7]} the probabilities were too "
        f"{side}, by a factor of {max(ratio, 1.0 / ratio):.2f}. The order of accounts and the "
        "team's list do not depend on the level. The published model is calibrated on all test "
        "periods together, so its probabilities are those of an average period; train again each "
        "season"
    )


def _ratio(period: PeriodJson) -> float:
    value = period["observed_to_expected"]["value"]
    return 1.0 if value is None else value
