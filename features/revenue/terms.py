"""Continuation of subscription terms, and the end of their revenue.

Billing systems renumber, split and overlap terms. `one_state` closes terms that a later row
replaces; `resolve_terms` links each term to the one that continues it, independent of id and
product, and classifies all others as lost or moved to another account.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from operator import or_

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

LOST = ("churned", "payment_failure")
"""End reasons of a loss, unless other terms continue it."""

GOES_ON = ("renewed", "changed")
"""End reasons after which other terms are expected to follow."""

COMEBACK_DAYS = 30
"""Maximum gap in days between terms that continue each other."""

EARLY_DAYS = 45
"""Maximum number of days by which terms may start before the end or renewal they replace."""

UNCLOSED_DAYS = 7
"""Maximum number of days after a renewal date within which new terms replace open ones."""

FATES = {
    "held": "the terms hold",
    "awaits": "ended as renewed or changed, and the terms that follow are not on record yet",
    "continued": "other terms of the account continue these",
    "moved": "the revenue was transferred to another account",
    "lost": "the revenue stopped",
}

FAR = 2**40
"""Day index of no end, for comparisons."""


def paid(terms: ir.Table) -> ir.BooleanValue:
    """Whether terms have revenue or unknown revenue; free plans and trials do not."""
    if "arr" not in terms.columns:
        return ibis.literal(True)
    return terms.arr.isnull() | (terms.arr > 0)


def with_line(terms: ir.Table) -> ir.Table:
    """Add ``line``, the product as a key; terms without a product share one line."""
    return terms.mutate(line=line_of(terms["product"] if "product" in terms.columns else None))


def line_of(product: ir.Value | None) -> ir.StringValue:
    """Return a product as a key: empty where there is none."""
    return ibis.literal("") if product is None else product.cast("string").fill_null("")


def one_state(terms: ir.Table, within: Sequence[str] = ()) -> ir.Table:
    """Close terms without an end that a later row replaces.

    A later row of the same subscription and product replaces an earlier one. So does a renewal
    under another subscription id: same product, begun at most `EARLY_DAYS` before the renewal date
    and running beyond it, or begun within `UNCLOSED_DAYS` after it.

    Parameters
    ----------
    terms : ibis.Table
        One row per entity_id, subscription_id and day (× `within`): ended_day, end_reason,
        renews_day, and product where there is one.
    within : sequence of str
        Further keys that separate independent readings, such as as_of_day.

    Returns
    -------
    ibis.Table
        The same rows and columns; ended_day and end_reason filled in where a row was replaced.
    """
    columns = terms.columns
    rows = with_line(terms)
    chain = ibis.window(group_by=[*within, "entity_id", "subscription_id", "line"], order_by="day")
    rows = rows.mutate(_next=rows.day.lead().over(chain))
    overlaps = (rows._next < rows.ended_day.fill_null(FAR)).fill_null(False)
    rows = rows.mutate(
        ended_day=overlaps.ifelse(rows._next, rows.ended_day),
        end_reason=(overlaps & rows.ended_day.isnull()).ifelse("changed", rows.end_reason),
    )
    key = [*within, "entity_id", "subscription_id", "day"]
    joined = attach(rows, _renewed_elsewhere(rows, within), [*key, "line"], "by")
    is_renewed = joined.by.notnull()
    return joined.mutate(
        ended_day=is_renewed.ifelse(joined.by, joined.ended_day),
        end_reason=is_renewed.ifelse("renewed", joined.end_reason),
    ).select(*columns)


def _renewed_elsewhere(rows: ir.Table, within: Sequence[str]) -> ir.Table:
    """Return open terms that another subscription renews, and ``by``, the day of the renewal.

    Where fewer terms begin than could be renewed, the pairing is ambiguous and all stay open.
    """
    keys = [*within, "entity_id", "line"]
    is_open = rows.filter(rows.ended_day.isnull() & rows.renews_day.notnull())
    is_open = is_open.select(*keys, "subscription_id", "day", "renews_day")
    starts = rows.select(*keys, other=rows.subscription_id, begins=rows.day, until=rows.renews_day)
    pairs = is_open.join(starts, keys)
    first_day = pairs.begins - 1
    early = (first_day > pairs.renews_day - EARLY_DAYS) & (pairs.until > pairs.renews_day)
    late = (first_day >= pairs.renews_day) & (first_day <= pairs.renews_day + UNCLOSED_DAYS)
    is_next = (
        (pairs.other != pairs.subscription_id)
        & (pairs.begins > pairs.day)
        & (first_day <= pairs.renews_day + UNCLOSED_DAYS)
        & (early.fill_null(False) | late)
    )
    found = (
        pairs.filter(is_next)
        .group_by([*keys, "subscription_id", "day"])
        .agg(by=lambda t: t.begins.min(), n_next=lambda t: t.other.nunique())
    )
    same = ibis.window(group_by=[*keys, "by"])
    counted = found.mutate(_n=found.subscription_id.count().over(same))
    return counted.filter(counted._n <= counted.n_next).drop("_n", "n_next")


def resolve_terms(
    terms: ir.Table,
    at: ir.IntegerValue | int,
    within: Sequence[str] = (),
    comeback_days: int = COMEBACK_DAYS,
) -> ir.Table:
    """Classify the revenue of every paid term: held, continued, moved or lost.

    Parameters
    ----------
    terms : ibis.Table
        From `one_state`. Ends after `at` are announced ones.
    at : ibis value or int
        Day index of the reading; a column of `terms` when `within` separates several.
    within : sequence of str
        As in `one_state`.
    comeback_days : int
        Maximum interruption that does not count.

    Returns
    -------
    ibis.Table
        The paid rows of `terms`, with ``line``; ``fate``, a key of `FATES`; ``stops_day``, the day
        from which the row's own revenue no longer counts, null while it holds; ``next_id`` and
        ``next_day``, the row that continues it (its subscription_id and day), else null; and
        ``moved_arr``, revenue that came with it from another account, else 0.
    """
    rows = with_line(terms.filter(paid(terms)))
    arr = rows.arr if "arr" in rows.columns else ibis.null("float64")
    first = ibis.window(group_by=[*within, "entity_id", "subscription_id"])
    rows = rows.mutate(_arr=arr, _is_first=rows.day == rows.day.min().over(first), _at=at)
    key = [*within, "entity_id", "subscription_id", "day", "line"]
    found = _continuations(rows, within, comeback_days)
    moved = _transfers(rows, within, comeback_days)
    away = moved.group_by(key).agg(_goes=moved.to_entity.count())
    came = moved.group_by(
        **{name: moved[name] for name in within},
        entity_id=moved.to_entity,
        subscription_id=moved.subscription_id,
        day=moved.to_day,
    ).agg(moved_arr=moved._arr.sum())
    joined = attach(rows, found, key, "next_id", "next_day", "is_covered")
    joined = attach(joined, away, key, "_goes")
    joined = attach(joined, came, key[:-1], "moved_arr")
    joined = joined.mutate(moved_arr=joined.moved_arr.fill_null(0.0))
    reason = joined.end_reason.fill_null("churned")
    is_moved = joined._goes.notnull() | ((reason == "merged") & ~joined.is_covered.fill_null(False))
    fate = ibis.cases(
        (joined.ended_day.isnull(), "held"),
        (joined.next_day.notnull(), "continued"),
        (is_moved, "moved"),
        (reason.isin(GOES_ON) & (joined.ended_day + comeback_days >= joined._at), "awaits"),
        else_="lost",
    )
    resolved = joined.mutate(fate=fate)
    stops = ibis.cases(
        (resolved.fate == "continued", resolved.next_day),
        (resolved.fate.isin(("moved", "lost")), resolved.ended_day),
        else_=ibis.null("int64"),
    )
    return resolved.mutate(stops_day=stops).drop("_arr", "_is_first", "_at", "_goes", "is_covered")


def attach(left: ir.Table, right: ir.Table, keys: Sequence[str], *names: str) -> ir.Table:
    """Add columns of the row of `right` with the same keys; null where there is none."""
    joined = left.left_join(right, list(keys))
    return joined.select(*(joined[name] for name in left.columns), *names)


def _continuations(rows: ir.Table, within: Sequence[str], comeback_days: int) -> ir.Table:
    """Return the continuation of each ended row: next_id, next_day, and is_covered.

    In this order: the same subscription; a new subscription to the same product; after an end as
    renewed, changed or merged, a new subscription to any product (merged: any terms); and, where
    the account has no other terms, any terms that begin within the comeback days.
    """
    key = [*within, "entity_id", "subscription_id", "day", "line"]
    shared = [*within, "entity_id"]
    ended = rows.filter(rows.ended_day.notnull()).select(*key, "ended_day", "end_reason")
    others = rows.select(
        *shared,
        o_id=rows.subscription_id,
        o_line=rows.line,
        o_day=rows.day,
        o_end=rows.ended_day,
        o_first=rows._is_first,
        o_arr=rows._arr.fill_null(0.0),
    )
    pairs = ended.join(others, shared)
    pairs = pairs.filter(
        (pairs.o_id != pairs.subscription_id)
        | (pairs.o_day != pairs.day)
        | (pairs.o_line != pairs.line)
    )
    covers = (pairs.o_day <= pairs.ended_day) & (pairs.o_end.fill_null(FAR) > pairs.ended_day)
    of_row = ibis.window(group_by=key)
    pairs = pairs.mutate(is_covered=covers.any().over(of_row))
    after = (pairs.o_day >= pairs.ended_day) & (pairs.o_day <= pairs.ended_day + comeback_days)
    overlapping = (
        (pairs.o_day < pairs.ended_day)
        & (pairs.o_day > pairs.ended_day - EARLY_DAYS)
        & (pairs.o_day > pairs.day)
        & covers
    )
    reason = pairs.end_reason.fill_null("churned")
    is_new_line = pairs.o_first & (after | overlapping)
    is_merged = (reason == "merged") & after
    ranks = [
        ((pairs.o_id == pairs.subscription_id) & (pairs.o_line == pairs.line) & after, 0),
        ((pairs.o_id == pairs.subscription_id) & after, 1),
        ((pairs.o_line == pairs.line) & is_new_line, 2),
        ((reason.isin((*GOES_ON, "merged"))) & is_new_line, 3),
        (is_merged, 4),
        (~pairs.is_covered & after, 5),
    ]
    can = reduce(or_, (condition for condition, _ in ranks))
    pairs = pairs.mutate(
        _rank=ibis.cases(*ranks, else_=9), _can=can, _gap=(pairs.o_day - pairs.ended_day).abs()
    )
    best = ibis.window(
        group_by=key,
        order_by=["_rank", "_gap", ibis.desc("o_arr"), "o_id", "o_day"],
    )
    chosen = pairs.mutate(_place=ibis.row_number().over(best))
    chosen = chosen.filter(chosen._place == 0)
    return chosen.select(
        *key,
        "is_covered",
        next_id=chosen._can.ifelse(chosen.o_id, ibis.null("string")),
        next_day=chosen._can.ifelse(chosen.o_day, ibis.null("int64")),
    )


def _transfers(rows: ir.Table, within: Sequence[str], comeback_days: int) -> ir.Table:
    """Return ended rows whose subscription continues under another account: to_entity, to_day.

    Ids shared by several accounts, such as a plan name, do not indicate a transfer.
    """
    shared = [*within, "subscription_id"]
    owners = rows.group_by(shared).agg(_n_owners=rows.entity_id.nunique())
    rows = attach(rows, owners, shared, "_n_owners")
    rows = rows.filter(rows._n_owners == 2)
    ended = rows.filter(rows.ended_day.notnull())
    ended = ended.select(
        *within, "entity_id", "subscription_id", "day", "line", "ended_day", "_arr"
    )
    others = rows.select(
        *within,
        "subscription_id",
        to_entity=rows.entity_id,
        to_day=rows.day,
        begins=rows._is_first,
    )
    pairs = ended.join(others, [*within, "subscription_id"])
    gap = pairs.to_day - pairs.ended_day
    found = pairs.filter(
        (pairs.to_entity != pairs.entity_id)
        & pairs.begins
        & (pairs.to_day > pairs.day)
        & (gap >= -EARLY_DAYS)
        & (gap <= comeback_days)
    )
    newest = ibis.window(
        group_by=[*within, "entity_id", "subscription_id", "day", "line"],
        order_by=["to_day", "to_entity"],
    )
    ranked = found.mutate(_place=ibis.row_number().over(newest))
    return ranked.filter(ranked._place == 0).drop("_place")


def announced_end(
    terms: ir.Table, at: ir.IntegerValue | int, comeback_days: int = COMEBACK_DAYS
) -> ir.IntegerValue:
    """Return the day from which terms under notice have no revenue; null without a valid notice.

    Terms under notice end after their renewal date, or, where no renewal date follows the notice,
    with the notice period. A notice is void once that end lies more than `comeback_days` before
    `at` and the terms still hold.
    """
    served = terms.notice_day + terms.notice_period_days.fill_null(0.0).cast("int64")
    # An end on a date counts from the next midnight, as a recorded `ended_on` does.
    end = (terms.renews_day >= terms.notice_day).ifelse(terms.renews_day + 1, served)
    is_valid = terms.ended_day.isnull() & (end + comeback_days >= at)
    return is_valid.fill_null(False).ifelse(end, ibis.null("int64"))


def with_announced_ends(
    terms: ir.Table, at: ir.IntegerValue | int, comeback_days: int = COMEBACK_DAYS
) -> ir.Table:
    """Return terms with the `announced_end` as their end where none is on record."""
    end = announced_end(terms, at, comeback_days)
    return terms.mutate(ended_day=ibis.coalesce(terms.ended_day, end))


def departures(resolved: ir.Table) -> ir.Table:
    """Return one row per departure of an account: entity_id, decision_day, effective_day, reason.

    Parameters
    ----------
    resolved : ibis.Table
        From `resolve_terms`, read with hindsight.

    Notes
    -----
    An account leaves on the day terms are lost while it has no other paid terms. The decision day
    is the earliest notice for the terms that ended that day, else the day itself.
    """
    ended = resolved.filter(resolved.fate == "lost")
    ends = ended.group_by("entity_id", "stops_day").agg(
        notice_day=ended.notice_day.min(),
        reason=ended.end_reason.min(where=ended.end_reason.isin(LOST)),
    )
    others = resolved.select(
        "entity_id", began=resolved.day, until=resolved.stops_day.fill_null(FAR)
    )
    stays = ends.join(
        others,
        [
            ends.entity_id == others.entity_id,
            others.began <= ends.stops_day,
            others.until > ends.stops_day,
        ],
    )
    left = ends.anti_join(stays, ["entity_id", "stops_day"])
    return left.select(
        "entity_id",
        "reason",
        effective_day=left.stops_day,
        decision_day=ibis.least(ibis.coalesce(left.notice_day, left.stops_day), left.stops_day),
    )


def read_with_hindsight(
    terms: pa.Table, today: int, comeback_days: int = COMEBACK_DAYS
) -> pa.Table:
    """Return terms resolved by everything known at `today`, announced ends included.

    Parameters
    ----------
    terms : pyarrow.Table
        The latest version of each row of the daily subscriptions.
    today : int
        Day index.
    comeback_days : int
        As in `resolve_terms`.
    """
    kinds = tuple(ibis.schema(terms.schema).items())
    rows = terms.append_column("_today", pa.array([today] * len(terms), pa.int64()))
    with duckdb.connect() as connection:
        connection.register("_terms", rows)
        found: pa.Table = connection.sql(_hindsight(kinds, comeback_days)).to_arrow_table()
    return found.drop_columns("_today")


@cache
def _hindsight(kinds: tuple[tuple[str, dt.DataType], ...], comeback_days: int) -> str:
    """Return the cached query of `read_with_hindsight`; compiling is slower than running it."""
    table = ibis.table({**dict(kinds), "_today": "int64"}, name="_terms")
    state = one_state(table)
    announced = with_announced_ends(state, state["_today"], comeback_days)
    resolved = resolve_terms(announced, announced["_today"], comeback_days=comeback_days)
    return str(ibis.to_sql(resolved, dialect="duckdb"))
