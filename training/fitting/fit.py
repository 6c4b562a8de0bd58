"""Fitting: from a typed frame to a model that predicts and explains (`training.model.predictors`).

Which model a company gets follows from how many events it has seen, not from taste: below 40
resolved events rules and pooled rates, below 150 a logistic regression on a few composites, from
150 shallow boosted trees, from 1,000 trees whose search pays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression

from features.tables.catalog import FeatureInfo
from training.data.splits import entity_codes
from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import level_shift
from training.model.bundle import logit_of, sigmoid
from training.model.encoder import Encoder, fit_levels
from training.model.predictors import (
    LEVEL,
    MISSING,
    VALUE,
    Boosters,
    Design,
    Kind,
    Linear,
    Predictor,
    Rates,
    model_text,
)

SHRINK_ROWS = 50.0
"""Rows of the pooled rate that a level's rate is mixed with."""

FLAG_MISSING_FROM = 0.01
"""Share of missing values from which a linear model gets a flag for them."""

DEFAULT_TREES: Mapping[str, float] = {
    "num_leaves": 4,
    "max_depth": 3,
    "learning_rate": 0.04,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "lambda_l2": 20.0,
}
"""Shallow, slow and regularised: ties logistic regression where stock settings lose to it."""

DRAWS = 6
"""Draws of the accounts that say how sure trees are; their deviation is known to a third."""

LARGE_ROWS = 100_000
"""Rows from which LightGBM's threads gain more than they cost."""

DEFAULT_ROUNDS = 150

LARGE_TREES: Mapping[str, float] = {
    "num_leaves": 8,
    "max_depth": 4,
    "learning_rate": 0.1,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "lambda_l2": 10.0,
}
"""The same for a large table, which `DEFAULT_TREES` leave half unread: out-of-time log-loss 0.2137
and not 0.2194 on the simulated company of 10,000 accounts; on Online Retail, a fifth of its rows,
0.571 and not 0.563. Larger trees gain another 0.001, at twice the cost of an explanation."""

LARGE_TREES_ROWS = 40_000
"""Training rows from which a table is large enough for them, where settings are searched."""
DEFAULT_STRENGTH = 0.1
"""Variance of the prior on each standardised weight (scikit-learn's C)."""


@dataclass(frozen=True)
class ModelTier:
    """The step of the ladder a target stands on.

    Attributes
    ----------
    name : str
        ``rates``, ``linear``, ``trees`` or ``tuned trees``.
    kind : str
        The kind of model.
    n_events : int
        Distinct resolved events.
    reason : str
        In words.
    """

    name: str
    kind: Kind
    n_events: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping kept in the bundle."""
        return asdict(self)


@dataclass(frozen=True)
class TierStep:
    """A step of the ladder.

    Attributes
    ----------
    name, kind : str
        As in `ModelTier`.
    from_events : int
        Distinct resolved events from which it is taken.
    brings : str
        What one gets by coming to it.
    words : str
        What is done on it.
    """

    name: str
    kind: Kind
    from_events: int
    brings: str
    words: str


LINEAR_EVENTS, TREES_EVENTS, TUNED_EVENTS = 40, 150, 1000

MODEL_TIERS = (
    TierStep("rates", "rates", 0, "", "pooled rates, and rules that are judgement, not measured"),
    TierStep(
        "linear",
        "linear",
        LINEAR_EVENTS,
        "a model of its own",
        "logistic regression on composites, few enough for these events",
    ),
    TierStep(
        "trees",
        "lightgbm",
        TREES_EVENTS,
        "shallow trees",
        "shallow constrained trees, their settings searched within narrow bounds",
    ),
    TierStep(
        "tuned trees",
        "lightgbm",
        TUNED_EVENTS,
        "a search of all settings",
        "constrained trees with searched settings",
    ),
)
"""The small-data ladder, lowest step first."""


def choose_tier(n_events: int) -> ModelTier:
    """Return the rung for a number of distinct resolved events.

    >>> [choose_rung(n).name for n in (39, 40, 150, 1000)]
    ['rates', 'linear', 'trees', 'tuned trees']
    >>> choose_rung(15).reason
    '15 events, below 40: pooled rates, and rules that are judgement, not measured'
    """
    steps = [step for step in MODEL_TIERS if n_events >= step.from_events]
    above = MODEL_TIERS[len(steps)].from_events if len(steps) < len(MODEL_TIERS) else None
    step = steps[-1]
    seen = f"{n_events} event{'s' if n_events != 1 else ''}"
    bound = f", below {above:,}" if above else ""
    return ModelTier(step.name, step.kind, n_events, f"{seen}{bound}: {step.words}")


def starting_trees(rung: ModelTier, n_rows: int) -> Mapping[str, float]:
    """Return the settings a table begins with, and keeps unless a search finds better ones.

    >>> [starting_trees(choose_rung(2000), n)["num_leaves"] for n in (20_000, 100_000)]
    [4, 8]
    """
    is_large = rung.name == "tuned trees" and n_rows >= LARGE_TREES_ROWS
    return LARGE_TREES if is_large else DEFAULT_TREES


@dataclass(frozen=True)
class TrainingConfig:
    """How to fit; the same recipe is refitted at every cut-off and at last on everything.

    Attributes
    ----------
    kind : str
        The kind of model.
    outcome : str
        Decides which expected signs constrain the trees.
    seeds : tuple of int
        One booster each.
    trees : mapping of str to float
        LightGBM settings.
    rounds : int
        Boosting rounds.
    strength : float
        Prior variance of linear weights.
    threads : int
        For LightGBM; 0 decides by size. Does not change the model.
    """

    kind: Kind
    outcome: str
    seeds: tuple[int, ...] = (7,)
    trees: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_TREES))
    rounds: int = DEFAULT_ROUNDS
    strength: float = DEFAULT_STRENGTH
    threads: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the fitted model, as kept in the bundle."""
        plain = asdict(self)
        del plain["threads"]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], *, threads: int = 0) -> TrainingConfig:
        """Read back the ``recipe`` of a bundle's manifest: to refit a champion beside others."""
        return cls(**{**plain, "seeds": tuple(plain["seeds"]), "threads": threads})


