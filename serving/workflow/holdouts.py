"""Randomised hold-out: drawn from the flagged accounts, stored in a file, used in the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.errors import ConfigError, StateError
from configs.runtime.hashing import canonical_json
from configs.runtime.state_directory import State
from configs.schema.plays import load_plays
from configs.schema.workspace import Workspace
from features.labels import label_moments
from features.sources import Loaded
from serving.batch.score_book import read_latest, read_table
from serving.ledger.served_history import contracted, moments_of
from serving.workflow.risk_store import RiskStore
from training.pipeline import TrainedCandidate
from training.registry.releases import Release
from training.report.content import plain_content
from training.validation.current_accounts import RAISED
from training.validation.interventions import (
    assign,
    holdout_content,
    interventions_content,
    touched_content,
)

FILE = "holdout.jsonl"
FACTS = ("arr", "renews_on", "tenure_days")

Plain = dict[str, Any]


@dataclass(frozen=True)
class HoldoutDraw:
    """Result of one hold-out draw.

    Attributes
    ----------
    accounts : pandas.DataFrame
        Accounts assigned in this draw: account_id, band, arr, stratum, arm.
    kept : int
        Flagged accounts that keep their arm from an earlier draw.
    file : Path
        File with all draws.
    """

    accounts: pd.DataFrame
    kept: int
    file: Path


def holdout_file(state: State) -> Path:
    """Return the append-only file of all draws: one JSON line per account."""
    return state.root / "holdout" / FILE


def draw_holdout(workspace: Workspace, *, share: float, seed: int, now: datetime) -> HoldoutDraw:
    """Assign the flagged accounts of the latest scores to treatment and hold-out at random.

    The caller must hold the lock of the state directory.

    Raises
    ------
    ConfigError
        A share that is not between 0 and 1.
    StateError
        No scores are published, or the file of earlier draws is damaged.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(
            f"a share of {share:g} holds out no account or every account",
            where="--share",
            fix="a number between 0 and 1, for example 0.2",
        )
    run = read_latest(workspace.state)
    if run is None:
        raise StateError(
            "no scores are published yet",
            where=str(workspace.state.scores),
            fix=f"bellwether score {workspace.folder}",
        )
    book = read_table(run).to_pandas().rename(columns={"risk_band": "band"})
    flagged = book[(book["status"] == "scored") & book["band"].isin(RAISED)]
    file = holdout_file(workspace.state)
    taken = {row["account_id"]: row["arm"] for row in read_draws(file)}
    columns = ["account_id", "band", *FACTS, "churn_asks_about"]
    accounts = assign(flagged[columns], share, seed=seed, taken=taken)
    same = {
        "assigned_at": now.isoformat(),
        "as_of": run.as_of,
        "release_id": run.release_id,
        "share": share,
        "seed": seed,
    }
    _append(file, [plain_content(row) | same for row in accounts.to_dict("records")])
    return HoldoutDraw(accounts, int(flagged["account_id"].isin(list(taken)).sum()), file)


