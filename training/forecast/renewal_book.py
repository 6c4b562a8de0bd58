"""What is known and what is open at one moment: the book a forecast starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.revenue.retention import levels, position
from training.forecast.inputs import UNASSIGNED, ForecastInputs
from training.forecast.simulate import ForecastStep
from training.forecast.size_distributions import SizeDistributions

WON, LOST = ("closed_won", "closed won", "won"), ("closed_lost", "closed lost", "lost")
CLOSE_DAYS = 45
"""A renewal opportunity belongs to the renewal this close to its expected close."""


@dataclass(frozen=True)
class ForecastRequest:
    """What the scores are the chances of.

    Attributes
    ----------
    horizon_days : int
        Of accounts asked about the horizon.
    until_renewal : bool
        Accounts under contract are asked about their renewal.
    growth_days : int
        Horizon of the chance to grow.
    delays : tuple of int
        Days from past decisions to leave to the end of the ARR, of accounts asked about the
        horizon; empty: at once.
    """

    horizon_days: int
    until_renewal: bool
    growth_days: int
    delays: tuple[int, ...] = ()


@dataclass(frozen=True)
class RenewalBook:
    """Every account with ARR at a moment or at the start of its quarter.

    Attributes
    ----------
    at, since : int
        Day indices: the moment, and the start of the quarter it lies in.
    accounts : pandas.DataFrame
        One row per account, sorted by id: entity_id, name, segment, owner, base (ARR at `since`),
        arr (ARR now), status, asks_renewal, renews_day, is_pending, is_signed, commit, p_lost and
        p_grows (as scored; the mean of their kind where there is no score), has_score.
    announced : pandas.DataFrame
        ARR known to end: entity_id, day, arr.
    terms, steps : pandas.DataFrame
        As known at the moment.
    """

    at: int
    since: int
    accounts: pd.DataFrame
    announced: pd.DataFrame
    terms: pd.DataFrame
    steps: pd.DataFrame


def book_at(
    inputs: ForecastInputs,
    at: int,
    since: int,
    chances: Mapping[str, pd.Series],
    asked: ForecastRequest,
    magnitudes: SizeDistributions | None = None,
) -> RenewalBook:
    """Return the book at a moment of the grid, as it was known then.

    Parameters
    ----------
    inputs : Inputs
        With terms.
    at, since : int
        Day indices: the moment, and the start of its quarter.
    chances : mapping of str to Series
        ``churn`` and ``expansion`` to probabilities by entity_id; a missing one is empty.
    asked : Asked
        What they are the chances of.
    magnitudes : Magnitudes, optional
        Past growth, where there is no chance of it.
    """
    terms = inputs.terms_at(at)
    steps = levels(terms, at)
    base, arr = position(steps, since), position(steps, at)
    table = pd.DataFrame({"base": base, "arr": arr})
    table = table[(table["base"] > 0) | (table["arr"] > 0)]
    where = inputs.standing(at).set_index("entity_id")
    table = table.join(where[["status", "is_under_contract", "renews_day"]])
    table = table.join(inputs.names).fillna({"segment": UNASSIGNED, "owner": UNASSIGNED})
    table["status"] = table["status"].fillna("insufficient_data")
    table["is_under_contract"] = table["is_under_contract"].eq(True)
    table["asks_renewal"] = table["is_under_contract"] & asked.until_renewal
    table["is_pending"] = (table["status"] == "pending_renewal") & asked.until_renewal
    deals = _deals_at(inputs.deals, table, at)
    table = table.join(deals[["commit", "is_signed"]])
    table = _with_chances(table, chances, magnitudes)
    announced = pd.concat([_announced(terms, at), _lost_deals(table, deals)], ignore_index=True)
    announced = announced[announced["entity_id"].isin(table.index)]
    return RenewalBook(
        at, since, table.rename_axis("entity_id").reset_index(), announced, terms, steps
    )


def _with_chances(
    table: pd.DataFrame, chances: Mapping[str, pd.Series], magnitudes: SizeDistributions | None
) -> pd.DataFrame:
    """Attach both chances; accounts without a score get the mean of their kind."""
    lost = chances.get("churn", pd.Series(dtype="float64")).reindex(table.index)
    grows = chances.get("expansion", pd.Series(dtype="float64")).reindex(table.index)
    has_score = lost.notna()
    kind = table["asks_renewal"] | table["is_pending"]
    by_kind = lost.groupby(kind).transform("mean")
    lost = lost.fillna(by_kind).fillna(lost.mean()).fillna(0.0)
    usual = magnitudes.growth_rate(is_due=False) if magnitudes else 0.0
    grows = grows.fillna(grows.mean() if grows.notna().any() else usual)
    return table.assign(p_lost=lost, p_grows=grows, has_score=has_score)


def _announced(terms: pd.DataFrame, at: int) -> pd.DataFrame:
    """Return the ends of terms under notice: entity_id, day (after `at`) and arr."""
    ending = terms[terms["announced_day"].notna() & (terms["fate"] == "held")]
    day = ending["announced_day"].clip(lower=at + 1)
    table = pd.DataFrame({"entity_id": ending["entity_id"], "day": day, "arr": ending["arr"]})
    return table.dropna().reset_index(drop=True)


def _deals_at(deals: pd.DataFrame | None, table: pd.DataFrame, at: int) -> pd.DataFrame:
    """Return, per account, its coming renewal's opportunity as it stood: commit, won or lost."""
    nothing = pd.DataFrame(index=table.index).assign(commit=np.nan, is_signed=False, is_lost=False)
    if deals is None:
        return nothing
    seen = deals[(deals["day"] <= at) & (deals["known_day"] <= at) & (deals["kind"] == "renewal")]
    seen = seen.sort_values(["day", "known_day"], kind="stable")
    seen = seen.drop_duplicates(["entity_id", "opportunity_id"], keep="last")
    renews = seen["entity_id"].map(table["renews_day"])
    seen = seen[(seen["close_day"] - renews).abs() <= CLOSE_DAYS]
    last = seen.drop_duplicates("entity_id", keep="last").set_index("entity_id")
    stage = last["stage"].str.lower()
    commit = last["commit"].astype("float64").where(~stage.isin([*WON, *LOST]))
    found = pd.DataFrame(
        {"commit": commit, "is_signed": stage.isin(WON), "is_lost": stage.isin(LOST)}
    )
    return nothing.assign(
        commit=found["commit"].reindex(table.index),
        is_signed=found["is_signed"].reindex(table.index).eq(True),
        is_lost=found["is_lost"].reindex(table.index).eq(True),
    )


