"""The canonical row of one account: column names, types and descriptions of every export.

`ExportRow` declares the columns once. The Arrow schema, the list at ``/v1/columns`` and the JSON
schema of ``/v1/scores`` are derived from it.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_type_hints

import pyarrow as pa
from pydantic import Field, with_config
from typing_extensions import TypedDict  # pydantic reads this one before Python 3.12

from serving.scoring.answer import CONTRACT


def _about(description: str) -> Any:
    return Field(description=description)


@with_config(CONTRACT)
class ExportRow(TypedDict):
    """One account of the published scores as a flat row; the same columns as in the exports.

    Columns are added, never renamed.
    """

    rank: Annotated[
        int | None,
        _about(
            "position by expected loss, 1 first; on the tier `rates` by the number of rules that "
            "apply, then by expected loss; empty when not predicted"
        ),
    ]
    account_id: Annotated[str, _about("the account")]
    name: Annotated[str | None, _about("as in the source data")]
    segment: Annotated[str | None, _about("as in the source data")]
    plan: Annotated[str | None, _about("as in the source data")]
    industry: Annotated[str | None, _about("as in the source data")]
    region: Annotated[str | None, _about("as in the source data")]
    parent_account_id: Annotated[str | None, _about("as in the source data")]
    owner_id: Annotated[str | None, _about("as in the source data")]
    owner: Annotated[str | None, _about("as in the source data")]
    products: Annotated[list[str] | None, _about("current products, largest share first")]
    product_shares: Annotated[
        list[float] | None, _about("share of `arr` of each product, in the same order, 0 to 1")
    ]
    status: Annotated[str, _about("`scored`, or the reason why there is no probability")]
    status_text: Annotated[str, _about("the status as text")]
    arr: Annotated[
        float | None, _about("annual recurring revenue, or trailing spend, in `currency`")
    ]
    currency: Annotated[str | None, _about("ISO 4217")]
    tenure_days: Annotated[int | None, _about("days since the account began")]
    renews_on: Annotated[
        str | None, _about("next renewal, ISO 8601 date; empty without a contract")
    ]
    days_to_renewal: Annotated[int | None, _about("counted from the day of scoring")]
    notice_on: Annotated[str | None, _about("last day to give notice, ISO 8601 date")]
    days_to_notice: Annotated[
        int | None, _about("counted from the day of scoring; negative after the deadline")
    ]
    churn_asks_about: Annotated[
        str | None, _about("`renewal` or `horizon`; the two must not be ranked together")
    ]
    churn_until: Annotated[str | None, _about("last day of the prediction window, ISO 8601 date")]
    churn_risk: Annotated[float | None, _about("probability, 0 to 1")]
    churn_low: Annotated[float | None, _about("lower end of the 90 % range")]
    churn_high: Annotated[float | None, _about("upper end of the 90 % range")]
    churn_base: Annotated[float | None, _about("estimate for the average account")]
    churn_percentile: Annotated[
        float | None,
        _about(
            "share of the accounts with the same question (`churn_asks_about`) that have a lower "
            "risk, 0 to 100"
        ),
    ]
    risk_band: Annotated[str | None, _about("low, elevated or high: thresholds frozen at release")]
    churn_confidence: Annotated[
        str | None, _about("confidence of the model in this score: high, medium or low")
    ]
    churn_change: Annotated[
        float | None,
        _about(
            "churn_risk minus that of the previous scores, -1 to 1; empty where the question "
            "changed, for example after a renewal"
        ),
    ]
    churn_change_is_clear: Annotated[
        bool | None, _about("the change is larger than its uncertainty")
    ]
    churn_change_since: Annotated[str | None, _about("day of the previous scores, ISO 8601")]
    churn_change_text: Annotated[
        str | None,
        _about("the change and its main driver as text; after a renewal, the new question"),
    ]
    expected_arr_lost: Annotated[float | None, _about("churn_risk × arr, a year; by `churn_until`")]
    expected_arr_lost_91d: Annotated[
        float | None,
        _about(
            "part of it within 91 days of as_of: a renewal counts on its day, a longer horizon "
            "in proportion to its days"
        ),
    ]
    churn_verdict: Annotated[
        str | None, _about("verdict on the model: promotable, provisional or no_signal")
    ]
    contraction_risk: Annotated[float | None, _about("probability, 0 to 1")]
    expansion_propensity: Annotated[float | None, _about("probability, 0 to 1")]
    expansion_low: Annotated[float | None, _about("lower end of the 90 % range")]
    expansion_high: Annotated[float | None, _about("upper end of the 90 % range")]
    expansion_percentile: Annotated[
        float | None, _about("share of accounts with a lower propensity, 0 to 100")
    ]
    expansion_until: Annotated[
        str | None, _about("last day of the prediction window, ISO 8601 date")
    ]
    expansion_band: Annotated[str | None, _about("low, elevated or high")]
    expansion_confidence: Annotated[str | None, _about("high, medium or low")]
    expansion_verdict: Annotated[
        str | None, _about("verdict on the model: promotable, provisional or no_signal")
    ]
    expansion_change: Annotated[
        float | None, _about("expansion_propensity minus that of the previous scores")
    ]
    expansion_change_is_clear: Annotated[
        bool | None, _about("the change is larger than its uncertainty")
    ]
    expansion_change_since: Annotated[str | None, _about("day of the previous scores, ISO 8601")]
    expansion_change_text: Annotated[str | None, _about("the change and its main driver as text")]
    expansion_withheld: Annotated[
        str | None, _about("`no_room_to_grow` where expansion is not predicted")
    ]
    expansion_kind: Annotated[
        str | None, _about("kind of the offer: seats, tier, product or usage")
    ]
    expansion_product: Annotated[str | None, _about("product of the offer")]
    expansion_basis: Annotated[
        str | None, _about("`measured`, or `rules` where past expansions are too few")
    ]
    expansion_kind_probability: Annotated[
        float | None,
        _about("probability of an expansion of this kind, 0 to 1; empty for `rules`"),
    ]
    expansion_arr_p10: Annotated[float | None, _about("added ARR if it happens: 10th percentile")]
    expansion_arr_p50: Annotated[float | None, _about("added ARR if it happens: median")]
    expansion_arr_p90: Annotated[float | None, _about("added ARR if it happens: 90th percentile")]
    expansion_arr_expected: Annotated[
        float | None, _about("expansion_kind_probability × mean amount")
    ]
    expansion_evidence: Annotated[str | None, _about("evidence for this kind")]
    expansion_contact: Annotated[str | None, _about("person to ask: id, role, advocate")]
    expansion_contact_last_active_on: Annotated[
        str | None, _about("last day of activity, ISO 8601")
    ]
    expansion_by_on: Annotated[str | None, _about("day by which to ask, ISO 8601")]
    expansion_timing: Annotated[str | None, _about("reason for that day")]
    expansion_is_eligible: Annotated[bool | None, _about("no blockers; empty without an offer")]
    expansion_blockers: Annotated[list[str] | None, _about("blockers, as codes")]
    top_reason: Annotated[str | None, _about("strongest fact associated with a higher risk")]
    reasons: Annotated[
        list[str] | None, _about("facts associated with a higher risk, strongest first")
    ]
    protections: Annotated[list[str] | None, _about("facts associated with a lower risk")]
    reason_codes: Annotated[
        list[str] | None, _about("codes of the reasons; see the reason catalogue")
    ]
    reason_points: Annotated[
        list[float] | None,
        _about("change of churn_risk by each of `reason_codes`, in the same order, 0 to 1"),
    ]
    reason_features: Annotated[
        list[str] | None,
        _about("feature of the strongest fact of each of `reason_codes`; empty text without facts"),
    ]
    churn_rung: Annotated[
        str | None,
        _about("model tier, by number of events: rates, linear, trees or tuned trees"),
    ]
    churn_rules: Annotated[
        list[str] | None, _about("on the tier `rates`: expert rules that apply, not measured")
    ]
    data_confidence: Annotated[
        str | None, _about("confidence in the data behind the score: high, medium or low")
    ]
    is_stale: Annotated[bool | None, _about("the data is older than the configured limit")]
    as_of: Annotated[str | None, _about("the prediction moment, ISO 8601, UTC")]
    updated_at: Annotated[
        str | None, _about("last time the content of this row changed, ISO 8601, UTC")
    ]
    release_id: Annotated[str | None, _about("release of the score")]
    config_hash: Annotated[str | None, _about("hash of the company's configuration")]


_ARROW: dict[type, pa.DataType] = {
    str: pa.string(),
    float: pa.float64(),
    int: pa.int64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[float]: pa.list_(pa.float64()),
}


def _column(hint: Any) -> tuple[pa.DataType, str]:
    """Return the Arrow type and the description of an annotated column."""
    plain, field = get_args(hint)
    kind = next((item for item in get_args(plain) if item in _ARROW), plain)
    return _ARROW[kind], field.description


COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    name: _column(hint) for name, hint in get_type_hints(ExportRow, include_extras=True).items()
}
"""Every column of an export: its type, and its description."""

SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _) in COLUMNS.items()])