def _append(file: Path, rows: list[Plain]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as handle:
        handle.writelines(canonical_json(row) + "\n" for row in rows)
        handle.flush()
        os.fsync(handle.fileno())


def read_draws(file: Path) -> list[Plain]:
    """Return every assigned account, oldest first.

    Raises
    ------
    StateError
        A line cannot be read, or an account has two arms: the file was edited.
    """
    if not file.exists():
        return []
    rows: list[Plain] = []
    arms: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            arm = arms.setdefault(row["account_id"], row["arm"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise _edited(f"line {number} cannot be read: {error}", file) from error
        if arm != row["arm"]:
            raise _edited(f"account {row['account_id']} has two arms", file)
        rows.append(row)
    return rows


def _edited(what: str, file: Path) -> StateError:
    return StateError(
        f"the hold-out file is damaged: {what}",
        where=str(file),
        fix="restore the file from a backup; a new draw would invalidate the experiment",
    )


def interventions(
    workspace: Workspace,
    loaded: Loaded,
    trained: Mapping[str, TrainedCandidate],
    release: Release,
    now: datetime,
) -> Plain | None:
    """Return the report section on interventions; None without a churn target."""
    company = workspace.company
    named = (name for name, item in company.targets.items() if item.outcome == "churn")
    target = next((name for name in named if name in trained), None)
    if target is None:
        return None
    rows = trained[target].predictions
    rows = rows[rows["is_headline"]].reset_index(drop=True)
    touches = touches_of(workspace, loaded)
    found: Plain = plain_content(
        interventions_content(
            None
            if touches is None
            else touched_content(rows, touches, release.bands.get(target, {})),
            _holdout(workspace, loaded, target, now),
            float(rows["label"].mean()) if len(rows) else None,
        )
    )
    return found


def touches_of(workspace: Workspace, loaded: Loaded) -> pd.DataFrame | None:
    """Return the interventions: one row per outbound contact or play.

    From the source table and from the events recorded on the pages; duplicates count once.
    Columns: entity_id, touched_at (UTC). None without any record.
    """
    parts = [_in_source(loaded), _recorded(workspace)]
    known = [part for part in parts if part is not None]
    return pd.concat(known, ignore_index=True) if known else None


def _recorded(workspace: Workspace) -> pd.DataFrame | None:
    store = RiskStore.open(workspace, load_plays(workspace.folder))
    try:
        events = store.touches()
    finally:
        store.close()
    rows = [(event.entity_id, event.on) for event in events if event.on is not None]
    if not rows:
        return None
    touches = pd.DataFrame(rows, columns=["entity_id", "touched_at"])
    moment = pd.to_datetime(touches["touched_at"], utc=True).astype("datetime64[us, UTC]")
    return touches.assign(touched_at=moment)


def _in_source(loaded: Loaded) -> pd.DataFrame | None:
    """Return outbound contacts and plays; None if the source does not record them."""
    info = loaded.tables.get("touches")
    if info is None or not {"initiated_by", "play"} & set(info.columns):
        return None
    rows = pa.concat_tables(map(pq.read_table, info.files)).to_pandas()
    ours = pd.Series(False, index=rows.index)
    if "initiated_by" in rows:
        ours |= rows["initiated_by"].eq("us")
    if "play" in rows:
        ours |= rows["play"].notna()
    moment = pd.to_datetime(rows["touched_at"], utc=True).astype("datetime64[us, UTC]")
    return pd.DataFrame({"entity_id": rows["account_id"], "touched_at": moment})[ours]


def _holdout(workspace: Workspace, loaded: Loaded, target: str, now: datetime) -> Plain | None:
    """Return the outcomes of both arms, each account as of its draw."""
    draws = read_draws(holdout_file(workspace.state))
    if not draws:
        return None
    parts = []
    frame = pd.DataFrame(draws).assign(facts=pd.Series(draws))
    for release_id, rows in frame.groupby("release_id", sort=True):
        company = contracted(workspace, str(release_id), target)
        asked = pd.DataFrame(
            {
                "entity_id": rows["account_id"],
                "as_of": pd.to_datetime(rows["as_of"], utc=True).astype("datetime64[us, UTC]"),
                "facts": [
                    row | {"is_under_contract": row.get("renews_on") is not None}
                    for row in rows["facts"]
                ],
                "arm": rows["arm"],
                "arr": rows["arr"].astype("float64"),
            }
        )
        moments = {target: moments_of(asked)}
        labels = label_moments(workspace, loaded, company, moments, now)[target]
        wanted = labels[["entity_id", "as_of", "label"]]
        parts.append(asked.merge(wanted, on=["entity_id", "as_of"], how="left"))
    assigned = pd.concat(parts, ignore_index=True)
    return holdout_content(assigned, seed=workspace.company.training.seed)
