"""Fitting: from a typed frame to a model that predicts and explains (`training.model.predictors`).

The number of resolved events decides the model tier: below 40 rules and pooled rates, below 150
logistic regression on a few composites, from 150 shallow boosted trees, from 1,000 trees with
searched settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression

from features.tables.catalog import FeatureInfo
from training.data.splits import entity_codes
from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import level_shift
from training.model.bundle import logit_of, sigmoid
from training.model.encoder import Encoder, fit_levels
from training.model.manifest_parts import Kind, ModelTier, Recipe
from training.model.predictors import (
    LEVEL,
    MISSING,
    VALUE,
    Boosters,
    Design,
    Linear,
    Predictor,
    Rates,
    model_text,
)

SHRINK_ROWS = 50.0
"""Weight of the pooled rate, in rows, in the rate of a level."""

FLAG_MISSING_FROM = 0.01
"""Share of missing values from which a linear model has an indicator column for them."""

DEFAULT_TREES: Mapping[str, float] = {
    "num_leaves": 4,
    "max_depth": 3,
    "learning_rate": 0.04,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "lambda_l2": 20.0,
}
"""Shallow, slow and regularised: as good as logistic regression, unlike LightGBM's defaults."""

DRAWS = 6
"""Bootstrap draws of accounts behind the range of trees; relative error of their deviation: 1/3."""

LARGE_ROWS = 100_000
"""Rows from which several LightGBM threads are faster than one."""

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
"""Settings for large tables, on which `DEFAULT_TREES` underfit: out-of-time log-loss 0.2137 instead
of 0.2194 on the simulated company of 10,000 accounts; on Online Retail, a fifth of its rows, 0.571
instead of 0.563. Larger trees gain another 0.001, at twice the cost of an explanation."""

LARGE_TREES_ROWS = 40_000
"""Training rows from which `LARGE_TREES` are the starting point of a search."""

DEFAULT_STRENGTH = 0.1
"""Variance of the prior on each standardised weight (scikit-learn's C)."""


@dataclass(frozen=True)
class TierStep:
    """Definition of a model tier.

    Attributes
    ----------
    name, kind : str
        As in `ModelTier`.
    from_events : int
        Smallest number of distinct resolved events.
    brings : str
        Gain over the tier below, as a noun.
    words : str
        Description of the model.
    """

    name: str
    kind: Kind
    from_events: int
    brings: str
    words: str


LINEAR_EVENTS, TREES_EVENTS, TUNED_EVENTS = 40, 150, 1000

