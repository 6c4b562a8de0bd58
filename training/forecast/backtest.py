"""Backtest: the forecast as of the start of every past quarter, compared with the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from configs.runtime.formatting import percent
from features.days import day_index, index_day
from features.revenue.retention import levels, quarter_name, quarters, retained, retention
from training.forecast.common_shock import CommonShock, estimate_shock
from training.forecast.content_types import Commit, CommitSummary
from training.forecast.inputs import ForecastInputs
from training.forecast.periods import (
    ForecastAssumptions,
    ForecastPeriod,
    draw_chain,
    due_content,
    quantiles,
)
from training.forecast.renewal_book import RenewalBook, due_in, known_share

FEW_QUARTERS = 4
MOSTLY = 0.8
"""Smallest share of open ARR with an out-of-time score for a quarter to be tested."""

BAND = 0.80
"""Share of outcomes that should be between P10 and P90."""

LATE_DAYS = 7
"""Days after the start of a quarter within which a grid date counts as its start."""

BASELINES = {
    "last_year": "same as last year",
    "commit": "the CSMs' commit",
}

Plain = dict[str, Any]


@dataclass(frozen=True)
class PastForecast:
    """Out-of-time scores of one target.

    Attributes
    ----------
    rows : pandas.DataFrame
        entity_id, day (of as_of), p, label, known_day, asks_renewal, days_to_renewal.
    """

    rows: pd.DataFrame

    def at(self, day: int) -> pd.Series:
        """Return the probabilities of one grid date, by entity."""
        rows = self.rows[self.rows["day"] == day]
        return rows.drop_duplicates("entity_id").set_index("entity_id")["p"]


def scored_forecasts(
    predictions: pd.DataFrame, column: str, *, until_renewal: bool
) -> PastForecast:
    """Return out-of-time predictions (`training.candidates.train.out_of_time`) on days."""
    rows = predictions
    return PastForecast(
        pd.DataFrame(
            {
                "entity_id": rows["entity_id"],
                "day": _days(rows["as_of"]),
                "p": rows[column].astype("float64"),
                "label": rows["label"].astype("float64"),
                "known_day": _days(rows["label_known_at"]),
                "asks_renewal": rows["is_under_contract"].astype(bool) & until_renewal,
                "days_to_renewal": rows["days_to_renewal"].astype("float64"),
            }
        )
    )


def _days(moments: pd.Series) -> np.ndarray:
    whole = moments.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    days: np.ndarray = whole // 86_400_000_000
    return days


def moment_of(days: Sequence[int], start: int) -> int | None:
    """Return the grid date that counts as the start of a quarter; None without one."""
    return next((day for day in days if start <= day <= start + LATE_DAYS), None)


def past_shock(scores: PastForecast | None, days: Sequence[int], at: int) -> CommonShock:
    """Return the common shock estimated from the quarters with known outcomes."""
    if scores is None:
        return estimate_shock([])
    rows = scores.rows[scores.rows["known_day"] <= at]
    seen = []
    for start, end in quarters(min(days), at):
        moment = moment_of(days, start)
        here = rows[rows["day"] == moment]
        is_asked = ~here["asks_renewal"] | (here["day"] + here["days_to_renewal"] < end)
        here = here[is_asked]
        seen.append((here["p"].to_numpy(), here["label"].to_numpy()))
    return estimate_shock(seen)


def backtest(
    inputs: ForecastInputs,
    scores: Mapping[str, PastForecast],
    state_at: Callable[[int], tuple[RenewalBook, ForecastAssumptions]],
    first: int,
) -> Plain:
    """Forecast every past quarter with the data known at its start, and compare with the outcome.

    Parameters
    ----------
    inputs : ForecastInputs
        With terms.
    scores : mapping of str to PastForecast
        ``churn``, and ``expansion`` where there is one.
    state_at : callable
        Grid date to renewal book and assumptions as known then.
    first : int
        First day with complete records.

    Returns
    -------
    dict
        quarters: per past quarter the forecast band, outcome, CRPS and baselines; left_out;
        summary.
    """
    steps = levels(inputs.terms_at(inputs.today), inputs.today)
    found, left_out = [], []
    for start, end in quarters(first, inputs.today):
        moment = moment_of(inputs.days, start)
        why = _why_not(scores["churn"], moment)
        if why or moment is None:
            left_out.append({"quarter": quarter_name(start), "words": why})
            continue
        book, assumptions = state_at(moment)
        share = scored_share(book, end, scores["churn"])
        if share < MOSTLY:
            words = f"only {percent(share)} of the open ARR has an out-of-time score"
            left_out.append({"quarter": quarter_name(start), "words": words})
            continue
        found.append(one_quarter(book, assumptions, steps, (start, end), first))
    return {"quarters": found, "left_out": left_out, "summary": backtest_summary(found)}


def _why_not(churn: PastForecast, moment: int | None) -> str:
    if moment is None:
        return "no scoring date at its start"
    if not (churn.rows["day"] == moment).any():
        return (
            "too few outcomes were known at its start to train a model, or its outcomes are "
            "incomplete"
        )
    return ""


def scored_share(book: RenewalBook, end: int, churn: PastForecast) -> float:
    """Return the share of ARR at risk in a quarter that has a score of that date."""
    table = book.accounts
    by_renewal = table["asks_renewal"] | table["is_pending"]
    could = (~by_renewal | due_in(book, book.at, end)) & (table["arr"] > 0)
    could &= table["status"] == "scored"
    whole = float(table["arr"][could].sum())
    has = table["entity_id"].isin(churn.at(book.at).index)
    return float(table["arr"][could & has].sum()) / whole if whole > 0 else 0.0


def one_quarter(
    book: RenewalBook,
    assumptions: ForecastAssumptions,
    steps: pd.DataFrame,
    span: tuple[int, int],
    first: int,
) -> Plain:
    """Return one quarter's forecast and outcome."""
    start, end = span
    period = ForecastPeriod(quarter_name(start), start, book.at, end)
    _, (drawn,) = draw_chain(book, [period], assumptions)
    base, kept, after = drawn.base[:, 0], drawn.kept[:, 0], drawn.end[:, 0]
    actual = retention(retained(steps, start, end))
    then = retention(retained(steps, *_a_year_before(start, end)))
    has_then = _a_year_before(start, end)[0] >= first
    result: Plain = {"quarter": period.name, "as_of": str(index_day(book.at)), "base": base[0]}
    for name, above in (("grr", kept), ("nrr", after)):
        ratio, observed = above / base, actual[name]
        assert observed is not None
        rival = then[name] if has_then else None
        result[name] = {
            **quantiles(ratio),
            "actual": observed,
            "error": float(ratio.mean()) - observed,
            "is_covered": is_covered(ratio, observed),
            "crps": crps(ratio, observed),
            "last_year": rival,
            "crps_last_year": None if rival is None else abs(rival - observed),
        }
    return result | {"commit": _against_commit(book, steps, end)}


