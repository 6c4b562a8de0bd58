"""The prospective record: real scores in a real ledger, judged from the real sources later on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from configs.runtime.state_directory import State
from features.sources import load_sources
from serving.ledger.served_history import NO_FACTS, served_record
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookScores

SERVED = datetime(2025, 10, 1, 8, tzinfo=UTC)
AS_OF = SERVED.replace(hour=0)
MODEL = "c" * 64


def monthly(days: int = 400) -> dict:
    """Facts of an account without a renewal ahead: asked about 91 days."""
    return {"status": "scored", "arr": 1000.0, "segment": "small", "tenure_days": days}


def under_contract(renews_on: str) -> dict:
    return monthly() | {"is_under_contract": True, "renews_on": renews_on}


@pytest.fixture
def workspace(world, tmp_path):
    """The company with a ledger of its own; its first book was served five months ago."""
    made = replace(world.workspace, state=State(tmp_path / "state"))
    ids = ["A-0007", "A-0014", "A-0019", "A-0021"]
    facts = [monthly(), monthly(), under_contract("2026-05-01"), {}]
    with Ledger.open(made) as ledger:
        for target in ("churn", "expansion"):
            ledger.append_book(
                BookScores(
                    book_id="first", target=target, as_of=AS_OF, served_at=SERVED,
                    release_id="20251001-gone", bundle_sha=MODEL, verdict="promotable",
                    feature_set="f", entity_ids=ids, probability=np.array([0.4, 0.1, 0.2, 0.1]),
                    logit=np.zeros(4), band=["high", "low", "elevated", "low"],
                    features=np.zeros((4, 1)), facts=facts,
                )
            )  # fmt: skip
    return made


def judge(workspace, world, now: datetime) -> dict:
    return served_record(workspace, load_sources(world.workspace, world.now), now)


def test_a_loss_after_the_score_is_joined_to_it(workspace, world):
    """A-0007 left on 22 November 2025; A-0014 stays; the renewal of A-0019 is still ahead."""
    content = judge(workspace, world, world.now)
    churn = content["targets"]["churn"]
    assert (churn["served"], churn["closed"], churn["open"]) == (4, 2, 1)
    assert churn["left_out"] == [{"words": NO_FACTS, "scores": 1}]
    by_band = {item["band"]: item for item in churn["bands"]}
    assert (by_band["high"]["events"], by_band["low"]["events"]) == (1, 0)
    assert churn["overall"]["arr_moved"] == 1000.0
    assert churn["interim"]["last_closes"] == "2026-06-15"  # the renewal, and 45 days of grace
    warned = [item for item in churn["lead"] if item["events"]]
    assert [(item["from_days"], item["warned"]) for item in warned] == [(30, 1)]


def test_before_the_window_closes_there_is_only_an_interim(workspace, world):
    content = judge(workspace, world, datetime(2025, 12, 1, tzinfo=UTC))
    churn = content["targets"]["churn"]
    assert (churn["closed"], churn["open"]) == (0, 3)
    assert churn["interim"]["so_far"] == 1
    assert "no verdict yet" in content["words"][0]


def test_judging_again_changes_nothing(workspace, world):
    first = judge(workspace, world, world.now)
    assert judge(workspace, world, world.now) == first


def test_an_empty_ledger_has_no_record(world, tmp_path):
    empty = replace(world.workspace, state=State(tmp_path / "empty"))
    content = served_record(empty, load_sources(world.workspace, world.now), world.now)
    assert content["words"] == ["No score has been served yet."]
    assert content["targets"] == {}
