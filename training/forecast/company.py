"""Forecast of a company from scores, ARR movements and history, as plain content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.formatting import plural
from configs.schema.company import Company, Target
from features.days import index_day
from features.revenue.retention import (
    DEFINITIONS,
    KINDS,
    first_years,
    levels,
    quarter_name,
    quarter_of,
    quarters,
    retained,
    retention,
)
from features.revenue.terms import COMEBACK_DAYS
from training.forecast import spend_retention
from training.forecast.backtest import PastForecast, backtest, past_shock, scored_forecasts
from training.forecast.inputs import ForecastInputs
from training.forecast.periods import ForecastAssumptions, forecast_periods
from training.forecast.renewal_book import ForecastRequest, RenewalBook, book_at
from training.forecast.size_distributions import past_size_distributions

DRAWS, PAST_DRAWS = 10_000, 4_000

AGREEMENT = 0.8
"""Smallest share of losses followed by the end of ARR for churn scores to forecast ARR."""

Plain = dict[str, Any]


def company_forecast(
    company: Company,
    inputs: ForecastInputs,
    predictions: Mapping[str, pd.DataFrame],
    book: Iterable[Mapping[str, Any]],
    release: Mapping[str, Any],
    *,
    draws: int = DRAWS,
) -> Plain:
    """Return the forecast of a company for the report, the page and JSON.

    Parameters
    ----------
    company : Company
        Targets, currency, seed.
    inputs : ForecastInputs
        Terms, deals, names, account status.
    predictions : mapping of str to DataFrame
        Target to its out-of-time predictions (`training.candidates.train.out_of_time`).
    book : iterable of mapping
        The latest scores, one per account (`training.validation.current_accounts.book_rows`).
    release : mapping
        `training.registry.releases.Release` as plain content.
    draws : int
        Number of simulation draws.

    Returns
    -------
    dict
        kind: ``recurring`` (GRR and NRR), ``spend`` (no contracts: share of spend retained) or
        ``none``; words: scope of the forecast, in sentences; and the numbers.
    """
    churn = _target(company, "churn", predictions)
    if churn is None:
        return _nothing("no churn target is trained")
    if company.targets[churn].observed_in == "activity" or inputs.terms is None:
        return spend_retention.spend_forecast(
            company, churn, predictions[churn], list(book), release, inputs, draws=draws
        )
    try:
        maker = ForecastBuilder(company, inputs, predictions, release, churn, draws)
        why_not = maker.refusal()
        return _nothing(why_not) if why_not else maker.content(book)
    except DataError as error:
        return _nothing(f"{error.what} ({error.where})")


def _nothing(words: str) -> Plain:
    return {"kind": "none", "words": [f"Nothing is forecast: {words}."]}


def _target(company: Company, outcome: str, predictions: Mapping[str, Any]) -> str | None:
    named = (name for name, item in company.targets.items() if item.outcome == outcome)
    return next((name for name in named if name in predictions), None)


class ForecastBuilder:
    """Builds the forecast as of any grid date."""

    def __init__(
        self,
        company: Company,
        inputs: ForecastInputs,
        predictions: Mapping[str, pd.DataFrame],
        release: Mapping[str, Any],
        churn: str,
        draws: int,
    ) -> None:
        self.company, self.inputs, self.release, self.draws = company, inputs, release, draws
        self.names = {"churn": churn, "expansion": _target(company, "expansion", predictions)}
        self.scores: dict[str, PastForecast] = {
            outcome: scored_forecasts(
                predictions[name],
                self._column(name),
                until_renewal=outcome == "churn" and company.targets[name].until_renewal,
            )
            for outcome, name in self.names.items()
            if name is not None
        }
        self.first = quarter_of(inputs.days[0])[0]
        if self.first < inputs.days[0]:
            self.first = quarter_of(inputs.days[0])[1]
        self.steps = levels(inputs.terms_at(inputs.today), inputs.today)
        self.shock = cache(self._shock)

    def _column(self, name: str) -> str:
        is_base_rate = self.release["bundles"].get(name, {}).get("verdict") == "no_signal"
        return "p_constant" if is_base_rate else "p_model"

    @property
    def churn(self) -> Target:
        """The churn target."""
        return self.company.targets[str(self.names["churn"])]

    @property
    def growth(self) -> Target | None:
        """The expansion target, if there is one."""
        name = self.names["expansion"]
        return None if name is None else self.company.targets[name]

    def refusal(self) -> str:
        """Return the reason why the scores cannot forecast ARR; empty when they can."""
        if self.churn.lead_time_days:
            return (
                f"the churn target leaves out the first {self.churn.lead_time_days} days, so its "
                "scores do not cover the weeks ahead"
            )
        if self.churn.observed_in == "subscriptions":
            return ""
        n, agreeing = self._agreement()
        if n == 0 or agreeing / n >= AGREEMENT:
            return ""
        return (
            f"churn is observed in {self.churn.observed_in}, and after only {agreeing} of {n} such "
            "losses did the ARR in subscriptions end, so churn scores do not predict changes of ARR"
        )

    def _agreement(self) -> tuple[int, int]:
        """Return the number of labelled losses, and of those after which ARR ended."""
        labels = self.inputs.labels[str(self.names["churn"])]
        events = labels[(labels["label"] == 1) & labels["effective_at"].notna()]
        events = events.drop_duplicates(["entity_id", "effective_at"])
        gone = self.steps[self.steps["after"] == 0].groupby("entity_id")["day"].max()
        ended = events["entity_id"].map(gone).to_numpy(dtype=np.float64)
        effective = _day_of(events["effective_at"])
        return len(events), int((np.abs(ended - effective) <= self.churn.horizon_days).sum())

    def request(self, at: int) -> ForecastRequest:
        """Return the definition of the scores, with the delays known at a date."""
        growth = self.growth
        return ForecastRequest(
            self.churn.horizon_days,
            self.churn.until_renewal,
            growth.horizon_days if growth else self.churn.horizon_days,
            self._delays(at),
        )

    def _delays(self, at: int) -> tuple[int, ...]:
        """Return the days from decision to end of ARR of known losses within the horizon."""
        labels = self.inputs.labels.get(str(self.names["churn"]))
        if labels is None:
            return ()
        events = labels[(labels["label"] == 1) & labels["effective_at"].notna()]
        span = (events["label_known_at"] - events["as_of"]).dt.days
        # Windows until renewal have any length. Windows of the horizon have one length and may
        # include a waiting time for accounts that return.
        horizon = self.churn.horizon_days
        events = events[span.isin((horizon, horizon + COMEBACK_DAYS))]
        events = events[_day_of(events["label_known_at"]) <= at]
        events = events.dropna(subset="decision_at").drop_duplicates(["entity_id", "effective_at"])
        days = (events["effective_at"] - events["decision_at"]).dt.days.clip(lower=0)
        return tuple(int(day) for day in days)

    def _shock(self, outcome: str, at: int) -> Any:
        return past_shock(self.scores.get(outcome), self.inputs.days, at)

    def state_at(
        self, at: int, chances: Mapping[str, pd.Series], draws: int
    ) -> tuple[RenewalBook, ForecastAssumptions]:
        """Return the renewal book and assumptions at a grid date, as known then."""
        request = self.request(at)
        terms = self.inputs.terms_at(at)
        sizes = past_size_distributions(
            terms,
            levels(terms, at),
            first=self.first,
            at=at,
            span_days=request.growth_days,
            margin=self.growth.margin if self.growth else 0.1,
        )
        book = book_at(self.inputs, at, quarter_of(at)[0], chances, request, sizes)
        shocks = (self.shock("churn", at), self.shock("expansion", at))
        return book, ForecastAssumptions(request, sizes, shocks, draws, self.company.training.seed)

    def past_state(self, at: int) -> tuple[RenewalBook, ForecastAssumptions]:
        """Return renewal book and assumptions from out-of-time scores, for the backtest."""
        chances = {outcome: item.at(at) for outcome, item in self.scores.items()}
        return self.state_at(at, chances, min(self.draws, PAST_DRAWS))

    def content(self, rows: Iterable[Mapping[str, Any]]) -> Plain:
        """Return the content of the forecast."""
        chances = chances_of(rows, self.names)
        book, assumptions = self.state_at(self.inputs.today, chances, self.draws)
        cuts = self.release["bands"].get(self.names["churn"], {})
        trained = float(np.nanmax([0.0, *self.scores["churn"].rows["days_to_renewal"]]))
        past = backtest(self.inputs, self.scores, self.past_state, self.first)
        return {
            "kind": "recurring",
            "currency": self.company.reporting_currency,
            "words": self._words(book, assumptions),
            "definitions": [{"word": w, "meaning": m} for w, m in DEFINITIONS.items()],
            "kinds": [{"word": w, "meaning": m} for w, m in KINDS.items()],
            **forecast_periods(book, assumptions, cuts, trained),
            "history": self.history(),
            "shock": {
                "churn": assumptions.shocks[0].as_dict(),
                "expansion": assumptions.shocks[1].as_dict(),
            },
            "draws": assumptions.draws,
            "seed": assumptions.seed,
            "backtest": past,
        }

    def _words(self, book: RenewalBook, assumptions: ForecastAssumptions) -> list[str]:
        unscored = book.accounts[~book.accounts["has_score"] & (book.accounts["arr"] > 0)]
        waiting = unscored[unscored["status"] != "notice_given"]
        words = [
            "The forecast covers today's accounts only; new business is not included.",
            assumptions.sizes.words(),
        ]
        if len(waiting):
            words.append(
                f"{plural(len(waiting), 'account')} without a score get the average probability of "
                "similar accounts."
            )
        if self.inputs.unpriced:
            words.append(
                f"{plural(len(self.inputs.unpriced), 'account')} with unknown ARR in subscriptions "
                "are left out."
            )
        if self.growth is None:
            words.append("No expansion target is trained, so growth is simulated at its past rate.")
        if self.inputs.deals is None:
            words.append("There are no opportunities, so there is no CSM commit to compare with.")
        if any(part.get("verdict") == "no_signal" for part in self.release["bundles"].values()):
            words.append(
                "A model without a signal gives every account the same probability. It can "
                "forecast the total, but not which accounts leave."
            )
        return words

    def history(self) -> Plain:
        """Return the ARR movements of every past quarter, in total and by group."""
        names = self.inputs.names
        cohort = first_years(self.steps)
        spans = quarters(self.first, self.inputs.today)
        found = []
        for start, end in spans:
            accounts = retained(self.steps, start, end)
            accounts = accounts.join(names[["segment", "owner"]]).assign(cohort=cohort)
            groups = [
                {"kind": kind, "name": str(name), **retention(part)}
                for kind in ("segment", "owner", "cohort")
                for name, part in accounts.groupby(kind)
            ]
            found.append({"quarter": quarter_name(start), **retention(accounts), "groups": groups})
        return {
            "quarters": found,
            "since": str(index_day(self.first)),
            "words": "Starts with the first quarter of the scoring dates; earlier records may lack "
            "accounts that had already left.",
        }


def chances_of(
    rows: Iterable[Mapping[str, Any]], names: Mapping[str, str | None]
) -> dict[str, pd.Series]:
    """Return the latest probabilities by outcome and account."""
    found: dict[str, dict[str, float]] = {outcome: {} for outcome in names}
    for row in rows:
        scores = row.get("scores") or {}
        for outcome, name in names.items():
            if name is not None and name in scores:
                found[outcome][str(row["account_id"])] = float(scores[name]["probability"])
    return {outcome: pd.Series(items, dtype="float64") for outcome, items in found.items()}


def _day_of(moments: pd.Series) -> np.ndarray:
    whole = moments.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    days: np.ndarray = whole // 86_400_000_000
    return days
