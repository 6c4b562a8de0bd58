"""Predictors: three kinds of fitted model with one interface to predict and explain.

Every kind turns an encoded matrix (`training.model.encoder`) into raw log-odds with a standard
deviation, and attributes the log-odds to features such that base + contributions add up. Fitting is
in `training.fitting.fit`; this module needs neither pandas nor scikit-learn, because serving
imports it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from configs.runtime.errors import ModelError
from configs.runtime.hashing import canonical_json
from training.model.treeshap import TreeExplainer, TreePredictor

Kind = Literal["lightgbm", "linear", "rates"]

VALUE, MISSING, LEVEL = 0, 1, 2
"""Kinds of derived column of a linear model."""


class Predictor(Protocol):
    """Interface of a fitted model."""

    kind: ClassVar[Kind]

    def raw(self, matrix: np.ndarray) -> np.ndarray:
        """Return uncalibrated log-odds, (rows,)."""
        ...

    def spread(self, matrix: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the raw log-odds between equally good fits, (rows,)."""
        ...

    def raw_and_spread(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `raw` and `spread` from one computation."""
        ...

    def change_spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the difference of two matrices' raw log-odds, (rows,).

        Fits that disagree on the level of an account may agree on its change.
        """
        ...

    def contributions(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the base log-odds and the contribution of each feature, (rows, features)."""
        ...

    def warm(self) -> threading.Thread | None:
        """Start optimisations for later calls in the background and return the thread."""
        ...

    def files(self) -> dict[str, str]:
        """Return the model as text files by name."""
        ...


@dataclass(frozen=True)
class PredictorOutput:
    """Predictions and contributions of some rows, uncalibrated log-odds.

    Attributes
    ----------
    raw, deviation : numpy.ndarray
        (rows,) mean over the members, and their standard deviation.
    base : float
        Expected log-odds of the average row.
    values : numpy.ndarray
        (rows, features) contributions; base + their sum is `raw`, to rounding.
    """

    raw: np.ndarray
    deviation: np.ndarray
    base: float
    values: np.ndarray


@dataclass(frozen=True)
class Boosters:
    """LightGBM boosters, one per seed, averaged in log-odds.

    Attributes
    ----------
    seeds : tuple of int
        One per booster.
    texts : tuple of str
        Boosters as LightGBM text, without training parameters.
    draws : tuple of str
        Boosters fitted to bootstrap draws of the accounts, likewise. Their deviation estimates the
        sampling error of the log-odds; boosters of different seeds share the same accounts and
        underestimate it. Empty in older bundles.
    """

    kind: ClassVar[Kind] = "lightgbm"
    seeds: tuple[int, ...]
    texts: tuple[str, ...]
    draws: tuple[str, ...] = ()

    @cached_property
    def handles(self) -> tuple[Any, ...]:
        """The loaded boosters."""
        return _loaded(self.texts)

    @cached_property
    def spread_explainer(self) -> TreePredictor:
        """Boosters behind the spread: the draws, or the members without draws."""
        return TreePredictor(_loaded(self.draws)) if self.draws else self.explainer

    def members(self, matrix: np.ndarray) -> np.ndarray:
        """Return the raw log-odds of each booster, (boosters, rows)."""
        return self.explainer.predict(matrix)

    def raw(self, matrix: np.ndarray) -> np.ndarray:
        """Return the mean raw log-odds."""
        mean: np.ndarray = self.members(matrix).mean(axis=0)
        return mean

    def spread(self, matrix: np.ndarray) -> np.ndarray:
        """Return the standard deviation over draws of accounts; 0 with one booster."""
        return _deviation(self.spread_explainer.predict(matrix))

    def raw_and_spread(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `raw` and `spread`."""
        return self.raw(matrix), self.spread(matrix)

    def change_spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the standard deviation of each row's change over draws."""
        return _deviation(
            self.spread_explainer.predict(after) - self.spread_explainer.predict(before)
        )

    @cached_property
    def explainer(self) -> TreeExplainer:
        """Contributions of all boosters in one pass."""
        return TreeExplainer(self.handles)

    def contributions(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Return exact path-dependent TreeSHAP values, averaged over seeds."""
        return self.explainer.explain(matrix)

    def predict_and_contributions(self, matrix: np.ndarray) -> PredictorOutput:
        """Return predictions and contributions from one pass over the trees."""
        found = self.explainer.explain_and_predict(matrix)
        deviation = self.spread(matrix) if self.draws else _deviation(found.raw)
        return PredictorOutput(found.raw.mean(axis=0), deviation, found.base, found.contributions)

    def warm(self) -> threading.Thread:
        """Compile the explainer in a background thread, while LightGBM is used.

        The thread is no daemon: unwinding numpy's C++ code at exit would abort the process.
        """
        thread = threading.Thread(target=self._warm, name="treeshap-warm")
        thread.start()
        return thread

    def _warm(self) -> None:
        self.explainer.warm()
        self.spread_explainer.warm()

    def files(self) -> dict[str, str]:
        """Return ``model_<seed>.txt`` per booster and ``draw_<number>.txt`` per draw."""
        return {
            **{
                f"model_{seed}.txt": text for seed, text in zip(self.seeds, self.texts, strict=True)
            },
            **{f"draw_{number}.txt": text for number, text in enumerate(self.draws)},
        }

    @classmethod
    def from_files(cls, files: Mapping[str, str], seeds: list[int]) -> Boosters:
        """Read what `files` returned, and load it."""
        texts = tuple(files[f"model_{seed}.txt"] for seed in seeds)
        n_draws = sum(name.startswith("draw_") for name in files)
        draws = tuple(files[f"draw_{number}.txt"] for number in range(n_draws))
        boosters = cls(tuple(seeds), texts, draws)
        if not (boosters.handles and boosters.spread_explainer.boosters):
            raise ModelError("the bundle holds no booster")
        return boosters


def _loaded(texts: tuple[str, ...]) -> tuple[Any, ...]:
    """Return boosters. LightGBM is imported here because other kinds do not need it."""
    import lightgbm

    try:
        return tuple(lightgbm.Booster(model_str=text) for text in texts)
    except lightgbm.basic.LightGBMError as error:
        raise ModelError(f"LightGBM cannot read the model: {error}") from error


def _deviation(members: np.ndarray) -> np.ndarray:
    """Return the standard deviation over the first axis; 0 for a single member."""
    alone = len(members) == 1
    return np.zeros(members.shape[1]) if alone else np.asarray(members.std(axis=0, ddof=1))


def tree_contributions(booster: Any, matrix: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Return (rows, features + 1): TreeSHAP values, then the expected log-odds.

    For a single use; `Boosters` caches its explainer.
    """
    base, values = TreeExplainer((booster,)).explain(matrix, threads=threads)
    return np.column_stack([values, np.full(len(values), base)])


def model_text(text: str) -> str:
    """Return LightGBM's model text without the parameters, so that equal trees give equal bytes.

    The parameters contain the number of threads and paths and do not affect predictions.
    """
    return text.partition("\nparameters:\n")[0] + "\n"


@dataclass(frozen=True)
class Design:
    """Derived columns of a linear model, each made from one feature.

    Attributes
    ----------
    feature : numpy.ndarray
        Per derived column, the position of its feature.
    column_kind : numpy.ndarray
        `VALUE` (inverse hyperbolic sine of the centred, scaled value; 0 where missing), `MISSING`
        (1 where missing) or `LEVEL` (1 where the code equals `level`).
    level, center, scale : numpy.ndarray
        Code of a level; median and robust scale of a value.
    location, width : numpy.ndarray
        Training mean and standard deviation of the derived column, for a final standardisation to
        mean 0 on the training rows.
    """

    feature: np.ndarray
    column_kind: np.ndarray
    level: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    location: np.ndarray
    width: np.ndarray

    def unstandardised(self, matrix: np.ndarray) -> np.ndarray:
        """Return the derived columns before standardisation."""
        values = matrix[:, self.feature]
        missing = np.isnan(values)
        derived: np.ndarray = np.arcsinh((values - self.center) / self.scale)
        derived[missing] = 0.0
        is_missing, is_level = self.column_kind == MISSING, self.column_kind == LEVEL
        derived[:, is_missing] = missing[:, is_missing]
        derived[:, is_level] = values[:, is_level] == self.level[is_level]
        return derived

    def derive(self, matrix: np.ndarray) -> np.ndarray:
        """Return the standardised derived columns, (rows, derived columns), never NaN."""
        standard: np.ndarray = (self.unstandardised(matrix) - self.location) / self.width
        return standard


@dataclass(frozen=True)
class Linear:
    """L2 logistic regression on composites of derived columns.

    Attributes
    ----------
    design : Design
        Features to derived columns.
    composition : numpy.ndarray
        (derived columns, composites) weights of derived columns in composites.
    weights : numpy.ndarray
        One per composite.
    intercept : float
        Log-odds of the average training row.
    covariance : numpy.ndarray
        (composites + 1, composites + 1) of weights and, last, the intercept.
    """

    kind: ClassVar[Kind] = "linear"
    design: Design
    composition: np.ndarray
    weights: np.ndarray
    intercept: float
    covariance: np.ndarray

    def raw(self, matrix: np.ndarray) -> np.ndarray:
        """Return the log-odds."""
        coefficients = self.composition @ self.weights
        # No matrix product: its last digits depend on the number of rows.
        parts = np.ascontiguousarray(self.design.derive(matrix) * coefficients)
        logit: np.ndarray = self.intercept + parts.sum(axis=1)
        return logit

    def spread(self, matrix: np.ndarray) -> np.ndarray:
        """Return the standard error of the log-odds from the weights' covariance."""
        composites = self._composites(matrix)
        return self._deviation(np.column_stack([composites, np.ones(len(matrix))]))

    def change_spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the standard error of the difference; the intercept cancels."""
        moved = self._composites(after) - self._composites(before)
        return self._deviation(np.column_stack([moved, np.zeros(len(moved))]))

    def _composites(self, matrix: np.ndarray) -> np.ndarray:
        composites: np.ndarray = self.design.derive(matrix) @ self.composition
        return composites

    def _deviation(self, rows: np.ndarray) -> np.ndarray:
        variance = np.einsum("ij,jk,ik->i", rows, self.covariance, rows)
        deviation: np.ndarray = np.sqrt(np.maximum(variance, 0.0))
        return deviation

    def raw_and_spread(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `raw` and `spread`."""
        return self.raw(matrix), self.spread(matrix)

    def warm(self) -> None:
        """Do nothing; there is nothing to compile."""

    def contributions(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Return w·(x − mean), summed over the derived columns of each feature."""
        parts = self.design.derive(matrix) * (self.composition @ self.weights)
        owner = np.eye(matrix.shape[1])[self.design.feature]
        return self.intercept, parts @ owner

    def files(self) -> dict[str, str]:
        """Return ``linear.json``."""
        plain = {item.name: getattr(self.design, item.name).tolist() for item in fields(Design)}
        return {
            "linear.json": canonical_json(
                {
                    "design": plain,
                    "composition": self.composition.tolist(),
                    "weights": self.weights.tolist(),
                    "intercept": self.intercept,
                    "covariance": self.covariance.tolist(),
                }
            )
            + "\n"
        }

    @classmethod
    def from_files(cls, files: Mapping[str, str], _seeds: list[int]) -> Linear:
        """Read what `files` returned."""
        plain = json.loads(files["linear.json"])
        design = Design(**{name: np.asarray(values) for name, values in plain["design"].items()})
        n_composites = len(plain["weights"])
        return cls(
            design,
            np.asarray(plain["composition"], dtype=np.float64).reshape(-1, n_composites),
            np.asarray(plain["weights"], dtype=np.float64),
            float(plain["intercept"]),
            np.asarray(plain["covariance"], dtype=np.float64),
        )


@dataclass(frozen=True)
class Rates:
    """Pooled rates: one for all accounts, or one per level of a single category feature.

    Attributes
    ----------
    n_features : int
        Width of the matrix.
    feature : int or None
        Position of the category feature; None for one rate for all accounts.
    base : float
        Log-odds of the pooled rate.
    base_spread : float
        Its standard error.
    levels : numpy.ndarray
        Log-odds per level code, shrunk towards the base; missing and unseen levels get the base.
    levels_spread : numpy.ndarray
        Their standard errors.
    """

    kind: ClassVar[Kind] = "rates"
    n_features: int
    feature: int | None
    base: float
    base_spread: float
    levels: np.ndarray
    levels_spread: np.ndarray

    def _look_up(self, matrix: np.ndarray, table: np.ndarray, otherwise: float) -> np.ndarray:
        if self.feature is None:
            return np.full(len(matrix), otherwise)
        codes = matrix[:, self.feature]
        known = (codes >= 0) & (codes < len(table))
        found = np.full(len(matrix), otherwise)
        found[known] = table[codes[known].astype(np.int64)]
        return found

    def raw(self, matrix: np.ndarray) -> np.ndarray:
        """Return the log-odds of each row's rate."""
        return self._look_up(matrix, self.levels, self.base)

    def spread(self, matrix: np.ndarray) -> np.ndarray:
        """Return the standard error of each row's rate, in log-odds."""
        return self._look_up(matrix, self.levels_spread, self.base_spread)

    def raw_and_spread(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `raw` and `spread`."""
        return self.raw(matrix), self.spread(matrix)

    def change_spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return 0 for rows with an unchanged level, else the combined error of both levels."""
        together: np.ndarray = np.hypot(self.spread(before), self.spread(after))
        return np.where(self.raw(before) == self.raw(after), 0.0, together)

    def warm(self) -> None:
        """Do nothing; there is nothing to compile."""

    def contributions(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Return zeros except for the difference of the row's level from the pooled rate."""
        values = np.zeros((len(matrix), self.n_features))
        if self.feature is not None:
            values[:, self.feature] = self.raw(matrix) - self.base
        return self.base, values

    def files(self) -> dict[str, str]:
        """Return ``rates.json``."""
        plain = {
            item.name: np.asarray(value).tolist() if value is not None else None
            for item in fields(self)
            for value in [getattr(self, item.name)]
        }
        return {"rates.json": canonical_json(plain) + "\n"}

    @classmethod
    def from_files(cls, files: Mapping[str, str], _seeds: list[int]) -> Rates:
        """Read what `files` returned."""
        plain = json.loads(files["rates.json"])
        arrays = {
            name: np.asarray(plain[name], dtype=np.float64) for name in ("levels", "levels_spread")
        }
        return cls(**(plain | arrays))


_KINDS: dict[str, Any] = {cls.kind: cls for cls in (Boosters, Linear, Rates)}


def predict_and_contributions(predictor: Predictor, matrix: np.ndarray) -> PredictorOutput:
    """Return predictions and contributions of some rows from one computation."""
    if isinstance(predictor, Boosters):
        return predictor.predict_and_contributions(matrix)
    return PredictorOutput(*predictor.raw_and_spread(matrix), *predictor.contributions(matrix))


def predictor_from_files(kind: str, files: Mapping[str, str], seeds: list[int]) -> Predictor:
    """Rebuild the model of a bundle from its text files.

    Raises
    ------
    ModelError
        When the kind is unknown or its files are missing or unreadable.
    """
    if kind not in _KINDS:
        raise ModelError(
            f"unknown kind of model {kind!r}; this version reads {sorted(_KINDS)}",
            fix="use the version of Bellwether that wrote the bundle",
        )
    try:
        predictor: Predictor = _KINDS[kind].from_files(files, seeds)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the {kind} model cannot be read: {error}") from error
    return predictor
