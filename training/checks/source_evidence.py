"""Evidence for the checks from source tables and snapshots, collected once for all targets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd

from configs.schema.workspace import Workspace
from features.online_vectors import matrix
from features.pipeline import FeatureBuild
from features.quality.modelling_hazards import find_duplicates, tables_with_missing_accounts
from features.quality.times import EDITED
from features.signals import FAMILIES
from features.signals.support import CANCELLATION_CATEGORIES, TICKETS
from features.snapshots.grid import ACCOUNT_STATUS, read_snapshot
from features.snapshots.recompute import (
    Tables,
    daily_tables_known_by,
    read_daily_tables,
    recomputed,
    stored_features,
    ticket_categories,
    without_cancellation_tickets,
)
from training.checks.context import CancellationCategories, Evidence, Visibility
from training.checks.ticket_crowding import crowded_categories

SOUNDS_LIKE_LEAVING = ("cancel", "terminat", "offboard", "off-board", "churn", "leaving")


def gather_evidence(
    workspace: Workspace, built: FeatureBuild, progress: Callable[[str], None] = lambda _: None
) -> Evidence:
    """Recompute a past as_of, count cancellation tickets, and read the scored accounts.

    Parameters
    ----------
    workspace : Workspace
        The company.
    built : FeatureBuild
        Built features.
    progress : callable
        Called with one line per step.
    """
    snapshots = built.snapshots
    day = middle_day(built)
    progress(f"checks: rebuilding {day} from what was known then")
    # Rows known after the day of the training are excluded from checks.
    tables = read_daily_tables(workspace, sorted(built.loaded.tables))
    daily = daily_tables_known_by(tables, snapshots.book_on)
    copies, clockless = find_duplicates(built.loaded)
    return Evidence(
        day=pd.Timestamp(day, tz="UTC").as_unit("us"),
        stored=stored_features(snapshots, day),
        rebuilt=recomputed(workspace, snapshots, daily_tables_known_by(daily, day), day),
        leaving=_leaving(workspace, built, daily, day),
        sources=_sources(built),
        book=_book(built),
        copies=copies,
        missing=[item.words for item in tables_with_missing_accounts(built.loaded)],
        clockless=clockless,
    )


def middle_day(built: FeatureBuild) -> date:
    """Return the middle as_of of all training rows, which has much later history."""
    used = {
        moment.date()
        for labels in built.labels.values()
        for moment in labels.frame.loc[labels.frame["excluded"].isna(), "as_of"].unique()
    }
    days = sorted(used) or list(built.snapshots.days)
    return days[len(days) // 2]


def _leaving(
    workspace: Workspace, built: FeatureBuild, daily: Tables, day: date
) -> CancellationCategories | None:
    if TICKETS not in daily:
        return None
    categories = ticket_categories(daily)
    listed = {name: n for name, n in categories.items() if name in CANCELLATION_CATEGORIES}
    kept = without_cancellation_tickets(daily)
    without = recomputed(workspace, built.snapshots, kept, day, reading=TICKETS)
    return CancellationCategories(
        sum(listed.values()), without, lookalikes(categories), _crowding(workspace, built, kept)
    )


def _crowding(workspace: Workspace, built: FeatureBuild, kept: Tables) -> tuple[str, ...]:
    """Return the categories of counted tickets that accumulate right before losses, in words."""
    frames = [
        built.labels[name].frame[["entity_id", "as_of", "label", "decision_at"]]
        for name, target in workspace.company.targets.items()
        if target.outcome == "churn" and name in built.labels
    ]
    if not frames:
        return ()
    tickets = kept[TICKETS].select("entity_id", "day", "category").to_pandas()
    return crowded_categories(tickets, decisions(pd.concat(frames)))


def decisions(labels: pd.DataFrame) -> pd.DataFrame:
    """Return the first dated decision of each account, and since when it was there.

    Parameters
    ----------
    labels : pandas.DataFrame
        One row per entity, as_of and target: entity_id, as_of, label, decision_at (UTC).

    Returns
    -------
    pandas.DataFrame
        One row per entity with a decision: entity_id, decided_day and since_day (since 1970).
    """
    dated = labels[(labels["label"] == 1) & labels["decision_at"].notna()]
    first = dated.groupby("entity_id")["decision_at"].min()
    since = labels.groupby("entity_id")["as_of"].min().reindex(first.index)
    days = pd.DataFrame({"decided_day": first, "since_day": since})
    epoch = pd.Timestamp(0, tz="UTC")
    return days.apply(lambda moments: (moments - epoch).dt.days).reset_index()


def lookalikes(categories: dict[str, int]) -> dict[str, int]:
    """Return categories whose name suggests cancellation but that are not on the deny-list.

    >>> lookalikes({"cancellation": 9, "account cancellation": 4, "billing": 8})
    {'account cancellation': 4}
    """
    return {
        name: n
        for name, n in categories.items()
        if name not in CANCELLATION_CATEGORIES and any(word in name for word in SOUNDS_LIKE_LEAVING)
    }


def _sources(built: FeatureBuild) -> dict[str, Visibility]:
    families = [family for family in FAMILIES if family.name in built.snapshots.sets]
    return {
        name: Visibility(
            info.known_basis,
            sum(len(built.snapshots.sets[f.name].info) for f in families if name in f.tables),
            name in EDITED,
        )
        for name, info in built.loaded.tables.items()
    }


def _book(built: FeatureBuild) -> pd.DataFrame:
    snapshots = built.snapshots
    ids, values = matrix(snapshots, built.features, snapshots.book_on)
    standing = read_snapshot(snapshots, ACCOUNT_STATUS, snapshots.book_on).to_pandas()
    scored = standing.loc[standing["status"] == "scored", "entity_id"]
    return pd.DataFrame(values[np.isin(ids, scored)], columns=built.features.names)
