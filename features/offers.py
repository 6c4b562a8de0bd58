"""Expansion offers of each account at the latest as_of, with blockers and a contact.

Nothing here is learned: offers are derived from source rows known at as_of and described in text
once, when vectors are built. Training estimates the probability and amount of each kind of
expansion; scoring chooses the offer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from configs.schema.company import Company, Growth, GrowthRoom
from features.days import day_index, index_day
from features.revenue.revenue_growth import allowances
from features.signals.commercial import CLOSED_STAGES, is_live
from features.signals.payments import is_overdue
from features.snapshots.grid import grid_at
from features.tables.point_in_time import as_known

if TYPE_CHECKING:
    from features.sources import Loaded

OFFERED_SHARE = 0.02
"""Minimum share of accounts with a product for it to be offered, where none are configured."""

ALLOWANCE_DAYS = 420
"""Days of allowance history used to date when it became full."""

SEEN_DAYS = 364
"""Days in which the last activity of a contact is searched."""

PACE_DAYS = 84
"""Days over which the growth of usage is measured."""

SOON_SHARE, SOON_WEEKS = 0.6, 26
"""Used share of an allowance, and weeks until it is full, from which more of it is offered."""

BY_SEAT, BY_UNIT = "seats", "units"


class Offer(TypedDict):
    """One offer: the product, None for all, its evidence as text, and the used share if known."""

    product: str | None
    text: str
    share: NotRequired[float]


class Blocker(TypedDict):
    """Reason to postpone an offer: ``overdue`` or ``open_opportunity``, and its text."""

    code: str
    text: str


class Contact(TypedDict):
    """Person to approach: id, role, whether a champion, and day of the last activity."""

    contact_id: str
    role: str | None
    is_champion: bool
    last_active_on: str | None


class Allowance(TypedDict):
    """Latest allowance of an account: columns of `latest_allowances`."""

    product: str
    used: float
    limit: float
    share: float
    weeks: int
    full_in_weeks: float
    unit: str


class AccountOffers(TypedDict):
    """Offers of one account by kind, kinds recommended by rules, blockers and contact."""

    kinds: dict[str, Offer]
    rules: list[str]
    blockers: list[Blocker]
    contact: Contact | None


class ProductShare(TypedDict):
    """Product of an account and its share of the account's revenue, 0 to 1."""

    product: str
    share: float


@dataclass(frozen=True)
class OfferInputs:
    """Inputs of the offers.

    Attributes
    ----------
    engine : ibis backend
        Engine for the queries.
    daily, history : mapping
        Daily tables, and whether they keep every version of a row.
    loaded : Loaded
        The sources, for contacts, which have no history.
    company : Company
        Configuration: room to grow, limits and currency.
    on : date
        The as_of: rows known later are ignored.
    """

    engine: Any
    daily: Mapping[str, ir.Table]
    history: Mapping[str, bool]
    loaded: Loaded
    company: Company
    on: date

    def known(self, table: str) -> ir.Table:
        """Return the rows of a table known at as_of."""
        grid = grid_at(self.daily["accounts"], [self.on])
        return as_known(table, self.daily[table], grid, history=self.history.get(table, False))

    def read(self, query: ir.Table) -> pd.DataFrame:
        """Return the rows of a query."""
        frame: pd.DataFrame = self.engine.to_pyarrow(query).to_pandas()
        return frame

    def has(self, table: str, *columns: str) -> bool:
        """Whether a table and its columns are loaded."""
        return table in self.daily and set(columns) <= set(self.daily[table].columns)


def candidate_facts(
    inputs: OfferInputs, held: pd.DataFrame, ids: Sequence[str], seat_use: np.ndarray
) -> list[AccountOffers]:
    """Return the offers of each account, in the order of `ids`.

    Parameters
    ----------
    inputs : OfferInputs
        The sources as known at as_of.
    held : pandas.DataFrame
        From `held_terms`.
    ids : sequence of str
        Accounts.
    seat_use : numpy.ndarray
        Share of the seats in use, NaN unknown; used where no allowance is recorded.

    Returns
    -------
    list of AccountOffers
        Empty entries where the terms of an account are unknown.
    """
    full = latest_allowances(inputs, held)
    nearly_full = inputs.company.growth.nearly_full
    offers = {
        "seats": seat_offers(
            held, full, dict(zip(ids, seat_use.tolist(), strict=True)), nearly_full
        ),
        "tier": tier_offers(held, inputs.company.room),
        "product": product_offers(held, inputs.company.room),
        "usage": unit_offers(full, nearly_full),
    }
    rules = growth_rules(full, offers["seats"], inputs.company.growth)
    blocked = [overdue_blockers(inputs), opportunity_blockers(inputs)]
    people = contacts(inputs)
    return [
        {
            "kinds": {kind: found[entity] for kind, found in offers.items() if entity in found},
            "rules": rules.get(entity, []),
            "blockers": [item[entity] for item in blocked if entity in item],
            "contact": people.get(entity),
        }
        for entity in ids
    ]


