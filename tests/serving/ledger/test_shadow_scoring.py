"""A release in the shadow is scored and kept, and never shown."""

from __future__ import annotations

import numpy as np
import pytest

from configs.runtime.errors import ModelError
from serving.batch.score_book import read_table, score_book
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import SHADOW
from serving.online.server_state import ServerState
from training.registry.releases import current, mirror, open_store
from training.registry.shadow import publish_shadow, read_shadow, shadow_of, withdraw_shadow


@pytest.fixture
def challenger(fresh, world, recalibrated_for):
    """A release of the same boosters, calibrated to a higher level."""
    return recalibrated_for(fresh, world, 0.6, "in the shadow")


def test_a_release_in_the_shadow_changes_nothing_that_is_published(fresh, world, challenger):
    store = open_store(fresh)
    publish_shadow(store, challenger)
    assert current(store).release_id == world.release.release_id
    assert shadow_of(store) == challenger.release_id
    assert read_shadow(fresh.state.releases) == challenger
    (fresh.state.releases / f"{challenger.release_id}.json").unlink()
    mirror(store, fresh.state.releases)
    assert read_shadow(fresh.state.releases) == challenger
    assert withdraw_shadow(store) == challenger.release_id
    assert read_shadow(fresh.state.releases) is None
    assert withdraw_shadow(store) is None


def test_a_damaged_bundle_is_kept_out_of_the_shadow(fresh, challenger):
    model = next((fresh.state.bundles / challenger.bundles["churn"]["sha"]).glob("model_*.txt"))
    model.write_text("")
    with pytest.raises(ModelError):
        publish_shadow(open_store(fresh), challenger)
    assert read_shadow(fresh.state.releases) is None


def test_answers_are_scored_in_the_shadow_into_the_ledger_alone(
    fresh, world, challenger, client_for
):
    publish_shadow(open_store(fresh), challenger)
    serving = ServerState(fresh)
    serving.refresh()
    try:
        answer = client_for(serving).get("/v1/accounts/A-0030/score").json()
        assert answer["release_id"] == world.release.release_id
        shown, hidden = {}, {}
        for row in serving.ledger.scores.sample(100):
            (hidden if row.channel == SHADOW else shown)[row.target] = row
        assert set(shown) == set(hidden) == {"churn", "expansion"}
        for target, row in hidden.items():
            assert row.release_id == challenger.release_id
            assert row.bundle_sha == challenger.bundles[target]["sha"]
            assert row.probability > shown[target].probability
            assert row.features == shown[target].features
            assert answer["scores"][target]["probability"] == shown[target].probability
        changes = client_for(serving).get("/v1/accounts/A-0030/changes").json()["changes"]
        assert changes["churn"]["before"] is None
        withdraw_shadow(open_store(fresh))
        serving.refresh()
        assert serving.score(["A-0030"], request_id="x").shadow == []
    finally:
        serving.close()


def test_trouble_in_the_shadow_costs_nobody_an_answer(fresh, challenger):
    publish_shadow(open_store(fresh), challenger)
    model = next((fresh.state.bundles / challenger.bundles["churn"]["sha"]).glob("model_*.txt"))
    model.write_text("")
    serving = ServerState(fresh)
    serving.refresh()
    try:
        assert "was changed after it was written" in serving.notes["shadow"]
        assert serving.is_ready()
        assert serving.score(["A-0030"], request_id="x").answers[0]["status"] == "scored"
    finally:
        serving.close()


def test_the_book_is_scored_in_the_shadow_too(fresh, world, challenger):
    publish_shadow(open_store(fresh), challenger)
    told = []
    with Ledger.open(fresh) as ledger:
        run = score_book(fresh, world.release, ledger, world.now, told.append)
        assert any("accounts in the shadow with" in words for words in told), told
        books = ledger.runs.every(channel=SHADOW)
        assert {book.target for book in books} == {"churn", "expansion"}
        assert {book.n_scores for book in books} == {run.statuses["scored"]}
        shown = {row.entity_id: row for row in ledger.runs.last("churn")}
        hidden = ledger.runs.scores_of(next(book for book in books if book.target == "churn"))
        assert {row.entity_id for row in hidden} == set(shown)
        assert np.mean([r.probability - shown[r.entity_id].probability for r in hidden]) > 0.02
        assert set(read_table(run)["release_id"].to_pylist()) == {world.release.release_id}
