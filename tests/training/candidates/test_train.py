"""The whole run on small frames with a known hazard."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import ConfigError
from configs.schema.company import Tuning
from features.tables.catalog import FeatureInfo
from training.candidates.build_manifest import reference
from training.candidates.train import calibrated_forward, pooled_calibration, train
from training.data.splits import make_folds
from training.evaluation.metrics import Sample, auc
from training.fitting.fit import DEFAULT_TREES, TrainingConfig
from training.model.bundle import load, save, sigmoid
from training.model.encoder import Encoder
from training.model.manifest_parts import Recipe
from training.model.reasons import explain_rows

NOWHERE = "sqlite:///:memory:"


@pytest.fixture(scope="module")
def trained(frame, small):
    return train(frame, small.company(), storage_url=NOWHERE)


def relabelled(frame, label):
    known = frame.rows["as_of"] + pd.Timedelta(days=30)
    return replace(
        frame,
        rows=frame.rows.assign(
            label=label, decision_at=known.where(label == 1).astype("datetime64[us, UTC]")
        ),
    )


def test_a_real_signal_is_found_near_the_best_that_can_be_had(trained):
    headline = trained.predictions[trained.predictions["is_headline"]]
    truth = sigmoid(headline["true_logit"].to_numpy())
    label = headline["label"].to_numpy(dtype=float)
    sample = Sample(label, truth, truth, truth, np.arange(len(label)))
    best = auc(sample, np.ones((1, len(label))))[0]
    found = trained.evaluation.models["model"]["auc"]
    assert best - 0.05 < found["value"] < best + 0.02
    assert trained.gate_result.verdict in ("promotable", "provisional")
    assert trained.tier.kind == "lightgbm"


def test_the_bundle_is_served_and_explained_as_judged(trained, frame, tmp_path):
    sha = save(trained.bundle, tmp_path)
    bundle = load(tmp_path / sha, expected_sha=sha)
    encoded = bundle.encode(frame.features.iloc[:200])
    scores, contributions = bundle.predict(encoded.matrix), bundle.explain(encoded.matrix)
    rows = explain_rows(
        contributions,
        encoded.matrix,
        bundle.info,
        outcome=bundle.outcome,
        levels=bundle.encoder.levels,
    )
    for row, p in zip(rows, scores.p, strict=True):
        total = row["base"] + sum(row["themes"].values()) + row["context"] + row["unknown"]
        assert total == pytest.approx(p, abs=1e-9)
    json.dumps(rows, allow_nan=False)
    assert any(row["raises"] for row in rows)


def test_the_manifest_says_what_it_was_made_of(trained, frame, small):
    manifest = trained.bundle.manifest
    json.dumps(manifest.to_dict(), allow_nan=False)
    assert manifest.config_hash == small.company().config_hash
    assert manifest.training_fingerprint == frame.fingerprint()
    assert manifest.label_contract["horizon_days"] == 91
    assert manifest.n_rows == len(frame)
    assert manifest.base_rate == pytest.approx(frame.label.mean(), abs=1e-3)
    assert list(manifest.reference) == [item.name for item in frame.info]
    assert sum(manifest.reference["plan"].shares) == pytest.approx(1.0)
    assert manifest.reference["nps"].missing == pytest.approx(0.3, abs=0.03)


def test_the_same_inputs_give_the_same_bytes(trained, frame, small, tmp_path):
    again = train(frame, small.company(), storage_url=NOWHERE)
    assert save(again.bundle, tmp_path) == save(trained.bundle, tmp_path)
    assert again.evaluation == trained.evaluation


def test_the_evaluation_is_strict_json_and_complete(trained):
    plain = trained.evaluation.as_dict()
    json.dumps(plain, allow_nan=False)
    assert set(plain["models"]) == {
        "model", "model_raw", "constant", "calendar", "best_feature", "health_score", "logistic",
    }  # fmt: skip
    assert {row["slice"] for row in plain["contracts"]} == {"under contract", "no contract"}
    assert sum(row["n"] for row in plain["segments"]) == plain["n_rows"]
    assert sum(row["n"] for row in plain["newcomers"]) == plain["n_rows"]
    assert [row["days"] for row in plain["lead_times"]] == [30, 60, 90, 120, 180]
    assert plain["lead_times"][0]["events"] > 0
    assert set(plain["lead_times"][0]["auc"]) == set(plain["models"]) - {"model_raw"}
    assert plain["lead_times"][-1]["events"] == 0, "nothing is decided after the horizon"
    assert plain["first_alerts"]["events"] > 0
    assert plain["workload"]["csms"] is None, "nobody owns these accounts"
    assert [row["fold"] for row in plain["periods"]] == [1, 2, 3]
    assert "test periods" in plain["stability"]["words"]
    assert len(plain["folds"]) == 3
    for fold in plain["folds"]:
        assert fold["known_to"] <= fold["cutoff"]
    paired = plain["differences"]["constant"]["auc"]
    assert paired["low"] > 0


def test_headline_rows_count_each_account_once_per_fold(trained):
    headline = trained.predictions[trained.predictions["is_headline"]]
    assert not headline.duplicated(["fold", "entity_id"]).any()
    assert trained.evaluation.n_rows == len(headline)


def test_calibration_of_a_fold_never_uses_what_was_not_known_at_its_cutoff(trained, frame):
    folds = make_folds(frame, folds=3, fold_days=91, seed=7)
    predictions = trained.predictions
    before = calibrated_forward(predictions, folds.cutoffs, "raw")
    np.testing.assert_array_equal(before, predictions["p_model"].to_numpy())
    for fold in folds.folds:
        unknown = (predictions["label_known_at"] > fold.cutoff) & (
            predictions["fold"] < fold.number
        )
        future = predictions["fold"] >= fold.number
        poisoned = predictions.assign(
            label=np.where(unknown | future, 1 - predictions["label"], predictions["label"])
        )
        here = (predictions["fold"] == fold.number).to_numpy()
        np.testing.assert_array_equal(
            calibrated_forward(poisoned, folds.cutoffs, "raw")[here], before[here]
        )
    first = (predictions["fold"] == 1).to_numpy()
    np.testing.assert_array_equal(before[first], predictions["p_model_raw"].to_numpy()[first])


def test_every_entity_has_one_vote_per_fold_in_the_calibration(trained):
    calibration = trained.bundle.calibration
    assert calibration == pooled_calibration(trained.predictions)
    votes = trained.predictions.groupby(["fold", "entity_id"])["label"].mean()
    assert calibration.n_events == round(votes.sum())


def test_shuffled_labels_show_no_signal(frame, small):
    rng = np.random.default_rng(5)
    shuffled = relabelled(frame, rng.permutation(frame.rows["label"].to_numpy()))
    found = train(shuffled, small.company(), storage_url=NOWHERE)
    assert found.gate_result.verdict == "no_signal"
    assert not found.bundle.has_reasons
    matrix = found.bundle.encode(frame.features).matrix
    p = found.bundle.predict(matrix).p
    assert p == pytest.approx(np.full(len(p), found.bundle.base_rate), abs=1e-12)
    assert not found.bundle.explain(matrix).values.any()


def test_a_column_that_knows_the_outcome_is_suspected(frame, small):
    rng = np.random.default_rng(5)
    leak = FeatureInfo("leak", "commercial", "end date", "", "days", None, "commercial")
    planted = small.with_columns(
        frame,
        features={"leak": frame.label + 0.2 * rng.normal(size=len(frame))},
        info=(*frame.info, leak),
    )
    found = train(planted, small.company(), storage_url=NOWHERE)
    assert found.gate_result.verdict == "provisional"
    assert "too_good" in {gate.code for gate in found.gate_result.failed}


@pytest.mark.parametrize(("accounts", "kind"), [(20, "rates"), (45, "linear"), (150, "lightgbm")])
def test_the_ladder_follows_the_events(small, accounts, kind):
    rows = small.make_frame(accounts=accounts, months=14, rate=-2.2)
    found = train(rows, small.company(folds=2), storage_url=NOWHERE)
    assert found.tier.kind == kind
    assert found.config.kind == kind
    if found.gate_result.verdict != "no_signal":
        assert found.bundle.predictor.kind == kind


def test_the_bundle_tells_the_auc_of_the_evaluation(trained):
    kept, found = trained.bundle.manifest.metrics, trained.evaluation.models["model"]
    assert (kept["auc"], kept["auc_pooled"]) == (found["auc"], found["auc_pooled"])
    gates = {gate.code: gate for gate in trained.gate_result.gates}
    assert gates["too_good"].value == found["auc"]["value"]
    assert gates["discrimination"].value == found["auc"]["low"]


def test_settings_are_searched_only_on_what_the_cutoff_knew(frame, small, tmp_path):
    words = []
    company = small.company(tuning=Tuning(trials=2, inner_folds=1))
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    found = train(frame, company, storage_url=url, progress=words.append)
    assert len(found.trials) == 2
    line = next(word for word in words if word.startswith("searching"))
    fold = found.folds["n_train"].tolist()
    assert any(f"{n:,} rows" in line for n in fold)
    assert "verdict" in words[-1]
    assert found.evaluation.tuning == found.plan.note
    assert "log-loss" in found.plan.note
    assert not found.evaluation.notes


def test_settings_that_win_the_search_are_published(frame, small, tmp_path, monkeypatch):
    blunt = {**DEFAULT_TREES, "lambda_l2": 1e6, "learning_rate": 1e-4}
    monkeypatch.setattr("training.candidates.train.starting_trees", lambda *_: blunt)
    company = small.company(tuning=Tuning(trials=4, inner_folds=1))
    found = train(frame, company, storage_url=f"sqlite:///{tmp_path / 'optuna.db'}")
    best = found.trials.loc[found.trials["value"].idxmin()]
    kept = found.bundle.manifest.recipe
    assert kept.trees == {name: best[name] for name in DEFAULT_TREES}
    assert kept.rounds == best["rounds"]
    assert found.evaluation.tuning.startswith("tuning lowered log-loss from 0.")


def test_a_champion_is_refitted_on_the_same_folds(frame, small):
    champion = TrainingConfig("lightgbm", "churn", seeds=(1,), rounds=5, threads=1)
    assert TrainingConfig.from_recipe(Recipe.from_dict(champion.as_dict()), threads=1) == champion
    found = train(frame, small.company(), storage_url=NOWHERE, champion=champion)
    assert "champion" in found.evaluation.models
    gates = {gate.code: gate for gate in found.gate_result.gates}
    assert gates["champion"].passed


def test_the_published_model_is_asked_only_about_what_it_could_not_know(frame, small):
    middle = frame.rows["as_of"].drop_duplicates().sort_values().iloc[12]
    past = frame.take((frame.rows["label_known_at"] <= middle).to_numpy())
    old = train(past, small.company(folds=1), storage_url=NOWHERE)
    found = train(frame, small.company(), storage_url=NOWHERE, published=old.bundle)
    itself = found.predictions["champion_itself"]
    cutoff = pd.Timestamp(old.bundle.manifest.labels_known_to)
    assert (itself.notna() == (found.predictions["as_of"] >= cutoff)).all()
    since = found.evaluation.champion_since
    assert pd.Timestamp(since["since"]) >= cutoff
    assert since["difference"]["log_loss"]["low"] <= since["difference"]["log_loss"]["value"]
    assert "champion_since" in {gate.code for gate in found.gate_result.gates}
    assert "champion_itself" not in found.evaluation.models


def test_a_table_with_a_single_as_of_is_provisional(frame, small):
    moment = frame.rows["as_of"].iloc[0]
    first = frame.rows.drop_duplicates("entity_id").index
    rows = frame.take(np.asarray(first))
    one = small.with_columns(
        rows, rows={"as_of": moment, "label_known_at": moment + pd.Timedelta(days=105)}
    )
    found = train(one, small.company(), storage_url=NOWHERE)
    assert found.evaluation.over == "accounts"
    assert found.gate_result.verdict != "promotable"
    assert "hold out accounts" in found.evaluation.notes[0]


def test_an_unknown_target_is_named(frame, small):
    with pytest.raises(ConfigError, match="churm"):
        train(replace(frame, target="churm"), small.company(), storage_url=NOWHERE)


def test_a_book_is_held_against_the_rows_of_the_last_year():
    encoder = Encoder(("users", "plan"), {"plan": ("basic", "pro")})
    matrix = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 1.0], [np.nan, np.nan]])
    found = reference(encoder, matrix, np.array([False, True, True, True]))
    assert (found["users"].low, found["users"].missing) == (1.0, 0.25)
    assert sum(found["users"].counts) == 3
    assert found["users"].counts[-1] == 1  # not known
    assert found["plan"].to_dict() == {
        "missing": 0.25, "shares": [0.25, 0.5], "edges": [0.0], "counts": [0, 2, 1],
    }  # fmt: skip
    assert sum(reference(encoder, matrix)["users"].counts) == 4
