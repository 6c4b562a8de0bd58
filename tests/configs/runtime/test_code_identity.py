"""What has to be made again when code changes, on a copy of the source."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from configs.runtime import code_identity
from configs.runtime.code_identity import DATA, PACKAGES, SOURCE, code_digest, import_closure
from training.pipeline import CODE

SHOWN = (".css", ".html", ".j2", ".js", ".md", ".svg")
"""Endings of files that show results and do not decide them."""

KEPT = {
    "sources": ("features.sources.load",),
    "snapshots": ("features.snapshots.grid",),
    "labels": ("features.labels",),
    "vectors": ("features.online_vectors",),
    "store": ("features.feast_store",),
    "search": ("training.fitting.tune",),
    "training": CODE,
}
"""What is kept, and the modules that make it."""

LOADED = """
import importlib, json, sys

packages, kept, found = *map(json.loads, sys.argv[1:]), {}
for made, modules in kept.items():
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
    for name in modules:
        importlib.import_module(name)
    if "training.pipeline" in modules:
        importlib.import_module("training.checks.registry").check_catalogue()
    found[made] = [name for name in sys.modules if name.split(".")[0] in packages]
print(json.dumps(found))
"""


def module_of(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(SOURCE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def digests(source: Path) -> dict[str, str]:
    """Read the files again; what each module imports is remembered."""
    code_digest.cache_clear()
    return {kept: code_digest(*modules, source=source) for kept, modules in KEPT.items()}


@cache
def unchanged() -> dict[str, str]:
    return digests(SOURCE)


def changed_by(source: Path, path: Path, text: str) -> set[str]:
    """Return what is made again after `text` is added to a file, which is then put back."""
    before, old = unchanged(), path.read_bytes() if path.exists() else None
    path.write_bytes((old or b"") + text.encode())
    after = digests(source)
    path.unlink() if old is None else path.write_bytes(old)
    return {kept for kept in KEPT if before[kept] != after[kept]}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Modules Python itself loads for each thing kept."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(PACKAGES), json.dumps(KEPT)],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=True,
    )
    return {kept: set(names) for kept, names in json.loads(done.stdout.splitlines()[-1]).items()}


def test_a_copy_has_the_identity_of_the_original(source):
    assert digests(source) == digests(SOURCE)


def test_every_module_that_is_loaded_counts(source, loaded):
    places = ("features", "training")
    paths = [path for name in places for path in sorted((source / name).rglob("*.py"))]
    assert len(paths) > 150
    for path in paths:
        name = module_of(path, source)
        wanted = {kept for kept in KEPT if name in loaded[kept]}
        found = changed_by(source, path, "\nEDITED = True\n")
        assert wanted <= found, f"{name}: {wanted - found} would be stale"
        if name.startswith("training"):
            assert found <= {"search", "training"}


def test_what_serves_makes_nothing_new(source):
    for place in ("__init__", "scoring/scorer", "run/pipeline"):
        path = source / "serving" / f"{place}.py"
        assert not changed_by(source, path, "\nEDITED = True\n")


def test_settings_count_everywhere(source):
    path = source / "configs" / "schema" / "company.py"
    assert changed_by(source, path, "\nEDITED = True\n") == set(KEPT)


@pytest.mark.parametrize(
    "name",
    [
        *("evaluation.drift", "data.training_frame", "model.reasons", "model.reason_text"),
        *("model.treeshap.kernel", "model.treeshap", "tabular.table_frame"),
        *("checks.leakage.l02_single_feature", "checks.stability.t01_folds_agree"),
        *("checks.base", "fitting.calibration"),
    ],
)
def test_a_training_is_new_when_what_it_rests_on_changes(source, name):
    path = source.joinpath("training", *name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert "training" in changed_by(source, path, "\nEDITED = True\n")


def test_what_only_makes_vectors_makes_vectors_alone(source):
    found = changed_by(source, source / "features" / "online_vectors.py", "\nEDITED = True\n")
    assert found == {"vectors", "training"}


@pytest.mark.parametrize("place", ["configs/rules.yaml", "configs/mappings/hubspot.yaml"])
def test_data_in_packages_counts(source, place):
    assert changed_by(source, source / place, "\n# edited\n") == set(KEPT)


@pytest.mark.parametrize("ending", DATA)
def test_new_data_counts(source, ending):
    found = changed_by(source, source / "training" / "checks" / f"limits{ending}", "1")
    assert found == {"training"}


def test_a_new_check_counts(source):
    path = source / "training" / "checks" / "leakage" / "l99_new.py"
    code_identity._imports_of.cache_clear()
    before = code_digest(*CODE, source=source)
    path.write_text("from training.health_audit import run\n")
    code_identity._imports_of.cache_clear()
    code_digest.cache_clear()
    assert code_digest(*CODE, source=source) != before
    assert {"training.checks.leakage.l99_new", "training.health_audit.run"} <= import_closure(
        CODE, source
    )
    path.unlink()
    code_identity._imports_of.cache_clear()


def test_the_company_of_an_example_is_no_code(source):
    place = source / "configs" / "companies" / "telco" / "company.yaml"
    assert not changed_by(source, place, "\n# edited\n")


def test_a_comment_is_a_change(source):
    assert "labels" in changed_by(
        source, source / "features" / "labels" / "windows.py", "# only words\n"
    )


def test_every_file_in_a_package_either_counts_or_only_shows():
    for name in PACKAGES:
        for path in (SOURCE / name).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert path.suffix in (*DATA, *SHOWN), path


def test_every_package_is_looked_at():
    told = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))
    assert list(PACKAGES) == told["tool"]["importlinter"]["root_packages"]


def test_imports_inside_functions_count_and_those_for_types_do_not(tmp_path):
    package = tmp_path / "features"
    package.mkdir()
    for name in ("__init__", "late", "typed", "tried", "chosen"):
        (package / f"{name}.py").write_text("")
    (package / "made.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from features import typed\n"
        "try:\n"
        "    import json\n"
        "except ImportError:\n"
        "    import features.tried\n"
        "def made(value):\n"
        "    match value:\n"
        "        case 1:\n"
        "            from features.chosen import nothing\n"
        "    with open(value):\n"
        "        from features import late\n"
    )
    names = {"features", "features.made", "features.late", "features.tried", "features.chosen"}
    assert import_closure(["features.made"], tmp_path) == names


def test_a_module_that_is_not_there_is_told():
    with pytest.raises(ModuleNotFoundError, match=r"features\.nothing"):
        code_digest("features.nothing")