@dataclass(frozen=True)
class FittedModel:
    """A model with the encoder of its rows."""

    predictor: Predictor
    encoder: Encoder

    def raw(self, frame: TrainingFrame) -> np.ndarray:
        """Return uncalibrated log-odds of a frame's rows."""
        return self.predictor.raw(self.encoder.encode(frame.features).matrix)


def fit(recipe: TrainingConfig, frame: TrainingFrame) -> FittedModel:
    """Fit the recipe to all rows of `frame`."""
    encoder = fit_encoder(frame)
    matrix = encoder.encode(frame.features).matrix
    predictor: Predictor
    if recipe.kind == "lightgbm":
        predictor = fit_boosters(recipe, dataset(recipe, encoder, frame, matrix))
    elif recipe.kind == "linear":
        design = composite_design(matrix, encoder, frame.info, recipe.outcome)
        predictor = fit_linear(design, matrix, frame, recipe.strength)
    else:
        predictor = fit_rates(matrix, encoder, frame)
    return FittedModel(predictor, encoder)


def fit_encoder(frame: TrainingFrame) -> Encoder:
    """Return the encoder of a frame: text columns get levels, all others are numbers."""
    categories = frame.features.select_dtypes(exclude=["number", "bool"]).columns
    levels = {str(name): fit_levels(frame.features[name]) for name in categories}
    return Encoder(tuple(item.name for item in frame.info), levels)


def expected_signs(info: Sequence[FeatureInfo], outcome: str) -> list[int]:
    """Return per feature where a higher value should move the outcome: 1, −1, or 0 left free."""
    return [item.expansion_sign if outcome == "expansion" else item.churn_sign for item in info]


def monotone_constraints(encoder: Encoder, info: Sequence[FeatureInfo], outcome: str) -> list[int]:
    """Return LightGBM's constraints: expected signs, none on categories."""
    signs = expected_signs(info, outcome)
    return [
        0 if item.name in encoder.levels else sign for item, sign in zip(info, signs, strict=True)
    ]


def threads_for(n_rows: int, wanted: int) -> int:
    """Return LightGBM's threads: as wanted, or by size.

    On a small table the threads spend their time waiting for each other, many times over where
    something else runs beside them (measured: 0.8 s with one, 9 s of processor time with two).

    >>> threads_for(20_000, 0), threads_for(20_000, 4)
    (1, 4)
    """
    if wanted:
        return wanted
    return 1 if n_rows < LARGE_ROWS else os.cpu_count() or 1


