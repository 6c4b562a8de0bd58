"""MkDocs hook: adds the architecture page, drawn from the packages and their imports."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGE = "reference/architecture.md"

LAYERS = ("serving", "training", "features", "configs")
"""Top-level packages; each imports only from itself and from those after it."""

ROW_HEIGHT, NAME_WIDTH, BULGE = 26, 130, 26
"""Of the drawings, in pixels; an arc reaches `BULGE` further right for each row it passes."""


@dataclass(frozen=True)
class Package:
    """One package or one module that lies directly in a layer.

    Attributes
    ----------
    name : str
        Dotted name, such as ``training.checks``.
    about : str
        First paragraph of its docstring.
    n_modules, n_lines : int
        Python modules inside, sub-packages included, and their lines.
    imports : dict of str to int
        Other packages it imports from, with the number of modules that do so.
    """

    name: str
    about: str
    n_modules: int
    n_lines: int
    imports: Mapping[str, int]

    @property
    def layer(self) -> str:
        """The top-level package."""
        return self.name.split(".")[0]

    @property
    def short(self) -> str:
        """The name inside the layer."""
        return self.name.partition(".")[2]


def _unit_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(tree: ast.Module) -> Iterator[str]:
    """Return the modules a module imports, wherever in the module the import is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_layer = node.module in LAYERS
            yield from (
                f"{node.module}.{alias.name}" if is_layer else node.module for alias in node.names
            )


@cache
def packages() -> dict[str, Package]:
    """Return every package of the code base by name, read from the source files."""
    members: dict[str, list[Path]] = {}
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            name = _module_name(path)
            if name not in LAYERS:
                members.setdefault(_unit_of(name), []).append(path)
    return {name: _package(name, paths, set(members)) for name, paths in members.items()}


def _package(name: str, paths: Sequence[Path], known: set[str]) -> Package:
    """Describe one package by its files; ``__init__.py``, which comes first, has the docstring."""
    sources = [path.read_text(encoding="utf-8") for path in paths]
    trees = [ast.parse(source) for source in sources]
    imports: Counter[str] = Counter()
    for tree in trees:
        imports.update({_unit_of(module) for module in _imported(tree)} & known - {name})
    return Package(
        name,
        _sentence(trees[0]),
        len(paths),
        sum(source.count("\n") for source in sources),
        dict(sorted(imports.items())),
    )


def rows(units: Mapping[str, Package]) -> list[str]:
    """Return the packages of a layer so that each is above all that it imports.

    An import cycle, which the import contracts forbid, would end in a RecursionError.
    """

    @cache
    def depth(name: str) -> int:
        return max((depth(other) + 1 for other in units[name].imports if other in units), default=0)

    return sorted(units, key=lambda name: (-depth(name), name))


def drawing(units: Mapping[str, Package]) -> str:
    """Return the packages of one layer as inline SVG: arcs lead down to what is imported."""
    order = rows(units)
    place = {name: (index + 0.5) * ROW_HEIGHT for index, name in enumerate(order)}
    arcs = [
        _arc(name, other, count, place[name], place[other])
        for name in order
        for other, count in units[name].imports.items()
        if other in units
    ]
    title = f"Imports between the packages of {units[order[0]].layer}"
    names = [_name(units[name], place[name]) for name in order]
    width = NAME_WIDTH + 20 + 0.75 * BULGE * max(len(order) - 1, 1)
    return (
        f'<svg class="packages" viewBox="0 0 {width:.0f} {len(order) * ROW_HEIGHT}" '
        f'style="max-width: {width:.0f}px" role="img" aria-label="{title}">'
        f"<title>{title}</title>{''.join(arcs)}{''.join(names)}</svg>"
    )


