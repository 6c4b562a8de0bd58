"""What changed for an account: the parts add up to what is shown, also across a retrain."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.compute as pc
import pytest
from pydantic import TypeAdapter

from serving.api.schemas.changes import ChangesAnswer
from serving.batch.score_book import read_table, score_book
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import (
    BookScores,
    new_score_ids,
    pack_features,
    unpack_features,
)
from training.model.bundle import Bundle, load, save
from training.model.manifest_parts import Calibration
from training.model.predictors import Boosters
from training.registry.releases import new_release, open_store, publish

ACCOUNT = "A-0030"
MONTH_EARLIER = datetime(2026, 2, 2, tzinfo=UTC)


def scored_before(serving, rows, *, as_of=MONTH_EARLIER, release=None, **moved):
    """Return the same scores as another month would have given them: other values, same model."""
    made = []
    for row in rows:
        model = next(m for m in serving.current().scorer.models if m.target == row.target)
        vector = unpack_features(row.features)
        for name, value in moved.items():
            vector[serving.current().release.feature_set["names"].index(name)] = value
        scores = model.bundle.predict(model.encode(vector[None, :]))
        made.append(
            row._replace(
                score_id=new_score_ids(as_of, 1)[0],
                served_at=as_of + timedelta(hours=9),
                as_of=as_of,
                probability=float(scores.p[0]),
                logit=float(scores.logit[0]),
                features=pack_features(vector),
                reasons=[],
            )
        )
    return made


def parts_of(change) -> float:
    versions = change["time"] + change["model"] + change["calibration"]
    return sum(change["themes"].values()) + change["circumstances"] + change["unknown"] + versions


@pytest.fixture
def earlier(serving):
    """Scores of the month before, when many more used it; of the account that moved most since."""
    rows = serving.score([f"A-{i:04d}" for i in range(20, 80)], request_id="now").rows
    before = scored_before(serving, rows, active_users_28d=40.0, tenure_days=300.0)
    serving.ledger.append([*before, *rows])
    moved = {
        now.entity_id: now.probability - then.probability
        for now, then in zip(rows, before, strict=True)
        if now.target == "churn"
    }
    most = max(moved, key=lambda entity: moved[entity])
    return [row for row in before if row.entity_id == most]


@pytest.fixture
def retrained(serving, fresh, world):
    """Another release: one booster of the two, calibrated otherwise."""

    def again(sha: str) -> Bundle:
        old = load(fresh.state.bundles / sha)
        kept = Boosters(old.predictor.seeds[:1], old.predictor.texts[:1])
        calibration = Calibration(1.1, 0.2, (0.01, 0.0, 0.02), "affine", 150)
        plain = {**asdict(calibration), "covariance": [0.01, 0.0, 0.02]}
        return Bundle(old.manifest.changed(seeds=(7,), calibration=plain), kept)

    shas = {
        target: save(again(part["sha"]), fresh.state.bundles)
        for target, part in world.release.bundles.items()
    }
    body = {k: v for k, v in world.release.as_dict().items() if k not in ("release_id", "note")}
    body["bundles"] = {t: {**world.release.bundles[t], "sha": sha} for t, sha in shas.items()}
    body["created_at"] = datetime.fromisoformat(body["created_at"])
    release = new_release(**body, note="retrained")
    publish(open_store(fresh), release, world.release.release_id)
    serving.refresh()
    assert serving.current().release == release
    return release


def test_the_first_score_has_nothing_to_be_compared_with(serving, client_for):
    body = client_for(serving).get(f"/v1/accounts/{ACCOUNT}/changes").json()
    TypeAdapter(ChangesAnswer).validate_python(body)
    assert {c["before"] for c in body["changes"].values()} == {None}
    assert "first score" in body["changes"]["churn"]["text"]


def test_what_changed_adds_up_to_the_difference(serving, client_for, earlier):
    body = client_for(serving).get(f"/v1/accounts/{earlier[0].entity_id}/changes").json()
    TypeAdapter(ChangesAnswer).validate_python(body)
    for row in earlier:
        change = body["changes"][row.target]
        assert change["before"]["probability"] == row.probability
        shown = change["after"]["probability"] - change["before"]["probability"]
        assert change["difference"] == pytest.approx(shown, abs=1e-12)
        assert parts_of(change) == pytest.approx(shown, abs=1e-6)
        assert change["model"] == change["calibration"] == 0.0
        assert change["low"] <= change["difference"] <= change["high"]
    churn = body["changes"]["churn"]
    assert churn["is_clear"]
    assert churn["text"].startswith("up from")
    assert churn["parts"][0]["theme"] == "adoption"
    ends = [round(100 * churn[end]["probability"], 1) for end in ("after", "before")]
    named = [float(x.replace("−", "-")) for x in re.findall(r"[+−]\d+\.\d", churn["text"])]
    assert sum(named) == pytest.approx(ends[0] - ends[1], abs=1e-9), "what is named adds up"
    assert named[0] == churn["parts"][0]["printed"], "one number for one part"
    for part in churn["parts"]:
        for moved in part["facts"]:
            now, before = moved["text"].rsplit(", before ", 1)
            assert not now.endswith(f": {before}"), "what reads the same did not move"
    fact = churn["parts"][0]["facts"][0]
    assert fact["text"].startswith("Active users: ")
    assert fact["before"] == 40.0
    assert churn["notes"] == []


def test_the_present_score_is_in_the_ledger(serving, client_for, earlier):
    body = client_for(serving).get(f"/v1/accounts/{earlier[0].entity_id}/changes").json()
    for change in body["changes"].values():
        for end in ("before", "after"):
            kept = serving.ledger.scores.find(change[end]["score_id"])
            assert kept.probability == change[end]["probability"]


def test_a_retrain_is_told_from_what_happened(serving, earlier, retrained):
    rows = serving.score([earlier[0].entity_id], request_id="after").rows
    serving.ledger.append(rows)
    for change in serving.changes(rows, served_before=MONTH_EARLIER + timedelta(days=1)):
        difference = change["after"]["probability"] - change["before"]["probability"]
        assert parts_of(change) == pytest.approx(difference, abs=1e-6)
        assert change["model"] != 0.0
        assert change["calibration"] != 0.0
        assert change["after"]["release_id"] == retrained.release_id


def test_a_retrain_alone_changes_nothing_at_the_account(serving, earlier, retrained):
    rows = serving.score([earlier[0].entity_id], request_id="after").rows
    for change in serving.changes(rows):
        assert change["before"]["as_of"] == change["after"]["as_of"]
        assert list(change["themes"].values()) == pytest.approx([0.0] * 5, abs=1e-12)
        assert [change["time"], change["circumstances"]] == pytest.approx([0.0, 0.0], abs=1e-12)
        difference = change["after"]["probability"] - change["before"]["probability"]
        assert change["model"] + change["calibration"] == pytest.approx(difference, abs=1e-6)


def test_an_earlier_model_that_was_tampered_with_splits_nothing(
    serving, fresh, world, earlier, retrained
):
    folder = fresh.state.bundles / world.release.bundles["churn"]["sha"]
    model = next(folder.glob("model_*.txt"))
    model.write_text(model.read_text().replace("tree", "Tree", 1))
    serving.archive = type(serving.archive)(fresh.state)
    rows = [
        r for r in serving.score([earlier[0].entity_id], request_id="x").rows if r.target == "churn"
    ]
    (change,) = serving.changes(rows)
    assert "was changed after it was written" in change["text"]
    assert "parts" not in change
    shown = change["after"]["probability"] - change["before"]["probability"]
    assert change["difference"] == shown


def test_the_page_tells_what_changed(serving, client_for, earlier):
    page = client_for(serving).get(f"/accounts/{earlier[0].entity_id}").text
    assert "Change since the previous score" in page
    assert "Up from" in page


def test_unknown_and_impossible_accounts_are_problems(serving, client_for):
    client = client_for(serving)
    assert client.get("/v1/accounts/NOBODY/changes").status_code == 404
    assert client.get(f"/v1/accounts/{'x' * 300}/changes").status_code == 422
    for day in ("soon", "0", "2026-13-01", "2026-03-01T00:00:00Z"):
        assert client.get(f"/v1/accounts/{ACCOUNT}/changes?before={day}").status_code == 422


def test_an_account_that_is_not_predicted_has_no_changes(serving, client_for):
    body = client_for(serving).get("/v1/accounts/A-0005/changes").json()
    assert (body["status"], body["changes"]) == ("too_new", {})


def book_of_last_month(world, ledger) -> BookScores:
    """The present book as it would have been with twice the users, a month earlier."""
    rows = ledger.runs.last("churn")
    names = world.names
    vectors = np.stack([unpack_features(row.features) for row in rows])
    vectors[:, names.index("active_users_28d")] *= 2.0
    part = world.release.bundles["churn"]
    bundle = load(world.workspace.state.bundles / part["sha"])
    columns = dict(zip(names, vectors.T, strict=True))
    scores = bundle.predict(bundle.encode(columns).matrix)
    return BookScores(
        book_id="last month",
        target="churn",
        as_of=MONTH_EARLIER,
        served_at=MONTH_EARLIER,
        release_id=world.release.release_id,
        bundle_sha=part["sha"],
        verdict="promotable",
        feature_set=world.feature_hash,
        entity_ids=[row.entity_id for row in rows],
        probability=scores.p,
        logit=scores.logit,
        band=["low"] * len(rows),
        features=vectors,
        facts=[row.facts for row in rows],
    )


def test_the_book_says_what_changed_since_the_last_one(fresh, world):
    with Ledger.open(fresh) as ledger:
        first = read_table(score_book(fresh, world.release, ledger, world.now))
        assert first["churn_change"].null_count == len(first)
        before = book_of_last_month(world, ledger)
        ledger.append_book(before)
        later = world.now + timedelta(minutes=1)
        rows = read_table(score_book(fresh, world.release, ledger, later)).to_pylist()
    known = dict(zip(before.entity_ids, before.probability.tolist(), strict=True))
    scored = [row for row in rows if row["status"] == "scored"]
    for row in scored:
        difference = row["churn_risk"] - known[row["account_id"]]
        assert row["churn_change"] == pytest.approx(difference, abs=1e-12)
        assert row["churn_change_since"] == "2026-02-02"
    clear = [row for row in scored if row["churn_change_is_clear"]]
    assert 5 < len(clear) < len(scored)
    assert all("from" in row["churn_change_text"] for row in clear)
    assert all(row["expansion_change"] is None for row in rows)
    assert all(row["churn_change"] is None for row in rows if row["status"] != "scored")


def test_a_book_without_its_earlier_model_is_published_all_the_same(fresh, world):
    told = []
    with Ledger.open(fresh) as ledger:
        score_book(fresh, world.release, ledger, world.now)
        ledger.append_book(replace(book_of_last_month(world, ledger), bundle_sha="0" * 64))
        later = world.now + timedelta(minutes=1)
        run = score_book(fresh, world.release, ledger, later, told.append)
    table = read_table(run)
    assert pc.sum(pc.is_valid(table["churn_change"])).as_py() == 0
    assert any("no changes since the previous run" in words for words in told)
