"""Small LightGBM models of every shape, and Shapley values by their definition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import lightgbm
import numpy as np
import pytest
from hypothesis import reject

ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-35, -1e-35, 1e-36, 3e9, -0.5, 99.0])


@dataclass(frozen=True)
class Grown:
    booster: lightgbm.Booster
    matrix: np.ndarray
    """Rows as in training, then rows of odd values."""


def grow_model(
    seed=0,
    *,
    rows=200,
    features=5,
    categorical=0,
    missing=0.1,
    zeros=0.1,
    rounds=3,
    objective="binary",
    monotone=False,
    **params,
) -> Grown:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) * np.exp(rng.normal(size=features))
    x[:, :categorical] = rng.integers(0, 40, size=(rows, categorical))
    logit = np.sin(3 * x).sum(axis=1) + x[:, 0] * x[:, -1]
    label = (logit + rng.normal(size=rows) > 0).astype(float)
    x[rng.random(x.shape) < zeros] = 0.0
    x[rng.random(x.shape) < missing] = np.nan
    settings = {
        "objective": objective,
        "verbose": -1,
        "num_threads": 1,
        "min_data_in_leaf": 1,
        "min_data_in_bin": 1,
        "min_sum_hessian_in_leaf": 0.0,
        "min_data_per_group": 1,
        "cat_smooth": 0.0,
        "cat_l2": 0.0,
        "seed": seed,
        "learning_rate": 0.3,
    }
    if monotone:
        settings["monotone_constraints"] = [0] * categorical + [1] * (features - categorical)
    data = lightgbm.Dataset(
        x, label, categorical_feature=list(range(categorical)), params={"verbose": -1}
    )
    try:
        booster = lightgbm.train(settings | params, data, num_boost_round=rounds)
    except lightgbm.basic.LightGBMError as error:
        # With leaves of a single row, LightGBM at times refuses a split it chose itself.
        if "best_split_info" not in str(error):
            raise
        reject()
    some = x[rng.integers(0, rows, 60)]
    odd = np.where(rng.random(some.shape) < 0.5, rng.choice(ODD, some.shape), some)
    return Grown(booster, np.concatenate([x, odd]))


@pytest.fixture(scope="session")
def grow():
    """Return what trains a small model."""
    return grow_model


def write_model(trees, n_features) -> str:
    """Write LightGBM text of nested nodes (feature, threshold, left, right) and leaves
    (value, count)."""
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={n_features - 1}",
        "objective=regression",
        "feature_names=" + " ".join(f"f{i}" for i in range(n_features)),
        "feature_infos=" + " ".join(["[-9:9]"] * n_features),
    ]
    blocks = [f"Tree={i}\n" + _block(tree) for i, tree in enumerate(trees)]
    return "\n".join(head) + "\n\n" + "\n\n\n".join(blocks) + "\n\n\nend of trees\n"


def _block(tree) -> str:
    nodes, leaves = [], []

    def add(item) -> tuple[int, int]:
        """Return the child's number and its count."""
        if len(item) == 2:
            leaves.append(item)
            return -len(leaves), item[1]
        place = len(nodes)
        nodes.append(None)
        (left, n_left), (right, n_right) = add(item[2]), add(item[3])
        nodes[place] = (item[0], item[1], left, right, n_left + n_right)
        return place, n_left + n_right

    add(tree)
    columns = list(zip(*nodes, strict=True)) or [()] * 5
    lines = {
        "num_leaves": [len(leaves)],
        "num_cat": [0],
        "split_feature": columns[0],
        "split_gain": [1] * len(nodes),
        "threshold": columns[1],
        "decision_type": [2] * len(nodes),
        "left_child": columns[2],
        "right_child": columns[3],
        "leaf_value": [value for value, _ in leaves],
        "leaf_weight": [count for _, count in leaves],
        "leaf_count": [count for _, count in leaves],
        "internal_value": [0] * len(nodes),
        "internal_weight": [0] * len(nodes),
        "internal_count": columns[4],
        "is_linear": [0],
        "shrinkage": [1],
    }
    return "\n".join(f"{key}=" + " ".join(repr(v) for v in item) for key, item in lines.items())


@pytest.fixture(scope="session")
def write():
    """Return what writes a model by hand."""
    return write_model


def _goes_left(node, row) -> bool:
    value = row[node["split_feature"]]
    value = 0.0 if abs(value) <= float(np.float32(1e-35)) else value
    if node["decision_type"] == "==":
        known = {float(code) for code in node["threshold"].split("||")}
        return np.isfinite(value) and value > -1 and float(math.trunc(value)) in known
    missing = node["missing_type"]
    if math.isnan(value) and missing != "NaN":
        value = 0.0
    if (missing == "Zero" and value == 0.0) or math.isnan(value):
        return node["default_left"]
    return value <= node["threshold"]


def _count(node) -> int:
    return node.get("internal_count", node.get("leaf_count"))


def _expectation(node, row, known) -> float:
    """Return the path-dependent expectation when only some features are known."""
    if "leaf_value" in node:
        return node["leaf_value"]
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return _expectation(left if _goes_left(node, row) else right, row, known)
    n_left, n_right = _count(left), _count(right)
    total = n_left * _expectation(left, row, known) + n_right * _expectation(right, row, known)
    return total / (n_left + n_right)


def shapley_by_definition(booster, row) -> np.ndarray:
    """Return Shapley values by enumerating all coalitions of the row's features."""
    trees = [item["tree_structure"] for item in booster.dump_model()["tree_info"]]
    n = len(row)
    value = {
        known: sum(_expectation(tree, row, known) for tree in trees)
        for size in range(n + 1)
        for known in map(frozenset, combinations(range(n), size))
    }
    phi = np.zeros(n)
    for known, worth in value.items():
        for i in set(range(n)) - known:
            weight = math.factorial(len(known)) * math.factorial(n - 1 - len(known))
            phi[i] += weight / math.factorial(n) * (value[known | {i}] - worth)
    return phi


@pytest.fixture(scope="session")
def by_definition():
    """Return the brute-force Shapley values."""
    return shapley_by_definition
