"""What of LightGBM's model text is understood, and what is refused."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.model.predictors import model_text
from training.model.treeshap import UnsupportedModelError
from training.model.treeshap.parse import members, parse_ensemble


def test_a_model_is_read_the_same_with_and_without_its_parameters(grow):
    text = grow(1, categorical=2, num_leaves=20).booster.model_to_string()
    whole, bare = parse_ensemble(text), parse_ensemble(model_text(text))
    assert whole.n_features == bare.n_features == 5
    for one, other in zip(whole.trees, bare.trees, strict=True):
        np.testing.assert_array_equal(one.leaf_value, other.leaf_value)
        np.testing.assert_array_equal(one.threshold, other.threshold)
        assert [list(item) for item in one.categories] == [list(item) for item in other.categories]


def test_values_and_sets_are_those_of_lightgbms_own_dump(grow):
    booster = grow(2, rows=400, categorical=2, num_leaves=20, rounds=4).booster
    seen = 0
    for tree, dumped in zip(
        parse_ensemble(booster.model_to_string()).trees,
        booster.dump_model()["tree_info"],
        strict=True,
    ):
        stack = [dumped["tree_structure"]]
        while stack:
            node = stack.pop()
            if "leaf_value" in node:
                assert tree.leaf_value[node["leaf_index"]] == node["leaf_value"]
                assert tree.leaf_count[node["leaf_index"]] == node["leaf_count"]
                continue
            at = node["split_index"]
            assert tree.count[at] == node["internal_count"]
            if tree.is_categorical(at):
                found = members(tree.categories[int(tree.threshold[at])])
                assert "||".join(map(str, found)) == node["threshold"]
                seen += 1
            else:
                assert tree.threshold[at] == node["threshold"]
            stack += [node["left_child"], node["right_child"]]
    assert seen, "no categorical split was met"


@given(st.sets(st.integers(0, 200), min_size=1))
def test_bit_sets_hold_what_was_put_in(codes):
    words = np.zeros(7, dtype=np.uint32)
    for code in codes:
        words[code // 32] |= np.uint32(1 << code % 32)
    assert members(words).tolist() == sorted(codes)


def test_the_kinds_of_model_that_are_refused(grow):
    forest = {"bagging_freq": 1, "bagging_fraction": 0.7}
    for words, settings in {
        "dart": {"boosting": "dart"},
        "average_output": {"boosting": "rf", **forest},
        "linear": {"linear_tree": True},
    }.items():
        text = grow(1, rows=300, **settings).booster.model_to_string()
        with pytest.raises(UnsupportedModelError, match=words):
            parse_ensemble(text)


def test_several_classes_are_refused():
    rng = np.random.default_rng(0)
    data = lightgbm.Dataset(
        rng.normal(size=(90, 3)), rng.integers(0, 3, 90), params={"verbose": -1}
    )
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, data, 2)
    with pytest.raises(UnsupportedModelError, match="num_class"):
        parse_ensemble(booster.model_to_string())


TREE = (0, 0.5, (1, 1.5, (1.0, 10), (2.0, 20)), (3.0, 30))


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        ("begins with", "tree\n", "forest\n"),
        ("version", "version=v4", "version=v9"),
        ("unknown line 'average_output'", "label_index=0", "average_output"),
        ("unknown line", "label_index=0", "new_idea=1"),
        ("unknown line", "num_cat=0", "num_surprises=0"),
        ("linear", "is_linear=0", "is_linear=1"),
        ("cannot be read", "threshold=0.5", "threshold=half"),
        ("not a number", "threshold=0.5", "threshold=nan"),
        ("not finite", "leaf_value=1.0", "leaf_value=inf"),
        ("decision type", "decision_type=2", "decision_type=14"),
        ("decision type", "decision_type=2", "decision_type=64"),
        ("no categories", "decision_type=2", "decision_type=1"),
        ("no training rows", "leaf_count=10", "leaf_count=0"),
        ("add up", "leaf_count=10", "leaf_count=11"),
        ("grown from its root", "left_child=1 -1", "left_child=0 -1"),
        ("grown from its root", "left_child=1 -1", "left_child=-2 -1"),
        ("disagree", "num_leaves=3", "num_leaves=4"),
        ("disagree", "leaf_value=1.0 2.0 3.0", "leaf_value=1.0 2.0"),
        ("unknown feature", "split_feature=0", "split_feature=7"),
        ("no tree", "Tree=0", ""),
    ],
)
def test_a_text_that_is_not_understood_to_the_letter_is_refused(write, words, old, new):
    sound = write([TREE], 2)
    assert parse_ensemble(sound).trees[0].n_nodes == 2
    assert old in sound
    text = sound.partition("Tree=0")[0] if not new else sound.replace(old, new, 1)
    with pytest.raises(UnsupportedModelError, match=words):
        parse_ensemble(text)
