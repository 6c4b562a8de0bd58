"""Page of what-if scores: the score for other values of actionable facts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from configs.runtime.state_directory import read_json
from serving.auth.permissions import SCORE, RequiredRole
from serving.online.current_state import Live
from serving.online.server_state import ServerState
from serving.online.whatif import present, suppose_of
from serving.pages.common import PageRouter, as_json, common, visible_owners
from serving.pages.templating import page
from serving.scoring.answer import Score
from serving.scoring.export_rows import first_per_outcome
from training.model.bands import newest_vectors

SCALES = {"share": "%", "ratio": "%", "log_ratio": "% change"}
"""Units that are displayed in percent."""


@dataclass(frozen=True)
class Lever:
    """Actionable value. Numbers are in display units: shares and changes in percent.

    Attributes
    ----------
    feature, label, unit : str
        Name, label and display unit.
    window_days : int or None
        Length of its time window.
    is_flag : bool
        Whether the value is yes or no.
    now : float
        Current value.
    low, high : float
        Allowed range: it includes the current value and the middle half of similar accounts.
    typical_low, typical_high : float
        Middle half of similar accounts.
    asked : str
        Input of the user; empty for no change.
    error : str
        Error in the input.
    """

    feature: str
    label: str
    unit: str
    window_days: int | None
    is_flag: bool
    now: float
    low: float
    high: float
    typical_low: float
    typical_high: float
    asked: str = ""
    error: str = ""


router = PageRouter(dependencies=[Depends(RequiredRole(SCORE))])


async def whatif_values(account_id: str, request: Request, live: Live) -> dict[str, Any]:
    """Return the template values for the account and the input of a request."""
    asked = dict(request.query_params)
    work = partial(view, live, account_id[:200], visible_owners(live, request), asked)
    return await asyncio.get_running_loop().run_in_executor(live.singles, work)


WhatIfValues = Annotated[dict[str, Any], Depends(whatif_values)]


@router.page("/accounts/{account_id:path}/what-if")
async def whatif_page(live: Live, found: WhatIfValues) -> Response:
    """Return the page with the form and its result."""
    return page("whatif.html", **common(live, ""), **found)


@router.get("/accounts/{account_id:path}/what-if.json")
async def whatif_json(found: WhatIfValues) -> Response:
    """Return the actionable values and the result as JSON."""
    return as_json(
        {
            "account_id": found["a"]["account_id"],
            "levers": [vars(lever) for lever in found["levers"]],
            "supposed": found["supposed"],
            "out_of_range": found["outside"],
        }
    )


def view(
    live: ServerState, account_id: str, owners: frozenset[str] | None, asked: Mapping[str, str]
) -> dict[str, Any]:
    """Return the template values of the page.

    Parameters
    ----------
    live : ServerState
        The server state.
    account_id : str
        The account.
    owners : frozenset of str or None
        Owners whose accounts the reader may see; None for all.
    asked : mapping of str to str
        Input by feature; other names are ignored.

    Raises
    ------
    ProblemError
        The account is unknown or not predicted.
    """
    start = present(live, account_id, owners)
    answer = start.answer
    assert answer is not None  # `present` has an account
    risk = first_per_outcome(answer).get("churn")
    group = _quartiles(live, start.rows.facts[0])
    levers = [_with_input(item, asked.get(item.feature, "")) for item in _levers(risk, live, group)]
    is_refused = any(item.error for item in levers)
    moved = {
        item.feature: raw_value_of(_number(item), item.unit)
        for item in levers
        if item.asked and not is_refused and _number(item) != item.now
    }
    found = suppose_of(start, moved) if moved else None
    return {
        "a": answer,
        "title": answer.get("name") or answer["account_id"],
        "risk": risk,
        "levers": levers,
        "asked": {item.feature: item.asked for item in levers},
        "is_refused": is_refused,
        "supposed": found["scores"][risk["target"]] if found and risk else None,
        "outside": found["out_of_range"] if found else [],
    }


def _quartiles(live: ServerState, facts: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    folder = newest_vectors(live.workspace.state, live.current().scorer.feature_hash)
    if folder is None:
        return {}
    found: Mapping[str, Sequence[float]] = (
        _peers(folder).get(str(facts.get("peer_group")), {}).get("quartiles", {})
    )
    return found


@lru_cache(maxsize=2)
def _peers(folder: Path) -> dict[str, Any]:
    # Importing `features.online_vectors` would double the time a service takes to start.
    peers: dict[str, Any] = read_json(folder / "peers.json")
    return peers


def _levers(
    risk: Score | None, live: ServerState, quartiles: Mapping[str, Sequence[float]]
) -> list[Lever]:
    """Return the actionable facts behind an estimate in which similar accounts vary."""
    if risk is None:
        return []
    infos = {
        item.name: item for model in live.current().scorer.models for item in model.bundle.info
    }
    facts = [fact for reason in (*risk["raises"], *risk["lowers"]) for fact in reason["facts"]]
    made = []
    for fact in facts:
        info, value = infos[fact["feature"]], fact["value"]
        if not info.is_actionable or isinstance(value, str | None) or info.name not in quartiles:
            continue
        first, _, third = quartiles[info.name]
        low, high = min(value, first), max(value, third)
        if high > low:
            made.append(
                Lever(
                    info.name,
                    info.label,
                    SCALES.get(info.unit, "" if info.unit in ("flag", "count") else info.unit),
                    info.window_days,
                    info.unit == "flag",
                    shown(value, info.unit),
                    _outward(shown(low, info.unit), math.floor),
                    _outward(shown(high, info.unit), math.ceil),
                    shown(first, info.unit),
                    shown(third, info.unit),
                )
            )
    return made


def shown(value: float, unit: str) -> float:
    """Return a value in display units, with three significant digits.

    >>> shown(0.3456, "share"), shown(-0.5108, "log_ratio"), shown(12_345.6, "money")
    (34.6, -40.0, 12346.0)
    """
    scaled = (
        100.0 * value
        if unit in ("share", "ratio")
        else 100.0 * math.expm1(min(value, 20.0))
        if unit == "log_ratio"
        else value
    )
    return _three_digits(scaled)


def raw_value_of(value: float, unit: str) -> float:
    """Return a displayed value in the unit of the feature; `unit` is the display unit.

    >>> round(raw_value_of(34.6, "%"), 6), round(raw_value_of(-40.0, "% change"), 4)
    (0.346, -0.5108)
    >>> raw_value_of(12.0, "days")
    12.0
    """
    if unit == SCALES["share"]:
        return value / 100.0
    return math.log1p(value / 100.0) if unit == SCALES["log_ratio"] else value


def _three_digits(value: float) -> float:
    if value == 0 or abs(value) >= 100:
        return float(round(value))
    return round(value, 2 - math.floor(math.log10(abs(value))))


def _outward(value: float, round_to: Any) -> float:
    return float(round_to(value)) if abs(value) >= 10 else value


def _with_input(lever: Lever, text: str) -> Lever:
    """Return a lever with the input of the user and its error, if any."""
    text = text.strip()[:40]
    if not text:
        return lever
    asked = replace(lever, asked=text)
    try:
        value = _number(asked)
    except ValueError:
        return replace(asked, error="not a number")
    if not lever.low <= value <= lever.high:  # also refuses nan
        return replace(asked, error="outside the range of this account and similar ones")
    return asked


def _number(lever: Lever) -> float:
    return float(lever.asked.replace(",", "").replace("−", "-"))
