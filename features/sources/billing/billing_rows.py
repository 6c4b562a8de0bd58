"""Billing exports as subscription terms with ARR (``tables.subscriptions.billing``).

The price, quantity and interval of a row are read as extra columns of the subscriptions table, with
the same detection of formats and the same row rules as every other column. This module then turns
the rows into terms and removes the extra columns.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb

from configs.runtime.errors import SourceError
from configs.schema.source_mapping import Billing
from features.sources.billing.billing_periods import PERIOD_KNOWN, BillingPeriods
from features.sources.files.sql import ident, literal, text_list
from features.tables.source_tables import MOST, SourceColumn, SourceTable

EXTRA_COLUMNS: dict[str, SourceColumn] = {
    "amount": SourceColumn("number", "price", required=True, low=-MOST, high=MOST),
    "quantity": SourceColumn("number", "units the price is multiplied by", low=0, high=MOST),
    "interval": SourceColumn("text", "billing interval"),
    "interval_count": SourceColumn("number", "intervals per period", low=0, high=1000),
}
"""Columns that `billing` adds to the subscriptions table while it is read."""

MONTHS: dict[str, float] = {
    "day": 12 / 365,
    "week": 12 / 52,
    "fortnight": 12 / 26,
    "month": 1,
    "quarter": 3,
    "half year": 6,
    "year": 12,
    "2 years": 24,
    "3 years": 36,
}
"""Months per billing interval; 52 weeks and 365 days make a year."""

WORDS: dict[str, str] = {
    **dict.fromkeys(("day", "days", "daily", "d", "p1d"), "day"),
    **dict.fromkeys(("week", "weeks", "weekly", "w", "p1w", "p7d"), "week"),
    **dict.fromkeys(("fortnight", "biweekly", "fortnightly", "p2w"), "fortnight"),
    **dict.fromkeys(("month", "months", "monthly", "mo", "m", "mth", "p1m", "mrr"), "month"),
    **dict.fromkeys(("quarter", "quarters", "quarterly", "qtr", "q", "p3m"), "quarter"),
    **dict.fromkeys(
        ("halfyear", "halfyearly", "semiannual", "semiannually", "biannual", "p6m"), "half year"
    ),
    **dict.fromkeys(
        ("year", "years", "yearly", "annual", "annually", "yr", "y", "a", "p1y"), "year"
    ),
    **dict.fromkeys(("biennial", "biennially", "twoyears", "p2y"), "2 years"),
    **dict.fromkeys(("triennial", "threeyears", "p3y"), "3 years"),
}
"""Words for an interval, in lower case and without spaces and punctuation."""

NO_MINOR_UNIT = ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND",
                 "VUV", "XAF", "XOF", "XPF")  # fmt: skip
"""Currencies without cents (ISO 4217)."""

TOLERANCE = 0.005
"""Amounts below half a cent are zero."""

SHORT_DAYS = 45
GRACE_DAYS = (7, 45)
"""Days a period under `SHORT_DAYS`, and a longer one, may be renewed late before it has ended."""

NOISE = 0.005
"""Relative difference of ARR up to which a part of a period equals the period after it."""

WHOLE_MONTHS = 0.12
"""Distance from a whole number of months up to which a service period counts as whole months."""


def extra_expressions(billing: Billing) -> dict[str, str]:
    """Return the extra columns of a billing export: name → text of the mapping."""
    texts = {name: getattr(billing, name) for name in EXTRA_COLUMNS}
    return {name: text for name, text in texts.items() if text is not None}


def billed_table(spec: SourceTable, billing: Billing) -> SourceTable:
    """Return the contract of the subscriptions with the extra columns of a billing export."""
    extra = {name: EXTRA_COLUMNS[name] for name in extra_expressions(billing)}
    own = {name: column for name, column in spec.columns.items() if name != "arr"}
    # Several lines may bill the same subscription and day.
    key = () if billing.rows == "invoice_line" else spec.key
    return replace(spec, key=key, columns={**own, **extra})


def to_terms(
    connection: duckdb.DuckDBPyConnection, path: Path, billing: Billing, today: date
) -> tuple[BillingPeriods, list[str]]:
    """Rewrite ``data.parquet`` of a billing export as terms with ARR.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with write access to `path`.
    path : Path
        Subscriptions with the extra columns.
    billing : Billing
        Shape of the export.
    today : date
        Day up to which live subscriptions without a period end are unfolded.

    Returns
    -------
    tuple of BillingPeriods and list of str
        Rows before and after, and the canonical columns written.

    Raises
    ------
    SourceError
        An interval is not a known word, or a row lacks the dates its shape needs.
    """
    rows = connection.sql(f"SELECT * FROM read_parquet({literal(path)})")
    given = [name for name in rows.columns if name != "known_at"]
    absent = [name for name in _TYPES if name not in given]
    blanks = "".join(f", NULL::{_TYPES[name]} AS {ident(name)}" for name in absent)
    connection.execute(
        f"CREATE OR REPLACE TABLE billed AS SELECT *{blanks}, row_number() OVER () AS place "
        f"FROM read_parquet({literal(path)})"
    )
    before = _count(connection, "billed")
    if billing.interval is not None:
        _check_intervals(connection)
    _check_dates(connection, billing)
    connection.execute(f"CREATE OR REPLACE TABLE priced AS {_priced(billing)}")
    connection.execute(f"CREATE OR REPLACE TABLE terms AS {_shaped(billing, today)}")
    kept = [n for n in given if n not in EXTRA_COLUMNS]
    columns = [*kept, *(n for n in _ADDED[billing.rows] if n not in kept)]
    shown = ", ".join(ident(name) for name in [*columns, "known_at"])
    connection.execute(
        f"COPY (SELECT {shown} FROM terms ORDER BY account_id, started_on, place) "
        f"TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)"
    )
    after = _count(connection, "terms")
    return BillingPeriods(None, before, after, shape=billing.rows), columns


_TYPES = {
    "renews_on": "DATE",
    "ended_on": "DATE",
    "notice_at": "TIMESTAMP",
    "end_reason": "VARCHAR",
    "product": "VARCHAR",
    "currency": "VARCHAR",
    "amount": "DOUBLE",
    "quantity": "DOUBLE",
    "interval": "VARCHAR",
    "interval_count": "DOUBLE",
}

_ADDED = {
    "term": ("arr", "renews_on", "ended_on"),
    "period": ("arr", "renews_on", "ended_on"),
    "subscription": ("arr", "renews_on", "ended_on", "end_reason"),
    "change": ("arr", "ended_on", "end_reason"),
    "invoice_line": ("arr", "renews_on", "ended_on"),
}


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


_SPAN = "date_diff('day', started_on, renews_on)"
_MONTHS = f"round({_SPAN} / 30.4375)"
_IS_WHOLE = f"({_MONTHS} >= 1 AND abs({_SPAN} / 30.4375 - {_MONTHS}) < {WHOLE_MONTHS})"
"""SQL of the days of a service period, of the nearest whole months, and whether it has so many."""

_WORD = "regexp_replace(lower(interval), '[^a-z0-9]', '', 'g')"


def months_sql() -> str:
    """Return SQL of the months of one billing period; NULL for an unknown interval.

    A word is looked up; a number counts months, as in a column ``term_months``; ``3 months`` and
    ``every 2 years`` are a number and a word.
    """
    cases = "".join(f" WHEN {literal(word)} THEN {MONTHS[unit]!r}" for word, unit in WORDS.items())
    unit = f"CASE regexp_extract({_WORD}, '[a-z]+$'){cases} END"
    number = f"TRY_CAST(regexp_extract({_WORD}, '^(?:every)?([0-9]+)', 1) AS DOUBLE)"
    return (
        f"(CASE {_WORD}{cases} ELSE CASE WHEN {_WORD} SIMILAR TO '[0-9]+' THEN {number} "
        f"WHEN {_WORD} SIMILAR TO '(every)?[0-9]+[a-z]+' THEN {number} * {unit} END END "
        f"* coalesce(nullif(interval_count, 0), 1))"
    )


def _check_intervals(connection: duckdb.DuckDBPyConnection) -> None:
    unknown = connection.execute(
        f"SELECT coalesce(interval, '(empty)'), count(*) FROM billed WHERE {months_sql()} IS NULL "
        f"AND abs(amount) > {TOLERANCE} GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
    ).fetchall()
    if unknown:
        shown = ", ".join(f"{word!r} ({n:,} rows)" for word, n in unknown)
        raise SourceError(
            f"billing intervals that cannot be read: {shown}",
            where="tables.subscriptions.billing.interval in company.yaml",
            fix="map them to day, week, month, quarter or year, such as "
            "interval: CASE \"Plan\" WHEN 'Pro (annual)' THEN 'year' ELSE 'month' END",
        )


def _check_dates(connection: duckdb.DuckDBPyConnection, billing: Billing) -> None:
    """Require the end of each period where the amount or the shape depends on it."""
    if billing.rows not in ("period", "invoice_line") and billing.amount_is != "total":
        return
    missing = _count(connection, "(SELECT 1 FROM billed WHERE renews_on IS NULL)")
    if missing:
        raise SourceError(
            f"{missing:,} rows have no end of their period, which `rows: {billing.rows}` and "
            f"`amount_is: {billing.amount_is}` need",
            where="tables.subscriptions in company.yaml",
            fix="map the end of the service period as columns.renews_on, or leave such rows out: "
            "leave_out: \"Period End\" = ''",
        )


def _priced(billing: Billing) -> str:
    """Return SQL of the rows with ``months`` per period and ``price``: ARR of the row.

    For changes given as differences, ``price`` is the difference.
    """
    money = _money(billing)
    months = months_sql() if billing.interval is not None else "NULL::DOUBLE"
    yearly = {
        "arr": money,
        "mrr": f"{money} * 12",
        "change_in_arr": money,
        "change_in_mrr": f"{money} * 12",
        "interval": f"{money} * 12 / months",
        "total": f"CASE WHEN {_IS_WHOLE} THEN {money} * 12 / {_MONTHS} "
        f"ELSE {money} * 365 / greatest({_SPAN}, 1) END",
    }[billing.amount_is]
    return f"SELECT *, round({yearly}, 6) AS price FROM (SELECT *, {months} AS months FROM billed)"


def _money(billing: Billing) -> str:
    """Return SQL of the amount of a row, in whole units of its currency."""
    money = "(amount * coalesce(quantity, 1))"
    if not billing.minor_units:
        return money
    without = f"upper(coalesce(currency, '')) IN (SELECT unnest({text_list(NO_MINOR_UNIT)}))"
    return f"(CASE WHEN {without} THEN {money} ELSE {money} / 100 END)"


def _shaped(billing: Billing, today: date) -> str:
    """Return SQL that turns the table ``priced`` into terms."""
    match billing.rows:
        case "term":
            return _lapsed("SELECT *, price AS arr FROM priced", today)
        case "period":
            return _lapsed(_period(), today)
        case "subscription":
            return _subscription(today)
        case "change":
            return _change(billing)
        case "invoice_line":
            return _lapsed(_invoice_line(billing), today)


def _lapsed(terms: str, today: date) -> str:
    """Return SQL of terms that end where their period does and nothing renews them in time.

    An end that the export itself states comes first. A renewal is a later period of the same
    subscription, or a subscription to the same product that begins around the end of this one.
    Other subscriptions of the account, which are billed on, renew nothing. A period that ended only
    just now may still be renewed.
    """
    grace = f"CASE WHEN {_SPAN} < {SHORT_DAYS} THEN {GRACE_DAYS[0]} ELSE {GRACE_DAYS[1]} END"
    begins = "min(started_on) OVER (PARTITION BY account_id, subscription_id)"
    renews = (
        "other.subscription_id = spans.subscription_id OR (other.started_on = other.begins_on "
        "AND other.product IS NOT DISTINCT FROM spans.product "
        "AND other.started_on >= spans.renews_on - to_days(spans.grace))"
    )
    return (
        f"WITH spans AS (SELECT *, {grace} AS grace, {begins} AS begins_on FROM ({terms})) "
        f"SELECT * REPLACE (CASE WHEN ended_on IS NULL AND end_reason IS NULL "
        f"AND renews_on + to_days(grace) < {_day(today)} "
        f"AND NOT EXISTS (SELECT 1 FROM spans AS other WHERE other.account_id = spans.account_id "
        f"AND other.started_on > spans.started_on "
        f"AND other.started_on <= spans.renews_on + to_days(spans.grace) AND ({renews})) "
        f"THEN renews_on ELSE ended_on END AS ended_on) FROM spans"
    )


def _period() -> str:
    """One row per period: an end applies to the last period only."""
    ended = "CASE WHEN place = last_value(place) OVER mine THEN ended_on END"
    notice = "CASE WHEN place = last_value(place) OVER mine THEN notice_at END"
    return (
        f"SELECT * REPLACE ({ended} AS ended_on, {notice} AS notice_at), price AS arr FROM priced "
        f"WINDOW mine AS (PARTITION BY account_id, subscription_id ORDER BY started_on, place "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    )


def _subscription(today: date) -> str:
    """One row per subscription: unfolded from its start, interval and end into billing periods.

    Periods count from the start; the current one ends on `renews_on`, where the export has it.
    Each is known from its first day on. The price is the one of today: an export that overwrites
    it does not say what earlier periods cost.
    """
    periods = "round(date_diff('day', started_on, renews_on) / (months * 30.4375))"
    n_before = f"CASE WHEN renews_on IS NOT NULL THEN greatest(1, {periods}) END"
    n_all = (
        f"ceil(date_diff('day', started_on, coalesce(ended_on, {_day(today)})) "
        f"/ (months * 30.4375))"
    )
    return (
        f"WITH counted AS (SELECT *, {n_before} AS n_before FROM priced), "
        f"numbered AS (SELECT *, unnest(range(0, CAST(greatest(1, {n_all}, "
        f"coalesce(n_before, 1)) AS BIGINT) + 2)) AS k FROM counted), "
        f"pieces AS (SELECT *, started_on AS first_on, {_boundary('k')} AS from_on, "
        f"{_boundary('k + 1')} AS until FROM numbered), "
        f"real AS (SELECT *, k = max(k) OVER (PARTITION BY place) AS is_last FROM pieces "
        f"WHERE k = 0 OR (from_on < {_day(today)} AND (ended_on IS NULL OR from_on < ended_on))) "
        f"SELECT * REPLACE (from_on AS started_on, until AS renews_on, {PERIOD_KNOWN} AS known_at, "
        f"CASE WHEN is_last THEN ended_on ELSE until END AS ended_on, "
        f"CASE WHEN is_last THEN notice_at END AS notice_at, "
        f"CASE WHEN NOT is_last THEN 'renewed' WHEN ended_on IS NOT NULL "
        f"THEN coalesce(end_reason, 'churned') END AS end_reason), price AS arr FROM real"
    )


def _boundary(k: str) -> str:
    """Return SQL of the first day of period `k`, from 0."""
    is_before = f"n_before IS NULL OR {k} < n_before"
    start = f"CASE WHEN {is_before} THEN started_on ELSE renews_on END"
    n = f"(CASE WHEN {is_before} THEN {k} ELSE {k} - n_before END)"
    return (
        f"CAST(CASE WHEN months >= 1 THEN ({start}) + to_months(CAST(round({n} * months) AS "
        f"INTEGER)) ELSE ({start}) + to_days(CAST(round({n} * months * 365 / 12) AS INTEGER)) END "
        f"AS DATE)"
    )


def _day(day: date) -> str:
    return f"DATE {literal(day.isoformat())}"


def _change(billing: Billing) -> str:
    """One row per change: each amount is in force until the next change of its subscription."""
    mine = "(PARTITION BY account_id, subscription_id ORDER BY started_on, place)"
    is_difference = billing.amount_is.startswith("change_in")
    level = f"sum(price) OVER {mine}" if is_difference else "price"
    return (
        f"WITH levels AS (SELECT *, round({level}, 6) AS level FROM priced), "
        f"spans AS (SELECT *, lead(started_on) OVER {mine} AS until, "
        f"lead(level) OVER {mine} AS later FROM levels) "
        f"SELECT * REPLACE (coalesce(until, ended_on) AS ended_on, "
        f"CASE WHEN later <= {TOLERANCE} OR (until IS NULL AND ended_on IS NOT NULL) "
        f"THEN coalesce(end_reason, 'churned') WHEN until IS NOT NULL THEN 'changed' END "
        f"AS end_reason), level AS arr FROM spans WHERE level > {TOLERANCE} "
        f"AND (until IS NULL OR until > started_on)"
    )


def _invoice_line(billing: Billing) -> str:
    """Lines with a service period: the ARR of a subscription is the sum of its lines in force.

    A credit for unused time and the charge that replaces it overlap, and add up to the new price.
    Lines shorter than a whole period are scaled to the period they end.
    """
    own = "account_id, subscription_id"
    worth = "price"
    if billing.amount_is in ("interval", "total"):
        money = _money(billing)
        # The period a part of it belongs to, in days, counted back from its end.
        period = "date_diff('day', CAST(renews_on - to_months(usual) AS DATE), renews_on)"
        worth = (
            f"CASE WHEN {_IS_WHOLE} THEN {money} * 12 / {_MONTHS} "
            f"ELSE {money} * 12 / usual * {period} / greatest({_SPAN}, 1) END"
        )
    usual = (
        f"coalesce(CAST(mode({_MONTHS}) FILTER ({_IS_WHOLE}) OVER (PARTITION BY {own}) "
        f"AS INTEGER), 1)"
    )
    rest = ("place", "known_at", "started_on", "renews_on")
    return (
        f"WITH lines AS (SELECT *, {worth} AS worth, {_IS_WHOLE} AS is_whole "
        f"FROM (SELECT *, {usual} AS usual FROM priced) "
        f"WHERE {_SPAN} > 0), "
        f"days AS (SELECT {own}, started_on AS day FROM lines UNION SELECT {own}, renews_on "
        f"FROM lines), "
        f"spans AS (SELECT {own}, day AS from_on, lead(day) OVER (PARTITION BY {own} ORDER BY day) "
        f"AS until FROM days), "
        f"parts AS (SELECT {own}, from_on, until, sum(worth) AS arr, "
        f"bool_or(NOT is_whole) AS is_part, "
        f"max(known_at) FILTER (started_on = from_on) AS new_at, min(known_at) AS first_at, "
        f"arg_max(place, worth) AS place FROM spans JOIN lines USING ({own}) "
        f"WHERE started_on <= from_on AND renews_on >= until GROUP BY ALL), "
        f"sums AS (SELECT * REPLACE (CASE WHEN is_part AND abs(later - arr) <= {NOISE} * arr "
        f"THEN later ELSE arr END AS arr) FROM (SELECT *, lead(arr) OVER (PARTITION BY {own} "
        f"ORDER BY from_on) AS later FROM parts)) "
        f"SELECT priced.* EXCLUDE ({', '.join(rest)}), priced.place, "
        f"coalesce(new_at, greatest(first_at, CAST(from_on AS TIMESTAMP))) AS known_at, "
        f"from_on AS started_on, until AS renews_on, round(sums.arr, 2) AS arr "
        f"FROM sums JOIN priced USING ({own}, place) WHERE sums.arr > {TOLERANCE}"
    )
