"""What is imported is declared, and what is declared is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import yaml

from serving.commands.app import TRAINING_PACKAGES

ROOT = Path(__file__).resolve().parents[1]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = ("configs", "features", "training", "serving", "bellwether.py")
BENCHES = ("tests/benchmarks",)
OWN = {"configs", "features", "training", "serving", "bellwether", "tests"}

NEEDED_BY = {"python-multipart": ("serving/pages", "Form")}
"""Declared packages that another library imports, and where ours asks for it."""

BROUGHT = {"sqlglot"}
"""Imported by what is shipped, and part of the interface of a declared package: of ibis."""

THROUGH = {"cryptography": "pyjwt", "jsonschema-rs": "schemathesis"}
"""Imported by tests, and brought by an extra or the interface of a declared package."""

TOOLS = {
    "import-linter": "lint-imports",
    "ipykernel": "kernelspec",
    "mkdocs-material": "mkdocs build",
    "mypy": "mypy",
    "nbstripout": "nbstripout",
    "pandas-stubs": "mypy",
    "pre-commit": "pre-commit",
    "pytest-xdist": "--numprocesses",
    "ruff": "ruff",
    "types-pyyaml": "mypy",
    "uv": "uv pip",
}
"""Development tools that nothing imports, and the word by which something runs them."""

RUN_BY = ("Makefile", ".pre-commit-config.yaml", ".ci/run", "tests", "notebooks")


def plain(name: str) -> str:
    """Return a distribution's name as PyPI compares it.

    >>> plain("PyYAML"), plain("prometheus_client>=0.20")
    ('pyyaml', 'prometheus-client')
    """
    bare = re.split(r"[\s\[<>=!~;]", name.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", bare).lower()


def named(requirements: Iterable[str]) -> set[str]:
    return {plain(item) for item in requirements}


def extra(name: str) -> set[str]:
    """Return what an extra installs, with the dependencies of every installation."""
    found = named(DECLARED["project"]["dependencies"])
    for line in DECLARED["project"]["optional-dependencies"][name]:
        inner = re.fullmatch(r"bellwether-cs\[([\w,]+)\]", line)
        found |= set().union(*map(extra, inner[1].split(","))) if inner else {plain(line)}
    return found


AUDIT, SERVE, RUNTIME = extra("audit"), extra("serve"), extra("train")
DEV = extra("dev") - RUNTIME
TRAINING_ONLY = RUNTIME - SERVE
SOURCES = set().union(*map(extra, ("mysql", "redshift")))
"""Drivers of source databases, imported where a company uses them."""
EXTRA = named(
    line
    for line in (ROOT / "requirements-extra.in").read_text().splitlines()
    if line.strip() and not line.startswith("#")
)


def files(*places: str) -> Iterator[Path]:
    for place in places:
        path = ROOT / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Name the top-level package of every import, and the module, at any depth of the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.module


DISTRIBUTIONS = packages_distributions()


def used(
    paths: Iterable[Path], take: Callable[[str], Iterable[tuple[str, str]]] = imported
) -> dict[str, set[str]]:
    """Return the distributions that files import, each with the files."""
    found: dict[str, set[str]] = {}
    for path in paths:
        for top, module in take(path.read_text(encoding="utf-8")):
            if top in sys.stdlib_module_names or top in OWN:
                continue
            found.setdefault(_provider(top, module), set()).add(str(path.relative_to(ROOT)))
    return found


def _provider(top: str, module: str) -> str:
    """Return the distribution of a module: of several that share its top, the one of its name."""
    if module.startswith("google.protobuf"):
        return "protobuf"
    providers = [plain(item) for item in DISTRIBUTIONS.get(top, [top])]
    return plain(top) if plain(top) in providers else providers[0]


SHIPPED_USE = used(files(*SHIPPED))
BENCH_USE = used(files(*BENCHES))
TEST_USE = used(files("tests"))


def test_what_is_shipped_imports_only_what_is_declared():
    known = RUNTIME | SOURCES | BROUGHT
    lacking = {name: where for name, where in SHIPPED_USE.items() if name not in known}
    assert lacking == {}


def test_benchmarks_and_tests_import_only_what_a_developer_has():
    known = RUNTIME | DEV | EXTRA
    lacking = {
        name: where
        for name, where in (*BENCH_USE.items(), *TEST_USE.items())
        if name not in known and name not in THROUGH
    }
    assert lacking == {}


def test_what_is_declared_is_imported_by_what_is_shipped():
    for place, word in NEEDED_BY.values():
        assert any(word in path.read_text(encoding="utf-8") for path in files(place))
    assert RUNTIME - set(SHIPPED_USE) - set(NEEDED_BY) == set()


def test_what_developers_install_is_used():
    told = "\n".join(
        path.read_text(encoding="utf-8")
        for place in RUN_BY
        for path in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*.*"))
        if path.is_file() and path.suffix in {"", ".py", ".ipynb", ".yaml"}
        if path != Path(__file__)
    )
    cells = [
        cell.source
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]
    in_notebooks = {plain(top) for cell in cells for top, _ in imported(cell)}
    unused = {
        name
        for name in DEV - set(TEST_USE) - set(BENCH_USE) - in_notebooks
        if TOOLS.get(name, "\0") not in told
    }
    assert unused == set()


def reached(*starts: str) -> set[Path]:
    """Return modules with all of ours that are imported when they are, at any depth."""
    seen: set[Path] = set()
    waiting = [ROOT / start for start in starts]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in _of_ours(path.read_text(encoding="utf-8")):
            base = ROOT / module.replace(".", "/")
            waiting += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
    return seen


def test_the_base_install_declares_what_an_audit_imports():
    seen = reached("training/health_audit/run.py")
    assert len(seen) > 10
    assert set(used(seen, _at_the_top)) - AUDIT == set()


def test_the_serve_extra_declares_what_the_service_imports():
    seen = reached("serving/service.py", "serving/api/app.py", "serving/pages/routes.py")
    assert len(seen) > 60
    assert set(used(seen, _at_the_top)) - SERVE == set()


def test_the_service_runs_without_the_packages_of_training():
    assert {_provider(name, name) for name in TRAINING_PACKAGES} == TRAINING_ONLY
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(TRAINING_PACKAGES)}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import serving.api.app, serving.commands.app, serving.pages.routes, serving.service
import serving.run.servers, serving.run.score
"""
    assert {"mlflow", "optuna", "scikit-learn", "shap"} <= TRAINING_ONLY
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _at_the_top(source: str) -> Iterator[tuple[str, str]]:
    """Name what a module imports when it is imported itself."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(ast.unparse(node))


def _of_ours(source: str) -> Iterator[str]:
    """Name our own modules that are imported when a module is: at its top."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OWN:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_hooks_call_what_exists():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for repository in config["repos"]:
        assert repository["repo"] == "local", "hooks run what the lock file installs"
        for hook in repository["hooks"]:
            command, target = hook["entry"].split()
            assert command == "make"
            assert target in targets


def test_every_declared_package_is_locked():
    locked = {
        plain(line)
        for name in ("requirements.lock", "requirements-extra.lock")
        for line in (ROOT / name).read_text().splitlines()
        if line[:1].isalnum()
    }
    assert (RUNTIME | DEV | EXTRA) - locked == set()
