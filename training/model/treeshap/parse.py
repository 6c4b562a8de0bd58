"""Parser of LightGBM's model text to flat arrays; unknown content is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from configs.runtime.errors import ModelError

CATEGORICAL, DEFAULT_LEFT = 1, 2
"""Bits of LightGBM's ``decision_type``; the two above them are the way of missing values."""

MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2

ZERO = float(np.float32(1e-35))
"""Up to this absolute value LightGBM reads an entry as 0 (``kZeroThreshold``, a float)."""

_WORD_BITS = 32

_HEADER = frozenset(
    [
        "version",
        "num_class",
        "num_tree_per_iteration",
        "label_index",
        "max_feature_idx",
        "objective",
        "feature_names",
        "monotone_constraints",
        "feature_infos",
        "tree_sizes",
    ]
)
_TREE = frozenset(
    [
        "num_leaves",
        "num_cat",
        "split_feature",
        "split_gain",
        "threshold",
        "decision_type",
        "left_child",
        "right_child",
        "leaf_value",
        "leaf_weight",
        "leaf_count",
        "internal_value",
        "internal_weight",
        "internal_count",
        "cat_boundaries",
        "cat_threshold",
        "is_linear",
        "shrinkage",
    ]
)
_REQUIRED = {
    "version": {"v4"},
    "num_class": {"1"},
    "num_tree_per_iteration": {"1"},
}
_PARAMETERS = {"boosting": {"gbdt", "gbrt"}, "linear_tree": {"0"}}


class UnsupportedModelError(ModelError):
    """The model is valid, but not supported by this explainer."""


@dataclass(frozen=True)
class Tree:
    """One tree as LightGBM writes it. Inner nodes and leaves are numbered apart.

    Attributes
    ----------
    leaf_value, leaf_count : numpy.ndarray
        Per leaf: its log-odds, and number of training rows.
    feature, threshold, decision, left, right, count : numpy.ndarray
        Per inner node: the split; the children, where −1 − i is leaf i and any inner
        node comes after its parent; number of training rows.
    categories : tuple of numpy.ndarray
        Per categorical split, in the order of its index in `threshold`: the bit set of the
        categories that go left, in 32-bit words.
    """

    leaf_value: np.ndarray
    leaf_count: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    decision: np.ndarray
    left: np.ndarray
    right: np.ndarray
    count: np.ndarray
    categories: tuple[np.ndarray, ...]

    @property
    def n_nodes(self) -> int:
        """Number of inner nodes; 0 for a constant."""
        return len(self.feature)

    def rows_below(self, child: np.ndarray) -> np.ndarray:
        """Return the number of training rows of each child."""
        if not self.n_nodes:
            return np.zeros(len(child))
        leaf, inner = np.maximum(-1 - child, 0), np.maximum(child, 0)
        return np.where(child < 0, self.leaf_count[leaf], self.count[inner]).astype(np.float64)

    @cached_property
    def left_share(self) -> np.ndarray:
        """Share of each inner node's training rows that went left, in (0, 1)."""
        share: np.ndarray = self.rows_below(self.left) / self.count
        return share

    @cached_property
    def right_share(self) -> np.ndarray:
        """Share that went right, as exact where it is tiny."""
        share: np.ndarray = self.rows_below(self.right) / self.count
        return share

    @cached_property
    def expected(self) -> float:
        """Mean of the leaves over the training rows: the value when no feature is known."""
        return float(self.leaf_value @ (self.leaf_count / max(self.leaf_count.sum(), 1)))

    def is_categorical(self, node: int) -> bool:
        """Whether the split of a node is categorical."""
        return bool(self.decision[node] & CATEGORICAL)


@dataclass(frozen=True)
class Ensemble:
    """One booster.

    Attributes
    ----------
    n_features : int
        Number of columns of the matrix.
    trees : tuple of Tree
        In the order of LightGBM's summation.
    """

    n_features: int
    trees: tuple[Tree, ...]


def parse_ensemble(text: str) -> Ensemble:
    """Read LightGBM's model text, with or without its parameter dump.

    Raises
    ------
    UnsupportedModelError
        Several classes, linear leaves, averaged forests, DART, an unknown key, or counts of
        training rows that do not add up (distributed training estimates them).
    """
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    n_features = _n_features(head)
    _check_parameters(text)
    if not blocks:
        raise UnsupportedModelError("the model text holds no tree")
    trees = tuple(_tree(f"tree {i}", block) for i, block in enumerate(blocks))
    for i, tree in enumerate(trees):
        if tree.n_nodes and not 0 <= tree.feature.min() <= tree.feature.max() < n_features:
            raise UnsupportedModelError("a split has an unknown feature", where=f"tree {i}")
    return Ensemble(n_features, trees)


