"""MkDocs hook: adds the page of the Python API, from the docstrings of `bellwether`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import bellwether

PAGE = "reference/python.md"

HEADING = re.compile(r"^([A-Z][a-z ]+)\n-{3,}$", re.MULTILINE)
"""A section of a numpy docstring: its title, underlined."""


def page() -> str:
    """Return the public functions, and the public classes with their methods and properties."""
    exported = {name: getattr(bellwether, name) for name in bellwether.__all__}
    functions = {name: item for name, item in exported.items() if inspect.isfunction(item)}
    classes = {name: item for name, item in exported.items() if inspect.isclass(item)}
    parts = ["# Python API\n", markdown(inspect.getdoc(bellwether) or "")]
    parts += [_described(f"bellwether.{name}", item, 2) for name, item in functions.items()]
    for name, item in sorted(classes.items(), key=lambda it: (it[0] != "Company", it[0])):
        parts.append(f"## `{name}`\n\n{markdown(inspect.getdoc(item) or '')}")
        parts += [_described(f"{name}.{member}", value, 3) for member, value in members(item)]
    return "\n".join(parts)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Return the public methods and properties that a class declares, in order."""
    for name, value in vars(kind).items():
        is_described = isinstance(value, property | cached_property) or inspect.isfunction(value)
        if is_described and not name.startswith("_"):
            yield name, value


def _described(name: str, item: Any, level: int) -> str:
    signature = f"{name}{_signature(item)}" if inspect.isfunction(item) else ""
    shown = f"```python\n{signature}\n```\n\n" if signature else ""
    return f"{'#' * level} `{name}`\n\n{shown}{markdown(inspect.getdoc(item) or '')}"


def _signature(function: Any) -> str:
    """Return the parameters and the result of a function, one parameter a line where many."""
    found = inspect.signature(function)
    shown, is_named_only = [], False
    for name, item in found.parameters.items():
        if item.kind is item.KEYWORD_ONLY and not is_named_only:
            shown.append("*")
            is_named_only = True
        if name != "self":
            default = "" if item.default is item.empty else f" = {item.default!r}"
            shown.append(f"{name}: {item.annotation}{default}")
    result = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    line = f"({', '.join(shown)}){result}"
    return line if len(line) < 80 else "(\n    " + ",\n    ".join(shown) + f",\n){result}"


def markdown(docstring: str) -> str:
    r"""Return a numpy docstring as Markdown: sections in bold, parameters as a list.

    >>> print(markdown("Add.\n\nParameters\n----------\na : int\n    A number, of days."))
    Add.
    <BLANKLINE>
    **Parameters**
    <BLANKLINE>
    - `a : int`: A number, of days.
    <BLANKLINE>
    """
    head, *sections = HEADING.split(docstring)
    text = _prose(head)
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        listed = _prose(body) if title in ("Examples", "Notes") else _listed(body)
        text += f"\n**{title}**\n\n{listed}"
    return text


def _prose(text: str) -> str:
    """Return text with its examples as code blocks and double backticks as single ones."""
    blocks = [block for block in text.strip().split("\n\n") if block]
    shown = [
        f"```pycon\n{block}\n```" if block.startswith(">>>") else block.replace("``", "`")
        for block in blocks
    ]
    return "\n\n".join(shown) + "\n"


def _listed(body: str) -> str:
    """Return the entries of a section as a list; what is indented below an entry explains it."""
    entries: list[tuple[str, list[str]]] = []
    for line in body.strip("\n").splitlines():
        if line and not line.startswith(" "):
            entries.append((line, []))
        elif entries and line.strip():
            entries[-1][1].append(line.strip().replace("``", "`"))
    return "".join(f"- `{name}`: {' '.join(about)}\n" for name, about in entries)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the page of the Python API to the site."""
    files.append(File.generated(config, PAGE, content=page()))
    return files
