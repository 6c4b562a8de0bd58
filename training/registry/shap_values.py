"""Contributions of a model as a `shap.Explanation`, for the plots of the `shap` package.

The values are those of `training.model.treeshap`, which serving uses.
"""

from __future__ import annotations

import warnings

import numpy as np

from configs.runtime.errors import ModelError
from training.model.bundle import Bundle
from training.model.encoder import Columns
from training.model.predictors import Boosters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # shap's use of matplotlib; progress bars without widgets
    import shap


def explanation(bundle: Bundle, columns: Columns) -> shap.Explanation:
    """Return the contribution of each feature to the calibrated log-odds of each row.

    Parameters
    ----------
    bundle : Bundle
        The model.
    columns : Columns
        Features by name, as for `Bundle.encode`; one row per account.

    Returns
    -------
    shap.Explanation
        `base_values` plus the sum over `values` is the served log-odds. `data` contains the feature
        values, with category names.

    Raises
    ------
    ModelError
        The base rate is served, which has no contributions.
    """
    if not bundle.has_reasons:
        raise ModelError(
            "the base rate is served for every account, so there are no contributions",
            where=f"target {bundle.target}, verdict {bundle.verdict}",
            fix="choose another target; `bellwether checks` and the model card give the reason",
        )
    matrix = bundle.encode(columns).matrix
    contributions = bundle.explain(matrix)
    return _as_shap(bundle, matrix, contributions.base, contributions.values)


def tree_explainer(bundle: Bundle, columns: Columns) -> shap.Explanation:
    """Return the values of `shap.TreeExplainer`, which is slow, to compare with `explanation`.

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
        warnings.simplefilter("ignore", UserWarning)  # shap warns of a changed type
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
        data=_with_level_names(bundle, matrix),
        feature_names=list(bundle.encoder.names),
        output_names=f"log-odds of {bundle.outcome}",
    )


def _with_level_names(bundle: Bundle, matrix: np.ndarray) -> np.ndarray:
    """Return the matrix with names of levels instead of category codes."""
    encoder = bundle.encoder
    if not encoder.levels:
        return matrix
    named = matrix.astype(object)
    for position in encoder.category_positions:
        levels = encoder.levels[encoder.names[position]]
        named[:, position] = [
            "other or unknown" if np.isnan(code) else levels[int(code)]
            for code in matrix[:, position]
        ]
    return named
