import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError
from training.model.encoder import Encoder, finite, fit_levels

ENCODER = Encoder(("users", "plan"), {"plan": ("basic", "pro")})


def test_a_frame_and_a_mapping_encode_alike():
    frame = pd.DataFrame({"plan": ["pro", None, "basic", "new"], "users": [1.0, np.nan, 3.0, 4.0]})
    plain = {"plan": ["pro", float("nan"), "basic", "new"], "users": [1, np.nan, 3, 4]}
    expected = [[1.0, 1.0], [np.nan, np.nan], [3.0, 0.0], [4.0, np.nan]]
    np.testing.assert_array_equal(ENCODER.encode(frame).matrix, expected)
    np.testing.assert_array_equal(ENCODER.encode(plain).matrix, expected)


def test_infinities_become_missing_and_are_counted():
    encoded = finite(np.array([[np.inf, 1.0], [-np.inf, np.nan]]))
    assert np.isnan(encoded.matrix[:, 0]).all()
    assert encoded.n_infinite.tolist() == [2, 0]


def test_finite_leaves_the_callers_matrix_alone():
    matrix = np.array([[np.inf]])
    finite(matrix)
    assert np.isinf(matrix[0, 0])


def test_a_missing_feature_is_named():
    with pytest.raises(DataError, match="plan"):
        ENCODER.encode(pd.DataFrame({"users": [1.0]}))


def test_rare_levels_get_no_code_and_the_most_frequent_are_kept():
    values = ["a"] * 50 + ["b"] * 40 + ["c"] * 30 + ["d"] * 2
    assert fit_levels(values, min_rows=20) == ("a", "b", "c")
    assert fit_levels(values, min_rows=1, max_levels=2) == ("a", "b")


def test_it_survives_json():
    assert Encoder.from_dict(ENCODER.as_dict()) == ENCODER
