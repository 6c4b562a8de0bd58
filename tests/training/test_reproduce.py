"""What is kept of a training comes out again; what was tampered with is named."""

import json
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.errors import ModelError, StateError
from configs.runtime.state_directory import MANIFEST, State, read_json, write_json_atomically
from configs.schema.workspace import Workspace
from training import pipeline
from training.candidates.train import TrainingPlan, train
from training.forecast.past_predictions import scored_earlier
from training.model.bundle import bundle_identity, save
from training.pipeline import candidates, store_candidate
from training.reproduce import verify

NOWHERE = "sqlite:///:memory:"


@pytest.fixture(scope="module")
def kept(tmp_path_factory, small):
    """A champion's recipe beside it, so that the comparison with it is kept too."""
    frame, company = small.make_frame(accounts=200, months=14), small.company(folds=2)
    first = train(frame, company, storage_url=NOWHERE)
    trained = train(
        frame, company, storage_url=NOWHERE, champion=first.config, published=first.bundle
    )
    root = tmp_path_factory.mktemp("verify")
    workspace = Workspace(company, root, root, State(root / "state"))
    workspace.state.training.mkdir(parents=True)
    sha = save(trained.bundle, workspace.state.bundles)
    before = scored_earlier(frame, company, trained.folds["cutoff"].min())
    store_candidate(
        workspace, "churn", sha, "identity", trained, before, {"words": "…"}, first.bundle
    )
    return workspace, frame, trained


@pytest.fixture
def spoiled(kept, tmp_path):
    workspace, _, _ = kept
    shutil.copytree(workspace.state.root, tmp_path / "state")
    return Workspace(workspace.company, tmp_path, tmp_path, State(tmp_path / "state"))


def complaint(workspace) -> str:
    with pytest.raises(ModelError) as told:
        verify(workspace, candidates(workspace)["churn"]).require()
    return str(told.value)


def test_an_untouched_training_comes_out_again(kept):
    workspace, _, trained = kept
    found = verify(workspace, candidates(workspace)["churn"])
    found.require()
    assert found.differences == []
    assert found.n_compared > 2 * len(trained.predictions)
    folder = candidates(workspace)["churn"].folder
    drawn = re.findall(r"\]\((.+\.svg)\)", (folder / "card.md").read_text())
    assert {"figures/folds.svg", "figures/reliability.svg"} <= set(drawn)
    assert all((folder / name).read_text().startswith("<svg") for name in drawn)


def test_the_recorded_plan_gives_the_same_bytes_without_a_search(kept):
    workspace, frame, trained = kept
    inputs = read_json(workspace.state.training / "churn" / "inputs.json")
    plan = TrainingPlan.from_dict(inputs["plan"], threads=1)
    again = train(
        frame, workspace.company, storage_url="nowhere", plan=plan, champion=trained.config
    )
    assert bundle_identity(again.bundle) == candidates(workspace)["churn"].sha


def change_predictions(workspace, column, row, value):
    path = workspace.state.training / "churn" / "predictions.parquet"
    table = pq.read_table(path).to_pandas()
    table.loc[row, column] = value
    pq.write_table(pa.Table.from_pandas(table), path)
    return table.loc[row]


def test_a_changed_probability_is_named(spoiled):
    row = change_predictions(spoiled, "p_model", 3, 0.987)
    words = complaint(spoiled)
    assert "checksum of predictions.parquet" in words
    assert f"predictions.p_model of {row['entity_id']} in fold {row['fold']}: stored 0.987" in words


def test_changed_log_odds_are_named_by_the_numbers_they_move(spoiled):
    change_predictions(spoiled, "raw", 3, 7.5)
    words = complaint(spoiled)
    assert "predictions.p_model_raw of" in words
    assert "values were not reproduced" in words


def test_a_changed_card_is_named_by_its_line(spoiled):
    card = spoiled.state.training / "churn" / "card.md"
    lines = card.read_text().splitlines()
    number = next(
        i for i, line in enumerate(lines) if line.startswith("| AUC within test periods |")
    )
    lines[number] = "| AUC within test periods | 0.990 (0.980 to 0.999) |"
    card.write_text("\n".join(lines) + "\n")
    assert f"card.line {number + 1}: stored '| AUC within test periods | 0.990" in complaint(
        spoiled
    )


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        (
            "evaluation.json",
            ("models", "model", "auc", "value"),
            "evaluation.models.model.auc.value",
        ),
        ("judgement.json", ("verdict",), "judgement.verdict"),
    ],
)
def test_a_changed_number_is_named_even_with_its_checksum(spoiled, name, path, words):
    """Whoever changes a file may change the checksum beside it; the number still does not hold."""
    folder = spoiled.state.training / "churn"
    plain = json.loads((folder / name).read_text())
    part = plain
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = 0.99
    write_json_atomically(folder / name, plain)
    manifest = read_json(folder / MANIFEST)
    write_json_atomically(folder / MANIFEST, manifest | {"files": {}})
    assert f"{words}: stored 0.99, recomputed" in complaint(spoiled)


def test_a_training_that_kept_too_little_says_so(spoiled):
    candidate = candidates(spoiled)["churn"]
    (candidate.folder / "inputs.json").unlink()
    with pytest.raises(StateError, match="were not stored"):
        verify(spoiled, candidate)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code_digest", lambda *_: "another"),
        ("built_with", lambda: {"lightgbm": "9.0"}),
    ],
)
def test_a_training_is_new_with_other_code_or_libraries(kept, monkeypatch, name, value):
    workspace, frame, _ = kept
    first = pipeline._identity(workspace, frame, {})
    assert pipeline._identity(workspace, frame, {}) == first
    monkeypatch.setattr(pipeline, name, value)
    assert pipeline._identity(workspace, frame, {}) != first
