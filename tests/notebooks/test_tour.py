"""The notebooks: thin cells, committed outputs and charts. `tests/test_line.py` executes them."""

from __future__ import annotations

import ast
import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_LINES = 15
MAX_BYTES = 1_500_000

CHARTS = {
    "explain_an_account": ["explanation.plot()", "waterfall"],
    "health_score_validity": ["trained.plot()", "by fifth of either score"],
    "model_quality": [
        "Gain: losses found",
        "Lift of the model",
        "trained.plot_calibration()",
        "AUC by lead time",
        "plots.bar",
        "plots.beeswarm",
        "monitoring.plot(",
    ],
    "retrain_and_compare": ["found.plot_differences()"],
    "tour": ["Active users of", "scores.plot()"],
}
"""Words of the cells that draw, in order."""


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def texts_of(path: Path) -> str:
    """Everything of a notebook that is read: sources and outputs, without the pictures."""
    parts = [cell.source for cell in read(path).cells]
    for cell in code_of(path):
        for output in cell.outputs:
            parts.append(output.get("text", ""))
            kept = output.get("data", {}).items()
            parts += [str(content) for kind, content in kept if not kind.startswith("image/")]
    return "\n".join(parts)


def pictures_of(cell: nbformat.NotebookNode) -> list[str]:
    found = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [picture for picture in found if picture]


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_every_notebook_has_charts():
    assert {path.stem for path in NOTEBOOKS} == set(CHARTS)


@every_notebook
def test_outputs_are_committed_as_one_run_made_them(path):
    nbformat.validate(read(path))
    cells = code_of(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells), "every cell shows something"
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}
    streams = [o for cell in cells for o in cell.outputs if o.output_type == "stream"]
    assert {output.name for output in streams} <= {"stdout"}, "a warning was printed"


@every_notebook
def test_nothing_of_a_machine_is_committed(path):
    """What changes from run to run and says nothing: times of execution, versions, identities."""
    command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-output", "--keep-count"]
    command += ["--extra-keys", "metadata.language_info.version cell.metadata.execution", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text = texts_of(path)
    assert not re.search(r"/(home|tmp|root|work|Users|opt|usr)/|site-packages|Warning", text)


@every_notebook
def test_the_charts_are_there(path):
    cells = [cell for cell in code_of(path) if pictures_of(cell)]
    assert len(cells) == len(CHARTS[path.stem])
    for cell, words in zip(cells, CHARTS[path.stem], strict=True):
        assert words in cell.source
        (picture,) = pictures_of(cell)
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(picture)), format="png")
        height, width = pixels.shape[:2]
        assert width > 400
        assert height > 150
        drawn = (pixels[..., :3].min(axis=2) < 0.9).mean()
        assert drawn > 0.005, "there is something on the page"


def test_they_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MAX_BYTES


@every_notebook
def test_cells_import_call_and_look(path):
    heavy = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try)
    for cell in code_of(path):
        source = cell.source
        assert len(source.splitlines()) <= MAX_LINES, source
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, heavy)], source


@every_notebook
def test_it_begins_by_saying_what_it_is(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
