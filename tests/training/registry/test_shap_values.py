"""Contributions in `shap`'s own type: equal to its explainer's, and drawn by its plots."""

from dataclasses import asdict

import matplotlib as mpl
import numpy as np
import pytest

from configs.runtime.errors import ModelError
from training.fitting.fit import TrainingConfig, fit
from training.model.bundle import Bundle
from training.model.manifest import ModelManifest
from training.model.manifest_parts import Calibration
from training.registry.shap_values import explanation, tree_explainer

KINDS = ("lightgbm", "linear", "rates")


def bundle_of(frame, kind: str, verdict: str = "promotable") -> Bundle:
    fitted = fit(TrainingConfig(kind, "churn", seeds=(1, 2, 3), rounds=40, threads=1), frame)
    calibration = Calibration(0.8, -0.3, (0.01, -0.002, 0.005), "affine", 300)
    manifest = {
        "target": "churn",
        "outcome": "churn",
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "calibration": asdict(calibration),
        "seeds": [1, 2, 3],
        "verdict": verdict,
        "base_rate": 0.1,
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


def rows_of(frame):
    """Rows with values that are missing and a category that was never seen."""
    rows = frame.features.iloc[:300].copy()
    rows.iloc[:5, 0] = np.nan
    rows["plan"] = rows["plan"].astype(object)
    rows.loc[rows.index[:3], "plan"] = "never seen"
    return rows


def test_it_equals_the_explainer_of_the_shap_package(frame):
    bundle, rows = bundle_of(frame, "lightgbm"), rows_of(frame)
    ours, theirs = explanation(bundle, rows), tree_explainer(bundle, rows)
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-9)
    np.testing.assert_allclose(ours.base_values, theirs.base_values, atol=1e-9)
    assert np.abs(ours.values).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_it_adds_up_to_what_is_served_and_carries_the_names(frame, kind):
    bundle, rows = bundle_of(frame, kind), rows_of(frame)
    made = explanation(bundle, rows)
    served = bundle.predict(bundle.encode(rows).matrix).logit
    np.testing.assert_allclose(made.base_values + made.values.sum(axis=1), served, atol=1e-9)
    assert made.feature_names == list(bundle.encoder.names)
    assert made.shape == rows[made.feature_names].shape
    plan = made.feature_names.index("plan")
    assert set(made.data[:3, plan]) == {"other or unknown"}
    assert set(made.data[3:, plan]) <= {"basic", "pro", "enterprise", "other or unknown"}


def test_the_plots_of_the_package_draw_it(frame):
    import shap

    with mpl.rc_context({"backend": "agg"}):
        import matplotlib.pyplot as plt

        made = explanation(bundle_of(frame, "lightgbm"), rows_of(frame))
        drawn = []
        for plot, rows in (
            (shap.plots.waterfall, made[0]),
            (shap.plots.beeswarm, made),
            (shap.plots.bar, made),
        ):
            axes = plot(rows, show=False)
            figure = axes.figure
            figure.canvas.draw()
            drawn.append(" ".join(label.get_text() for label in axes.get_yticklabels()))
            plt.close("all")
    assert all("users_28d" in labels for labels in drawn)


def test_what_has_no_reasons_is_not_explained(frame):
    with pytest.raises(ModelError, match="base rate is served"):
        explanation(bundle_of(frame, "lightgbm", "no_signal"), rows_of(frame))


def test_a_model_without_trees_is_told(frame):
    with pytest.raises(ModelError, match="'linear' has no trees"):
        tree_explainer(bundle_of(frame, "linear"), rows_of(frame))
