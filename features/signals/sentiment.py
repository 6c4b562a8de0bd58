"""Sentiment signals: scores of survey answers."""

from __future__ import annotations

import ibis.expr.types as ir

from features.signals.declare import Aggregate, Derived, Family, Feature, Intermediate

SURVEYS = "survey_responses"


def _is(rows: ir.Table, kind: str) -> ir.BooleanValue:
    return rows.kind == kind


def _nps(rows: ir.Table) -> ir.BooleanValue:
    return _is(rows, "nps")


def _ces(rows: ir.Table) -> ir.BooleanValue:
    return _is(rows, "ces")


def _latest_lowest(rows: ir.Table) -> ir.Value:
    # The score makes the order of answers of one day deterministic.
    return rows.age.cast("float64") * 100.0 + rows.score


FAMILY = Family(
    "sentiment",
    lookback_days=728,
    columns=[
        Feature(
            "nps_last",
            Aggregate(
                SURVEYS, lambda r: r.score.argmin(_latest_lowest(r), where=_nps(r)), empty=None
            ),
            "last NPS answer",
            "The latest recommendation score (0 to 10) anyone gave in the last 728 days, the "
            "lowest of several on one day.",
            "score",
            "sentiment",
            churn_sign=-1,
            expansion_sign=1,
        ),
        Feature(
            "nps_mean_364d",
            Aggregate(SURVEYS, lambda r: r.score.mean(where=_nps(r) & (r.age < 364)), empty=None),
            "mean NPS answer",
            "Mean recommendation score (0 to 10) of the last 364 days.",
            "score",
            "sentiment",
            364,
            churn_sign=-1,
            expansion_sign=1,
        ),
        Intermediate(
            "_nps_before",
            Aggregate(
                SURVEYS,
                lambda r: r.score.mean(where=_nps(r) & (r.age >= 182)),
                empty=None,
            ),
        ),
        Intermediate(
            "_nps_182d",
            Aggregate(SURVEYS, lambda r: r.score.mean(where=_nps(r) & (r.age < 182)), empty=None),
        ),
        Feature(
            "nps_change_182d",
            Derived(lambda o: o["_nps_182d"] - o["_nps_before"]),
            "change in NPS answers",
            "Mean score of the last 182 days less the mean of what was answered before.",
            "score",
            "sentiment",
            182,
            churn_sign=-1,
        ),
        Feature(
            "nps_age_days",
            Aggregate(SURVEYS, lambda r: r.age.min(where=_nps(r)).cast("float64"), empty=None),
            "days since last NPS answer",
            "Days since anyone answered the recommendation survey.",
            "days",
            "sentiment",
            churn_sign=1,
        ),
        Feature(
            "nps_answers_364d",
            Aggregate(SURVEYS, lambda r: r.count(where=_nps(r) & (r.age < 364))),
            "NPS answers",
            "Answers to the recommendation survey in the last 364 days.",
            "count",
            "sentiment",
            364,
            churn_sign=-1,
        ),
        Feature(
            "nps_detractors_364d",
            Aggregate(SURVEYS, lambda r: r.count(where=_nps(r) & (r.age < 364) & (r.score <= 6))),
            "detractors",
            "Answers of 6 or lower to the recommendation survey in the last 364 days.",
            "count",
            "sentiment",
            364,
            churn_sign=1,
        ),
        Feature(
            "csat_mean_182d",
            Aggregate(
                SURVEYS,
                lambda r: r.score.mean(where=_is(r, "csat") & (r.age < 182)),
                empty=None,
            ),
            "satisfaction in surveys",
            "Mean satisfaction (1 to 5) answered in surveys of the last 182 days.",
            "score",
            "sentiment",
            182,
            churn_sign=-1,
        ),
        Feature(
            "ces_last",
            Aggregate(
                SURVEYS, lambda r: r.score.argmin(_latest_lowest(r), where=_ces(r)), empty=None
            ),
            "last answer on ease",
            "The latest customer-effort answer (1 to 7, 7 is easiest) anyone gave in the last 728 "
            "days, the lowest of several on one day.",
            "score",
            "sentiment",
            churn_sign=-1,
        ),
        Feature(
            "ces_mean_364d",
            Aggregate(SURVEYS, lambda r: r.score.mean(where=_ces(r) & (r.age < 364)), empty=None),
            "ease in surveys",
            "Mean customer-effort answer (1 to 7, 7 is easiest) of the last 364 days.",
            "score",
            "sentiment",
            364,
            churn_sign=-1,
        ),
    ],
)