def tree_settings(recipe: TrainingConfig, constraints: list[int], n_rows: int) -> dict[str, Any]:
    """Return LightGBM's parameters: the recipe's, and those that make a run repeat exactly."""
    return {
        **recipe.trees,
        "objective": "binary",
        "metric": "binary_logloss",
        "bagging_freq": 1,
        "monotone_constraints": constraints,
        "max_bin": 63,
        "feature_pre_filter": False,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": threads_for(n_rows, recipe.threads),
        "verbosity": -1,
    }


def with_draws(recipe: TrainingConfig, fitted: FittedModel, frame: TrainingFrame) -> FittedModel:
    """Return a fitted model that also knows how far its log-odds would move with other accounts.

    Trees are fitted again to `DRAWS` draws of the same accounts; the other kinds know it from
    their formulas. Each draw weighs every account by an independent standard exponential (Rubin,
    *The Bayesian bootstrap*, 1981), all of its rows alike, since rows of one account tell the same.
    """
    if not isinstance(fitted.predictor, Boosters):
        return fitted
    matrix = fitted.encoder.encode(frame.features).matrix
    whole = dataset(recipe, fitted.encoder, frame, matrix)
    entity = entity_codes(frame.rows)
    texts = []
    for number in range(DRAWS):
        rng = np.random.default_rng([recipe.seeds[0], number])
        share = rng.exponential(size=entity.max() + 1)[entity]
        drawn = dataset(recipe, fitted.encoder, frame, matrix, whole, frame.weight * share)
        booster = _booster(recipe, drawn, recipe.seeds[-1] + 1 + number)
        raw = booster.predict(matrix, raw_score=True, num_threads=drawn.params["num_threads"])
        lifted = _lifted(booster, level_shift(np.asarray(raw), frame.label, share))
        texts.append(model_text(lifted.model_to_string()))
    return replace(fitted, predictor=replace(fitted.predictor, draws=tuple(texts)))


def dataset(
    recipe: TrainingConfig,
    encoder: Encoder,
    frame: TrainingFrame,
    matrix: np.ndarray,
    reference: lightgbm.Dataset | None = None,
    weight: np.ndarray | None = None,
) -> lightgbm.Dataset:
    """Return the binned rows, to be used for many fits; weighed as the frame says by default."""
    constraints = monotone_constraints(encoder, frame.info, recipe.outcome)
    return lightgbm.Dataset(
        matrix,
        frame.label,
        weight=frame.weight if weight is None else weight,
        reference=reference,
        feature_name=tree_names(encoder.names),
        categorical_feature=list(encoder.category_positions),
        params=tree_settings(recipe, constraints, len(frame)),
        free_raw_data=False,
    )


def tree_names(names: Iterable[str]) -> list[str]:
    """Return feature names as LightGBM's model text can hold them, one each, in the same order.

    Characters that separate names there or belong to JSON become underscores; a name that is empty
    or taken gets a number. Columns of a ready-made table may be called anything.

    >>> tree_names(["users_28d", "Größe", "a b", 'a"b', ""])
    ['users_28d', 'Größe', 'a_b', 'a_b_2', 'column']
    """
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r'[\s\x00-\x1f\x7f",:\[\]{}\\]', "_", name) or "column"
        number, free = 1, plain
        while free in found:
            number += 1
            free = f"{plain}_{number}"
        found[free] = None
    return list(found)


def fit_boosters(recipe: TrainingConfig, rows: lightgbm.Dataset) -> Boosters:
    """Fit one booster per seed on the same binned rows; their mean has the level of the rows.

    Weights (`TrainingFrame.weight`) say how much a row teaches about differences, not how often its
    answer occurs: an account that leaves early has few rows, which weigh much, and a weighted fit
    expects too many to leave. Every row of the grid stands for an account in the book of its day,
    so the level is that of the rows without weights.
    """
    boosters = [_booster(recipe, rows, seed) for seed in recipe.seeds]
    matrix, threads = rows.get_data(), rows.params["num_threads"]
    raw = np.mean(
        [item.predict(matrix, raw_score=True, num_threads=threads) for item in boosters], axis=0
    )
    shift = level_shift(raw, np.asarray(rows.get_label(), dtype=np.float64))
    texts = tuple(model_text(_lifted(item, shift).model_to_string()) for item in boosters)
    return Boosters(recipe.seeds, texts)


