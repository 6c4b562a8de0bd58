"""Suppositions: scores of an account as if some features were different.

A supposition is no score of an account: it is not kept in the ledger, and it says what differs in
the model, not what would happen if a number were changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np

from configs.runtime.errors import did_you_mean
from features.feast_store import OnlineRows
from serving.auth.permissions import sees
from serving.http.problems import FieldError, ProblemError
from serving.http.score_text import UNKNOWN, instant
from serving.online.release_loader import LoadedRelease
from serving.online.server_state import ServerState
from serving.scoring.answer import Answer, Score
from training.model.manifest_parts import FeatureReference

NOTE = (
    "What the model associates with such values, not what changing them would do. Features that "
    "follow from one another are not recomputed."
)

_SHOWN: tuple[str, ...] = (
    "target",
    "outcome",
    "measure",
    "probability",
    "low",
    "high",
    "text",
    "band",
    "verdict",
    "raises",
    "lowers",
)


@lru_cache(maxsize=1)
def meanings() -> Mapping[str, str]:
    """Return every feature there is, by name, with its meaning and unit in words."""
    from features.signals import (
        feature_catalogue,  # the signals, which importing the service leaves alone
    )

    return {item.name: f"{item.meaning} ({item.unit})" for item in feature_catalogue()}


def suppose(
    live: ServerState,
    features: Mapping[str, float | None],
    account_id: str | None,
    owners: frozenset[str] | None,
) -> dict[str, Any]:
    """Return the score of an account with other features, or of features alone.

    Parameters
    ----------
    live : ServerState
        The release, book and stores served at present.
    features : mapping of str to float or None
        Values by feature name; None is "not known".
    account_id : str or None
        Account whose present values fill all others; without it they are unknown.
    owners : frozenset of str or None
        Owners whose accounts are visible.

    Raises
    ------
    ProblemError
        An unknown feature, an unknown account, or one that is not predicted.
    """
    if account_id is not None:
        return suppose_of(present(live, account_id, owners), features)
    stage, now = live.current(), live.clock()
    nothing = np.full((1, stage.scorer.width), np.nan)
    known = {"status": "scored", "tenure_days": 0}
    rows = OnlineRows(np.ones(1, dtype=bool), nothing, nothing, [known], [now])
    return suppose_of(AccountState(stage, None, rows, None, now), features)


@dataclass(frozen=True)
class AccountState:
    """Start of a supposition.

    Attributes
    ----------
    stage : LoadedRelease
        The release that scores.
    account_id : str or None
        Account of the values; None without an account.
    rows : OnlineRows
        One row.
    answer : Answer or None
        The present answer for the account; None without an account.
    now : datetime
        The clock.
    """

    stage: LoadedRelease
    account_id: str | None
    rows: OnlineRows
    answer: Answer | None
    now: datetime


def present(live: ServerState, account_id: str, owners: frozenset[str] | None) -> AccountState:
    """Return the present state of an account, from which suppositions start.

    Raises
    ------
    ProblemError
        An unknown account, or one that is not predicted.
    """
    stage, now = live.current(), live.clock()
    rows = _rows(stage, account_id, owners)
    return AccountState(
        stage, account_id, rows, stage.scorer.score([account_id], rows, now)[0], now
    )


def suppose_of(start: AccountState, features: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the score with other features (`suppose`).

    Raises
    ------
    ProblemError
        An unknown feature.
    """
    stage, rows, account_id, before = start.stage, start.rows, start.account_id, start.answer
    names = [str(name) for name in stage.release.feature_set["names"]]
    _check_names(features, names)
    ignored = [name for name in features if name not in names]
    features = {name: value for name, value in features.items() if name in names}
    supposed = rows.values.copy()
    for name, value in features.items():
        supposed[0, names.index(name)] = np.nan if value is None else value
    after = stage.scorer.score([account_id or ""], replace(rows, values=supposed), start.now)[0]
    return {
        "account_id": account_id,
        "release_id": stage.release.release_id,
        "as_of": instant(rows.as_of[0]) if account_id and rows.as_of[0] else None,
        "note": NOTE,
        "ignored": ignored,
        "changed": _changed(stage, names, rows.values[0], features),
        "out_of_range": _out_of_range(stage, names, supposed[0]),
        "missing": [name for name, value in zip(names, supposed[0], strict=True) if value != value],
        "scores": {
            target: {name: _plain(part)[name] for name in _SHOWN} | _beside(before, target, part)
            for target, part in after["scores"].items()
        },
    }


def _check_names(features: Mapping[str, Any], names: list[str]) -> None:
    """Refuse what is no feature; one that this release does not use is none the less one."""
    known = {*names, *meanings()}
    elsewhere = "GET /v1/release has those in use"
    errors: list[FieldError] = [
        {
            "pointer": f"/features/{name[:100]}",
            "message": f"unknown feature; {did_you_mean(name, known) or elsewhere}",
        }
        for name in features
        if name not in known
    ]
    if errors:
        words = "; ".join(f"{item['pointer']}: {item['message']}" for item in errors[:3])
        raise ProblemError("invalid-request", words, errors=errors[:20])


def _rows(stage: LoadedRelease, account_id: str, owners: frozenset[str] | None) -> OnlineRows:
    rows = stage.store.online(stage.scorer.feature_hash, stage.scorer.width, [account_id])
    if not rows.is_known[0] or not sees(owners, rows.facts[0]):
        raise ProblemError("unknown-account", f"no account {account_id!r} in the book")
    if rows.facts[0].get("status") != "scored":
        words = f"its status is {rows.facts[0].get('status', UNKNOWN)}"
        raise ProblemError("not-predicted", words)
    return rows


def _changed(
    stage: LoadedRelease, names: list[str], values: np.ndarray, features: Mapping[str, float | None]
) -> list[dict[str, Any]]:
    info = {item.name: item for model in stage.scorer.models for item in model.bundle.info}
    return [
        {
            "feature": name,
            "label": info[name].label if name in info else name,
            "unit": info[name].unit if name in info else "",
            "before": _number(values[names.index(name)]),
            "value": value,
        }
        for name, value in features.items()
    ]


def _out_of_range(
    stage: LoadedRelease, names: list[str], values: np.ndarray
) -> list[dict[str, Any]]:
    """Return the values no model saw in training, each with the range it did see."""
    found: dict[str, dict[str, Any]] = {}
    place = {name: i for i, name in enumerate(names)}
    for model in stage.scorer.models:
        for item in model.bundle.info:
            seen = model.bundle.manifest.reference.get(item.name, FeatureReference())
            low, high = seen.low, seen.high
            value = values[place[item.name]]
            if low is not None and high is not None and not low <= value <= high and value == value:
                found[item.name] = {
                    "feature": item.name,
                    "value": float(value),
                    "low": low,
                    "high": high,
                }
    return list(found.values())


def _plain(part: Score) -> Mapping[str, Any]:
    return part


def _beside(before: Answer | None, target: str, part: Score) -> dict[str, Any]:
    if before is None:
        return {"before": None, "difference": None}
    p = before["scores"][target]["probability"]
    return {"before": p, "difference": part["probability"] - p}


def _number(value: float) -> float | None:
    return None if value != value else float(value)
