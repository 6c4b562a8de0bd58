"""The explainer against LightGBM, against shap, and against the definition."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise

import lightgbm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.runtime.errors import ModelError
from training.model.predictors import model_text
from training.model.treeshap import TreeExplainer, TreePredictor, explainer
from training.model.treeshap.explainer import COLD_ROWS, PIECE_ROWS, probe_rows
from training.model.treeshap.layout import LANES
from training.model.treeshap.parse import parse_ensemble

MODELS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "rows": st.integers(20, 300),
        "features": st.integers(2, 9),
        "categorical": st.integers(0, 2),
        "missing": st.sampled_from([0.0, 0.05, 0.5]),
        "zeros": st.sampled_from([0.0, 0.3]),
        "rounds": st.integers(1, 4),
        "num_leaves": st.sampled_from([2, 3, 8, 31, 120]),
        "max_depth": st.sampled_from([-1, 1, 3, 6]),
        "zero_as_missing": st.booleans(),
        "use_missing": st.booleans(),
        "monotone": st.booleans(),
        "max_cat_to_onehot": st.sampled_from([1, 4]),
        "extra_trees": st.booleans(),
    }
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fast(*boosters) -> TreeExplainer:
    found = TreeExplainer(boosters)
    assert found.warm(), "the kernel must have been trusted"
    return found


def lightgbm_says(booster, matrix) -> np.ndarray:
    return np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=1))


@FEW
@given(MODELS)
def test_any_model_equals_lightgbm_and_adds_up_to_its_prediction(grow, chosen):
    grown = grow(**chosen)
    booster, matrix = grown.booster, grown.matrix
    found = fast(booster).explain_and_predict(matrix)
    expected = lightgbm_says(booster, matrix)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found.contributions, expected[:, :-1], rtol=0, atol=1e-9 * scale)
    assert abs(found.base - expected[0, -1]) < 1e-9 * scale
    np.testing.assert_array_equal(found.raw[0], booster.predict(matrix, raw_score=True))
    total = found.base + found.contributions.sum(axis=1)
    np.testing.assert_allclose(total, found.raw[0], rtol=0, atol=1e-12 * scale)


@FEW
@given(MODELS)
def test_any_model_is_predicted_to_lightgbms_bits(grow, chosen):
    grown = grow(**chosen)
    found = TreePredictor((grown.booster,))
    expected = grown.booster.predict(grown.matrix, raw_score=True)
    np.testing.assert_array_equal(found.predict(grown.matrix)[0], expected)
    assert found.warm(), "the kernel must have been trusted"
    np.testing.assert_array_equal(found.predict(grown.matrix)[0], expected)


def test_predictions_of_any_number_of_rows_and_boosters_are_lightgbms(grow):
    grown = [grow(seed, rows=600, features=9, rounds=5, num_leaves=15) for seed in (1, 2, 3)]
    found = TreePredictor([item.booster for item in grown])
    assert found.warm()
    matrix = np.tile(grown[0].matrix, (5, 1))
    for n in (*range(2 * LANES + 2), PIECE_ROWS - 1, PIECE_ROWS + 1):
        expected = [
            item.booster.predict(matrix[:n], raw_score=True) if n else np.zeros(0) for item in grown
        ]
        np.testing.assert_array_equal(found.predict(matrix[:n]), expected)
    with pytest.raises(ModelError, match="takes 9 features"):
        found.predict(matrix[:, :8])


def test_a_predictor_of_other_bits_stays_with_lightgbm(grow, caplog, monkeypatch):
    grown = grow(1, rounds=5)
    sound = explainer.lay_out

    def bent(ensembles):
        forest = sound(ensembles)
        forest.leaves[:] = np.nextafter(forest.leaves, np.inf)
        return forest

    monkeypatch.setattr(explainer, "lay_out", bent)
    found = TreePredictor((grown.booster,))
    with caplog.at_level(logging.WARNING, "bellwether.training.model.treeshap"):
        assert not found.warm()
    assert "same bits" in caplog.text
    expected = grown.booster.predict(grown.matrix, raw_score=True)
    np.testing.assert_array_equal(found.predict(grown.matrix)[0], expected)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MODELS, st.integers(0, 259))
def test_values_are_shapleys_by_their_definition(grow, by_definition, chosen, at):
    small = {"features": min(chosen["features"], 5), "num_leaves": min(chosen["num_leaves"], 12)}
    grown = grow(**chosen | small | {"rounds": 1})
    row = grown.matrix[at % len(grown.matrix)]
    _, found = fast(grown.booster).explain(row[None])
    np.testing.assert_allclose(found[0], by_definition(grown.booster, row), rtol=0, atol=1e-12)


# shap imports its plots, which call matplotlib functions about to be deprecated
@pytest.mark.filterwarnings("ignore:The set_.* function:PendingDeprecationWarning")
def test_values_are_those_of_shap(grow):
    import shap

    grown = grow(3, rows=800, features=9, categorical=2, rounds=30, num_leaves=31)
    _, found = fast(grown.booster).explain(grown.matrix)
    # read back as served: where the parameters name the objective, shap warns of its own change
    loaded = lightgbm.Booster(model_str=model_text(grown.booster.model_to_string()))
    expected = shap.TreeExplainer(loaded).shap_values(grown.matrix)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MODELS, st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_row_gets_the_same_bits_wherever_it_stands(grow, chosen, n, random):
    grown = grow(**chosen)
    found = fast(grown.booster)
    together = found.explain_and_predict(grown.matrix)
    order = random.sample(range(len(grown.matrix)), n)
    apart = found.explain_and_predict(grown.matrix[order])
    np.testing.assert_array_equal(apart.contributions, together.contributions[order])
    np.testing.assert_array_equal(apart.raw, together.raw[:, order])


@pytest.mark.parametrize("num_leaves", [3, 31, 250])
def test_any_number_of_rows_up_to_two_blocks_gives_the_same_bits(grow, num_leaves):
    # one row has a function of its own, which sums over quadrature nodes in its own lanes
    grown = grow(1, rows=600, features=20, rounds=3, num_leaves=num_leaves)
    found = fast(grown.booster)
    _, together = found.explain(grown.matrix)
    for n in range(1, 2 * LANES + 2):
        np.testing.assert_array_equal(found.explain(grown.matrix[:n])[1], together[:n])


def test_single_rows_in_several_threads_do_not_meet(grow):
    # each thread has room of its own for its row, used again for the next one
    grown = grow(2, rows=300, features=9, rounds=20, num_leaves=31)
    found = fast(grown.booster)
    together = found.explain_and_predict(grown.matrix)

    def explain(i: int):
        return found.explain_and_predict(grown.matrix[i : i + 1])

    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(explain, range(len(grown.matrix))))
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(one.contributions[0], together.contributions[i])
        np.testing.assert_array_equal(one.raw[:, 0], together.raw[:, i])


def test_threads_do_not_change_a_bit(grow):
    grown = grow(5, features=7, categorical=1, num_leaves=31)
    matrix = np.tile(grown.matrix, (40, 1))
    found = fast(grown.booster)
    one = found.explain_and_predict(matrix, threads=1)
    for threads in (2, 3, 16):
        many = found.explain_and_predict(matrix, threads=threads)
        np.testing.assert_array_equal(many.contributions, one.contributions)
        np.testing.assert_array_equal(many.raw, one.raw)


def test_several_boosters_are_averaged_and_predict_apart(grow):
    grown = [grow(seed, features=6, rounds=rounds) for seed, rounds in ((1, 2), (2, 5), (3, 1))]
    matrix = grown[0].matrix
    boosters = [item.booster for item in grown]
    found = fast(*boosters).explain_and_predict(matrix)
    expected = np.mean([lightgbm_says(booster, matrix) for booster in boosters], axis=0)
    np.testing.assert_allclose(found.contributions, expected[:, :-1], rtol=0, atol=1e-12)
    assert found.base == pytest.approx(expected[0, -1], abs=1e-12)
    raw = [booster.predict(matrix, raw_score=True) for booster in boosters]
    np.testing.assert_array_equal(found.raw, raw)


def test_a_feature_no_tree_asks_for_adds_exactly_nothing(grow):
    grown = grow(2, features=9, rounds=1, num_leaves=4)
    used = set(parse_ensemble(grown.booster.model_to_string()).trees[0].feature)
    unused = sorted(set(range(9)) - used)
    _, found = fast(grown.booster).explain(grown.matrix)
    assert unused
    assert not found[:, unused].any()
    assert found[:, sorted(used)].any(axis=0).all()


def test_features_that_play_the_same_part_get_the_same_share(write):
    # XOR with equal covers: exchanging the two features changes nothing
    low, high = (-1.0, 25), (2.0, 25)
    tree = (0, 0.0, (1, 0.0, low, high), (1, 0.0, high, low))
    booster = lightgbm.Booster(model_str=write([tree], 3))
    _, found = fast(booster).explain(np.array([[-1.0, -1.0, 5.0], [1.0, 1.0, 5.0]]))
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found[0], [-0.75, -0.75, 0.0], rtol=0, atol=1e-15)


def exact(chain, row, n_features):
    """Return Shapley values of one-sided chains in rational arithmetic: no rounding at all."""
    phi = [Fraction(0)] * n_features
    for value, factors in chain:
        o = {f: int(all(row[f] in side for side in sides)) for f, (_, sides) in factors.items()}
        for i, (z_i, _) in factors.items():
            coefficients = [Fraction(1)]
            for j, (z, _) in factors.items():
                if j != i:
                    ends = [*coefficients, Fraction(0)], [Fraction(0), *coefficients]
                    coefficients = [z * a + (o[j] - z) * b for a, b in zip(*ends, strict=True)]
            area = sum(c / (k + 1) for k, c in enumerate(coefficients))
            phi[i] += Fraction(value) * (o[i] - z_i) * area
    return phi


class Below:
    """What goes left of 0, or the rest."""

    def __init__(self, is_left):
        self.is_left = is_left

    def __contains__(self, value):
        return (value <= 0.0) == self.is_left


@pytest.mark.parametrize(
    ("depth", "n_features", "count"),
    [(12, 12, 1), (12, 12, 1_000_000), (32, 32, 1_000_000), (40, 7, 1), (40, 7, 1_000_000)],
)
def test_deep_chains_with_extreme_covers_are_exact(write, depth, n_features, count):
    rng = np.random.default_rng(depth + count)
    values = rng.normal(size=depth + 1)
    tree, below, chain_above = (float(values[depth]), 1), 1, []
    for level in reversed(range(depth)):
        chain_above.append((level % n_features, below))
        tree = (level % n_features, 0.0, tree, (float(values[level]), count))
        below += count
    chain, path = [], {}
    for level, (feature, n_left) in enumerate(reversed(chain_above)):
        z, sides = path.get(feature, (Fraction(1), []))
        share = Fraction(n_left, n_left + count)
        chain.append(
            (float(values[level]), path | {feature: (z * (1 - share), [*sides, Below(False)])})
        )
        path = path | {feature: (z * share, [*sides, Below(True)])}
    chain.append((float(values[depth]), path))
    booster = lightgbm.Booster(model_str=write([tree], n_features))
    row = np.where(rng.random(n_features) < 0.15, 1.0, -1.0)
    expected = np.array([float(item) for item in exact(chain, row, n_features)])
    kernel = explainer._kernel([parse_ensemble(booster.model_to_string())])
    found, raw = kernel(row[None])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-14)
    np.testing.assert_array_equal(raw[0], booster.predict(row[None], raw_score=True))


def test_constant_trees_and_stumps(write):
    constant, stump = (0.25, 100), (0, 1.5, (1.0, 30), (-1.0, 70))
    for trees in ([constant], [constant, stump], [stump, constant, stump]):
        booster = lightgbm.Booster(model_str=write(trees, 2))
        matrix = np.array([[1.0, 0.0], [2.0, 0.0], [np.nan, 1.0]])
        found = fast(booster).explain_and_predict(matrix)
        expected = lightgbm_says(booster, matrix)
        np.testing.assert_allclose(found.contributions, expected[:, :-1], rtol=0, atol=1e-15)
        assert found.base == pytest.approx(expected[0, -1], abs=1e-15)
        np.testing.assert_array_equal(found.raw[0], booster.predict(matrix, raw_score=True))


def test_no_rows_are_no_contributions(grow):
    booster = grow(1).booster
    for ready in (TreeExplainer((booster,)), fast(booster)):
        found = ready.explain_and_predict(np.zeros((0, 5)))
        assert (found.contributions.shape, found.raw.shape) == ((0, 5), (1, 0))
        assert found.base == pytest.approx(lightgbm_says(booster, np.zeros((1, 5)))[0, -1])


def test_another_width_is_refused_before_anything_reads_past_the_end(grow):
    for ready in (TreeExplainer((grow(1).booster,)), fast(grow(1).booster)):
        with pytest.raises(ModelError, match="takes 5 features"):
            ready.explain(np.zeros((3, 6)))


def test_the_callers_rows_are_left_alone_whatever_their_order_in_memory(grow):
    grown = grow(1)
    rows = np.asfortranarray(grown.matrix)
    before = rows.copy()
    _, found = fast(grown.booster).explain(rows)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(found, fast(grown.booster).explain(grown.matrix)[1])


def test_until_it_is_warm_lightgbm_answers_and_many_rows_warm_it(grow):
    grown = grow(1)
    found = TreeExplainer((grown.booster,))
    _, values = found.explain(grown.matrix)
    assert not found.is_fast
    np.testing.assert_array_equal(values, lightgbm_says(grown.booster, grown.matrix)[:, :-1])
    found.explain(np.resize(grown.matrix, (COLD_ROWS, 5)))
    assert found.is_fast


def test_a_model_it_does_not_understand_stays_with_lightgbm_and_says_so(grow, caplog):
    grown = grow(1, boosting="dart")
    found = TreeExplainer((grown.booster,))
    with caplog.at_level(logging.WARNING, "bellwether.training.model.treeshap"):
        assert not found.warm()
    assert "using LightGBM" in caplog.text
    assert "dart" in caplog.text
    _, values = found.explain(grown.matrix)
    np.testing.assert_array_equal(values, lightgbm_says(grown.booster, grown.matrix)[:, :-1])


@pytest.mark.parametrize("table", ["leaves", "reals", "tables"])
def test_the_slightest_difference_sends_it_back_to_lightgbm(grow, caplog, monkeypatch, table):
    grown = grow(1, rounds=5)
    sound = explainer.lay_out

    def bent(ensembles):
        forest = sound(ensembles)
        getattr(forest, table)[:] *= 1 + 1e-7
        return forest

    monkeypatch.setattr(explainer, "lay_out", bent)
    with caplog.at_level(logging.WARNING, "bellwether.training.model.treeshap"):
        assert not TreeExplainer((grown.booster,)).warm()
    assert "differ" in caplog.text


def test_a_prediction_of_other_bits_sends_it_back_too(grow, caplog, monkeypatch):
    booster = grow(1, rounds=5).booster
    sound = explainer._lightgbm_raw
    monkeypatch.setattr(
        explainer, "_lightgbm_raw", lambda *given: np.nextafter(sound(*given), np.inf)
    )
    with caplog.at_level(logging.WARNING, "bellwether.training.model.treeshap"):
        assert not TreeExplainer((booster,)).warm()
    assert "same bits" in caplog.text


def test_probing_rows_stand_on_every_edge_and_repeat_themselves(grow):
    grown = grow(4, categorical=1, num_leaves=8, rounds=1)
    ensemble = parse_ensemble(grown.booster.model_to_string())
    rows = probe_rows([ensemble], 4_000)
    np.testing.assert_array_equal(rows, probe_rows([ensemble], 4_000))
    tree = ensemble.trees[0]
    for node in range(tree.n_nodes):
        column = rows[:, tree.feature[node]]
        assert np.isnan(column).any()
        assert np.isinf(column).any()
        if not tree.is_categorical(node):
            at = tree.threshold[node]
            for edge in (np.nextafter(at, -np.inf), at, np.nextafter(at, np.inf)):
                assert (column == edge).any()


def test_best_iterations_are_those_lightgbm_uses(grow):
    grown = grow(1, rounds=6)
    grown.booster.best_iteration = 2
    found = fast(grown.booster).explain_and_predict(grown.matrix)
    np.testing.assert_array_equal(
        found.raw[0], grown.booster.predict(grown.matrix, raw_score=True, num_iteration=2)
    )


def test_the_compiler_is_not_loaded_before_it_is_wanted():
    code = (
        "import sys, training.model.treeshap, training.model.predictors\n"
        "heavy = {'llvmlite', 'numba', 'lightgbm', 'scipy', 'pandas'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_chains_of_one_feature_collapse_to_one_player(write):
    # nested questions on one feature: all of the difference is its own
    edges = [3.0, 2.0, 1.0, 0.5]
    tree = (4.0, 10)
    for value, edge in zip((1.0, 2.0, -3.0, 7.0), reversed(edges), strict=True):
        tree = (0, edge, tree, (value, 5))
    assert all(a > b for a, b in pairwise(edges))
    booster = lightgbm.Booster(model_str=write([tree], 1))
    matrix = np.array([[0.0], [0.7], [1.5], [2.5], [9.0], [np.nan]])
    found = fast(booster).explain_and_predict(matrix)
    np.testing.assert_allclose(
        found.contributions[:, 0], found.raw[0] - found.base, rtol=0, atol=1e-14
    )
