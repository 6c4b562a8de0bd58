"""The reference release: two targets, each 300 trees of 15 leaves, seeds included, of depth ≤ 6.

As any release of trees it also has draws, twice as many trees again, that say how sure a score is.

Fitted to the features of a simulated company and published in its state directory, with its book.
How well it predicts is not judged here, so it skips folds, search and gates; everything that costs
time when it answers is what any release has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.runtime.errors import StateError
from configs.schema.workspace import Workspace
from features.labels import definition
from features.pipeline import FeatureBuild
from serving.batch.score_book import score_book
from serving.ledger.store.ledger import Ledger
from tests.benchmarks.training.company import simulated
from training.candidates.build_manifest import reference
from training.data.dataset import training_frame
from training.data.training_frame import TrainingFrame
from training.fitting.fit import FittedModel, TrainingConfig, fit, with_draws
from training.model.bands import book_scores, frozen_bands, newest_vectors
from training.model.bundle import Bundle, save
from training.model.manifest import ModelManifest
from training.model.manifest_parts import Calibration
from training.model.reason_text import catalogue_version
from training.registry.releases import Release, current, new_release, open_store, publish

SEEDS, ROUNDS = (7, 8, 9), 100
TREES: Mapping[str, float] = {
    "num_leaves": 15,
    "max_depth": 6,
    "learning_rate": 0.05,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "lambda_l2": 5.0,
}
BOOSTER_FILE = "one_booster.txt"

Progress = Callable[[str], None]


def reference_release(
    folder: Path,
    accounts: int,
    months: int,
    progress: Progress = lambda _: None,
    rounds: int = ROUNDS,
) -> tuple[Workspace, Release]:
    """Return a simulated company that has the reference release published; made once.

    Beside its state lies `BOOSTER_FILE`: the first target's model as a single booster of as many
    trees, for servers that know one booster per model.
    """
    workspace, built = simulated(folder, accounts, months, progress)
    store = open_store(workspace)
    standing = current(store)
    if standing is not None and standing.feature_set["hash"] == built.features.hash:
        return workspace, standing
    bundles = {}
    for target in workspace.company.targets:
        progress(f"fitting the reference model of {target}")
        frame = _frame(built, target)
        recipe = TrainingConfig("lightgbm", _outcome(workspace, target), SEEDS, dict(TREES), rounds)
        fitted = with_draws(recipe, fit(recipe, frame), frame)
        bundles[target] = _bundle(workspace, frame, recipe, fitted)
        if len(bundles) == 1:
            _write_one_booster(workspace, frame, recipe)
    release = _release(workspace, built, bundles)
    publish(store, release, standing.release_id if standing else None, note="benchmark")
    progress("scoring its book")
    with Ledger.open(workspace) as ledger:
        score_book(workspace, release, ledger, workspace.company.clock())
    return workspace, release


def _frame(built: FeatureBuild, target: str) -> TrainingFrame:
    labels, info = built.labels[target], built.features.info
    return training_frame(labels, built.snapshots, built.loaded, built.store, info)


def _outcome(workspace: Workspace, target: str) -> str:
    return workspace.company.targets[target].outcome


def _write_one_booster(workspace: Workspace, frame: TrainingFrame, recipe: TrainingConfig) -> None:
    single = TrainingConfig(
        recipe.kind, recipe.outcome, SEEDS[:1], recipe.trees, recipe.rounds * len(SEEDS)
    )
    [text] = fit(single, frame).predictor.files().values()
    (workspace.state.root / BOOSTER_FILE).write_text(text, encoding="utf-8")


def _bundle(
    workspace: Workspace, frame: TrainingFrame, recipe: TrainingConfig, fitted: FittedModel
) -> Bundle:
    company = workspace.company
    calibration = Calibration(0.95, -0.02, (0.002, 0.0, 0.004), "affine", 500)
    manifest: dict[str, Any] = {
        "target": frame.target,
        "outcome": recipe.outcome,
        "entity": company.entity,
        "label_contract": company.targets[frame.target].model_dump(mode="json"),
        "config_hash": company.config_hash,
        "seeds": list(recipe.seeds),
        "recipe": recipe.as_dict(),
        "verdict": "provisional",
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "reference": reference(fitted.encoder, fitted.encoder.encode(frame.features).matrix),
        "calibration": {**asdict(calibration), "covariance": list(calibration.covariance)},
        "base_rate": float(frame.label.mean()),
        "metrics": {},
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


def _release(workspace: Workspace, built: FeatureBuild, bundles: Mapping[str, Bundle]) -> Release:
    company, names = workspace.company, built.features.names
    folder = newest_vectors(workspace.state, built.features.hash)
    if folder is None:
        raise StateError("there is no book to size the bands by", fix="build the features first")
    frozen = {
        name: frozen_bands(book_scores(folder, bundle, names), bundle.base_rate, company, "book")
        for name, bundle in bundles.items()
    }
    shas = {name: save(bundle, workspace.state.bundles) for name, bundle in bundles.items()}
    return new_release(
        created_at=company.clock(),
        bundles={
            name: {"sha": shas[name], "verdict": bundle.verdict} for name, bundle in bundles.items()
        },
        feature_set={"hash": built.features.hash, "names": built.features.names},
        bands={name: part.cuts for name, part in frozen.items()},
        frozen={name: part.basis for name, part in frozen.items()},
        reason_catalogue_version=catalogue_version(),
        label_contracts={
            name: {
                "target": name,
                **target.model_dump(mode="json"),
                "words": definition(target, company),
            }
            for name, target in company.targets.items()
        },
        config_hash=company.config_hash,
        note="the reference release of the benchmarks",
    )