MODEL_TIERS = (
    TierStep("rates", "rates", 0, "", "pooled rates, and rules of judgement that are not measured"),
    TierStep(
        "linear",
        "linear",
        LINEAR_EVENTS,
        "a fitted model",
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
"""Model tiers by number of events, lowest first."""


def choose_tier(n_events: int) -> ModelTier:
    """Return the model tier for a number of distinct resolved events.

    >>> [choose_tier(n).name for n in (39, 40, 150, 1000)]
    ['rates', 'linear', 'trees', 'tuned trees']
    >>> choose_tier(15).reason
    '15 events, below 40: pooled rates, and rules of judgement that are not measured'
    """
    steps = [step for step in MODEL_TIERS if n_events >= step.from_events]
    above = MODEL_TIERS[len(steps)].from_events if len(steps) < len(MODEL_TIERS) else None
    step = steps[-1]
    seen = f"{n_events} event{'s' if n_events != 1 else ''}"
    bound = f", below {above:,}" if above else ""
    return ModelTier(step.name, step.kind, n_events, f"{seen}{bound}: {step.words}")


def starting_trees(tier: ModelTier, n_rows: int) -> Mapping[str, float]:
    """Return the starting settings of a table, used unless a search finds better ones.

    >>> [starting_trees(choose_tier(2000), n)["num_leaves"] for n in (20_000, 100_000)]
    [4, 8]
    """
    is_large = tier.name == "tuned trees" and n_rows >= LARGE_TREES_ROWS
    return LARGE_TREES if is_large else DEFAULT_TREES


class ConfigJson(TypedDict):
    """JSON content of a `TrainingConfig`; the number of threads does not change the model."""

    kind: Kind
    outcome: str
    seeds: Sequence[int]
    trees: Mapping[str, float]
    rounds: int
    strength: float


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a fit, used at every cut-off and for the final model.

    Attributes
    ----------
    kind : str
        The kind of model.
    outcome : str
        Decides the expected signs that constrain the trees.
    seeds : tuple of int
        One booster each.
    trees : mapping of str to float
        LightGBM settings.
    rounds : int
        Boosting rounds.
    strength : float
        Prior variance of linear weights.
    threads : int
        For LightGBM; 0 chooses by number of rows. Does not change the model.
    """

    kind: Kind
    outcome: str
    seeds: tuple[int, ...] = (7,)
    trees: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_TREES))
    rounds: int = DEFAULT_ROUNDS
    strength: float = DEFAULT_STRENGTH
    threads: int = 0

    def as_dict(self) -> ConfigJson:
        """Return the settings that decide the fitted model, as stored in the bundle."""
        return {
            "kind": self.kind,
            "outcome": self.outcome,
            "seeds": self.seeds,
            "trees": dict(self.trees),
            "rounds": self.rounds,
            "strength": self.strength,
        }

    @classmethod
    def from_dict(cls, plain: ConfigJson, *, threads: int = 0) -> TrainingConfig:
        """Read what `as_dict` returned."""
        return cls(
            plain["kind"],
            plain["outcome"],
            tuple(plain["seeds"]),
            plain["trees"],
            plain["rounds"],
            plain["strength"],
            threads,
        )

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, threads: int = 0) -> TrainingConfig:
        """Read the recipe of a bundle's manifest, to refit a champion next to its challenger."""
        return cls(
            recipe.kind,
            recipe.outcome,
            recipe.seeds,
            dict(recipe.trees),
            recipe.rounds,
            recipe.strength,
            threads,
        )


@dataclass(frozen=True)
class FittedModel:
    """Fitted predictor with the encoder of its rows."""

    predictor: Predictor
    encoder: Encoder

    def raw(self, frame: TrainingFrame) -> np.ndarray:
        """Return uncalibrated log-odds of a frame's rows."""
        return self.predictor.raw(self.encoder.encode(frame.features).matrix)


def fit(config: TrainingConfig, frame: TrainingFrame) -> FittedModel:
    """Fit a model to all rows of `frame`."""
    encoder = fit_encoder(frame)
    matrix = encoder.encode(frame.features).matrix
    predictor: Predictor
    if config.kind == "lightgbm":
        predictor = fit_boosters(config, dataset(config, encoder, frame, matrix))
    elif config.kind == "linear":
        design = composite_design(matrix, encoder, frame.info, config.outcome)
        predictor = fit_linear(design, matrix, frame, config.strength)
    else:
        predictor = fit_rates(matrix, encoder, frame)
    return FittedModel(predictor, encoder)


def fit_encoder(frame: TrainingFrame) -> Encoder:
    """Return the encoder of a frame: text columns get levels, all others are numbers."""
    categories = frame.features.select_dtypes(exclude=["number", "bool"]).columns
    levels = {str(name): fit_levels(frame.features[name]) for name in categories}
    return Encoder(tuple(item.name for item in frame.info), levels)


def expected_signs(info: Sequence[FeatureInfo], outcome: str) -> list[int]:
    """Return the expected sign of each feature's effect on the outcome: 1, −1, or 0 for none."""
    return [item.expansion_sign if outcome == "expansion" else item.churn_sign for item in info]


def monotone_constraints(encoder: Encoder, info: Sequence[FeatureInfo], outcome: str) -> list[int]:
    """Return LightGBM's monotone constraints: expected signs, none on categories."""
    signs = expected_signs(info, outcome)
    return [
        0 if item.name in encoder.levels else sign for item, sign in zip(info, signs, strict=True)
    ]


def threads_for(n_rows: int, wanted: int) -> int:
    """Return the number of LightGBM threads: as given, or by number of rows.

    On small tables, threads mostly wait for each other, more so on a busy machine (measured: 0.8 s
    with one thread, 9 s of processor time with two).

    >>> threads_for(20_000, 0), threads_for(20_000, 4)
    (1, 4)
    """
    if wanted:
        return wanted
    return 1 if n_rows < LARGE_ROWS else os.cpu_count() or 1


def tree_settings(config: TrainingConfig, constraints: list[int], n_rows: int) -> dict[str, Any]:
    """Return LightGBM's parameters: the config's, and those for exact repeatability."""
    return {
        **config.trees,
        "objective": "binary",
        "metric": "binary_logloss",
        "bagging_freq": 1,
        "monotone_constraints": constraints,
        "max_bin": 63,
        "feature_pre_filter": False,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": threads_for(n_rows, config.threads),
        "verbosity": -1,
    }


def with_draws(config: TrainingConfig, fitted: FittedModel, frame: TrainingFrame) -> FittedModel:
    """Return a fitted model with bootstrap draws, from which the range of its scores is computed.

    Trees are refitted to `DRAWS` draws of the same accounts; other kinds of models have closed
    formulas. Each draw weights every account by an independent standard exponential (Rubin, *The
    Bayesian bootstrap*, 1981), with equal weights for all rows of an account, which are not
    independent.
    """
    if not isinstance(fitted.predictor, Boosters):
        return fitted
    matrix = fitted.encoder.encode(frame.features).matrix
    whole = dataset(config, fitted.encoder, frame, matrix)
    entity = entity_codes(frame.rows)
    texts = []
    for number in range(DRAWS):
        rng = np.random.default_rng([config.seeds[0], number])
        share = rng.exponential(size=entity.max() + 1)[entity]
        drawn = dataset(config, fitted.encoder, frame, matrix, whole, frame.weight * share)
        booster = _booster(config, drawn, config.seeds[-1] + 1 + number)
        raw = booster.predict(matrix, raw_score=True, num_threads=drawn.params["num_threads"])
        lifted = _lifted(booster, level_shift(np.asarray(raw), frame.label, share))
        texts.append(model_text(lifted.model_to_string()))
    return replace(fitted, predictor=replace(fitted.predictor, draws=tuple(texts)))


def dataset(
    config: TrainingConfig,
    encoder: Encoder,
    frame: TrainingFrame,
    matrix: np.ndarray,
    reference: lightgbm.Dataset | None = None,
    weight: np.ndarray | None = None,
) -> lightgbm.Dataset:
    """Return binned rows that can be fitted many times; weighted as in the frame by default."""
    constraints = monotone_constraints(encoder, frame.info, config.outcome)
    return lightgbm.Dataset(
        matrix,
        frame.label,
        weight=frame.weight if weight is None else weight,
        reference=reference,
        feature_name=tree_names(encoder.names),
        categorical_feature=list(encoder.category_positions),
        params=tree_settings(config, constraints, len(frame)),
        free_raw_data=False,
    )


def tree_names(names: Iterable[str]) -> list[str]:
    """Return feature names that are valid in LightGBM's model text, in the same order.

    Separators and JSON characters become underscores; an empty or repeated name gets a number.
    Columns of a ready-made table can have any name.

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


def fit_boosters(config: TrainingConfig, rows: lightgbm.Dataset) -> Boosters:
    """Fit one booster per seed on the same binned rows; their mean has the level of the rows.

    Weights (`TrainingFrame.weight`) balance accounts, not outcomes: an account that churns early
    has few rows with large weights, and a weighted fit overestimates churn. Every row of the grid
    is one account on one day, so the level is that of the unweighted rows.
    """
    boosters = [_booster(config, rows, seed) for seed in config.seeds]
    matrix, threads = rows.get_data(), rows.params["num_threads"]
    raw = np.mean(
        [item.predict(matrix, raw_score=True, num_threads=threads) for item in boosters], axis=0
    )
    shift = level_shift(raw, np.asarray(rows.get_label(), dtype=np.float64))
    texts = tuple(model_text(_lifted(item, shift).model_to_string()) for item in boosters)
    return Boosters(config.seeds, texts)


def _booster(config: TrainingConfig, rows: lightgbm.Dataset, seed: int) -> lightgbm.Booster:
    settings = {**rows.params, **config.trees, "seed": seed}
    return lightgbm.train(settings, rows, num_boost_round=config.rounds)


def _lifted(booster: lightgbm.Booster, shift: float) -> lightgbm.Booster:
    """Add a constant to the first tree, which holds LightGBM's initial average."""
    n_leaves = booster.dump_model(num_iteration=1)["tree_info"][0]["num_leaves"]
    for leaf in range(n_leaves):
        booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + shift)
    return booster


def full_design(matrix: np.ndarray, encoder: Encoder) -> Design:
    """Return one derived column per value, per missing-value indicator and per level."""
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
    derived = rough.unstandardised(matrix)
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
    """Design whose derived columns are combined into a few composites."""

    design: Design
    composition: np.ndarray


def composite_design(
    matrix: np.ndarray, encoder: Encoder, info: Sequence[FeatureInfo], outcome: str
) -> DerivedColumns:
    """Return at most two composites per theme, and the levels of categories.

    Per theme: the mean of the features with an expected sign, oriented so that higher values mean
    more of the outcome; and the first principal component of the others. Neither uses the label,
    so few events suffice to fit their weights.
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

    Its level is that of the unweighted rows, as for trees (`fit_boosters`).
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
    """Fit an L2 logistic regression on every derived column: a baseline for the trees."""
    encoder = fit_encoder(frame)
    matrix = encoder.encode(frame.features).matrix
    design = full_design(matrix, encoder)
    composites = DerivedColumns(design, np.eye(len(design.feature)))
    return FittedModel(fit_linear(composites, matrix, frame, strength), encoder)


def fit_rates(matrix: np.ndarray, encoder: Encoder, frame: TrainingFrame) -> Rates:
    """Pool rates by the first context category (a segment), or over all accounts without one."""
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
    """Return one rate for all accounts, published when no signal was found."""
    entity = entity_codes(frame.rows)
    base, spread = _rate(frame.label, entity, None)
    return Rates(len(encoder.names), None, base, spread, np.zeros(0), np.zeros(0))


def _rate(label: np.ndarray, entity: np.ndarray, parent: float | None) -> tuple[float, float]:
    """Return the log-odds of a rate shrunk to its parent's, and their standard error."""
    prior = 0.5 if parent is None else float(sigmoid(np.asarray(parent)))
    weight = 1.0 if parent is None else SHRINK_ROWS
    rate = (label.sum() + weight * prior) / (len(label) + weight)
    n = len(np.unique(entity)) + weight
    return float(logit_of(rate)), float(1.0 / np.sqrt(n * rate * (1.0 - rate)))
