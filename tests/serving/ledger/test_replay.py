"""Any past score comes back bit for bit, and what was tampered with is named."""

from __future__ import annotations

import pytest

from configs.runtime.errors import StateError
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import replay
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import pack_features, unpack_features
from serving.run.ledger import replay_scores


@pytest.fixture
def kept(serving):
    """Scores of some accounts as the ledger has them."""
    rows = serving.score([f"A-{i:04d}" for i in range(30, 60)], request_id="kept").rows
    serving.ledger.append(rows)
    return [serving.ledger.scores.find(row.score_id) for row in rows]


def test_scores_come_back_bit_for_bit(fresh, kept):
    archive = ModelArchive(fresh.state)
    found = [replay(archive, row) for row in kept]
    assert len(found) == 60
    assert all(item.is_identical for item in found)
    assert {item.words for item in found} == {"the same, bit for bit"}
    assert any(row.reasons for row in kept)


def test_a_book_comes_back_bit_for_bit(world, book):
    found = replay_scores(world.workspace, sample=30)
    assert len(found) >= 20
    assert all(item.is_identical for item in found)
    again = replay_scores(world.workspace, sample=30)
    assert [item.row.score_id for item in again][:5] == [item.row.score_id for item in found][:5]


def test_what_a_score_stood_on_is_kept_with_it(world, kept):
    for row in kept:
        assert row.clock == world.now
        assert row.facts["status"] == "scored"
        assert row.facts["arr"] > 0
        assert "name" not in row.facts


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probability": 0.123}, "served 0.123, replayed"),
        ({"logit": 9.0}, "log-odds 9.0"),
        ({"bundle_sha": "0" * 64}, "the score names bundle 000000000000…"),
        ({"release_id": "20260101-0000000000"}, "is not kept here"),
        ({"feature_set": "another"}, "the row names feature set another"),
        ({"features": b""}, "0 features are kept"),
        ({"reasons": [{"code": "churn.adoption.raises", "points": 0.5}]}, "was shown with 0.5"),
    ],
)
def test_a_row_that_was_tampered_with_is_named(fresh, kept, changes, words):
    found = replay(ModelArchive(fresh.state), kept[0]._replace(**changes))
    assert not found.is_reproduced
    assert words in found.words
    assert found.as_dict()["is_identical"] is False


def test_the_candidate_that_was_shown_is_kept_and_comes_back(fresh, serving, kept):
    archive, offered = ModelArchive(fresh.state), [row for row in kept if "candidate" in row.facts]
    assert {row.target for row in offered} == {"expansion"}
    shown = {
        answer["account_id"]: answer["expansion"]
        for answer in serving.score([row.entity_id for row in offered], request_id="again").answers
    }
    for row in offered:
        told, again = row.facts["candidate"], shown[row.entity_id]
        assert told["probability"] == again["probability"]
        assert told["blockers"] == [item["code"] for item in again["blockers"]]
    row = next(row for row in offered if row.facts["candidate"]["kind"])
    bent = {**row.facts, "candidate": {**row.facts["candidate"], "probability": 0.5}}
    assert "was shown with probability 0.5" in replay(archive, row._replace(facts=bent)).words


def test_another_value_in_the_vector_is_noticed(fresh, kept, world):
    vector = unpack_features(kept[0].features)
    place = world.names.index("active_users_28d")
    vector[place] = 0.0 if vector[place] > 4.0 else 40.0
    found = replay(ModelArchive(fresh.state), kept[0]._replace(features=pack_features(vector)))
    assert not found.is_reproduced


def test_a_last_digit_of_another_platform_passes_and_is_told(fresh, kept):
    row = kept[0]
    found = replay(
        ModelArchive(fresh.state), row._replace(probability=row.probability * (1 + 1e-15))
    )
    assert found.is_reproduced
    assert not found.is_identical
    assert "the same within" in found.words


def test_a_bundle_that_was_tampered_with_is_named(fresh, kept):
    model = next((fresh.state.bundles / kept[0].bundle_sha).glob("model_*.txt"))
    model.write_text(model.read_text().replace("leaf_value=", "leaf_value=1", 1))
    found = replay(ModelArchive(fresh.state), kept[0])
    assert "was changed after it was written" in found.words


def test_the_last_scores_of_an_account_are_found(fresh, serving, kept):
    found = replay_scores(fresh, account="A-0030")
    assert [item.row.target for item in found] == ["expansion", "churn"]
    (one,) = replay_scores(fresh, score_id=kept[3].score_id)
    assert one.row == kept[3]
    with pytest.raises(StateError, match="holds no score of A-0030 served by"):
        replay_scores(fresh, account="A-0030", at=kept[0].served_at.replace(year=2020))
    with pytest.raises(StateError, match="holds no score of nobody"):
        replay_scores(fresh, score_id="nobody")


def test_an_empty_ledger_says_so(fresh):
    with Ledger.open(fresh):
        pass
    with pytest.raises(StateError, match="holds no score"):
        replay_scores(fresh)
