"""Constant traits of accounts: names, sizes, contracts and owners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.schema.team_capacity import DAYS_PER_WEEK, workable
from features.simulator.mechanism.calendar import (
    DAY,
    Bools,
    Calendar,
    Floats,
    Ints,
    blank_unless,
    dates,
    first_day,
    generator,
    instants,
    month_number,
    month_start,
)

SEGMENTS = ("smb", "mid_market", "enterprise")
SEGMENT_SHARE = (0.55, 0.32, 0.13)
TYPICAL_SEATS = (7.0, 24.0, 85.0)
CONTRACT_SHARE = (0.41, 0.78, 0.95)
PLANS = ("starter", "growth", "scale")
INDUSTRIES = ("logistics", "manufacturing", "retail", "health", "education", "media", "energy")
REGIONS = ("emea", "amer", "apac")
REGION_SHARE = (0.5, 0.35, 0.15)
CURRENCIES = ("EUR", "USD", "GBP")
CURRENCY_SHARE = ((0.75, 0.05, 0.20), (0.05, 0.93, 0.02), (0.35, 0.60, 0.05))
"""Share by region and currency."""

FIRST_RATES = (1.0, 0.93, 1.17)
PRODUCTS = ("core", "analytics", "automation")
LIST_PRICE = (600.0, 240.0, 360.0)
"""Per seat and year, in the account's currency."""

TERMS, TERM_SHARE = (12, 24, 36), (0.85, 0.10, 0.05)
NOTICE_PERIODS, NOTICE_SHARE = (30, 60, 90), (0.35, 0.40, 0.25)
ESCALATORS, ESCALATOR_SHARE = (0.0, 0.03, 0.05), (0.65, 0.20, 0.15)
EXISTING_SHARE = 0.70
ACCOUNTS_PER_OWNER = 40
TEAM_PER_MONTH = 40
"""Team capacity in accounts a month, as in company.yaml of the example."""

ONSETS = ("B", "Br", "D", "Dr", "F", "G", "Gl", "H", "K", "Kr", "L", "M", "N", "P", "Pl", "Qu")
ENDINGS = ("alto", "enva", "ivor", "ondra", "ulme", "aveth", "ellow", "irune", "oskel", "umara")
TRADES = ("Works", "Systems", "Foods", "Freight", "Labs", "Energy", "Studios", "Tools", "Partners")
ODD_NAMES = (
    "Ünveröl & Søhne ÆØÅ",
    "شركة نورفال",
    "חברת גלורן",
    "ヴェルマ工業",
    "🚀 Lumeko",
    '"Quoted" Partners',
    "<b>Boldane</b> Works",
    "O'Malveth; DROP & Co",
    "Comma, Semicolon; and Co",
    "=SUM(1+1) Holdings",
    "Null",
)
"""Names that test escaping and encoding."""


@dataclass(frozen=True)
class AccountTraits:
    """Accounts as arrays, one position per account.

    Attributes
    ----------
    started : day the account began; before the first simulated day for `EXISTING_SHARE`
    segment, region, currency : position in the module's tuples
    term_months : 12, 24 or 36; 0 when month to month
    owns : accounts × products, at the start
    unit_price : accounts × products, list price per seat and year in the account's currency
    """

    account_id: np.ndarray
    name: np.ndarray
    started: Ints
    segment: Ints
    region: Ints
    industry: Ints
    currency: Ints
    parent: Ints
    owner: Ints
    term_months: Ints
    notice_period: Ints
    auto_renew: Bools
    escalator: Floats
    discount: Floats
    seats: Ints
    owns: Bools
    unit_price: Floats

    def __len__(self) -> int:
        return len(self.started)

    @property
    def has_contract(self) -> Bools:
        """Under contract rather than month to month."""
        return self.term_months > 0


def draw_accounts(seed: int, n_accounts: int, calendar: Calendar) -> AccountTraits:
    """Draw the accounts of a simulation."""
    rng = generator(seed, "book")
    segment = rng.choice(3, n_accounts, p=SEGMENT_SHARE)
    region = rng.choice(3, n_accounts, p=REGION_SHARE)
    contract = rng.random(n_accounts) < np.array(CONTRACT_SHARE)[segment]
    seats = np.maximum(3, np.array(TYPICAL_SEATS)[segment] * rng.lognormal(0, 0.45, n_accounts))
    add_ons = rng.random((n_accounts, 2)) < np.array([0.35, 0.25])
    discount = np.clip(rng.normal(0.08, 0.07, n_accounts), 0, 0.35).round(2).astype(np.float64)
    return AccountTraits(
        account_id=np.array([f"A-{i + 1:05d}" for i in range(n_accounts)], dtype=object),
        name=_names(rng, n_accounts),
        started=_starts(rng, n_accounts, calendar),
        segment=segment,
        region=region,
        industry=rng.integers(0, len(INDUSTRIES), n_accounts),
        currency=_pick(rng, np.array(CURRENCY_SHARE)[region]),
        parent=_parents(rng, n_accounts),
        owner=rng.integers(0, n_owners(n_accounts), n_accounts),
        term_months=np.where(contract, rng.choice(TERMS, n_accounts, p=TERM_SHARE), 0),
        notice_period=rng.choice(NOTICE_PERIODS, n_accounts, p=NOTICE_SHARE),
        auto_renew=rng.random(n_accounts) < np.where(contract, 0.7, 1.0),
        escalator=rng.choice(ESCALATORS, n_accounts, p=ESCALATOR_SHARE) * contract,
        discount=discount,
        seats=seats.round().astype(np.int64),
        owns=np.column_stack([np.ones(n_accounts, dtype=bool), add_ons]),
        unit_price=np.array(LIST_PRICE) * rng.lognormal(0, 0.08, (n_accounts, 1)),
    )