def _booster(recipe: TrainingConfig, rows: lightgbm.Dataset, seed: int) -> lightgbm.Booster:
    settings = {**rows.params, **recipe.trees, "seed": seed}
    return lightgbm.train(settings, rows, num_boost_round=recipe.rounds)


def _lifted(booster: lightgbm.Booster, shift: float) -> lightgbm.Booster:
    """Add a constant to the first tree, where LightGBM keeps the average it starts from."""
    n_leaves = booster.dump_model(num_iteration=1)["tree_info"][0]["num_leaves"]
    for leaf in range(n_leaves):
        booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + shift)
    return booster


def full_design(matrix: np.ndarray, encoder: Encoder) -> Design:
    """Return one derived column per value, per flag of missing values and per level."""
    columns: list[tuple[int, int, float]] = []
    missing = np.isnan(matrix).mean(axis=0)
    for position, name in enumerate(encoder.names):
        if name in encoder.levels:
            columns += [(position, LEVEL, float(code)) for code in range(len(encoder.levels[name]))]
            continue
        columns.append((position, VALUE, 0.0))
        if FLAG_MISSING_FROM < missing[position] < 1.0:
            columns.append((position, MISSING, 0.0))
    return _standardised(columns, matrix)


def _standardised(columns: list[tuple[int, int, float]], matrix: np.ndarray) -> Design:
    feature, kind, level = (np.array(part) for part in zip(*columns, strict=True))
    center, scale = _robust_scales(matrix)
    empty = np.zeros(len(columns))
    rough = Design(
        feature.astype(np.int64), kind.astype(np.int64), level.astype(np.float64),
        center[feature], scale[feature], empty, empty + 1.0,
    )  # fmt: skip
    derived = rough.untidied(matrix)
    width = derived.std(axis=0)
    return Design(
        rough.feature, rough.column_kind, rough.level, rough.center, rough.scale,
        derived.mean(axis=0), np.where(width > 1e-9, width, 1.0),
    )  # fmt: skip


