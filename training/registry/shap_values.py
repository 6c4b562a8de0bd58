"""A model's contributions as the `shap` package takes them, for its plots.

Serving explains with `training.model.treeshap`; these are the same numbers, in `shap`'s own type.
"""

from __future__ import annotations

import warnings

import numpy as np

from configs.runtime.errors import ModelError
from training.model.bundle import Bundle
from training.model.encoder import Columns
from training.model.predictors import Boosters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # shap's own use of matplotlib; progress bars without widgets
    import shap


def explanation(bundle: Bundle, columns: Columns) -> shap.Explanation:
    """Return what each feature adds to the calibrated log-odds of each row.

    Parameters
    ----------
    bundle : Bundle
        The model.
    columns : Columns
        The features by name, as `Bundle.encode` takes them; one row per account.

    Returns
    -------
    shap.Explanation
        `base_values` plus the sum over `values` is the log-odds that is served. `data` holds the
        values of the features, categories in words.

    Raises
    ------
    ModelError
        The base rate is served, so there is nothing to explain.
    """
    if not bundle.has_reasons:
        raise ModelError(
            "the base rate is served for every account, so there is nothing to explain",
            where=f"target {bundle.target}, verdict {bundle.verdict}",
            fix="choose another target; `bellwether checks` and the model card say why",
        )
    matrix = bundle.encode(columns).matrix
    made = bundle.explain(matrix)
    return _as_shap(bundle, matrix, made.base, made.values)


def tree_explainer(bundle: Bundle, columns: Columns) -> shap.Explanation:
    """Return what `shap.TreeExplainer` finds, to compare `explanation` with; it is slow.

    Raises
    ------
    ModelError
        The model has no trees.
    """
    if not isinstance(bundle.predictor, Boosters):
        raise ModelError(
            f"a model of the kind {bundle.predictor.kind!r} has no trees",
            where=f"target {bundle.target}",
            fix="use `training.registry.shap_values.explanation`, which explains every kind",
        )
    matrix = bundle.encode(columns).matrix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # shap tells of its own change of a type
        explainers = [shap.TreeExplainer(booster) for booster in bundle.predictor.handles]
        values = np.mean([explainer.shap_values(matrix) for explainer in explainers], axis=0)
    base = float(np.mean([np.ravel(explainer.expected_value)[-1] for explainer in explainers]))
    slope, intercept = bundle.calibration.slope, bundle.calibration.intercept
    return _as_shap(bundle, matrix, slope * base + intercept, slope * values)


def _as_shap(
    bundle: Bundle, matrix: np.ndarray, base: float, values: np.ndarray
) -> shap.Explanation:
    return shap.Explanation(
        values=values,
        base_values=np.full(len(matrix), base),
        data=_in_words(bundle, matrix),
        feature_names=list(bundle.encoder.names),
        output_names=f"log-odds of {bundle.outcome}",
    )


def _in_words(bundle: Bundle, matrix: np.ndarray) -> np.ndarray:
    """Return the matrix with the codes of categories as the names of their levels."""
    encoder = bundle.encoder
    if not encoder.levels:
        return matrix
    told = matrix.astype(object)
    for position in encoder.category_positions:
        levels = encoder.levels[encoder.names[position]]
        told[:, position] = [
            "other or unknown" if np.isnan(code) else levels[int(code)]
            for code in matrix[:, position]
        ]
    return told
