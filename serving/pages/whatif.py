"""What-if as a page: other values of what one can act on, within what similar accounts show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from configs.runtime.state_directory import read_json
from serving.online.server_state import ServerState
from serving.online.whatif import present, suppose_of
from serving.scoring.export_rows import first_per_outcome
from training.model.bands import newest_vectors

SCALES = {"share": "%", "ratio": "%", "log_ratio": "% change"}
"""Units that people read in hundredths."""


@dataclass(frozen=True)
class Lever:
    """A value one can act on. Numbers are as people read them: shares in %, changes in %.

    Attributes
    ----------
    feature, label, unit : str
        Name, words, and unit as written behind the number.
    window_days : int or None
        What it counts over.
    is_flag : bool
        Whether it is yes or no.
    now : float
        At present.
    low, high : float
        What is plausible: from where the account is through the middle half of similar accounts.
    typical_low, typical_high : float
        The middle half of similar accounts.
    asked : str
        What somebody typed, empty for no change.
    error : str
        Why that cannot be supposed.
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


def view(
    live: ServerState, account_id: str, owners: frozenset[str] | None, asked: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the template takes.

    Parameters
    ----------
    live : Live
        What is served.
    account_id : str
        Whose values are moved.
    owners : frozenset of str or None
        Whose accounts the reader sees.
    asked : mapping of str to str
        What was typed by feature; other names are left alone.

    Raises
    ------
    ProblemError
        An unknown account, or one that is not predicted.
    """
    start = present(live, account_id, owners)
    answer = start.answer
    risk = first_per_outcome(answer).get("churn")
    group = _quartiles(live, start.rows.facts[0])
    levers = [_typed(item, asked.get(item.feature, "")) for item in _levers(risk, live, group)]
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
    risk: Mapping[str, Any] | None, live: ServerState, quartiles: Mapping[str, Sequence[float]]
) -> list[Lever]:
    """Return what one can act on among the facts behind an estimate, as far as peers vary in it."""
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
    """Return a value as people read it, with three significant digits.

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
    """Return what `shown` showed, in the feature's unit; `unit` as written behind the number.

    >>> round(raw(34.6, "%"), 6), round(raw(-40.0, "% change"), 4), raw(12.0, "days")
    (0.346, -0.5108, 12.0)
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


def _typed(lever: Lever, text: str) -> Lever:
    """Return a lever with what was typed, and why it is refused if it is."""
    text = text.strip()[:40]
    if not text:
        return lever
    asked = replace(lever, asked=text)
    try:
        value = _number(asked)
    except ValueError:
        return replace(asked, error="this is no number")
    if not lever.low <= value <= lever.high:  # also refuses nan
        words = "outside of what this account or similar ones show"
        return replace(asked, error=words)
    return asked


def _number(lever: Lever) -> float:
    return float(lever.asked.replace(",", "").replace("−", "-"))
