"""Sentiment signals: survey answers, and complaints in tickets and comments."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.signals.declare import Aggregate, Derived, Family, Feature, Intermediate, ratio
from features.signals.support import is_counted

SURVEYS = "survey_responses"
TICKETS = "support_tickets"

_COMPLAINT = (
    r"(?:frustrat|disappoint|unacceptabl|terribl|useless|broken|angr|awful|worst|unusable"
    r"|too slow|not working|waste|poor|fed up|unhapp|annoy)"
)

NEGATIVE_WORDS = rf"\b{_COMPLAINT}"
"""Words of complaint. Words about leaving are excluded: they express the decision itself."""

_NO = (
    r"(?:not|no|no longer|never|nothing|none|nobody|without|hardly|neither|nor|used to be"
    r"|(?:is|was|are|were|do|does|did|has|have|had|would|wo|ai)n['’]?t)"
)
_BETWEEN = (
    r"(?:really|actually|at all|so|that|very|too|quite|completely|totally|entirely|particularly"
    r"|even|ever|yet|been|be|was|were|is|are|get|getting|feel|feeling|looks?|seems?|any|anything"
    r"|a|an|the least|in the least|one bit|of it|of them|or)"
)
NEGATED = rf"\b{_NO}\s+(?:{_BETWEEN}\s+){{0,3}}{_COMPLAINT}\w*"
"""Negated complaint: "not broken", "isn't really annoying"."""

INTENSIFIED = r"\bnot (?:only|just|merely|simply)\b"
"""Apparent negation that is none: "not only broken"."""


def _is(rows: ir.Table, kind: str) -> ir.BooleanValue:
    return rows.kind == kind


def _nps(rows: ir.Table) -> ir.BooleanValue:
    return _is(rows, "nps")


def _ces(rows: ir.Table) -> ir.BooleanValue:
    return _is(rows, "ces")


def _latest_lowest(rows: ir.Table) -> ir.Value:
    # The score makes the order of answers of one day deterministic.
    return rows.age.cast("float64") * 100.0 + rows.score


def has_complaint(text: ir.StringValue) -> ir.BooleanValue:
    """Whether a text has words of complaint that are not negated."""
    plain = text.lower().re_replace(INTENSIFIED, " ").re_replace(NEGATED, " ")
    return plain.re_search(NEGATIVE_WORDS)


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
        Intermediate(
            "_complaints_84d",
            Aggregate(
                TICKETS,
                lambda r: (
                    ibis.coalesce(has_complaint(r.text), False)
                    .cast("int64")
                    .sum(where=(r.age < 84) & is_counted(r))
                ),
            ),
        ),
        Intermediate(
            "_written_84d",
            Aggregate(TICKETS, lambda r: r.text.count(where=(r.age < 84) & is_counted(r))),
        ),
        Feature(
            "complaining_tickets_share_84d",
            Derived(lambda o: ratio(o["_complaints_84d"], o["_written_84d"])),
            "share of complaining tickets",
            "Share of tickets of the last 84 days whose text has words of plain complaint.",
            "share",
            "sentiment",
            84,
            churn_sign=1,
        ),
        Feature(
            "complaining_comments_364d",
            Aggregate(
                SURVEYS,
                lambda r: (
                    ibis.coalesce(has_complaint(r.comment), False)
                    .cast("int64")
                    .sum(where=r.age < 364)
                ),
            ),
            "complaints in surveys",
            "Survey comments of the last 364 days with words of plain complaint.",
            "count",
            "sentiment",
            364,
            churn_sign=1,
        ),
    ],
)