def _n_features(head: str) -> int:
    kind, *lines = head.strip().splitlines()
    if kind != "tree":
        raise UnsupportedModelError(f"the model text begins with {kind[:40]!r}, not with 'tree'")
    entries = _entries(lines, _HEADER, "header")
    for key, allowed in _REQUIRED.items():
        if entries.get(key) not in allowed:
            raise UnsupportedModelError(
                f"{key} is {entries.get(key)!r}, understood is {sorted(allowed)}", where="header"
            )
    return int(entries["max_feature_idx"]) + 1


def _check_parameters(text: str) -> None:
    dump = dict(re.findall(r"^\[(\w+): (.*)\]$", text.partition("\nparameters:")[2], re.MULTILINE))
    for key, allowed in _PARAMETERS.items():
        if dump.get(key, min(allowed)) not in allowed:
            raise UnsupportedModelError(
                f"{key} is {dump[key]!r}, understood is {sorted(allowed)}", where="parameters"
            )


def _entries(lines: Sequence[str], known: frozenset[str], where: str) -> dict[str, str]:
    entries = {}
    for line in lines:
        key, sign, value = line.partition("=")
        if key not in known or not sign:
            raise UnsupportedModelError(f"unknown line {line[:60]!r}", where=where)
        entries[key] = value
    return entries


def _numbers(entries: Mapping[str, str], key: str, kind: type, where: str) -> np.ndarray:
    try:
        return np.array([kind(item) for item in entries.get(key, "").split()], dtype=kind)
    except ValueError as error:
        raise UnsupportedModelError(f"{key} cannot be read: {error}", where=where) from error


def _tree(where: str, block: str) -> Tree:
    lines = [line for line in block.splitlines()[1:] if line]
    entries = _entries(lines, _TREE, where)
    if entries.get("is_linear", "0") != "0":
        raise UnsupportedModelError("its leaves are linear models", where=where)

    def whole(key: str) -> np.ndarray:
        return _numbers(entries, key, int, where)

    def real(key: str) -> np.ndarray:
        return _numbers(entries, key, float, where)

    edges = whole("cat_boundaries")
    words = whole("cat_threshold").astype(np.uint32)
    values = real("leaf_value")
    counts = whole("leaf_count") if len(values) > 1 else np.ones(1, dtype=np.int64)
    tree = Tree(
        values,
        counts,
        whole("split_feature"),
        real("threshold"),
        whole("decision_type"),
        whole("left_child"),
        whole("right_child"),
        whole("internal_count"),
        tuple(words[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)),
    )
    fault = _fault(tree, int(entries.get("num_leaves", -1)))
    if fault:
        raise UnsupportedModelError(fault, where=where)
    return tree


def _fault(tree: Tree, n_leaves: int) -> str:
    """Return the fault of a tree; empty if none."""
    per_node = (tree.threshold, tree.decision, tree.left, tree.right, tree.count)
    n = tree.n_nodes
    if n_leaves != n + 1 or {len(item) for item in per_node} != {n}:
        return "the numbers of leaves, splits and children disagree"
    if {len(tree.leaf_value), len(tree.leaf_count)} != {n_leaves}:
        return "the numbers of leaves and of their values disagree"
    if not np.isfinite(tree.leaf_value).all() or np.isnan(tree.threshold).any():
        return "a leaf is not finite or a threshold is not a number"
    return _shape_fault(tree) or _count_fault(tree) or _decision_fault(tree)


def _shape_fault(tree: Tree) -> str:
    n = tree.n_nodes
    children = np.sort(np.concatenate([tree.left, tree.right]))
    expected = np.concatenate([np.arange(-n - 1, 0), np.arange(1, n)]) if n else children
    own = np.arange(n)
    ordered = [((child < 0) | (child > own)).all() for child in (tree.left, tree.right)]
    if not np.array_equal(children, expected) or not all(ordered):
        return "the children are not those of a tree grown from its root"
    return ""


def _count_fault(tree: Tree) -> str:
    if (tree.leaf_count <= 0).any():
        return "a leaf counts no training rows"
    below = tree.rows_below(tree.left) + tree.rows_below(tree.right)
    if not np.array_equal(below, tree.count):
        return "the training rows below a split do not add up"
    return ""


def _decision_fault(tree: Tree) -> str:
    categorical = (tree.decision & CATEGORICAL) > 0
    index = tree.threshold[categorical]
    if (tree.decision < 0).any() or ((tree.decision >> 2) > MISSING_NAN).any():
        return "a decision type is unknown"
    known = np.isin(index, np.arange(len(tree.categories)))
    if not known.all() or any(len(words) == 0 for words in tree.categories):
        return "a categorical split has no categories"
    return ""


def members(words: np.ndarray) -> np.ndarray:
    """Return the categories of a bit set.

    >>> members(np.array([0b101, 0b1], dtype=np.uint32)).tolist()
    [0, 2, 32]
    """
    bits = (words[:, None] >> np.arange(_WORD_BITS, dtype=np.uint32)) & 1
    return np.flatnonzero(bits.ravel())
