"""Layout of trees in the kernel's tables, with everything that does not depend on a row.

The symbols are those of the derivation in `training.model.treeshap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from training.model.treeshap.parse import DEFAULT_LEFT, MISSING_NONE, MISSING_ZERO, Ensemble, Tree

LANES = 8
"""Doubles per vector: one AVX-512 register, two of AVX2, four of SSE2 or NEON."""

TREE_WORDS = 6
"""Per tree: inner nodes, K, K in vectors, first node, first leaf, booster."""

NODE_WORDS = 8
"""Per node: feature, flags, first word and number of words of its bit set, first child, second
child, nearest ancestor with a split on the same feature (or −1), place of its table. With
`NODE_REALS` a node fills one cache line: a single row mostly waits for nodes to be fetched."""

IS_CATEGORICAL, NAN_LEFT, ZERO_LEFT, UNDER_FIRST = 1, 2, 4, 8
"""Flags: categorical split; where NaN and 0 go; the side of the ancestor the node is on."""

NODE_REALS = 4
"""Per node: threshold; α of the left and of the right; share of the first child."""


@dataclass(frozen=True)
class Forest:
    """Several boosters over the same features, flat.

    Attributes
    ----------
    n_features, n_boosters : int
        Width of the matrix; boosters.
    n_nodes, n_points : int
        Most inner nodes in a tree; most quadrature nodes of a tree.
    base : float
        Expected log-odds, averaged over boosters.
    trees, words, reals : numpy.ndarray
        `TREE_WORDS` per tree, `NODE_WORDS` and `NODE_REALS` per node.
    bits : numpy.ndarray
        Bit sets of the categorical splits.
    leaves : numpy.ndarray
        Leaf values.
    tables : numpy.ndarray
        Per table: τ, then c, each padded with zeros to full vectors.
    """

    n_features: int
    n_boosters: int
    n_nodes: int
    n_points: int
    base: float
    trees: np.ndarray
    words: np.ndarray
    reals: np.ndarray
    bits: np.ndarray
    leaves: np.ndarray
    tables: np.ndarray


@lru_cache(maxsize=64)
def quadrature(n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss–Legendre quadrature on (0, 1).

    Exact for polynomials of degree 2·n_points − 1.

    >>> t, w = quadrature(2)
    >>> round(float(w @ t**3), 15)
    0.25
    """
    x, w = np.polynomial.legendre.leggauss(n_points)
    t, half = (x + 1.0) / 2.0, w / 2.0
    t.setflags(write=False)
    half.setflags(write=False)
    return t, half


@dataclass(frozen=True)
class _Edge:
    """The last split on a feature above a node.

    Attributes
    ----------
    node : int
        Inner node of the split.
    is_left : bool
        Side of the present node.
    cover : float
        z: product of the shares of all edges of this feature down to here.
    """

    node: int
    is_left: bool
    cover: float


def _kind(tree: Tree, node: int) -> tuple[bool, ...]:
    """Return the kind of a node in the kernel, most costly first."""
    children = (int(tree.left[node]), int(tree.right[node]))
    return max(children) < 0, min(children) < 0, tree.is_categorical(node)


def in_runs(tree: Tree) -> Tree:
    """Return the same tree with its inner nodes renumbered, parents still first.

    Nodes of one kind follow each other as far as that allows, so that the processor foresees the
    kernel's branches: a mistaken one costs as much as a whole node.
    """
    ready, order = [0] if tree.n_nodes else [], []
    last: tuple[bool, ...] = (False, False, False)
    while ready:
        node = min(ready, key=lambda i: (_distance(_kind(tree, i), last), i))
        ready.remove(node)
        order.append(node)
        last = _kind(tree, node)
        ready += [int(c) for c in (tree.left[node], tree.right[node]) if c >= 0]
    place = np.argsort(order)

    def renamed(child: np.ndarray) -> np.ndarray:
        chosen = child[order]
        return np.where(chosen < 0, chosen, place[np.maximum(chosen, 0)])

    if not order:
        return tree
    return replace(
        tree,
        feature=tree.feature[order],
        threshold=tree.threshold[order],
        decision=tree.decision[order],
        left=renamed(tree.left),
        right=renamed(tree.right),
        count=tree.count[order],
    )


def _distance(kind: tuple[bool, ...], last: tuple[bool, ...]) -> tuple[bool, ...]:
    """Order kinds: those without children last, then unlike the one before."""
    return (kind[0], *(now != before for now, before in zip(kind[1:], last[1:], strict=True)))


def nearest_power(tree: Tree) -> tuple[list[_Edge | None], int]:
    """Return each node's nearest split on its own feature, and most features on a path."""
    above: list[dict[int, _Edge]] = [{} for _ in range(tree.n_nodes)]
    found: list[_Edge | None] = []
    longest = 0
    for node in range(tree.n_nodes):
        path, feature = above[node], int(tree.feature[node])
        edge = path.get(feature)
        found.append(edge)
        cover = edge.cover if edge else 1.0
        longest = max(longest, len(path.keys() | {feature}))
        for child, is_left, part in (
            (int(tree.left[node]), True, float(tree.left_share[node])),
            (int(tree.right[node]), False, float(tree.right_share[node])),
        ):
            if child >= 0:
                above[child] = path | {feature: _Edge(node, is_left, cover * part)}
    return found, longest


