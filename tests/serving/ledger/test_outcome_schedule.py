"""Past books are labelled when a window has ended or their facts changed, and only then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.sources import load_sources
from serving.ledger import outcomes
from serving.ledger.outcome_schedule import FILE
from serving.ledger.outcomes import join_outcomes
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookScores

AS_OF = datetime(2025, 10, 30, tzinfo=UTC)
IDS = [f"A-{i:04d}" for i in range(60)]


def book(world, as_of: datetime) -> BookScores:
    logit = np.linspace(-2, 2, len(IDS))
    return BookScores(
        book_id=f"book-{as_of:%Y%m%d}",
        target="churn",
        as_of=as_of,
        served_at=as_of + timedelta(hours=6),
        release_id=world.release.release_id,
        bundle_sha=world.release.bundles["churn"]["sha"],
        verdict="promotable",
        feature_set=world.feature_hash,
        entity_ids=IDS,
        probability=1 / (1 + np.exp(-logit)),
        logit=logit,
        band=["low"] * len(IDS),
        features=np.zeros((len(IDS), 1)),
    )


@pytest.fixture
def labelled(monkeypatch) -> list[list]:
    """Days of every query for labels."""
    asked, original = [], outcomes.labels_at

    def counted(workspace, loaded, name, target, days, now):
        asked.append(list(days))
        return original(workspace, loaded, name, target, days, now)

    monkeypatch.setattr(outcomes, "labels_at", counted)
    return asked


def known(ledger) -> list:
    found = ledger.outcomes.known("churn")
    return sorted((i.entity_id, i.as_of, i.label, i.known_at, i.decision_at) for i in found)


@pytest.fixture
def kept(fresh, world):
    with Ledger.open(fresh) as ledger:
        ledger.append_book(book(world, AS_OF))
        ledger.append_book(book(world, AS_OF + timedelta(days=7)))
        yield ledger


def test_scheduled_nights_record_what_labelling_every_night_records(
    fresh, world, kept, labelled, copy_of, tmp_path
):
    loaded = load_sources(world.workspace, world.now)
    nights = [world.now - timedelta(days=offset) for offset in range(60, -1, -5)]
    for night in nights:
        join_outcomes(fresh, loaded, kept, night)
    scheduled, n_queries = known(kept), len(labelled)
    assert len(scheduled) >= 5
    assert n_queries < len(nights), "most nights need no query at all"

    (tmp_path / "every").mkdir()
    other = copy_of(world, tmp_path / "every")
    with Ledger.open(other) as ledger:
        ledger.append_book(book(world, AS_OF))
        ledger.append_book(book(world, AS_OF + timedelta(days=7)))
        for night in nights:
            (other.state.ledger / FILE).unlink(missing_ok=True)
            join_outcomes(other, loaded, ledger, night)
        assert known(ledger) == scheduled
    assert len(labelled) - n_queries == len(nights)


def test_a_changed_row_of_an_account_without_a_label_makes_its_book_due(
    fresh, world, kept, labelled, tmp_path
):
    loaded = load_sources(world.workspace, world.now)
    night = min(world.now, AS_OF + timedelta(days=200))
    join_outcomes(fresh, loaded, kept, night)
    first = len(labelled)
    join_outcomes(fresh, loaded, kept, night)
    assert len(labelled) == first
    info = loaded.tables["subscriptions"]
    frame = pq.read_table(info.path).to_pandas()
    frame["arr"] = frame["arr"] + 1
    changed = tmp_path / "subscriptions.parquet"
    table = pa.Table.from_pandas(frame, pq.read_schema(info.path), preserve_index=False)
    pq.write_table(table, changed)
    tables = {**loaded.tables, "subscriptions": replace(info, path=changed, identity="other")}
    join_outcomes(fresh, replace(loaded, tables=tables), kept, night)
    assert len(labelled) == first + 1
