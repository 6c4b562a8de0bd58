"""Reading guide with the track record of the estimates, from the latest report.

The record uses served scores once their prediction windows have closed; until then it uses the
out-of-time test of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.responses import Response

from configs.runtime.state_directory import State, read_json
from features.tables.catalog import THEMES
from serving.http.score_text import STATUS_WORDS
from serving.online.current_state import Live
from serving.pages.common import PageRouter, as_json, common
from serving.pages.history.risk_history import DID
from serving.pages.templating import page

REPORT_JSON = "latest.json"

FEWEST = 10
"""Smallest number of accounts with a closed window for a record of served scores."""


@dataclass(frozen=True)
class TrackRecordRow:
    """Group of accounts: size, events, and expected events where known."""

    name: str
    n: int
    events: int
    expected: float | None
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class TrackRecord:
    """Track record of the estimates of one target.

    Attributes
    ----------
    target : str
        Name of the target.
    did : str
        The event as a verb: "left".
    is_served : bool
        True for served scores, False for the test of the model.
    quarter : TrackRecordRow or None
        The last quarter whose windows have all closed.
    bands : sequence of TrackRecordRow
        By band, highest probability first.
    next_closes : str or None
        Day on which the next window of a served score closes.
    """

    target: str
    did: str
    is_served: bool
    quarter: TrackRecordRow | None
    bands: Sequence[TrackRecordRow]
    next_closes: str | None


router = PageRouter()


@router.page("/reading")
def reading(live: Live) -> Response:
    """Return the reading guide."""
    models = live.stage.scorer.models if live.stage else ()
    return page(
        "reading.html",
        **common(live, "reading"),
        models=models,
        themes=THEMES,
        statuses=STATUS_WORDS,
        record=track_record(live.workspace.state),
    )


@router.get("/reading.json")
def reading_json(live: Live) -> Response:
    """Return the band limits and the track record as JSON."""
    models = live.stage.scorer.models if live.stage else ()
    bands = {model.target: {name: cut for cut, name in model.cuts} for model in models}
    record = [asdict(part) for part in track_record(live.workspace.state)]
    return as_json({"bands_from": bands, "record": record})


def track_record(state: State) -> list[TrackRecord]:
    """Return the track record of each target from the latest report; empty without a report."""
    path = state.reports / REPORT_JSON
    try:
        written = path.stat()
    except FileNotFoundError:
        return []
    return _read(path, (written.st_mtime_ns, written.st_size, written.st_ino))


@lru_cache(maxsize=4)
def _read(path: Path, _written: tuple[int, ...]) -> list[TrackRecord]:
    """Read a report, cached until the file changes: it is large and changes rarely."""
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
