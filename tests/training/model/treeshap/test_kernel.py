"""The compiled passes themselves."""

import numpy as np
import pytest

from training.model.treeshap.kernel import Kernel, compiled, compiled_for
from training.model.treeshap.layout import LANES, lay_out
from training.model.treeshap.parse import parse_ensemble


@pytest.fixture(scope="module")
def forest(grow):
    return lay_out(
        [
            parse_ensemble(
                grow(1, features=9, categorical=2, num_leaves=40).booster.model_to_string()
            )
        ]
    )


def test_the_plainest_processor_of_the_kind_gives_the_same_bits(forest, grow):
    # without AVX or a fused multiply-add in hardware
    matrix = grow(1, features=9, categorical=2, num_leaves=40).matrix
    for n in (1, LANES, 50):
        own, plain = (
            Kernel(forest, functions)(matrix[:n])
            for functions in (compiled(), compiled_for("", ""))
        )
        np.testing.assert_array_equal(own[0], plain[0])
        np.testing.assert_array_equal(own[1], plain[1])


def test_it_is_compiled_once_per_process():
    assert compiled() is compiled()


def test_lanes_without_a_row_do_not_disturb_those_with_one(forest, grow):
    matrix = grow(1, features=9, categorical=2, num_leaves=40).matrix[:3]
    kernel = Kernel(forest, compiled())
    phi, raw = kernel(matrix)
    filled = kernel(np.concatenate([matrix, np.full((5, 9), 7.5)]))
    np.testing.assert_array_equal(phi, filled[0][:3])
    np.testing.assert_array_equal(raw, filled[1][:, :3])
