"""The prospective record: scores read from the ledger, joined with what then happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import pandas as pd

from configs.runtime.errors import BellwetherError
from configs.schema.company import Company, Target
from configs.schema.workspace import Workspace
from features.days import day_index
from features.labels import label_moments
from features.sources import Loaded
from serving.ledger.store.ledger import Ledger
from training.registry.releases import get, open_store
from training.report.content import plain_content
from training.validation.served_scores import SCORE_COLUMNS, first_of_month, served_content

Progress = Callable[[str], None]
Plain = dict[str, Any]

NO_FACTS = "kept by an earlier version, without the facts its window follows from"


def served_record(
    workspace: Workspace, loaded: Loaded, now: datetime, progress: Progress = lambda _: None
) -> Plain:
    """Judge every score served by its own contract, with its facts of that time.

    The caller holds the state directory's lock.

    Returns
    -------
    dict
        See `training.validation.served_scores.served_content`.
    """
    with Ledger.open(workspace) as ledger:
        scores = _scores(ledger)
    progress(f"judging {len(scores):,} scores served so far")
    judged = _judged(workspace, loaded, scores, now)
    content: Plain = plain_content(
        served_content(judged, now, seed=workspace.company.training.seed)
    )
    return content


def _scores(ledger: Ledger) -> pd.DataFrame:
    """Return the first score per account, target, model and month, with its facts."""
    rows = ledger.scores.everything().to_pandas()
    rows = rows.rename(columns={"bundle_sha": "model", "probability": "p"})
    rows = first_of_month(rows)
    facts = [json.loads(text) if text else {} for text in rows.pop("facts")]
    return rows.assign(facts=facts)


def _judged(
    workspace: Workspace, loaded: Loaded, scores: pd.DataFrame, now: datetime
) -> pd.DataFrame:
    """Return `SCORE_COLUMNS` of every score."""
    named = scores.assign(
        arr=[_number(item.get("arr")) for item in scores["facts"]],
        segment=[item.get("segment") for item in scores["facts"]],
    )
    parts = []
    for (release_id, target), rows in named.groupby(["release_id", "target"], sort=True):
        company = contracted(workspace, str(release_id), str(target))
        parts.append(_labelled(workspace, loaded, company, str(target), rows, now))
    if not parts:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(SCORE_COLUMNS)]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def contracted(workspace: Workspace, release_id: str, target: str) -> Company:
    """Return the company with the target as the release's label contract has it."""
    company = workspace.company
    try:
        contract = get(open_store(workspace), release_id).label_contracts[target]
    except (BellwetherError, KeyError):
        return company  # a release that is gone: the configuration of today replaces it
    fields = {name: contract[name] for name in Target.model_fields if name in contract}
    grace = {"grace_days": contract.get("grace_days", company.cohort.grace_days)}
    return company.model_copy(
        update={
            "targets": {**company.targets, target: Target.model_validate(fields)},
            "cohort": company.cohort.model_copy(update=grace),
        }
    )


def _labelled(
    workspace: Workspace,
    loaded: Loaded,
    company: Company,
    target: str,
    rows: pd.DataFrame,
    now: datetime,
) -> pd.DataFrame:
    has_facts = rows["facts"].map(bool)
    known, unknown = rows[has_facts], rows[~has_facts]
    columns = ["label", "excluded", "closes_at", "decision_at", "so_far"]
    parts = [unknown.reindex(columns=[*unknown.columns, *columns]).assign(excluded=NO_FACTS)]
    if target in company.targets and len(known):
        moments = {target: moments_of(known)}
        found = label_moments(workspace, loaded, company, moments, now)[target]
        found = found.rename(columns={"label_known_at": "closes_at"})
        wanted = found[["entity_id", "as_of", *columns]]
        parts.append(known.merge(wanted, on=["entity_id", "as_of"], how="left"))
    return pd.concat([_typed(part) for part in parts if len(part)], ignore_index=True)


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns have their types even where nothing is known."""
    moments = {name: rows[name].astype("datetime64[us, UTC]") for name in ("closes_at",
               "decision_at")}  # fmt: skip
    return rows.assign(
        label=rows["label"].astype("float64"), so_far=rows["so_far"].astype(object), **moments
    )


def moments_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the state of each account when it was scored, from the facts kept with its score."""
    once = rows.drop_duplicates(["entity_id", "as_of"])
    facts = list(once["facts"])
    return pd.DataFrame(
        {
            "entity_id": list(once["entity_id"]),
            "as_of_day": [day_index(moment.date()) for moment in once["as_of"]],
            "status": [str(item.get("status", "scored")) for item in facts],
            "arr": [_number(item.get("arr")) for item in facts],
            "tenure_days": [int(item.get("tenure_days") or 0) for item in facts],
            "is_under_contract": [bool(item.get("is_under_contract")) for item in facts],
            "renews_day": pd.array([_renews(item) for item in facts], dtype="Int64"),
        }
    )


def _renews(facts: Mapping[str, Any]) -> int | None:
    renews_on = facts.get("renews_on")
    return day_index(date.fromisoformat(str(renews_on)[:10])) if renews_on else None
