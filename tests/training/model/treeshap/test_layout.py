"""Tables that do not depend on rows."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.model.treeshap.layout import (
    LANES,
    NODE_WORDS,
    TREE_WORDS,
    in_runs,
    lay_out,
    nearest_power,
    quadrature,
)
from training.model.treeshap.parse import parse_ensemble


@given(st.integers(1, 16), st.data())
def test_quadrature_gives_shapleys_weights(n_points, data):
    # the beta function: s features known, d - 1 - s unknown, of degree d - 1
    degree = data.draw(st.integers(0, 2 * n_points - 1))
    known = data.draw(st.integers(0, degree))
    t, w = quadrature(n_points)
    exact = Fraction(
        math.factorial(known) * math.factorial(degree - known), math.factorial(degree + 1)
    )
    found = w @ (t**known * (1 - t) ** (degree - known))
    assert found == pytest.approx(float(exact), rel=1e-10, abs=1e-16)
    assert (t > 0).all()
    assert (t < 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([2, 5, 31, 90]))
def test_renumbering_keeps_the_tree_and_puts_parents_first(grow, seed, num_leaves):
    for tree in parse_ensemble(
        grow(seed, num_leaves=num_leaves, rounds=1).booster.model_to_string()
    ).trees:
        found = in_runs(tree)
        nodes = np.arange(found.n_nodes)
        for child in (found.left, found.right):
            assert ((child < 0) | (child > nodes)).all()
        assert _questions(found) == _questions(tree)


def _questions(tree):
    """Return per leaf the path of (feature, threshold, side) down to it."""
    if not tree.n_nodes:
        return {}
    found, stack = {}, [(0, ())]
    while stack:
        node, path = stack.pop()
        if node < 0:
            found[-1 - node] = path
            continue
        asked = (int(tree.feature[node]), float(tree.threshold[node]), int(tree.count[node]))
        stack += [(int(tree.left[node]), (*path, (*asked, 0)))]
        stack += [(int(tree.right[node]), (*path, (*asked, 1)))]
    return found


def test_childless_nodes_come_last(grow):
    for tree in parse_ensemble(grow(3, num_leaves=60).booster.model_to_string()).trees:
        found = in_runs(tree)
        childless = (found.left < 0) & (found.right < 0)
        assert (np.diff(childless.astype(int)) >= 0).all()


def test_points_are_half_the_features_of_the_longest_path(write):
    tree = (1.0, 5)
    for feature in (0, 1, 2, 1, 0, 3, 4):
        tree = (feature, 0.5, tree, (2.0, 5))
    ensemble = parse_ensemble(write([tree, (0.5, 10)], 6))
    edges, longest = nearest_power(ensemble.trees[0])
    assert longest == 5
    assert [edge.node if edge else None for edge in edges] == [None] * 5 + [3, 2]
    assert lay_out([ensemble]).trees.reshape(-1, TREE_WORDS)[:, :3].tolist() == [
        [7, 3, 1],
        [0, 1, 1],
    ]


def test_the_cover_of_repeated_questions_is_their_product(write):
    tree = (0, 3.0, (0, 2.0, (0, 1.0, (1.0, 2), (1.0, 8)), (1.0, 30)), (1.0, 60))
    edges, longest = nearest_power(parse_ensemble(write([tree], 1)).trees[0])
    assert longest == 1
    assert [edge.cover if edge else 1.0 for edge in edges] == pytest.approx([1.0, 0.4, 0.1])


def test_tables_are_padded_to_whole_vectors(grow):
    forest = lay_out([parse_ensemble(grow(1, features=9, num_leaves=60).booster.model_to_string())])
    assert (len(forest.tables) - 1) % (2 * LANES) == 0
    assert np.isfinite(forest.tables).all()
    assert (forest.words.reshape(-1, NODE_WORDS)[:, 7] % (2 * LANES) == 0).all()
