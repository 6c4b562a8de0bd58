"""Models that are whole and make no sense: refused before they answer, while the old one serves."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import replace

import pytest

import serving.online.release_trial as module
from configs.runtime.errors import ModelError
from serving.online.release_trial import ReleaseTrials, run_trial, tree_mistake
from serving.online.server_state import ServerState
from serving.scoring.scorer import newest_vectors
from training.model.bundle import load, save
from training.model.predictors import Boosters
from training.registry.releases import mark_served, open_store, publish
from training.registry.shadow import publish_shadow

CHURN = "churn"


def changed_calibration(bundle, **values):
    calibration = replace(bundle.calibration, **values)
    return replace(bundle, manifest=bundle.manifest.changed(calibration=calibration))


def with_text(bundle, change):
    """Return the bundle with another text for its first booster; checksums are made to match."""
    old = bundle.predictor
    return replace(bundle, predictor=Texts(old.seeds, (change(old.texts[0]), *old.texts[1:])))


class Texts:
    """Boosters that are only written, never loaded here."""

    kind = "lightgbm"

    def __init__(self, seeds, texts) -> None:
        self.seeds, self.texts = seeds, texts

    def files(self):
        return {
            f"model_{seed}.txt": text for seed, text in zip(self.seeds, self.texts, strict=True)
        }


def field(text: str, name: str, change) -> str:
    """Change a line of the first tree that has several nodes."""
    at = text.index(next(re.finditer(r"num_leaves=([3-9]|\d\d)\n", text))[0])
    line = re.compile(rf"^{name}=(.*)$", re.MULTILINE).search(text, at)
    return text[: line.start(1)] + change(line[1].split()) + text[line.end(1) :]


def cyclic(text: str) -> str:
    return field(text, "left_child", lambda words: " ".join(["0", *words[1:]]))


def infinite(text: str) -> str:
    return field(text, "leaf_value", lambda words: " ".join(["inf", *words[1:]]))


def not_a_number(text: str) -> str:
    return field(text, "leaf_value", lambda words: " ".join([*words[:-1], "nan"]))


def shorter(text: str) -> str:
    return field(text, "leaf_value", lambda words: " ".join(words[1:]))


def outside(text: str) -> str:
    return field(text, "right_child", lambda words: " ".join([*words[:-1], "4000"]))


def other_features(text: str) -> str:
    return field(text, "split_feature", lambda words: " ".join(["9000", *words[1:]]))


def unparsable(text: str) -> str:
    return "these are no trees\n"


def fewer_features(text: str) -> str:
    """A model of three features: what it splits by and what it is given differ."""
    n_features = int(re.search(r"max_feature_idx=(\d+)", text)[1])
    text = text.replace(f"max_feature_idx={n_features}", "max_feature_idx=2")
    for name in ("feature_names", "feature_infos", "monotone_constraints"):
        text = re.sub(
            rf"^{name}=(.*)$",
            lambda line, name=name: f"{name}={' '.join(line[1].split()[:3])}",
            text,
            flags=re.MULTILINE,
        )
    return text


NONSENSE = {
    "nan_slope": lambda bundle: changed_calibration(bundle, slope=math.nan),
    "endless_intercept": lambda bundle: changed_calibration(bundle, intercept=math.inf),
    "nan_covariance": lambda bundle: changed_calibration(bundle, covariance=[math.nan] * 3),
    "calibration_of_text": lambda bundle: changed_calibration(bundle, slope="steep"),
    "base_rate": lambda bundle: replace(bundle, manifest=bundle.manifest.changed(base_rate=7.0)),
    **{
        change.__name__: lambda bundle, change=change: with_text(bundle, change)
        for change in (
            cyclic,
            infinite,
            not_a_number,
            shorter,
            outside,
            other_features,
            unparsable,
            fewer_features,
        )
    },
}


@pytest.fixture
def made(fresh, world, release_for):
    """Return a release whose churn model was changed, with checksums that match."""

    class Features:
        hash, names = world.feature_hash, world.names

    def make(how: str):
        bundles = {
            target: load(fresh.state.bundles / part["sha"])
            for target, part in world.release.bundles.items()
        }
        bundles[CHURN] = NONSENSE[how](bundles[CHURN])
        return release_for(fresh, bundles, Features, note=how)

    return make


@pytest.mark.parametrize("how", NONSENSE)
def test_a_model_without_sense_is_refused_and_the_old_one_serves(how, made, fresh, world):
    serving = ServerState(fresh)
    serving.refresh()
    try:
        release = made(how)
        publish(open_store(fresh), release, world.release.release_id)
        serving.refresh()
        assert serving.current().release.release_id == world.release.release_id
        note = serving.notes["release"]
        assert release.release_id in note
        assert f"the model of {CHURN} " in note
        answer = serving.score(["A-0030"], request_id="x").answers[0]
        assert 0 <= answer["churn_risk"] <= 1
        serving.refresh()
        assert serving.notes["release"] == note
    finally:
        serving.close()


def test_what_was_refused_is_not_tried_at_every_look_and_not_taken_by_a_process_that_starts(
    made, fresh, world, monkeypatch
):
    release = made("nan_slope")
    publish(open_store(fresh), release, world.release.release_id)
    tried = []

    def counted(*asked):
        tried.append(asked)
        return run_trial(*asked)

    monkeypatch.setattr(module, "run_trial", counted)
    serving = ServerState(fresh)
    mark_served(fresh.state.releases, world.release)
    serving.refresh()
    serving.refresh()
    try:
        assert serving.current().release.release_id == world.release.release_id
        assert release.release_id in serving.notes["release"]
        assert len(tried) == 1
    finally:
        serving.close()


def test_a_service_that_starts_with_nothing_else_says_so_and_answers_nothing(made, fresh, world):
    (fresh.state.releases / "served.json").unlink(missing_ok=True)
    release = made("nan_slope")
    publish(open_store(fresh), release, world.release.release_id)
    serving = ServerState(fresh)
    serving.refresh()
    try:
        assert not serving.is_ready()
        assert f"release {release.release_id} is refused" in serving.notes["release"]
    finally:
        serving.close()


def test_a_shadow_without_sense_is_refused_too(made, fresh, world):
    serving = ServerState(fresh)
    serving.refresh()
    try:
        release = made("nan_slope")
        publish_shadow(open_store(fresh), release)
        serving.refresh()
        assert serving.current().shadow is None
        assert "is refused" in serving.notes["shadow"]
    finally:
        serving.close()


def test_a_model_that_comes_to_no_end_is_ended(made, fresh, world, monkeypatch):
    """Where the look at its text finds nothing, the time it takes does."""
    release = made("nan_slope")
    sha = release.bundles[CHURN]["sha"]
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    target, told = run_trial(fresh.state, {CHURN: sha}, release, None)
    assert target == CHURN
    assert "was not scored within" in told


def test_what_passed_is_not_tried_again_and_what_is_changed_is_found(fresh, world):
    trials = ReleaseTrials(fresh.state)
    vectors = newest_vectors(fresh.state, world.feature_hash)
    trials.check(world.release, vectors)
    began = time.monotonic()
    trials.check(world.release, vectors)
    assert time.monotonic() - began < 0.2
    for note in (fresh.state.releases / ".tried").iterdir():
        note.unlink()
    sha = world.release.bundles[CHURN]["sha"]
    path = next((fresh.state.bundles / sha).glob("model_*.txt"))
    path.write_text(path.read_text().replace("leaf_value=", "leaf_value=9", 1))
    with pytest.raises(ModelError, match="was changed after it was written"):
        ReleaseTrials(fresh.state).check(world.release, vectors)


def test_sound_trees_have_no_mistake(world, fresh):
    sha = world.release.bundles[CHURN]["sha"]
    bundle = load(fresh.state.bundles / sha)
    assert isinstance(bundle.predictor, Boosters)
    width = len(bundle.encoder.names)
    assert {tree_mistake(text, width) for text in bundle.predictor.texts} == {""}
    assert "asks for feature" in tree_mistake(bundle.predictor.texts[0], 1)
    assert json.dumps(bundle.manifest.to_dict()["calibration"])
    assert save(bundle, fresh.state.bundles) == sha
