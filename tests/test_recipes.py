"""The recipes of the nightly guide: they import where their scheduler is installed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import bellwether
from configs.runtime import errors
from configs.runtime.errors import BellwetherError, NotReadyError, StateError

ROOT = Path(bellwether.__file__).parent
RECIPES = ROOT / "docs" / "recipes"


def constants(path: Path) -> dict[str, object]:
    body = ast.parse(path.read_text()).body
    return {
        node.targets[0].id: node.value.value
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize(
    ("package", "file"), [("airflow", "airflow_dag.py"), ("dagster", "dagster_job.py")]
)
def test_a_recipe_imports_with_its_scheduler(package, file, tmp_path):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it is no dependency of Bellwether")
    done = subprocess.run(
        [sys.executable, str(RECIPES / file)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["airflow_dag.py", "dagster_job.py"])
def test_a_recipe_knows_the_exit_codes(file):
    found = constants(RECIPES / file)
    assert found["NOT_READY"] == NotReadyError.exit_code
    assert found["LOCKED"] == StateError.exit_code


def test_the_service_starts_again_only_when_that_can_help():
    text = (RECIPES / "bellwether-refresh.service").read_text()
    assert f"RestartForceExitStatus={NotReadyError.exit_code}\n" in text
    assert "RestartPreventExitStatus=2 3 4 6\n" in text


def test_the_guide_lists_every_exit_code():
    guide = (ROOT / "docs" / "guides" / "nightly.md").read_text()
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {kind.exit_code for kind in kinds if BellwetherError in kind.__bases__}
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", guide, re.MULTILINE)}
    assert codes <= listed
