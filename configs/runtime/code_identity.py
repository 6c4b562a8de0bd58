"""Identity of code: cached results are recomputed when the code that made them changes.

A module that caches results uses the digest of itself and of everything it imports from this
project, directly or indirectly, so no list of modules has to be maintained. Imports are read from
the syntax tree; no module is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from configs.runtime.hashing import digest, file_digest

SOURCE = Path(__file__).resolve().parents[2]
PACKAGES = ("configs", "features", "training", "serving")

DATA = (".csv", ".json", ".sql", ".toml", ".txt", ".yaml", ".yml")
"""Suffixes of data files that can change results; templates, styles and images cannot."""

COMPANIES = Path("configs", "companies")
"""Example companies. Their configuration enters every identity through its content."""

_BY_NAME = ("import_module", "__import__")
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


@cache
def code_digest(*modules: str, source: Path = SOURCE) -> str:
    """Return the identity of modules, of all they import from this project, and of its data files.

    The digest covers bytes, so a changed comment or docstring is a change, too. Third-party
    libraries are not covered. Computed once per process.

    Parameters
    ----------
    *modules : str
        Dotted names.
    source : pathlib.Path
        Folder of the packages.
    """
    files = files_of(import_closure(modules, source), source)
    return digest([(path.relative_to(source).as_posix(), file_digest(path)) for path in files])


def files_of(modules: Iterable[str], source: Path = SOURCE) -> list[Path]:
    """Return the files of modules, and the data files in the folders of their packages."""
    code = {_file_of(name, source) for name in modules}
    folders = {path.parent for path in code if path.name == "__init__.py"}
    return sorted(code.union(*(_data_in(folder, source) for folder in folders)))


def _data_in(folder: Path, source: Path) -> Iterator[Path]:
    """Yield the data files of a folder and of its subfolders that are not packages."""
    for path in folder.iterdir():
        if path.is_file() and path.suffix in DATA:
            yield path
        elif path.is_dir() and path != source / COMPANIES and not (path / "__init__.py").exists():
            yield from _data_in(path, source)


def import_closure(modules: Iterable[str], source: Path = SOURCE) -> set[str]:
    """Return modules and all they import from this project, at any depth, with their packages.

    Imports inside functions count; imports under ``TYPE_CHECKING`` do not. A module that uses
    ``importlib`` counts as importing every module of its package and of its subpackages.

    Raises
    ------
    ModuleNotFoundError
        A module does not exist.
    """
    found: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            package = name.rpartition(".")[0]
            queue += [*_imports_of(name, source), *([package] if package else [])]
    return found


@cache
def _imports_of(name: str, source: Path) -> frozenset[str]:
    path = _file_of(name, source)
    text = path.read_text(encoding="utf-8")
    named = set(_named_in(ast.parse(text)))
    if any(word in text for word in _BY_NAME) and path.name != "__init__.py":
        named |= {
            ".".join(item.relative_to(source).with_suffix("").parts)
            for item in path.parent.rglob("*.py")
        }
    return frozenset(
        item for item in named if item.split(".")[0] in PACKAGES and _is_module(item, source)
    )


def _named_in(node: ast.AST) -> Iterator[str]:
    """Yield every dotted name below a node that an import statement may refer to as a module."""
    for field in _BODIES:
        for item in getattr(node, field, ()):
            if isinstance(item, ast.Import):
                yield from (alias.name for alias in item.names)
            elif isinstance(item, ast.ImportFrom) and item.module:
                yield item.module
                yield from (f"{item.module}.{alias.name}" for alias in item.names)
            elif not (isinstance(item, ast.If) and ast.unparse(item.test) == "TYPE_CHECKING"):
                yield from _named_in(item)


def _is_module(name: str, source: Path) -> bool:
    base = source.joinpath(*name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def _file_of(name: str, source: Path) -> Path:
    base = source.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"no module {name} below {source}", name=name)
