"""What each optional table adds to the predictions of the simulated company.

The company is built once with all tables and once without each optional one. Rows, labels and folds
are the same; only the features differ. Both models are fitted with the default settings, without a
search, and are compared on the same bootstrap draws of accounts. The result is
``features/quality/table_values.json``, which `bellwether check` shows next to missing tables.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.state_directory import State
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild, build_features
from features.quality.table_values import PATH
from features.sources.loaded_tables import MISSING_TABLES
from tests.benchmarks.measure import Measure
from tests.benchmarks.training.company import simulated
from training.candidates.train import folds_of
from training.data.splits import Folds, count_events
from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import Measure as Metric
from training.evaluation.metrics import arr_capture, auc, bootstrap, estimate
from training.evaluation.sampling import MODEL, Drawing, sample_of
from training.fitting.fit import TrainingConfig, choose_tier, fit, starting_trees
from training.model.bundle import sigmoid
from training.pipeline import frame_of

ACCOUNTS, MONTHS = 1_500, 24
TARGETS = ("churn", "expansion")
DEFINE_OUTCOMES = frozenset({"subscriptions", "rates"})
"""Optional tables whose absence changes the labels of the simulated company: not comparable."""

WITHOUT_FEATURES = frozenset({"health_scores", "owners", "outcomes", "labels"})
"""Optional tables that no feature is computed from."""

METRICS: Mapping[str, Metric] = {"auc": auc, "arr_capture": arr_capture}
SEEDS = (7, 8, 9)
DRAWS = 1_000

Progress = Callable[[str], None]
Gain = dict[str, float]


@dataclass(frozen=True)
class Reference:
    """The company with all tables.

    Attributes
    ----------
    workspace : Workspace
        Its configuration, data and state.
    frames : dict of str to TrainingFrame
        Labelled rows by target.
    folds : dict of str to Folds
        Test periods by target.
    drawn : dict of str to dict
        Point estimate and bootstrap values of each measure by target.
    """

    workspace: Workspace
    frames: dict[str, TrainingFrame]
    folds: dict[str, Folds]
    drawn: dict[str, dict[str, np.ndarray]]


def without(company: Company, table: str) -> Company:
    """Return the configuration without a table, and without an input of its name."""
    return company.model_copy(
        update={
            "inputs": {name: item for name, item in company.inputs.items() if name != table},
            "tables": {name: item for name, item in company.tables.items() if name != table},
        }
    )


def optional_tables(built: FeatureBuild) -> list[str]:
    """Return the loaded tables that can be left out."""
    return [
        name
        for name in MISSING_TABLES
        if name in built.loaded.tables and name not in DEFINE_OUTCOMES | WITHOUT_FEATURES
    ]


def predicted(frame: TrainingFrame, folds: Folds, outcome: str) -> pd.DataFrame:
    """Return the first test row of each account and test period, with out-of-time probabilities."""
    tier = choose_tier(count_events(frame.rows))
    trees = dict(starting_trees(tier, len(frame)))
    config = TrainingConfig("lightgbm", outcome, SEEDS, trees, threads=1)
    parts = []
    for fold in folds.folds:
        test = frame.take(fold.headline)
        p = sigmoid(fit(config, frame.take(fold.train)).raw(test))
        parts.append(test.rows.assign(fold=fold.number, **{f"p_{MODEL}": p}))
    return pd.concat(parts, ignore_index=True)


def measured(
    frame: TrainingFrame, folds: Folds, company: Company, target: str
) -> dict[str, np.ndarray]:
    """Return the measures of a frame: the value, followed by those of the bootstrap draws."""
    settings = company.training
    capacity = Drawing(
        DRAWS, settings.seed, company.serving.capacity_per_month, settings.fold_days
    ).capacity_per_fold
    rows = predicted(frame, folds, company.targets[target].outcome)
    return bootstrap(sample_of(rows, MODEL, capacity), METRICS, draws=DRAWS, seed=settings.seed)


def aligned(frame: TrainingFrame, full: TrainingFrame) -> TrainingFrame:
    """Return the features of a frame on the rows and labels of the full one.

    Raises
    ------
    DataError
        The rows differ, so the two cannot be compared.
    """
    keys = ["entity_id", "as_of"]
    features = pd.concat([frame.rows[keys], frame.features], axis=1)
    joined = full.rows[keys].merge(features, on=keys, how="inner", validate="one_to_one")
    if len(joined) != len(full):
        raise DataError(
            f"{len(full) - len(joined):,} of {len(full):,} rows exist only with the table",
            where="tests.benchmarks.training.tables.DEFINE_OUTCOMES",
            fix="add the table: it changes the labels",
        )
    return replace(frame, rows=full.rows, features=joined[list(frame.features.columns)])


def reference(folder: Path, accounts: int, months: int, say: Progress) -> Reference:
    """Build and measure the company with all tables."""
    workspace, built = simulated(folder, accounts, months, say)
    company = workspace.company
    frames = {target: frame_of(company, built, target) for target in TARGETS}
    folds = {target: folds_of(frame, company) for target, frame in frames.items()}
    drawn = {target: measured(frames[target], folds[target], company, target) for target in TARGETS}
    return Reference(workspace, frames, folds, drawn)


def gains(full: Reference, table: str, folder: Path, say: Progress) -> dict[str, dict[str, Gain]]:
    """Return what a table adds, by target and measure, with a 95 % interval."""
    workspace = full.workspace
    state = State(folder / f"without-{table}")
    shutil.rmtree(state.root, ignore_errors=True)
    for part in (workspace.state.sources, workspace.state.daily, workspace.state.snapshots):
        if part.exists():  # reused where the table has no effect
            shutil.copytree(part, state.root / part.name)
    less = replace(workspace, company=without(workspace.company, table), state=state)
    built = build_features(less, less.company.clock(), lambda _: None)
    found: dict[str, dict[str, Gain]] = {}
    for target in TARGETS:
        frame = aligned(frame_of(less.company, built, target), full.frames[target])
        drawn = measured(frame, full.folds[target], less.company, target)
        found[target] = {name: _gain(full.drawn[target][name] - drawn[name]) for name in METRICS}
        found[target]["features"] = {
            "lost": float(full.frames[target].features.shape[1] - frame.features.shape[1])
        }
    say(f"without {table}: {_words(found)}")
    shutil.rmtree(state.root, ignore_errors=True)
    return found


def _gain(values: np.ndarray) -> Gain:
    made = estimate(values).as_dict()
    return {name: round(value, 4) for name, value in made.items() if value is not None}


def _words(found: Mapping[str, Mapping[str, Gain]]) -> str:
    return ", ".join(
        f"{target} AUC {item['auc']['value']:+.3f} "
        f"({item['auc']['low']:.3f} to {item['auc']['high']:.3f})"
        for target, item in found.items()
    )


def write_values(
    path: Path, accounts: int, months: int, found: Mapping[str, Mapping[str, Mapping[str, Gain]]]
) -> None:
    """Write the versioned data file."""
    content = {
        "version": 1,
        "company": "the simulated company",
        "accounts": accounts,
        "months": months,
        "tables": found,
    }
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def measure(
    folder: Path,
    say: Progress = lambda _: None,
    *,
    accounts: int = ACCOUNTS,
    months: int = MONTHS,
    path: Path = PATH,
) -> list[Measure]:
    """Measure every optional table, write the data file and return one line per target and table.

    Parameters
    ----------
    folder : Path
        Keeps the company.
    say : callable
        Called with one line per step.
    accounts, months : int
        Size of the simulated company.
    path : Path
        The data file to write.
    """
    full = reference(folder, accounts, months, say)
    built = build_features(full.workspace, full.workspace.company.clock(), lambda _: None)
    found = {
        table: gains(full, table, folder.resolve() / "tables", say)
        for table in optional_tables(built)
    }
    write_values(path, accounts, months, found)
    return list(_lines(full, found))


def _lines(
    full: Reference, found: Mapping[str, Mapping[str, Mapping[str, Gain]]]
) -> Iterator[Measure]:
    for table, targets in found.items():
        for target, item in targets.items():
            yield Measure(
                f"{target}: AUC that {table} adds",
                item["auc"]["value"],
                "AUC",
                "all tables",
                float(full.drawn[target]["auc"][0]),
                detail=item,
            )
