"""Excel workbooks: the rows of one sheet with the types of their cells.

Dates arrive as dates and numbers as numbers; a text such as 0042 stays text. Rows above the header,
such as a title, are found and noted, as are merged and hidden cells.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from itertools import chain
from pathlib import Path, PurePosixPath

import python_calamine as calamine

from configs.runtime.errors import SourceError, did_you_mean
from features.sources.files.formats.csv_files import check_header
from features.sources.files.formats.typed_rows import TypedRows, as_text

ENDINGS = (".xlsx", ".xlsm")
OTHER_ENDINGS = (".xls", ".xlsb", ".ods", ".numbers")
"""Workbooks of other formats, which are refused with advice."""

SAMPLE = 50
"""Rows among which the header is looked for."""
SAME_WIDTH = 0.6
"""Share of the usual number of cells that a header has at least."""
_ENCRYPTED = b"\xd0\xcf\x11\xe0"

Row = Sequence[object]
"""Cells of a row; an empty cell is an empty text."""


@dataclass(frozen=True)
class Sheet:
    """One sheet with its header found.

    Attributes
    ----------
    name : str
        Its name.
    columns : tuple of str
        Column names; a column without a name is ``column_N``.
    unnamed : frozenset of str
        Columns whose name was missing.
    rows : iterator of rows
        Rows below the header that are not empty, None for empty cells.
    notes : tuple of str
        Notes on the sheet.
    """

    name: str
    columns: tuple[str, ...]
    unnamed: frozenset[str]
    rows: Iterator[Row]
    notes: tuple[str, ...]


def refuse_other_workbook(path: Path) -> None:
    """Raise for a workbook of a format that is not read."""
    if path.name.lower().endswith(OTHER_ENDINGS):
        raise SourceError(
            f"{path.name}: {path.suffix} workbooks are not read",
            where=str(path),
            fix="open it and save it as .xlsx (Excel workbook) or as CSV UTF-8",
        )


def open_sheet(path: Path, sheet: str | None) -> Sheet:
    """Open a sheet of a workbook and find its header.

    Parameters
    ----------
    path : Path
        The workbook.
    sheet : str or None
        Name of the sheet; None for the first visible one with a header and rows. One with several
        columns is preferred to one with a single column, such as a page of notes.

    Raises
    ------
    SourceError
        The workbook is damaged or encrypted, or has no such sheet or header.
    """
    book = _open_book(path)
    try:
        names = [
            item.name
            for item in book.sheets_metadata
            if item.typ == calamine.SheetTypeEnum.WorkSheet
            and (sheet is not None or item.visible == calamine.SheetVisibleEnum.Visible)
        ]
        found = _choose(book, names, sheet, path)
        others = [item for item in book.sheet_names if item != found.name]
        notes = [f"sheet {found.name!r} is read"]
        if others and sheet is None:
            notes = [
                f"sheet {found.name!r} is read, not: {', '.join(others)} (choose with `sheet`)"
            ]
        marks = [*_merged_note(book, found.name), *_cell_notes(path, found.name)]
    except calamine.CalamineError as error:
        raise _damaged(path, error) from error
    return Sheet(
        found.name, found.columns, found.unnamed, found.rows, (*notes, *found.notes, *marks)
    )


def add_sheet(sheet: Sheet, partitions: dict[str, str | None], rows: TypedRows) -> None:
    """Add the rows of a sheet, with the partition columns of its file."""
    rows.droppable |= sheet.unnamed
    extra = tuple(partitions.values())
    rows.add_rows((*sheet.columns, *partitions), ((*row, *extra) for row in sheet.rows))


def _open_book(path: Path) -> calamine.CalamineWorkbook:
    with path.open("rb") as handle:
        if handle.read(4) == _ENCRYPTED:
            raise SourceError(
                f"{path.name} is protected by a password, or is a workbook of before 2007",
                where=str(path),
                fix="open it, remove the password and save it as .xlsx (Excel workbook)",
            )
    try:
        return calamine.load_workbook(str(path))
    except calamine.CalamineError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path.name} is not a readable workbook, or is truncated: {error}",
        where=str(path),
        fix="copy or export it again; if it opens in Excel, save it there as .xlsx or as CSV UTF-8",
    )


def _choose(
    book: calamine.CalamineWorkbook, names: list[str], wanted: str | None, path: Path
) -> Sheet:
    if wanted is not None:
        if wanted not in names:
            hint = did_you_mean(wanted, names) or f"it has: {', '.join(names)}"
            raise SourceError(
                f"{path.name} has no sheet {wanted!r}; {hint}",
                where=str(path),
                fix="correct `sheet` of the input in company.yaml",
            )
        found = _sheet(book, wanted, path)
        if found is None:
            raise SourceError(
                f"the sheet {wanted!r} of {path.name} is empty",
                where=str(path),
                fix="choose another `sheet`, or export it again",
            )
        return found
    first: Sheet | None = None
    problem: SourceError | None = None
    for name in names:
        try:
            found = _sheet(book, name, path, with_rows=True)
        except SourceError as error:  # a page of notes or figures; another sheet may have a table
            problem = problem or error
            continue
        if found is not None and len(found.columns) > 1:
            return found
        first = first or found
    if first is not None:
        return first
    raise problem or SourceError(
        f"{path.name} has no visible sheet with a header and rows",
        where=str(path),
        fix="write the column names in the first row; a hidden sheet is read with `sheet: NAME`",
    )


def _sheet(
    book: calamine.CalamineWorkbook, name: str, path: Path, *, with_rows: bool = False
) -> Sheet | None:
    """Return a sheet, None for one that is empty."""
    rows = (row for row in book.get_sheet_by_name(name).iter_rows() if _width(row))
    sample = [row for _, row in zip(range(SAMPLE), rows, strict=False)]
    if len(sample) < (2 if with_rows else 1):
        return None
    at = _header_at(sample)
    if at is None:
        raise SourceError(
            f"no header was found in sheet {name!r} of {path.name}; its first row is: "
            f"{_shown(sample[0])}",
            where=str(path),
            fix="write one row of column names above the rows, or choose another `sheet`",
        )
    header, below = sample[at], sample[at + 1 :]
    if with_rows and not below:
        return None
    given = [(as_text(cell) or "").strip() for cell in header]
    columns = tuple(text or f"column_{n}" for n, text in enumerate(given, start=1))
    unnamed = frozenset(c for c, text in zip(columns, given, strict=True) if not text)
    second = [as_text(cell) or "" for cell in (below[0] if below else ())]
    check_header(columns, second[: len(columns)], f"{path}, sheet {name!r}")
    notes = [f"{at} rows above the header are left out: {_shown(sample[0])}"] if at else []
    return Sheet(name, columns, unnamed, map(_without_empty, chain(below, rows)), tuple(notes))


def _width(row: Row) -> int:
    return len(row) - row.count("")


def _without_empty(row: Row) -> Row:
    return [None if cell == "" else cell for cell in row]


def _header_at(sample: Sequence[Row]) -> int | None:
    """Return the position of the header: the first row of names that is about as wide as the rest.

    None where the first row of that width has values.
    """
    widths = sorted(map(_width, sample))
    usual = widths[len(widths) // 2]
    for number, row in enumerate(sample):
        if _width(row) >= SAME_WIDTH * usual:
            return number if _is_header(row) else None
    return None


def _is_header(row: Row) -> bool:
    """Whether most cells are texts; years and numbers may be names of columns, too."""
    cells = [cell for cell in row if cell != ""]
    texts = sum(isinstance(cell, str) for cell in cells)
    numbers = sum(isinstance(cell, float) and cell.is_integer() for cell in cells)
    return texts + numbers == len(cells) and texts * 2 >= len(cells)


def _shown(row: Row) -> str:
    cells = [as_text(cell) or "" for cell in row if cell != ""]
    return ", ".join(cells[:6])[:120]


def _merged_note(book: calamine.CalamineWorkbook, name: str) -> Iterator[str]:
    ranges = book.get_sheet_by_name(name).merged_cell_ranges or []
    if ranges:
        yield (
            f"sheet {name!r} has {len(ranges)} merged ranges: only the first cell of each has the "
            "value, the others are read as empty"
        )


_ROW = re.compile(rb"<row [^>]*\bhidden=\"(?:1|true)\"")
_COLUMN = re.compile(rb"<col [^>]*\bhidden=\"(?:1|true)\"")
_NO_RESULT = re.compile(
    rb"<c (?![^>]*t=\"str\")[^>]*><f[^>]*(?:/>|>[^<]*</f>)(?:<v ?/>|<v></v>)?</c>"
)
_BLOCK = 1 << 24
_NAME = re.compile(r"<(?:\w+:)?sheet [^>]*>")
_TARGET = re.compile(r"<(?:\w+:)?Relationship [^>]*>")


def _cell_notes(path: Path, name: str) -> Iterator[str]:
    """Yield notes on hidden rows and columns, error cells and formulas without a saved result."""
    hidden_rows = hidden_columns = errors = empty = 0
    with suppress(KeyError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        part = _part_of(archive, name)
        for block in _rows_of(archive, part) if part else ():
            if b"hidden=" in block:
                hidden_rows += len(_ROW.findall(block))
                hidden_columns += len(_COLUMN.findall(block))
            errors += block.count(b't="e"')
            if b"<f" in block:
                empty += len(_NO_RESULT.findall(block))
    if hidden_rows or hidden_columns:
        yield (
            f"sheet {name!r} has hidden cells, which are read as well: {hidden_rows:,} rows, "
            f"{hidden_columns:,} groups of columns"
        )
    if errors:
        yield f"sheet {name!r} has {errors:,} cells with an error such as #N/A, read as empty"
    if empty:
        yield (
            f"sheet {name!r} has {empty:,} formulas without a saved result, read as empty: open "
            "the workbook in Excel and save it"
        )


def _part_of(archive: zipfile.ZipFile, name: str) -> str | None:
    """Return the path of a sheet inside the workbook."""
    book = archive.read("xl/workbook.xml").decode("utf-8", "replace")
    links = archive.read("xl/_rels/workbook.xml.rels").decode("utf-8", "replace")
    wanted = next(
        (_attribute(t, r"\w+:id") for t in _NAME.findall(book) if _attribute(t, "name") == name),
        None,
    )
    target = next(
        (_attribute(t, "Target") for t in _TARGET.findall(links) if _attribute(t, "Id") == wanted),
        None,
    )
    if target is None:
        return None
    return target.lstrip("/") if target.startswith("/") else str(PurePosixPath("xl") / target)


def _attribute(tag: str, name: str) -> str | None:
    found = re.search(rf"\s{name}=(?:\"([^\"]*)\"|'([^']*)')", tag)
    return unescape(found[1] or found[2] or "") if found else None


def _rows_of(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Yield the XML of a sheet in blocks that end between rows."""
    rest = b""
    with archive.open(part) as handle:
        while block := handle.read(_BLOCK):
            whole, mark, tail = (rest + block).rpartition(b"<row")
            if whole:
                yield whole
            rest = mark + tail
    yield rest
