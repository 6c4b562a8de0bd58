"""How right it was, on the page that explains the numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from configs.runtime.state_directory import State
from serving.pages.portfolio.track_record import track_record
from training.evaluation.metrics import wilson
from training.report.content import plain_content
from training.validation.served_scores import OPEN, served_content

NOW = datetime(2026, 1, 15, tzinfo=UTC)
JULY, DECEMBER = (datetime(2025, month, 1, tzinfo=UTC) for month in (7, 12))


def scores(as_of: datetime, n: int, *, closed: bool) -> pd.DataFrame:
    """Half of them high with p 0.4, half low with 0.1; every third and tenth of them left."""
    rows = []
    for i in range(n):
        is_high = i < n // 2
        left = i % (3 if is_high else 10) == 0
        rows.append(
            {
                "target": "churn",
                "entity_id": f"A-{i}",
                "as_of": as_of,
                "served_at": as_of,
                "model": "m" * 64,
                "p": 0.4 if is_high else 0.1,
                "band": "high" if is_high else "low",
                "arr": 1000.0,
                "segment": "small",
                "label": float(left) if closed else float("nan"),
                "excluded": None if closed else OPEN,
                "closes_at": as_of + timedelta(days=91),
                "decision_at": as_of + timedelta(days=40) if left and closed else pd.NaT,
                "so_far": None,
            }
        )
    made = pd.DataFrame(rows)
    return made.assign(decision_at=pd.to_datetime(made["decision_at"], utc=True))


def report(rows: pd.DataFrame | None) -> dict:
    low, high = wilson(20, 50)
    band = {"band": "high", "n": 50, "events": 20, "rate": 0.4, "low": low, "high": high}
    served = {} if rows is None else {"served": plain_content(served_content(rows, NOW, seed=1))}
    return {
        "order": ["churn"],
        "targets": {"churn": {"outcome": "churn", "bands": {"rows": [band]}}},
        "sections": served,
    }


@pytest.fixture
def kept(world):
    """Return how to put a report where the service finds it."""
    path = world.workspace.state.reports / "latest.json"

    def put(content: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    yield put
    path.unlink(missing_ok=True)


def test_before_there_is_a_report_nothing_is_claimed(tmp_path, client):
    assert track_record(State(tmp_path)) == []
    assert "No report yet." in client.get("/reading").text


def test_until_windows_close_the_test_stands_for_it(kept, world, client):
    kept(report(scores(DECEMBER, 60, closed=False)))
    (found,) = track_record(world.workspace.state)
    assert not found.is_served
    assert (found.bands[0].n, found.bands[0].observed) == (50, 0.4)
    assert found.next_closes.startswith("2026-03-02")
    text = client.get("/reading").text
    assert "no prediction window of a served score has closed yet" in text
    assert "the first closes on 2 Mar 2026" in text


def test_the_last_quarter_that_is_over_is_told_with_what_was_expected(kept, world, client):
    rows = [scores(JULY, 60, closed=True), scores(DECEMBER, 60, closed=False)]
    kept(report(pd.concat(rows, ignore_index=True)))
    (found,) = track_record(world.workspace.state)
    assert found.is_served
    assert found.quarter.name == "2025 Q3"
    assert (found.quarter.n, found.quarter.events) == (60, 13)
    assert found.quarter.expected == pytest.approx(0.25)
    assert [(row.name, row.n, row.events) for row in found.bands] == [
        ("high", 30, 10),
        ("low", 30, 3),
    ]
    text = " ".join(client.get("/reading").text.split())
    assert "in 2025 Q3, 25 % expected, 22 % left" in text
    assert "13 of 60 accounts" in text
    body = client.get("/reading.json").json()
    assert body["record"][0]["quarter"]["expected"] == found.quarter.expected
    assert set(body["bands_from"]["churn"]) == {"elevated", "high"}


def test_a_report_that_was_written_anew_is_read_anew(kept, world):
    kept(report(None))
    first = track_record(world.workspace.state)
    assert track_record(world.workspace.state) is first, "it is read once"
    kept(report(scores(JULY, 60, closed=True)))
    assert track_record(world.workspace.state)[0].is_served
