"""The tour: outputs stripped, thin cells, no foreign place. `tests/test_line.py` executes it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_LINES = 12


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def test_the_tour_is_there():
    assert FOLDER / "tour.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    nbformat.validate(read(path))
    command = [sys.executable, "-m", "nbstripout", "--verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_import_call_and_look(path):
    heavy = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try)
    for source in code_of(path):
        assert len(source.splitlines()) <= MAX_LINES, source
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, heavy)], source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_place_but_its_own_is_named(path):
    text = path.read_text(encoding="utf-8")
    assert "/home/" not in text
    assert "/tmp" not in text
    assert "/work" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_begins_by_saying_what_it_is(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
