"""How right the estimates were, for the page that explains them: read from the last report.

What was served comes first, once windows have closed; until then, the months on which the model was
tested without having seen them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from configs.runtime.state_directory import State, read_json

REPORT_JSON = "latest.json"

FEWEST = 10
"""Accounts with a closed window from which the record is spoken of."""

DID = {"churn": "left", "contraction": "shrank", "expansion": "grew"}


@dataclass(frozen=True)
class TrackRecordRow:
    """Some accounts: how many, how many of them did, what was expected where that is kept."""

    name: str
    n: int
    events: int
    expected: float | None
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class TrackRecord:
    """How right the estimates of one target were.

    Attributes
    ----------
    target : str
        Its name.
    did : str
        What the accounts counted did: "left".
    is_served : bool
        True for scores that were served, False for the model's test.
    quarter : Row or None
        Of the last quarter whose windows have all closed.
    bands : sequence of Row
        Most likely first.
    next_closes : str or None
        Day on which the next window of a served score closes.
    """

    target: str
    did: str
    is_served: bool
    quarter: TrackRecordRow | None
    bands: Sequence[TrackRecordRow]
    next_closes: str | None


def how_right(state: State) -> list[TrackRecord]:
    """Return what the last report knows of it, one per target; nothing before there is a report."""
    path = state.reports / REPORT_JSON
    try:
        written = path.stat()
    except FileNotFoundError:
        return []
    return _read(path, (written.st_mtime_ns, written.st_size, written.st_ino))


@lru_cache(maxsize=4)
def _read(path: Path, _written: tuple[int, ...]) -> list[TrackRecord]:
    """Read a report once, as long as the file is what it was: it is large, and changes seldom."""
    report = read_json(path)
    served = report["sections"].get("served", {}).get("targets", {})
    return [_of(name, report["targets"][name], served.get(name)) for name in report["order"]]


def _of(name: str, tested: Mapping[str, Any], served: Mapping[str, Any] | None) -> TrackRecord:
    did = DID[tested["outcome"]]
    closes = ((served or {}).get("interim") or {}).get("next_closes")
    if served is None or served["overall"]["accounts"] < FEWEST:
        bands = [
            TrackRecordRow(
                row["band"], row["n"], row["events"], None, row["rate"], row["low"], row["high"]
            )
            for row in reversed(tested["bands"]["rows"])
        ]
        return TrackRecord(name, did, False, None, bands, closes)
    closed = [item for item in served["quarters"] if not item["is_interim"] and item["accounts"]]
    quarter = _row(closed[-1]["quarter"], closed[-1]) if closed else None
    bands = [_row(item["band"], item) for item in served["bands"] if item["accounts"]]
    return TrackRecord(name, did, True, quarter, bands, closes)


def _row(name: str, item: Mapping[str, Any]) -> TrackRecordRow:
    return TrackRecordRow(
        name,
        item["accounts"],
        item["events"],
        item["expected"],
        item["observed"],
        item["low"],
        item["high"],
    )
