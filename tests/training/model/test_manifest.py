"""The manifest is typed, and bundles of version 0.1.0 keep their bytes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from configs.runtime.errors import ModelError
from configs.runtime.hashing import canonical_json
from training.model.bundle import read_manifest
from training.model.manifest import ModelManifest

V_0_1_0 = {
    "target": "churn",
    "outcome": "churn",
    "entity": "account",
    "label_contract": {"outcome": "churn", "horizon_days": 91},
    "config_hash": "43f230394858",
    "recipe": {
        "kind": "lightgbm",
        "outcome": "churn",
        "seeds": [7],
        "trees": {"num_leaves": 4, "learning_rate": 0.04, "lambda_l2": 20.0},
        "rounds": 150,
        "strength": 0.1,
    },
    "seeds": [7],
    "rung": {"name": "trees", "kind": "lightgbm", "n_events": 300, "reason": "300 events"},
    "outlook": {
        "n_events": 300,
        "resolved_from": "2024-01-01",
        "resolved_to": "2026-01-01",
        "events_per_month": 12.0,
        "low": 10.0,
        "high": 14.5,
        "tested_events": 90.0,
        "due": [
            {
                "what": "a search of all settings",
                "needed": 1000,
                "missing": 700,
                "about_on": None,
                "early_on": "2030-01",
                "late_on": None,
            }
        ],
        "words": "",
    },
    "verdict": "provisional",
    "gates": [
        {
            "code": "rung",
            "title": "enough resolved events",
            "value": 300.0,
            "threshold": ">= 40",
            "passed": True,
            "words": "300 events",
        }
    ],
    "metrics": {"n_rows": 900, "folds_over": "time", "auc": {"value": 0.7, "low": None}},
    "aligned": {
        "n_events": 80,
        "rows": [{"feature": "a", "from_days": 30, "gap": 1.0, "error": 0.1}],
    },
    "features": [
        {
            "name": "a",
            "family": "usage",
            "label": "users",
            "meaning": "Users.",
            "unit": "count",
            "window_days": 28,
            "theme": "adoption",
            "churn_sign": -1,
            "expansion_sign": 0,
            "is_actionable": True,
            "per_day": 0,
        }
    ],
    "reading": {"a": "number"},
    "encoder": {"names": ["a"], "levels": {}},
    "reference": {"a": {"missing": 0.0, "low": 1.0, "high": 3.0, "quantiles": [1.0, 2.0, 3.0]}},
    "calibration": {
        "slope": 0.9,
        "intercept": -0.1,
        "covariance": [0.01, 0.0, 0.02],
        "rule": "affine",
        "n_events": 150,
    },
    "base_rate": 0.1,
    "kind": "lightgbm",
    "format_version": 1,
    "files": {"model_7.txt": "0" * 64},
    "a_key_of_another_version": {"kept": [1, 2.5, None]},
}


def test_a_manifest_of_0_1_0_is_written_back_unchanged() -> None:
    manifest = ModelManifest.from_dict(V_0_1_0)
    assert manifest.to_dict() == V_0_1_0
    assert canonical_json(manifest.to_dict()) == canonical_json(V_0_1_0)


def test_a_manifest_of_0_1_0_has_typed_attributes() -> None:
    manifest = ModelManifest.from_dict(V_0_1_0)
    assert manifest.tier is not None
    assert manifest.tier.name == "trees"
    assert manifest.sufficiency is not None
    assert manifest.sufficiency.due[0].missing == 700
    assert manifest.event_study is not None
    assert manifest.event_study.rows[0].gap == 1.0
    assert manifest.column_kinds == {"a": "number"}
    assert manifest.reference["a"].typical == 2.0
    assert manifest.calibration.covariance == (0.01, 0.0, 0.02)
    assert manifest.features[0].churn_sign == -1
    assert manifest.growth is None


def test_a_change_keeps_everything_else() -> None:
    changed = ModelManifest.from_dict(V_0_1_0).changed(verdict="no_signal", base_rate=0.2)
    assert changed.to_dict() == {**V_0_1_0, "verdict": "no_signal", "base_rate": 0.2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"calibration": {"slope": "steep"}}, "calibration.slope of the manifest"),
        ({"encoder": None}, "encoder of the manifest"),
        ({"seeds": ["x"]}, "seeds.0 of the manifest"),
    ],
)
def test_a_wrong_type_is_named(tmp_path, change, words) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**V_0_1_0, **change}))
    with pytest.raises(ModelError, match=words):
        read_manifest(tmp_path)


def test_a_missing_key_is_named(tmp_path) -> None:
    plain = {name: value for name, value in V_0_1_0.items() if name != "encoder"}
    (tmp_path / "manifest.json").write_text(json.dumps(plain))
    with pytest.raises(ModelError, match="the manifest misses encoder"):
        read_manifest(tmp_path)


def test_the_manifest_is_light_to_import() -> None:
    code = (
        "import sys, training.model.bundle\n"
        "print(sorted({'pandas', 'sklearn', 'optuna', 'mlflow', 'shap'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "[]"