def _a_year_before(start: int, end: int) -> tuple[int, int]:
    """Return the same quarter of the previous year."""
    first, last = (index_day(day) for day in (start, end))
    return tuple(day_index(day.replace(year=day.year - 1)) for day in (first, last))  # type: ignore[return-value]


def _against_commit(book: RenewalBook, steps: pd.DataFrame, end: int) -> Commit | None:
    """Return expected loss by CSMs and model, and actual loss, of renewals with a commit."""
    known = book.accounts["arr"].to_numpy() * (1.0 - known_share(book, book.at, end + 1))
    table = book.accounts.assign(known_lost=known)[due_in(book, book.at, end)]
    sums = due_content(table, {})
    if not sums["commit_accounts"]:
        return None
    is_open = ~table["is_signed"] & (table["known_lost"] == 0) & table["commit"].notna()
    after = retained(steps, book.at, end + 1)["end"]
    gone = table[is_open & table["entity_id"].map(after).fillna(0.0).eq(0.0)]
    return {
        "accounts": sums["commit_accounts"],
        "arr": sums["commit_arr"],
        "commit_lost": sums["commit_lost"],
        "model_lost": sums["model_lost"],
        "actual_lost": float(gone["arr"].sum()),
    }


def backtest_summary(found: Sequence[Plain], measures: Sequence[str] = ("grr", "nrr")) -> Plain:
    """Return coverage, bias and CRPS over the quarters, next to the baselines, with sentences."""
    n = len(found)
    result: Plain = {"quarters": n, "words": [_how_much(n)]}
    for name in measures if n else ():
        rows = [item[name] for item in found]
        paired = [row for row in rows if row["crps_last_year"] is not None]
        low, high = coverage_tolerance(n)
        result[name] = {
            "covered": sum(row["is_covered"] for row in rows),
            "tolerance": [low, high],
            "bias": float(np.mean([row["error"] for row in rows])),
            "crps": float(np.mean([row["crps"] for row in rows])),
            "n_paired": len(paired),
            "crps_paired": _mean([row["crps"] for row in paired]),
            "crps_last_year": _mean([row["crps_last_year"] for row in paired]),
        }
    commits = [item["commit"] for item in found if item["commit"]]
    result["commit"] = _commit_summary(commits)
    return result


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _commit_summary(commits: Sequence[Commit]) -> CommitSummary | None:
    if not commits:
        return None
    actual = np.array([item["actual_lost"] for item in commits])
    arr = np.array([item["arr"] for item in commits])
    commit = np.array([item["commit_lost"] for item in commits])
    model = np.array([item["model_lost"] for item in commits])
    return {
        "quarters": len(commits),
        "accounts": sum(item["accounts"] for item in commits),
        "arr": float(arr.sum()),
        "commit_lost": float(commit.sum()),
        "model_lost": float(model.sum()),
        "actual_lost": float(actual.sum()),
        "commit_error": float(np.mean(np.abs(commit - actual) / arr)),
        "model_error": float(np.mean(np.abs(model - actual) / arr)),
    }