def _robust_scales(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return medians, and scales: the quartile range, or standard deviation where that is 0."""
    center, scale = np.zeros(matrix.shape[1]), np.ones(matrix.shape[1])
    for position, column in enumerate(matrix.T):
        known = column[~np.isnan(column)]
        if len(known) == 0:
            continue
        low, center[position], high = np.quantile(known, [0.25, 0.5, 0.75])
        width = (high - low) / 1.349 or known.std()
        scale[position] = width if width > 1e-12 else 1.0
    return center, scale


@dataclass(frozen=True)
class DerivedColumns:
    """A design whose derived columns are added up to few composites."""

    design: Design
    composition: np.ndarray


def composite_design(
    matrix: np.ndarray, encoder: Encoder, info: Sequence[FeatureInfo], outcome: str
) -> DerivedColumns:
    """Return at most two composites per theme, and the levels of categories.

    Per theme: the mean of the features whose sign is expected, each turned so that more means more
    of the outcome; and the first principal component of the others. Neither looks at the label, so
    few events suffice to weigh them.
    """
    design = full_design(matrix, encoder)
    derived = design.derive(matrix)
    signs = np.array(expected_signs(info, outcome))[design.feature]
    themes = np.array([item.theme for item in info])[design.feature]
    is_value, is_level = design.column_kind == VALUE, design.column_kind == LEVEL
    parts = [np.eye(len(themes))[:, is_level]]
    for theme in dict.fromkeys(themes.tolist()):
        here = is_value & (themes == theme)
        parts += [
            _signed_mean(signs * (here & (signs != 0))),
            _first_component(derived, here & (signs == 0)),
        ]
    composition = np.hstack(parts)
    width = (derived @ composition).std(axis=0)
    kept = width > 1e-9
    return DerivedColumns(design, composition[:, kept] / width[kept])


def _signed_mean(signs: np.ndarray) -> np.ndarray:
    n = np.abs(signs).sum()
    return signs[:, None] / n if n else np.zeros((len(signs), 0))


def _first_component(derived: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    if not chosen.any():
        return np.zeros((len(chosen), 0))
    columns = derived[:, chosen]
    _, vectors = np.linalg.eigh(columns.T @ columns / len(columns))
    first = vectors[:, -1]
    loadings = np.zeros((len(chosen), 1))
    loadings[chosen, 0] = first * np.sign(first[np.abs(first).argmax()])
    return loadings


def fit_linear(
    composites: DerivedColumns, matrix: np.ndarray, frame: TrainingFrame, strength: float
) -> Linear:
    """Fit an L2 logistic regression on composites; its covariance is clustered by entity.

    Its level is that of the rows without weights, as that of the trees (`fit_boosters`).
    """
    design, composition = composites.design, composites.composition
    rows = design.derive(matrix) @ composition
    model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=200, tol=1e-8)
    weight = frame.weight
    model.fit(rows, frame.label, sample_weight=weight)
    weights, intercept = model.coef_[0].astype(np.float64), float(model.intercept_[0])
    entity = entity_codes(frame.rows)
    p = sigmoid(intercept + rows @ weights)
    covariance = _clustered_covariance(rows, p, frame.label, entity, strength, weight)
    intercept += level_shift(intercept + rows @ weights, frame.label)
    return Linear(design, composition, weights, intercept, covariance)


def _clustered_covariance(
    rows: np.ndarray,
    p: np.ndarray,
    label: np.ndarray,
    entity: np.ndarray,
    strength: float,
    weight: np.ndarray,
) -> np.ndarray:
    """Return the sandwich covariance of weights and intercept, clustered by entity."""
    with_one = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.full(with_one.shape[1], 1.0 / strength)
    penalty[-1] = 0.0
    curvature = (with_one * (weight * p * (1.0 - p))[:, None]).T @ with_one + np.diag(penalty)
    scores = np.zeros((entity.max() + 1, with_one.shape[1]))
    np.add.at(scores, entity, with_one * (weight * (label - p))[:, None])
    inverse: np.ndarray = np.linalg.inv(curvature)
    sandwich: np.ndarray = inverse @ (scores.T @ scores) @ inverse
    symmetric: np.ndarray = (sandwich + sandwich.T) / 2.0
    return symmetric


def fit_all_columns(frame: TrainingFrame, strength: float = DEFAULT_STRENGTH) -> FittedModel:
    """Fit an L2 logistic regression on every derived column: the challenger beside the trees."""
    encoder = fit_encoder(frame)
    matrix = encoder.encode(frame.features).matrix
    design = full_design(matrix, encoder)
    composites = DerivedColumns(design, np.eye(len(design.feature)))
    return FittedModel(fit_linear(composites, matrix, frame, strength), encoder)


def fit_rates(matrix: np.ndarray, encoder: Encoder, frame: TrainingFrame) -> Rates:
    """Pool rates by the first context category (a segment), or for everybody when there is none."""
    entity = entity_codes(frame.rows)
    base, base_spread = _rate(frame.label, entity, None)
    position = next(
        (
            i
            for i, item in enumerate(frame.info)
            if item.theme == "context" and len(encoder.levels.get(item.name, ())) > 1
        ),
        None,
    )
    levels = [] if position is None else range(len(encoder.levels[encoder.names[position]]))
    found = [
        _rate(frame.label[here], entity[here], base)
        for code in levels
        for here in [matrix[:, position] == code]
    ]
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    return Rates(len(encoder.names), position, base, base_spread, table[:, 0], table[:, 1])


def constant_rate(frame: TrainingFrame, encoder: Encoder) -> Rates:
    """Return one rate for everybody: what is published when no signal was found."""
    entity = entity_codes(frame.rows)
    base, spread = _rate(frame.label, entity, None)
    return Rates(len(encoder.names), None, base, spread, np.zeros(0), np.zeros(0))


def _rate(label: np.ndarray, entity: np.ndarray, parent: float | None) -> tuple[float, float]:
    """Return log-odds of a rate shrunk to its parent's, and their standard error by entities."""
    prior = 0.5 if parent is None else float(sigmoid(np.asarray(parent)))
    weight = 1.0 if parent is None else SHRINK_ROWS
    rate = (label.sum() + weight * prior) / (len(label) + weight)
    n = len(np.unique(entity)) + weight
    return float(logit_of(rate)), float(1.0 / np.sqrt(n * rate * (1.0 - rate)))