def held_terms(inputs: OfferInputs) -> pd.DataFrame:
    """Return the terms accounts hold at as_of: one row per entity_id and product.

    Columns: arr, seats, max_seats and plan, null where unknown; an unknown product is empty.
    """
    if "subscriptions" not in inputs.daily:
        return pd.DataFrame(columns=["entity_id", "product", "arr", "seats", "max_seats", "plan"])
    rows = inputs.known("subscriptions")
    live = rows.filter(is_live(rows))
    numbers = {
        name: (live[name] if name in live.columns else ibis.null("float64"))
        for name in ("arr", "seats", "max_seats")
    }
    texts = {
        name: (live[name] if name in live.columns else ibis.null("string"))
        for name in ("product", "plan")
    }
    terms = live.select("entity_id", **numbers, **texts).mutate(
        product=lambda t: t["product"].fill_null("")
    )
    sums = terms.group_by("entity_id", "product").agg(
        arr=terms.arr.sum(),
        seats=terms.seats.sum(),
        # An unknown maximum counts as room.
        max_seats=terms.max_seats.isnull()
        .any()
        .ifelse(ibis.null("float64"), terms.max_seats.sum()),
        plan=terms.plan.max(),
    )
    return inputs.read(sums.order_by("entity_id", "product"))


def product_shares(held: pd.DataFrame, ids: Sequence[str]) -> list[list[ProductShare]]:
    """Return the products of each account with their shares of its revenue, in order of `ids`.

    The largest share comes first. Without revenue, products have equal shares. Terms without a
    product are left out of the shares.
    """
    arr = held["arr"].astype("float64").fillna(0.0).clip(lower=0.0)
    of_entity = arr.groupby(held["entity_id"])
    sums, counts = of_entity.transform("sum"), of_entity.transform("size")
    rows = held.assign(share=(arr / sums).where(sums > 0, 1.0 / counts))
    rows = rows[rows["product"] != ""].sort_values(
        ["entity_id", "share", "product"], ascending=[True, False, True]
    )
    found: dict[str, list[ProductShare]] = {}
    for entity, product, share in rows[["entity_id", "product", "share"]].itertuples(index=False):
        found.setdefault(entity, []).append({"product": product, "share": float(share)})
    return [found.get(entity, []) for entity in ids]