def _how_much(n: int) -> str:
    if n == 0:
        return "No past quarter can be forecast from data known then, so there is no test yet."
    low, high = coverage_tolerance(n)
    words = (
        f"Even a perfect {percent(BAND)} band contains between {low} and {high} of {n} outcomes in "
        f"{percent(0.95)} of cases."
    )
    if n < FEW_QUARTERS:
        return (
            f"Fewer than {FEW_QUARTERS} past quarters ({n}), so this is only an example. " + words
        )
    return words


def crps(draws: np.ndarray, observed: float) -> float:
    """Return the continuous ranked probability score (CRPS) of draws, in the unit of the forecast.

    0 is perfect. For a single number CRPS is the absolute error, so both can be compared.

    Notes
    -----
    ``E|X − y| − E|X − X'| / 2`` over the empirical distribution of the draws (Gneiting and
    Raftery, Journal of the American Statistical Association 102, 2007, eq. 21).

    >>> crps(np.array([0.0, 1.0]), 0.5), crps(np.array([0.9]), 0.7)
    (0.25, 0.2)
    """
    x = np.sort(np.asarray(draws, dtype=np.float64))
    n = len(x)
    spread = float((x * (2.0 * np.arange(1, n + 1) - n - 1)).sum()) / n**2
    return round(float(np.abs(x - observed).mean()) - spread, 12)


def is_covered(draws: np.ndarray, observed: float) -> bool:
    """Return whether an outcome is within the middle 80 % of the draws, limits included."""
    tail = (1.0 - BAND) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return bool(low <= observed <= high)


def coverage_tolerance(n: int) -> tuple[int, int]:
    """Return the range of outcomes, of `n`, that a perfect 80 % band contains in 95 % of cases.

    >>> coverage_tolerance(4), coverage_tolerance(8)
    ((1, 4), (4, 8))
    """
    low, high = binom.ppf([0.025, 0.975], n, BAND)
    return int(low), int(high)


__all__ = [
    "PastForecast",
    "backtest",
    "moment_of",
    "past_shock",
    "scored_forecasts",
    "backtest_summary",
    "coverage_tolerance",
    "crps",
    "is_covered",
]
