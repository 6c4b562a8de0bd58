"""The explainers are compared as promised, on a small model."""

import os
import subprocess
import sys

import pytest

from tests.benchmarks.measure import read, table, write
from tests.benchmarks.training.explain import Size, measure


# shap imports its plots, which call matplotlib functions about to be deprecated
@pytest.mark.filterwarnings("ignore:The set_.* function:PendingDeprecationWarning")
def test_every_size_is_measured_with_equal_values(tmp_path):
    sizes = (Size(1, 1, 3), Size(200, 50, 1))
    found = measure(sizes, leaves=(7,), trees=5)
    assert [item.what[:5] for item in found] == ["1 row", "200 r"]
    for item in found:
        assert item.ratio == pytest.approx(item.theirs / item.ours)
        assert item.detail["largest difference from LightGBM"] < 1e-9
        assert item.detail["largest difference from shap"] < 1e-9
    write(tmp_path, "explain", found)
    kept = read(tmp_path, "explain")
    assert [item.ours for item in kept] == [item.ours for item in found]
    assert table({"explain": kept}).row_count == 2


def test_threads_are_equal_before_anything_is_imported():
    code = "import tests.benchmarks.__main__, os; print(os.environ['OMP_NUM_THREADS'])"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