def n_owners(n_accounts: int) -> int:
    """Return the number of CSMs for a number of accounts."""
    return max(2, n_accounts // ACCOUNTS_PER_OWNER)


def accounts_table(traits: AccountTraits) -> pd.DataFrame:
    """Return the accounts table: one row per account."""
    has_parent = traits.parent >= 0
    return pd.DataFrame(
        {
            "account_id": traits.account_id,
            "created_at": instants(traits.started * DAY + 9 * 3600),
            "name": traits.name,
            "segment": np.array(SEGMENTS, dtype=object)[traits.segment],
            "plan": np.array(PLANS, dtype=object)[traits.owns.sum(axis=1) - 1],
            "industry": np.array(INDUSTRIES, dtype=object)[traits.industry],
            "region": np.array(REGIONS, dtype=object)[traits.region],
            "parent_account_id": blank_unless(has_parent, traits.account_id[traits.parent]),
            "owner_id": np.array([owner_id(i) for i in traits.owner], dtype=object),
        }
    )


def owner_id(number: int) -> str:
    """Return the id of a CSM by position."""
    return f"csm-{number + 1:02d}"


def owners_table(traits: AccountTraits, calendar: Calendar) -> pd.DataFrame:
    """Return the owners table: one row per CSM."""
    number = np.arange(n_owners(len(traits)))
    team = number % len(REGIONS)
    share = workable(TEAM_PER_MONTH, DAYS_PER_WEEK) / len(number)
    return pd.DataFrame(
        {
            "owner_id": [owner_id(int(i)) for i in number],
            "created_at": instants(np.full(len(number), (calendar.starts[0] - 400) * DAY)),
            "name": [f"CSM {i + 1:02d}" for i in number],
            "team": np.array(REGIONS, dtype=object)[team],
            "manager_id": [f"manager-{i + 1}" for i in team],
            "capacity": np.round(share * (0.75 + 0.5 * (number % 2)), 2),
        }
    )


def rates_table(seed: int, since: int, calendar: Calendar) -> pd.DataFrame:
    """Return the rates table: one row per currency and first of a month, from day `since` on."""
    rng = generator(seed, "rates")
    first, last = month_number(np.array([since, calendar.now_day]))
    days = first_day(np.arange(first, last + 1))
    moves = rng.normal(0, 0.008, (len(days), len(CURRENCIES))) * (np.array(FIRST_RATES) != 1.0)
    rate = np.array(FIRST_RATES) * np.exp(np.cumsum(moves, axis=0))
    return pd.DataFrame(
        {
            "currency": np.tile(np.array(CURRENCIES, dtype=object), len(days)),
            "as_of_on": dates(np.repeat(days, len(CURRENCIES))),
            "rate": rate.ravel().round(6),
        }
    )


def _pick(rng: np.random.Generator, shares: Floats) -> Ints:
    """Return one position per row of `shares`, drawn with those probabilities."""
    above: Ints = (rng.random((len(shares), 1)) > np.cumsum(shares, axis=1)).sum(axis=1)
    return np.minimum(above, shares.shape[1] - 1)


def _starts(rng: np.random.Generator, n: int, calendar: Calendar) -> Ints:
    """Return the day each account began: the 2nd to the 28th, so that anniversaries exist."""
    first, last = int(calendar.starts[0]), int(calendar.starts[calendar.n_months - 1])
    before = first - rng.integers(30, 900, n)
    during = rng.integers(first, max(first + 1, last - 30), n)
    days = np.where(rng.random(n) < EXISTING_SHARE, before, during).astype(np.int64)
    month = month_start(days)
    return month + np.clip(days - month, 1, 27)


def _parents(rng: np.random.Generator, n: int) -> Ints:
    """Return the position of each account's parent, −1 for none; parents have no parent."""
    parent = np.full(n, -1, dtype=np.int64)
    children = rng.permutation(n)[: n // 10]
    heads = np.setdiff1d(np.arange(n), children)[: max(1, n // 25)]
    parent[children] = rng.choice(heads, len(children))
    return parent


def _names(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return unique invented names, including `ODD_NAMES`."""
    stems = [onset + ending for onset in ONSETS for ending in ENDINGS]
    plain = [f"{stem} {trade}" for trade in TRADES for stem in stems]
    rounds = -(-n // len(plain))
    pool = [name if r == 0 else f"{name} {r + 1}" for r in range(rounds) for name in plain]
    names = np.array(pool, dtype=object)[rng.permutation(len(pool))[:n]]
    places = rng.permutation(n)[: len(ODD_NAMES)]
    names[places] = np.array(ODD_NAMES, dtype=object)[: len(places)]
    return names
