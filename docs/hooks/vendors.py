"""MkDocs hook: fills the page of recognised exports from the vendor starters."""

from __future__ import annotations

from collections.abc import Iterator

from mkdocs.structure.pages import Page

from configs.schema.starter import Starter, StarterFile, load_starters

PAGE = "guides/vendors.md"
MARK = "<!-- vendors -->"


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Put the sections of all tools in place of the mark."""
    if page.file.src_uri != PAGE:
        return markdown
    return markdown.replace(MARK, sections())


def sections() -> str:
    """Return one section per tool: its exports, the tables they fill, and their traps."""
    return "\n".join(
        _section(item) for item in sorted(load_starters(), key=lambda item: item.vendor.lower())
    )


def _section(starter: Starter) -> str:
    rows = "".join(_row(entry) for entry in starter.files)
    links = ", ".join(f"[{number}]({link})" for number, link in enumerate(starter.source, start=1))
    return (
        f"### {starter.vendor}\n\n"
        f"| export | source table | notes |\n| --- | --- | --- |\n{rows}\n"
        f"Documentation of the column names: {links}.\n"
    )


def _row(entry: StarterFile) -> str:
    table = f"[{entry.table}](../reference/source-tables.md#{entry.table})"
    cells = (_text(entry.about), table, ". ".join(_notes(entry)))
    return f"| {' | '.join(cells)} |\n"


def _notes(entry: StarterFile) -> Iterator[str]:
    yield from (_text(note[:1].upper() + note[1:]) for note in entry.notes)


def _text(text: str) -> str:
    r"""Return a text for a cell of a table.

    >>> print(_text("a_b | <c>"))
    a\_b \| &lt;c>
    """
    marks = str.maketrans({"_": r"\_", "|": r"\|", "<": "&lt;", "*": r"\*"})
    return text.translate(marks)
