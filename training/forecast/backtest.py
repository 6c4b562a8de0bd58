"""What the same forecast would have said at the start of every past quarter, and what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.days import day_index, index_day
from features.revenue.retention import levels, quarter_name, quarters, retained, retention
from training.forecast.common_shock import CommonShock, estimate_shock
from training.forecast.draw_scores import BAND, coverage_tolerance, crps, is_covered
from training.forecast.inputs import ForecastInputs
from training.forecast.periods import (
    ForecastBeliefs,
    ForecastPeriod,
    draw_chain,
    due_content,
    quantiles,
)
from training.forecast.renewal_book import RenewalBook, due_in, known_share

FEW_QUARTERS = 4
MOSTLY = 0.8
"""Share of the open ARR that must have an out-of-time score for a quarter to be tested."""

LATE_DAYS = 7
"""A moment of the grid stands for the start of a quarter up to this many days after it."""

RIVALS = {
    "last_year": "same as last year",
    "commit": "the CSMs' own commit",
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
        """Return the probabilities of one moment, by entity."""
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
    """Return the moment of the grid that stands for the start of a quarter, if there is one."""
    return next((day for day in days if start <= day <= start + LATE_DAYS), None)


def past_shock(scores: PastForecast | None, days: Sequence[int], at: int) -> CommonShock:
    """Return what is believed of the common shock from the quarters whose outcome was known."""
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
    believe: Callable[[int], tuple[RenewalBook, ForecastBeliefs]],
    first: int,
) -> Plain:
    """Forecast every past quarter as it could be forecast then, and compare.

    Parameters
    ----------
    inputs : Inputs
        With terms.
    scores : mapping of str to Scored
        ``churn``, and ``expansion`` where there is one.
    believe : callable
        Moment to the book and the beliefs as they were then.
    first : int
        First day the ledger can be trusted from.

    Returns
    -------
    dict
        quarters: per past quarter the forecast band, what happened, CRPS and rivals; left_out;
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
        book, beliefs = believe(moment)
        share = scored_share(book, end, scores["churn"])
        if share < MOSTLY:
            words = f"only {share:.0%} of the ARR that was open has an out-of-time score"
            left_out.append({"quarter": quarter_name(start), "words": words})
            continue
        found.append(one_quarter(book, beliefs, steps, (start, end), first))
    return {"quarters": found, "left_out": left_out, "summary": backtest_summary(found)}


def _why_not(churn: PastForecast, moment: int | None) -> str:
    if moment is None:
        return "no moment of the grid at its start"
    if not (churn.rows["day"] == moment).any():
        return "too few outcomes were known then for any model, or its own are not all known yet"
    return ""


def scored_share(book: RenewalBook, end: int, churn: PastForecast) -> float:
    """Return the share of ARR that could leave in a quarter and has a score of that moment."""
    table = book.accounts
    by_renewal = table["asks_renewal"] | table["is_pending"]
    could = (~by_renewal | due_in(book, book.at, end)) & (table["arr"] > 0)
    could &= table["status"] == "scored"
    whole = float(table["arr"][could].sum())
    has = table["entity_id"].isin(churn.at(book.at).index)
    return float(table["arr"][could & has].sum()) / whole if whole > 0 else 0.0


def one_quarter(
    book: RenewalBook,
    beliefs: ForecastBeliefs,
    steps: pd.DataFrame,
    span: tuple[int, int],
    first: int,
) -> Plain:
    """Return one quarter's forecast beside what happened."""
    start, end = span
    period = ForecastPeriod(quarter_name(start), start, book.at, end)
    _, (drawn,) = draw_chain(book, [period], beliefs)
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
    """Return the same quarter of the year before."""
    first, last = (index_day(day) for day in (start, end))
    return tuple(day_index(day.replace(year=day.year - 1)) for day in (first, last))  # type: ignore[return-value]


def _against_commit(book: RenewalBook, steps: pd.DataFrame, end: int) -> Plain | None:
    """Return, of the renewals with a commit, what was expected lost by both, and what was lost."""
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
    """Return coverage, bias and CRPS over the quarters, beside the rivals, with words."""
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


def _commit_summary(commits: Sequence[Plain]) -> Plain | None:
    if not commits:
        return None
    errors = {
        who: float(np.mean([abs(c[f"{who}_lost"] - c["actual_lost"]) / c["arr"] for c in commits]))
        for who in ("commit", "model")
    }
    return {
        "quarters": len(commits),
        **{key: sum(c[key] for c in commits) for key in
           ("accounts", "arr", "commit_lost", "model_lost", "actual_lost")},
        "commit_error": errors["commit"],
        "model_error": errors["model"],
    }  # fmt: skip


def _how_much(n: int) -> str:
    if n == 0:
        return "No past quarter could be forecast as it was known then, so nothing is proved yet."
    low, high = coverage_tolerance(n)
    words = (
        f"Even a perfect {BAND:.0%} band holds between {low} and {high} of {n} outcomes in 95 of "
        "100 cases."
    )
    if n < FEW_QUARTERS:
        return f"Fewer than {FEW_QUARTERS} past quarters ({n}): read this as an example. " + words
    return words


__all__ = [
    "PastForecast",
    "backtest",
    "moment_of",
    "past_shock",
    "scored_forecasts",
    "backtest_summary",
]