def _lost_deals(table: pd.DataFrame, deals: pd.DataFrame) -> pd.DataFrame:
    """Return renewals closed as lost without a notice: their ARR ends with the term."""
    is_told = deals["is_lost"] & (table["status"] != "notice_given") & table["renews_day"].notna()
    lost = table[is_told & (table["arr"] > 0)]
    return pd.DataFrame(
        {"entity_id": lost.index, "day": lost["renews_day"] + 1.0, "arr": lost["arr"]}
    ).reset_index(drop=True)


def step_of(book: RenewalBook, asked: ForecastRequest, start: int, end: int) -> ForecastStep:
    """Return what may happen to each account of the book in ``(start, end]``.

    Parameters
    ----------
    book : Book
        The book.
    asked : Asked
        What its chances are of.
    start, end : int
        Day indices, ``book.at <= start < end``.
    """
    table = book.accounts
    is_due = due_in(book, start, end)
    p = table["p_lost"].to_numpy(dtype=np.float64)
    by_renewal = (table["asks_renewal"] | table["is_pending"]).to_numpy()
    gone = left_within(p, start - book.at, asked)
    ahead = left_within(p, end - book.at, asked)
    by_horizon = np.divide(ahead - gone, 1.0 - gone, out=np.zeros(len(p)), where=gone < 1.0)
    p_lost = np.where(by_renewal, np.where(is_due, p, 0.0), by_horizon)
    p_lost = np.where(table["is_signed"].to_numpy(), 0.0, p_lost)
    grows = table["p_grows"].to_numpy(dtype=np.float64)
    p_grows = 1.0 - (1.0 - grows) ** ((end - start) / asked.growth_days)
    return ForecastStep(
        p_lost=p_lost,
        p_grows=np.minimum(p_grows, 1.0 - p_lost),
        known=known_share(book, start, end),
        pool=is_due.astype(np.int64),
        is_open=((table["arr"] > 0) & (table["status"] != "notice_given")).to_numpy(),
    )


def due_in(book: RenewalBook, start: int, end: int) -> np.ndarray:
    """Return which accounts renew in ``[start, end)``; late renewals count at once."""
    renews = book.accounts["renews_day"].to_numpy(dtype=np.float64)
    late = book.accounts["is_pending"].to_numpy() & (start == book.at)
    due: np.ndarray = ((renews >= start) & (renews < end)) | late
    return due


def left_within(p: np.ndarray, days: int, asked: ForecastRequest) -> np.ndarray:
    """Return the chance that ARR has ended within some days, decisions being spread evenly.

    The chance of deciding within the horizon is spread over its days; the ARR ends later by the
    delays of the past. Decisions taken before are known, and not counted here.
    """
    delays, counts = np.unique(asked.delays or (0,), return_counts=True)
    spans = np.maximum(0, days - delays) / asked.horizon_days
    ended: np.ndarray = 1.0 - (1.0 - p[:, None]) ** spans[None, :]
    return ended @ (counts / counts.sum())


def known_share(book: RenewalBook, start: int, end: int) -> np.ndarray:
    """Return the share of each account's ARR at `start` that is not known to end by `end`."""
    arr = book.accounts.set_index("entity_id")["arr"]
    ends = book.announced
    before = ends[ends["day"] <= start].groupby("entity_id")["arr"].sum().reindex(arr.index)
    inside = ends[(ends["day"] > start) & (ends["day"] <= end)]
    lost = inside.groupby("entity_id")["arr"].sum().reindex(arr.index).fillna(0.0)
    left = (arr - before.fillna(0.0)).clip(lower=0.0)
    share = 1.0 - (lost / left.where(left > 0)).fillna(0.0).clip(0.0, 1.0)
    found: np.ndarray = share.where(left > 0, 0.0).to_numpy(dtype=np.float64)
    return found


def groups_of(accounts: pd.DataFrame) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return the groups sums are told for, and who belongs to which.

    Returns
    -------
    (list of (kind, name), array)
        ``("all", "all")`` first, then segments and owners by name; accounts × groups, 0 or 1.
    """
    names: list[tuple[str, str]] = [("all", "all")]
    columns: list[np.ndarray] = [np.ones(len(accounts))]
    for kind in ("segment", "owner"):
        found: Sequence[str] = sorted(accounts[kind].astype(str).unique())
        for name in found if len(found) > 1 else ():
            names.append((kind, name))
            columns.append((accounts[kind].astype(str) == name).to_numpy(dtype=np.float64))
    return names, np.column_stack(columns)