def latest_allowances(inputs: OfferInputs, held: pd.DataFrame) -> pd.DataFrame:
    """Return the latest known allowances: one row per entity_id and product.

    Columns: used, limit, share (used over limit), weeks (full weeks for which it has been nearly
    full; 0 when it is not), full_in_weeks (weeks until it is full at the growth of the last
    `PACE_DAYS`; NaN where usage does not grow), and unit: seats where the allowance equals the
    seats held.
    """
    columns = [
        "entity_id", "product", "used", "limit", "share", "weeks", "full_in_weeks", "unit",
    ]  # fmt: skip
    if not inputs.has("entitlements", "used", "limit"):
        return pd.DataFrame(columns=columns)
    today = day_index(inputs.on)
    daily = inputs.daily["entitlements"]
    visible = (daily.day <= today) & (daily.known_day <= today)
    states = allowances(daily.filter(visible & (daily.day > today - ALLOWANCE_DAYS)))
    states = states.filter(states["limit"] > 0)
    is_full = states.used >= states["limit"] * inputs.company.growth.nearly_full
    product = ibis.window(group_by=["entity_id", "product"])
    states = states.mutate(is_full=is_full, _not_full=states.day.max(where=~is_full).over(product))
    in_run = states.is_full & (states.day > states._not_full.fill_null(-1))
    found = states.group_by("entity_id", "product").agg(
        used=states.used.argmax(states.day),
        limit=states["limit"].argmax(states.day),
        since=states.day.min(where=in_run),
        last_day=states.day.max(),
        used_before=states.used.argmax(states.day, where=states.day <= today - PACE_DAYS),
        day_before=states.day.max(where=states.day <= today - PACE_DAYS),
    )
    rows = inputs.read(found.order_by("entity_id", "product"))
    rows["share"] = rows["used"] / rows["limit"]
    rows["full_in_weeks"] = _full_in_weeks(rows)
    rows["weeks"] = ((today - rows["since"]) // 7).fillna(0).astype("int64")
    seats = held.set_index(["entity_id", "product"])["seats"]
    bought = seats.reindex(pd.MultiIndex.from_frame(rows[["entity_id", "product"]])).to_numpy()
    rows["unit"] = np.where(rows["limit"].to_numpy() == bought, BY_SEAT, BY_UNIT)
    return rows[columns]


def _full_in_weeks(rows: pd.DataFrame) -> pd.Series:
    """Return the weeks until an allowance is used up at its recent growth."""
    days = rows["last_day"] - rows["day_before"]
    per_day = (rows["used"] - rows["used_before"]) / days.where(days > 0)
    left = (rows["limit"] - rows["used"]).clip(lower=0.0)
    return (left / per_day.where(per_day > 0) / 7.0).astype("float64")


def is_offered(rows: pd.DataFrame, nearly_full: float) -> pd.Series:
    """Return which allowances are nearly full, or will be soon at their recent growth."""
    is_soon = (rows["share"] >= SOON_SHARE) & (rows["full_in_weeks"] <= SOON_WEEKS)
    return (rows["share"] >= nearly_full) | is_soon


def seat_offers(
    held: pd.DataFrame, full: pd.DataFrame, seat_use: Mapping[str, float], nearly_full: float
) -> dict[str, Offer]:
    """Return seat offers for accounts whose seats are nearly full or will be soon.

    Seats at their contractual maximum are not offered. Without a recorded allowance the share of
    seats with an active user is used.
    """
    seats = held[held["seats"] > 0]
    is_capped = (seats["seats"] >= seats["max_seats"]).fillna(False)
    open_seats = seats[~is_capped].sort_values("arr", kind="stable", ascending=False)
    main = open_seats.drop_duplicates("entity_id").set_index("entity_id")
    recorded = full[full["unit"] == BY_SEAT]
    wanted = _fullest_first(recorded[is_offered(recorded, nearly_full)])
    without = set(main.index) - set(recorded["entity_id"])
    offers: dict[str, Offer] = {}
    for entity, product, bought in zip(main.index, main["product"], main["seats"], strict=True):
        row, share = wanted.get(entity), seat_use.get(entity, float("nan"))
        if row:
            offers[entity] = _allowance_offer(row, row["product"] or product)
        elif entity in without and share >= nearly_full:
            text = f"{share * bought:,.0f} people active in 28 days on {bought:,.0f} seats"
            offers[entity] = {"product": product or None, "text": text, "share": round(share, 4)}
    return offers


def _allowance_offer(row: Allowance, product: str) -> Offer:
    text, share = allowance_words(row), round(row["share"], 4)
    return {"product": product or None, "text": text, "share": share}


def _fullest_first(rows: pd.DataFrame) -> dict[str, Allowance]:
    ordered = rows.sort_values(["share", "product"], ascending=[False, True], kind="stable")
    chosen = ordered.drop_duplicates("entity_id")
    records = cast(list[Allowance], chosen.to_dict("records"))
    return dict(zip(chosen["entity_id"], records, strict=True))


def allowance_words(row: Allowance) -> str:
    """Return the fill level of an allowance as text, and since when or when it is full.

    >>> row = {"used": 47.0, "limit": 50.0, "unit": "seats", "weeks": 8, "full_in_weeks": 3.2}
    >>> allowance_words(row)
    '47 of 50 seats used, nearly full for 8 weeks'
    >>> allowance_words({"used": 1150.0, "limit": 1000.0, "unit": "units", "weeks": 1})
    '1,150 of 1,000 units used, nearly full for 1 week'
    >>> allowance_words(row | {"used": 40.0, "weeks": 0})
    '40 of 50 seats used, full in about 3 weeks at the current growth'
    >>> allowance_words(row | {"weeks": 0, "full_in_weeks": float("nan")})
    '47 of 50 seats used'
    """
    words = f"{row['used']:,.0f} of {row['limit']:,.0f} {row['unit']} used"
    weeks, ahead = int(row["weeks"]), row.get("full_in_weeks", float("nan"))
    if weeks:
        return f"{words}, nearly full for {weeks} week{'s' if weeks != 1 else ''}"
    if 0 < ahead <= SOON_WEEKS:
        n = max(1, round(ahead))
        return f"{words}, full in about {n} week{'s' if n != 1 else ''} at the current growth"
    return words


def unit_offers(full: pd.DataFrame, nearly_full: float) -> dict[str, Offer]:
    """Return unit offers for accounts whose fullest allowance is nearly full or will be soon."""
    units = full[full["unit"] == BY_UNIT]
    return {
        entity: _allowance_offer(row, row["product"])
        for entity, row in _fullest_first(units[is_offered(units, nearly_full)]).items()
    }


def tier_offers(held: pd.DataFrame, room: GrowthRoom) -> dict[str, Offer]:
    """Return the next higher plan; plans are ordered by median revenue per seat."""
    rows = held[held["plan"].notna() & (held["arr"] > 0) & (held["seats"] > 0)]
    if rows.empty:
        return {}
    price = (rows["arr"] / rows["seats"]).groupby([rows["product"], rows["plan"]]).median()
    top = {name.lower() for name in room.top_plans}
    main = rows.sort_values("arr", ascending=False, kind="stable").drop_duplicates("entity_id")
    offers: dict[str, Offer] = {}
    for product, plans in price.groupby(level=0):
        order = plans.droplevel(0).sort_values(kind="stable").index.tolist()
        following = dict(zip(order[:-1], order[1:], strict=True))
        here = main[main["product"] == product]
        for entity, plan in zip(here["entity_id"], here["plan"], strict=True):
            if plan in following and str(plan).lower() not in top:
                text = f"on the plan {plan}; the next is {following[plan]}"
                offers[entity] = {"product": str(product) or None, "text": text}
    return offers


def product_offers(held: pd.DataFrame, room: GrowthRoom) -> dict[str, Offer]:
    """Return the most common product that an account lacks."""
    named = held[held["product"] != ""]
    n = named["entity_id"].nunique()
    holders = named.groupby("product")["entity_id"].nunique()
    counts = {str(name): int(count) for name, count in holders.items()}
    sold = set(room.products) or {name for name in counts if counts[name] >= OFFERED_SHARE * n}
    order = sorted((name for name in counts if name in sold), key=lambda name: -counts[name])
    order += sorted(sold - set(order))
    offers: dict[str, Offer] = {}
    for entity, owned in named.groupby("entity_id")["product"].agg(set).items():
        missing = next((name for name in order if name not in owned), None)
        if missing is not None:
            text = f"without {missing}; {counts.get(missing, 0):,} of {n:,} accounts have it"
            offers[str(entity)] = {"product": missing, "text": text}
    return offers


def growth_rules(
    full: pd.DataFrame, seats: Mapping[str, Offer], growth: Growth
) -> dict[str, list[str]]:
    """Return the kinds of expansion recommended by rules, per account.

    Usage beyond the allowance recommends more units. Seats that were nearly full for
    `Growth.full_weeks` weeks recommend more seats; where only their use in 28 days is known, nearly
    full is sufficient.
    """
    beyond = full[(full["unit"] == BY_UNIT) & (full["share"] > 1.0)]
    weeks = full[full["unit"] == BY_SEAT].groupby("entity_id")["weeks"].max().to_dict()
    rules = {str(entity): ["usage"] for entity in beyond["entity_id"]}
    for entity, offer in seats.items():
        is_full = offer.get("share", 0.0) >= growth.nearly_full
        if is_full and weeks.get(entity, growth.full_weeks) >= growth.full_weeks:
            rules.setdefault(entity, []).append("seats")
    return rules


def overdue_blockers(inputs: OfferInputs) -> dict[str, Blocker]:
    """Return a blocker for accounts with overdue invoices at as_of."""
    if not inputs.has("invoices", "due_day", "paid_day", "amount"):
        return {}
    rows = inputs.known("invoices")
    late = rows.filter(is_overdue(rows))
    sums = inputs.read(
        late.group_by("entity_id").agg(
            n=late.count(), amount=late.amount.sum(), due=late.due_day.min()
        )
    )
    currency, today = inputs.company.reporting_currency, day_index(inputs.on)
    return {
        entity: {"code": "overdue", "text": overdue_words(n, amount, currency, today - due)}
        for entity, n, amount, due in sums.itertuples(index=False)
    }


def overdue_words(n: int, amount: float, currency: str, days: int) -> str:
    """Return overdue invoices as text.

    >>> overdue_words(1, 1200.0, "EUR", 12)
    'an invoice over 1,200 EUR is 12 days overdue'
    >>> overdue_words(2, 90.4, "EUR", 1)
    '2 invoices over 90 EUR, the oldest 1 day overdue'
    """
    late = f"{days:.0f} day{'s' if days != 1 else ''} overdue"
    money = f"{amount:,.0f} {currency}" if np.isfinite(amount) else "an unknown amount"
    return (
        f"an invoice over {money} is {late}"
        if n == 1
        else f"{n} invoices over {money}, the oldest {late}"
    )


def opportunity_blockers(inputs: OfferInputs) -> dict[str, Blocker]:
    """Return a blocker for accounts with an open expansion opportunity at as_of."""
    if not inputs.has("opportunities", "kind", "stage"):
        return {}
    rows = inputs.known("opportunities")
    is_open = (rows.kind == "expansion") & ~rows.stage.lower().isin(CLOSED_STAGES)
    open_rows = rows.filter(is_open)
    amount = open_rows.amount if "amount" in open_rows.columns else ibis.null("float64")
    close = open_rows.close_day if "close_day" in open_rows.columns else ibis.null("int64")
    open_rows = open_rows.mutate(_amount=ibis.coalesce(amount, -1.0), _close=close)
    first = open_rows.group_by("entity_id").agg(
        amount=open_rows._amount.max(),
        stage=open_rows.stage.argmax(open_rows._amount),
        close=open_rows._close.argmax(open_rows._amount),
    )
    return {
        entity: {
            "code": "open_opportunity",
            "text": deal_words(amount, str(stage), close, inputs.company.reporting_currency),
        }
        for entity, amount, stage, close in inputs.read(first).itertuples(index=False)
    }


def deal_words(amount: float, stage: str, close: float | None, currency: str) -> str:
    """Return an open expansion opportunity as text.

    >>> deal_words(12000.0, "proposal", 20575, "EUR")
    'an expansion over 12,000 EUR is open (proposal), expected close 2026-05-02'
    >>> deal_words(-1.0, "discovery", None, "EUR")
    'an expansion is open (discovery)'
    """
    money = f" over {amount:,.0f} {currency}" if amount is not None and amount >= 0 else ""
    until = "" if close is None or np.isnan(close) else f", expected close {index_day(int(close))}"
    return f"an expansion{money} is open ({stage.replace('_', ' ')}){until}"


def contacts(inputs: OfferInputs) -> dict[str, Contact]:
    """Return the contact of each account: a champion if possible, then the latest active person.

    People who left are excluded. Contacts have no history: role and champion are the latest values.
    """
    if "contacts" not in inputs.loaded.tables:
        return {}
    people = pq.read_table(inputs.loaded.tables["contacts"].path).to_pandas()
    moment = pd.Timestamp(inputs.on)
    people = people[people["known_at"] <= moment]
    people = people.sort_values("known_at").drop_duplicates("contact_id", keep="last")
    people = people.reindex(columns=["account_id", "contact_id", "role", "is_champion", "left_at"])
    stays = people["left_at"].isna() | (pd.to_datetime(people["left_at"]) > moment)
    people = people[stays].assign(is_champion=people["is_champion"].eq(True))
    people["seen"] = people["contact_id"].map(last_seen(inputs))
    first = people.sort_values(
        ["is_champion", "seen", "contact_id"], ascending=[False, False, True], na_position="last"
    ).drop_duplicates("account_id")
    return {
        row.account_id: {
            "contact_id": row.contact_id,
            "role": None if pd.isna(row.role) else row.role,
            "is_champion": bool(row.is_champion),
            "last_active_on": None if pd.isna(row.seen) else str(index_day(int(row.seen) - 1)),
        }
        for row in first.itertuples(index=False)
    }


def last_seen(inputs: OfferInputs) -> dict[str, int]:
    """Return the last day of usage or a survey answer by person id."""
    parts = []
    for table, column in (("usage_events", "user_id"), ("survey_responses", "respondent_id")):
        if inputs.has(table, column):
            daily, today = inputs.daily[table], day_index(inputs.on)
            recent = daily.filter(
                daily.day <= today, daily.known_day <= today, daily.day > today - SEEN_DAYS
            )
            parts.append(recent.select(person=recent[column], day=recent.day))
    if not parts:
        return {}
    both = parts[0] if len(parts) == 1 else ibis.union(*parts)
    last = inputs.read(both.group_by("person").agg(day=both.day.max()))
    return dict(zip(last["person"], last["day"], strict=True))