@dataclass
class _Builder:
    """Collects the tables of all trees."""

    trees: list[list[int]] = field(default_factory=list)
    words: list[list[int]] = field(default_factory=list)
    reals: list[list[float]] = field(default_factory=list)
    bits: list[np.ndarray] = field(default_factory=list)
    leaves: list[np.ndarray] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)
    n_bits: int = 0
    n_leaves: int = 0
    n_table: int = 0
    shared: dict[int, int] = field(default_factory=dict)

    def table(self, n_points: int, cover: float) -> int:
        """Add τ = t/f and c = z·w/f² with f = z + t·(1 − z), and return its place."""
        t, w = quadrature(n_points)
        f = cover + t * (1.0 - cover)
        rows = np.zeros((2, -(-n_points // LANES) * LANES))
        rows[0, :n_points], rows[1, :n_points] = t / f, cover * w / f**2
        self.tables.append(rows.ravel())
        place, self.n_table = self.n_table, self.n_table + rows.size
        return place

    def plain_table(self, n_points: int) -> int:
        """Return the place of the table of all nodes without an ancestor on their feature."""
        if n_points not in self.shared:
            self.shared[n_points] = self.table(n_points, 1.0)
        return self.shared[n_points]

    def add(self, tree: Tree, booster: int) -> None:
        """Add one tree."""
        edges, longest = nearest_power(tree)
        n_points = max(1, -(-longest // 2))
        first = len(self.words)
        self.trees.append(
            [tree.n_nodes, n_points, -(-n_points // LANES), first, self.n_leaves, booster]
        )
        for node, edge in enumerate(edges):
            place = self.table(n_points, edge.cover) if edge else self.plain_table(n_points)
            self._node(tree, node, edge, place)
        self.leaves.append(tree.leaf_value)
        self.n_leaves += len(tree.leaf_value)

    def _node(self, tree: Tree, node: int, edge: _Edge | None, table: int) -> None:
        left, right = int(tree.left[node]), int(tree.right[node])
        place, n_words = 0, 0
        if tree.is_categorical(node):
            words = tree.categories[int(tree.threshold[node])]
            place, n_words = self.n_bits, len(words)
            self.bits.append(words)
            self.n_bits += n_words
        is_swapped = left < 0 <= right
        first, second = (right, left) if is_swapped else (left, right)
        self.words.append(
            [
                int(tree.feature[node]),
                _flags(tree, node, edge),
                place,
                n_words,
                first,
                second,
                edge.node if edge else -1,
                table,
            ]
        )
        alphas = _side(tree, node, True), _side(tree, node, False)
        threshold = 0.0 if n_words else float(tree.threshold[node])
        self.reals.append([threshold, *alphas, -min(alphas)])


def _side(tree: Tree, node: int, is_left: bool) -> float:
    """Return α of a row that goes left or right at a node; positive towards the first child."""
    is_swapped = tree.left[node] < 0 <= tree.right[node]
    alpha = float(tree.right_share[node]) if is_left else -float(tree.left_share[node])
    return -alpha if is_swapped else alpha


def _flags(tree: Tree, node: int, edge: _Edge | None) -> int:
    under_first = UNDER_FIRST if edge and _side(tree, edge.node, edge.is_left) > 0.0 else 0
    if tree.is_categorical(node):
        return IS_CATEGORICAL | under_first
    decision, missing = int(tree.decision[node]), int(tree.decision[node]) >> 2
    default, plain = bool(decision & DEFAULT_LEFT), bool(tree.threshold[node] >= 0.0)
    nan_left = plain if missing == MISSING_NONE else default
    zero_left = default if missing == MISSING_ZERO else plain
    return nan_left * NAN_LEFT | zero_left * ZERO_LEFT | under_first


def lay_out(ensembles: Sequence[Ensemble]) -> Forest:
    """Return the tables of some boosters.

    Parameters
    ----------
    ensembles : sequence of Ensemble
        At least one, all over the same features.
    """
    builder = _Builder()
    for booster, ensemble in enumerate(ensembles):
        for tree in ensemble.trees:
            builder.add(in_runs(tree), booster)
    trees = np.array(builder.trees, dtype=np.int64)
    expected = [sum(tree.expected for tree in ensemble.trees) for ensemble in ensembles]
    return Forest(
        n_features=ensembles[0].n_features,
        n_boosters=len(ensembles),
        n_nodes=max(1, int(trees[:, 0].max())),
        n_points=int(trees[:, 1].max()),
        base=float(np.mean(expected)),
        trees=trees.ravel(),
        words=np.array(builder.words, dtype=np.int32).ravel(),
        reals=np.array(builder.reals, dtype=np.float64).ravel(),
        bits=np.concatenate([*builder.bits, np.zeros(1, dtype=np.uint32)]),
        leaves=np.concatenate(builder.leaves),
        tables=np.concatenate([*builder.tables, np.zeros(1)]),
    )