def _arc(name: str, other: str, count: int, start: float, end: float) -> str:
    x, bulge = NAME_WIDTH + 8, NAME_WIDTH + 8 + BULGE * (end - start) / ROW_HEIGHT
    top, bottom = start + 3, end - 3
    path = f"M{x} {top:.0f}C{bulge:.0f} {top:.0f} {bulge:.0f} {bottom:.0f} {x} {bottom:.0f}"
    head = f"M{x + 6} {bottom - 4:.0f}L{x} {bottom:.0f}L{x + 6} {bottom + 4:.0f}"
    title = f"{name} imports {other} in {modules_text(count)}"
    return (
        f'<g><title>{title}</title><path d="{path}" stroke-width="{1 + count**0.5 / 3:.1f}"/>'
        f'<path class="head" d="{head}"/></g>'
    )


def _name(unit: Package, middle: float) -> str:
    return (
        f'<a href="#{unit.name.replace(".", "-")}">'
        f'<text x="{NAME_WIDTH}" y="{middle + 4:.0f}">{escape(unit.short)}</text></a>'
    )


def modules_text(count: int) -> str:
    """Return a number of modules in words.

    >>> modules_text(1), modules_text(12)
    ('1 module', '12 modules')
    """
    return f"{count} module{'' if count == 1 else 's'}"


def page() -> str:
    """Return the architecture page: layers, packages, sentences, arrows and counts."""
    found = packages()
    parts = [
        "# Architecture\n\nThis page is generated from the source files when the site is built: "
        "the sentence of a package is its docstring, and a number next to an imported package is "
        "the number of modules that import from it. In the drawings, an arc leads from a package "
        "down to one that it imports. Imports go down only, from serving to configs; "
        "`make check` enforces the order of layers and of the packages inside each layer.\n",
        _layers_table(found),
        "The import package `bellwether` on top of the four layers is the Python API and the "
        "command line.\n",
    ]
    for layer in LAYERS:
        units = {name: unit for name, unit in found.items() if unit.layer == layer}
        about = _sentence(ast.parse((ROOT / layer / "__init__.py").read_text(encoding="utf-8")))
        parts += [f"## {layer}\n\n{about}\n", drawing(units) + "\n", _table(units)]
    return "\n".join(parts)


def _sentence(tree: ast.Module) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def _layers_table(found: Mapping[str, Package]) -> str:
    lines = ["| layer | packages | modules | lines | imports from |", "|---|--:|--:|--:|---|"]
    for layer in LAYERS:
        units = [unit for unit in found.values() if unit.layer == layer]
        below: Counter[str] = Counter()
        for unit in units:
            for name, count in unit.imports.items():
                if (other := name.split(".")[0]) != layer:
                    below[other] += count
        names = ", ".join(f"{name} ({below[name]})" for name in LAYERS if below[name])
        modules, size = sum(it.n_modules for it in units), sum(it.n_lines for it in units)
        lines.append(
            f"| [{layer}](#{layer}) | {len(units)} | {modules} | {size:,} | {names or 'nothing'} |"
        )
    return "\n".join(lines) + "\n"


def _table(units: Mapping[str, Package]) -> str:
    lines = ["| package | modules | lines | purpose | imports from |", "|---|--:|--:|---|---|"]
    for name in rows(units):
        unit = units[name]
        anchor = f'<a id="{name.replace(".", "-")}"></a>`{unit.short}`'
        about = unit.about.replace("|", "\\|")
        below = " · ".join(filter(None, (_imports_text(unit, layer) for layer in LAYERS)))
        lines.append(f"| {anchor} | {unit.n_modules} | {unit.n_lines:,} | {about} | {below} |")
    return "\n".join(lines) + "\n"


def _imports_text(unit: Package, layer: str) -> str:
    """Return what a package imports from one layer, with counts; empty if nothing."""
    names = [
        f"[{other.removeprefix(layer + '.')}](#{other.replace('.', '-')}) ({count})"
        for other, count in unit.imports.items()
        if other.startswith(layer + ".")
    ]
    return f"{layer}: {', '.join(names)}" if names else ""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the architecture page to the site."""
    files.append(File.generated(config, PAGE, content=page()))
    return files
