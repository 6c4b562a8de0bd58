"""Filters, order and paging of the published scores, for the API and the pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends, Query

from configs.runtime.hashing import digest
from features.revenue.growth_kinds import KINDS
from features.snapshots.statuses import NOT_CUSTOMERS
from serving.http.problems import ProblemError
from serving.http.score_text import to_second
from serving.scoring.export_columns import ExportRow

WORTH = "worth"
"""Order by priority; computed, see `worth`."""

HALF_DAYS = 90
"""Default number of days after which a future loss counts half in the order `WORTH`."""

SORTS: dict[str, tuple[tuple[str, str], ...]] = {
    WORTH: ((WORTH, "descending"),),
    "loss": (("rank", "ascending"),),
    "risk": (("churn_risk", "descending"),),
    "arr": (("arr", "descending"),),
    "notice": (("notice_on", "ascending"),),
    "renewal": (("renews_on", "ascending"),),
    "upsell": (("expansion_propensity", "descending"),),
    "growth": (("expansion_arr_expected", "descending"), ("expansion_propensity", "descending")),
    "name": (("name", "ascending"),),
}
"""Orders by name; missing values come last, ties are ordered by rank."""

BANDS = ("high", "elevated", "low")

OFFERS = ("ready", "eligible", "blocked", "any")
"""Expansion offers that can be made now to accounts likely to expand (high or elevated), that can
be made now, that are blocked, or any."""

CURRENT, ANY = "current", "any"
"""Values of the filter `status`: all current customers, and all accounts with the closed ones."""


@dataclass(frozen=True)
class Filters:
    """Filters of the published scores; an empty filter matches everything.

    Attributes
    ----------
    band : str
        One of `BANDS`.
    owner, segment, region : str
        Exact values: owner_id, segment, region.
    status : str
        An exact value, or `CURRENT` or `ANY`.
    product : str
        Only accounts with this product.
    renews_from, renews_until : str
        ISO 8601 days, both included, of the next renewal.
    expansion : str
        One of `OFFERS`: only accounts with such an expansion offer.
    expansion_kind : str
        One of `features.revenue.growth_kinds.KINDS`: only offers of this kind.
    notice_within : int
        Only notice deadlines from today to this number of days ahead; 0 for no condition.
    updated_since : str
        ISO 8601 time with a zone: rows whose content changed then or later.
    q : str
        Part of the name or the id, case-insensitive.
    sort : str
        A key of `SORTS`.
    half_days : int
        Parameter of the order `WORTH`.
    """

    band: str = ""
    owner: str = ""
    segment: str = ""
    status: str = ""
    renews_from: str = ""
    renews_until: str = ""
    updated_since: str = ""
    q: str = ""
    sort: str = "loss"
    expansion: str = ""
    expansion_kind: str = ""
    region: str = ""
    product: str = ""
    half_days: int = HALF_DAYS
    notice_within: int = 0

    def as_query(self, usual: Filters) -> dict[str, str]:
        """Return the values that differ from the defaults of a page."""
        return {
            name: str(value) for name, value in vars(self).items() if value != getattr(usual, name)
        }


def _one_of(known: Sequence[str], default: str = "") -> Any:
    return Query(
        description=f"one of {', '.join(known)}",
        json_schema_extra={"enum": list({default: 0} | dict.fromkeys(known))},
    )


def _formatted(what: str, name: str) -> Any:
    return Query(
        description=what,
        max_length=40,
        json_schema_extra={"anyOf": [{"format": name}, {"maxLength": 0}]},
    )


def filters_of(
    band: Annotated[str, _one_of(BANDS)] = "",
    owner: Annotated[str, Query(description="owner_id", max_length=200)] = "",
    segment: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[
        str,
        Query(
            description=f"a status such as `scored`; `{CURRENT}`: all that are not closed",
            max_length=40,
        ),
    ] = "",
    renews_from: Annotated[str, _formatted("renewal on or after this day", "date")] = "",
    renews_until: Annotated[str, _formatted("renewal on or before this day", "date")] = "",
    updated_since: Annotated[
        str,
        _formatted("only rows whose content changed at this time or later", "date-time"),
    ] = "",
    q: Annotated[str, Query(description="part of the name or the id", max_length=200)] = "",
    sort: Annotated[str, _one_of(tuple(SORTS), "loss")] = "loss",
    expansion: Annotated[str, _one_of(OFFERS)] = "",
    expansion_kind: Annotated[str, _one_of(KINDS)] = "",
    region: Annotated[str, Query(max_length=200)] = "",
    product: Annotated[
        str, Query(description="only accounts with this product", max_length=200)
    ] = "",
    half_days: Annotated[
        int,
        Query(
            ge=1,
            le=3_650,
            description="for `sort=worth`: days after which a future loss counts half",
        ),
    ] = HALF_DAYS,
    notice_within: Annotated[
        int,
        Query(ge=0, le=3_650, description="notice deadline in at most so many days; 0: any"),
    ] = 0,
) -> Filters:
    """Read the filters of a request.

    Raises
    ------
    ProblemError
        An invalid value, such as an unknown order or band.
    """
    _check("sort", sort, sort in SORTS, f"allowed: {', '.join(SORTS)}")
    for name, value, known in (
        ("band", band, BANDS),
        ("expansion", expansion, OFFERS),
        ("expansion_kind", expansion_kind, KINDS),
    ):
        _check(name, value, value in ("", *known), f"allowed: {', '.join(known)}")
    for name, day in (("renews_from", renews_from), ("renews_until", renews_until)):
        _check(name, day, not day or _is_read(date.fromisoformat, day), "write it as 2026-03-31")
    _check(
        "updated_since",
        updated_since,
        not updated_since or _is_read(_instant, updated_since),
        "write it as 2026-03-31T00:00:00Z",
    )
    return Filters(
        band=band,
        owner=owner,
        segment=segment,
        status=status,
        renews_from=renews_from,
        renews_until=renews_until,
        updated_since=updated_since,
        q=q,
        sort=sort,
        expansion=expansion,
        expansion_kind=expansion_kind,
        region=region,
        product=product,
        half_days=half_days,
        notice_within=notice_within,
    )


Chosen = Annotated[Filters, Depends(filters_of)]


def _check(name: str, value: str, is_right: bool, fix: str) -> None:
    if not is_right:
        raise ProblemError(
            "invalid-request",
            f"{name} cannot be {value[:40]!r}; {fix}",
            errors=[{"pointer": name, "message": fix}],
        )


def _is_read(read: Callable[[str], object], value: str) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _instant(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the calendar") from error


def choose(table: pa.Table, filters: Filters) -> pa.Table:
    """Return the matching rows in the chosen order."""
    return table.take(positions(table, filters))


def matching(table: pa.Table, filters: Filters) -> np.ndarray:
    """Return whether each row matches, as booleans."""
    kept = np.ones(len(table), dtype=bool)
    for condition in _conditions(table, filters):
        kept &= pc.fill_null(condition, False).to_numpy()
    return kept


def positions(table: pa.Table, filters: Filters) -> pa.Array:
    """Return the indices of the matching rows in the chosen order, without copying rows."""
    found = pa.array(np.flatnonzero(matching(table, filters)))
    keys = dict([*SORTS[filters.sort], ("rank", "ascending"), ("account_id", "ascending")])
    if filters.sort == WORTH:
        table = table.append_column(WORTH, pa.array(worth(table, filters.half_days)))
    order = pc.sort_indices(table.select(list(keys)).take(found), sort_keys=list(keys.items()))
    return found.take(order)


def worth(table: pa.Table, half_days: int) -> np.ndarray:
    """Return the priority of each account: its expected loss, weighted by time.

    A loss counts half if the last day to act is `half_days` away, and a quarter at twice the
    distance. The last day to act is the next notice deadline, otherwise the next renewal, otherwise
    the end of the prediction window. On the tier `rates` the number of rules that apply comes
    first. NaN without a prediction.

    Examples
    --------
    >>> row = {"churn_risk": 0.5, "expected_arr_lost": 100.0, "days_to_notice": 90,
    ...        "days_to_renewal": 120, "churn_until": "2026-07-01", "churn_rung": "trees",
    ...        "as_of": "2026-03-02T00:00:00Z", "churn_rules": []}
    >>> table = pa.Table.from_pylist([row, row | {"days_to_notice": -30, "days_to_renewal": 0}])
    >>> [round(float(value), 1) for value in worth(table, 90)]
    [50.0, 100.0]
    """
    lost = _floats(table["expected_arr_lost"])
    looks = pc.cast(table["churn_until"], pa.date32())
    since = pc.cast(pc.utf8_slice_codeunits(table["as_of"], 0, 10), pa.date32())
    days = _floats(pc.days_between(since, looks))
    for name in ("days_to_renewal", "days_to_notice"):
        ahead = _floats(table[name])
        days = np.where(ahead >= 0, ahead, days)
    lost = np.where(np.isnan(_floats(table["churn_risk"])), np.nan, np.nan_to_num(lost))
    value = np.maximum(lost, 0.0) * 0.5 ** (np.nan_to_num(days) / half_days)
    rules = _floats(pc.list_value_length(table["churn_rules"]))
    is_rate = np.asarray(pc.fill_null(pc.equal(table["churn_rung"], "rates"), False), dtype=bool)
    # A rule outweighs any amount: rates hardly differ between accounts.
    return value + np.where(is_rate, np.nan_to_num(rules) * _MOST_MONEY, 0.0)


_MOST_MONEY = 1e15


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    found: np.ndarray = pc.cast(column, pa.float64()).to_numpy()
    return found


def _conditions(table: pa.Table, filters: Filters) -> Iterator[pa.ChunkedArray]:
    exact = {
        "risk_band": filters.band,
        "owner_id": filters.owner,
        "segment": filters.segment,
        "region": filters.region,
        "status": "" if filters.status in (CURRENT, ANY) else filters.status,
        "expansion_kind": filters.expansion_kind,
    }
    for column, value in exact.items():
        if value:
            yield pc.equal(table[column], value)
    if filters.status == CURRENT:
        yield pc.invert(pc.is_in(table["status"], pa.array(NOT_CUSTOMERS, pa.string())))
    if filters.product:
        yield _holds(table["products"], filters.product)
    if filters.expansion:
        yield _has_offer(table, filters.expansion)
    yield from _day_conditions(table, filters)
    if filters.q:
        found = [
            pc.match_substring(pc.fill_null(table[name], ""), filters.q, ignore_case=True)
            for name in ("name", "account_id")
        ]
        yield pc.or_(*found)


def is_notice_due(table: pa.Table, within_days: int) -> pa.ChunkedArray:
    """Return whether the notice deadline is today or in at most so many days."""
    days = table["days_to_notice"]
    return pc.and_(pc.greater_equal(days, 0), pc.less_equal(days, within_days))


def _day_conditions(table: pa.Table, filters: Filters) -> Iterator[pa.ChunkedArray]:
    if filters.notice_within:
        yield is_notice_due(table, filters.notice_within)
    # Days and times in one format sort as text.
    if filters.renews_from:
        yield pc.greater_equal(table["renews_on"], filters.renews_from)
    if filters.renews_until:
        yield pc.less_equal(table["renews_on"], filters.renews_until)
    if filters.updated_since:
        yield pc.greater_equal(table["updated_at"], to_second(_instant(filters.updated_since)))


def _holds(products: pa.ChunkedArray, wanted: str) -> pa.ChunkedArray:
    held = products.combine_chunks()
    rows = pc.list_parent_indices(held).filter(pc.equal(pc.list_flatten(held), wanted))
    return pc.is_in(pa.chunked_array([np.arange(len(held))]), rows)


def _has_offer(table: pa.Table, wanted: str) -> pa.ChunkedArray:
    """Return the rows with a matching expansion offer (`OFFERS`)."""
    is_eligible = table["expansion_is_eligible"]
    if wanted == "any":
        return pc.is_valid(is_eligible)
    if wanted == "ready":
        likely = pc.is_in(table["expansion_band"], pa.array(["high", "elevated"]))
        return pc.and_(is_eligible, likely)
    return is_eligible if wanted == "eligible" else pc.invert(is_eligible)


def choices(table: pa.Table, column: str) -> list[str]:
    """Return the distinct values of a column, sorted."""
    return sorted(value for value in pc.unique(table[column]).to_pylist() if value)


CURSOR = r"^([0-9]{8}-[0-9a-f]{12}\.[0-9a-f]{12}\.[1-9][0-9]{0,8})?$"
"""Position in a score run: run id, hash of filters and order, and number of rows."""


def encode_cursor(book_id: str, filters: Filters, offset: int) -> str:
    """Return a cursor (`CURSOR`); score runs never change, so a position is sufficient."""
    return f"{book_id}.{digest(vars(filters))}.{offset}"


def decode_cursor(cursor: str, book_id: str, filters: Filters) -> int:
    """Return the position of a cursor; 0 for an empty one.

    Raises
    ------
    ProblemError
        The cursor is invalid, or of an earlier run, or of other filters.

    Examples
    --------
    >>> book = "20260302-4fc1edb85f48"
    >>> decode_cursor(encode_cursor(book, Filters(), 200), book, Filters())
    200
    """
    _check("cursor", cursor, re.fullmatch(CURSOR, cursor) is not None, "use `next_cursor`")
    if not cursor:
        return 0
    book, chosen, place = cursor.split(".")
    if book != book_id:
        raise ProblemError(
            "cursor-expired", f"the cursor belongs to another score run than {book_id}"
        )
    if chosen != digest(vars(filters)):
        raise ProblemError("cursor-expired", "the cursor belongs to other filters or another order")
    return int(place)


def page_of(table: pa.Table, chosen: pa.Array, offset: int, limit: int) -> list[ExportRow]:
    """Return one page of the chosen rows (`positions`)."""
    rows: list[ExportRow] = table.take(chosen.slice(offset, limit)).to_pylist()
    return rows
