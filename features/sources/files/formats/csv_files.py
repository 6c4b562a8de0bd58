"""CSV files of any common dialect, prepared for DuckDB: UTF-8, one header line, whole records.

Plain files are read directly. Files with another encoding, other line ends, an unclosed quote or
overlong lines are first rewritten as a clean copy; lines that fit no record are kept with their
line number.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from configs.runtime.errors import SourceError
from features.sources.files.staged import Reject

DELIMITERS = (",", ";", "\t", "|")
HEAD_BYTES = 1_000_000
BLOCK = 1 << 24
MAX_LINE = 2_000_000
"""Maximum number of characters of a line, or of a record over several lines."""
MAX_RECORD_LINES = 2_000
SHOWN = 10_000
"""Characters kept of a rejected line."""
SHAPES_KEPT = 200

_SPREADSHEET = "PK\x03\x04"
_GZIP = b"\x1f\x8b"
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
         (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))  # fmt: skip
_NAMES = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32": "UTF-32",
          "cp1252": "Windows-1252 (Latin-1)", "latin-1": "Latin-1"}  # fmt: skip
_SPECIAL, _UNDEFINED = re.compile(r"[^\x00-\x7f]"), re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
MOSTLY_UTF8 = 0.5
"""Share of broken characters up to which a file still counts as UTF-8."""
_DATED = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}.*")
_COUNTED = re.compile(r"[-+]?\d+([.,]\d+)*")


@dataclass(frozen=True)
class Scan:
    """Encoding, size and quoting of a file.

    Attributes
    ----------
    encoding : str
        Python name of the encoding.
    lines : int
        Lines that are not empty.
    longest : int
        Bytes of the longest line.
    has_quotes : bool
        The file has double quotes.
    is_plain : bool
        UTF-8 with Unix or Windows line ends.
    broken : int
        Invalid characters of a UTF-8 file; they are replaced.
    """

    encoding: str
    lines: int
    longest: int
    has_quotes: bool
    is_plain: bool
    broken: int = 0

    @property
    def note(self) -> str:
        """Note on the encoding; empty for UTF-8."""
        if self.broken:
            return f"UTF-8 with {self.broken:,} broken characters, replaced by \ufffd"
        name = _NAMES.get(self.encoding)
        return f"not UTF-8: read as {name}" if name else ""


@dataclass(frozen=True)
class Head:
    """The header of a CSV file.

    Attributes
    ----------
    delimiter : str
        Separator of the cells.
    columns : tuple of str
        Column names.
    skipped : int
        Lines before the header, such as ``sep=;``.
    lines : int
        Lines of the header.
    """

    delimiter: str
    columns: tuple[str, ...]
    skipped: int = 0
    lines: int = 1

    @property
    def is_plain(self) -> bool:
        """The first line is the complete header."""
        return self.skipped == 0 and self.lines == 1


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressed where its name ends in ``.gz``.

    Raises
    ------
    SourceError
        The file is not compressed as its name says, or is truncated.
    """
    is_compressed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if is_compressed else path.open("rb") as handle:
            yield handle  # type: ignore[misc]  # both read bytes
    except EOFError as error:
        raise SourceError(
            "the gzip file is truncated",
            where=str(path),
            fix="copy or export it again; `gzip -t FILE` tests it",
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP
        raise SourceError(
            "the gzip file is damaged" if is_gzip else "the file is not compressed with gzip",
            where=str(path),
            fix="copy or export it again; `gzip -t FILE` tests it"
            if is_gzip
            else f"correct its name, for example {path.with_suffix('').name}",
        ) from error


def scan(path: Path) -> Scan:
    """Read a file once and return its encoding, size and quoting.

    Raises
    ------
    SourceError
        The file is not text, or cannot be decompressed.
    """
    with opened(path) as handle:
        head = handle.read(HEAD_BYTES)
    encoding = _encoding(path, head)
    if encoding not in ("utf-8", "utf-8-sig") or (b"\n" not in head and b"\r" in head):
        return Scan(encoding, 0, 0, True, False)
    return _scan_lines(path, encoding)


def _encoding(path: Path, head: bytes) -> str:
    """Return the encoding found in the first bytes; UTF-8 by default."""
    found = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    if found is not None:
        return found
    is_workbook, is_compressed = head.startswith(_SPREADSHEET.encode("latin-1")), head[:2] == _GZIP
    if is_workbook or is_compressed:
        raise SourceError(
            f"{path.name} is {'a workbook or ZIP file' if is_workbook else 'compressed with gzip'}",
            where=str(path),
            fix="correct its name to end in .xlsx (a workbook) or .zip, or save it as UTF-8 CSV "
            "with one header line"
            if is_workbook
            else f"name it {path.name}.gz",
        )
    if b"\0" not in head:
        return "utf-8"
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if zeros.count(0) > 0.7 * len(zeros) and len(head) > 3:
            return name
    raise SourceError(
        f"{path.name} is not a text file: it has NUL bytes",
        where=str(path),
        fix="save it as UTF-8 CSV with one header line, or as Parquet; to remove "
        "a few such bytes:  tr -d '\\000' < OLD > NEW",
    )


def _scan_lines(path: Path, encoding: str) -> Scan:
    lines = longest = quotes = lone = broken = special = 0
    is_1252 = True
    with opened(path) as handle:
        while block := handle.readlines(BLOCK):
            lines += len(block) - block.count(b"\n") - block.count(b"\r\n")
            longest = max(longest, max(map(len, block)))
            joined = b"".join(block)
            quotes += joined.count(b'"')
            lone += joined.count(b"\r") - joined.count(b"\r\n")
            if not _is_utf8(joined):
                text = joined.decode("utf-8", errors="replace")
                broken += text.count("\ufffd")
                special += len(_SPECIAL.findall(text))
                is_1252 = is_1252 and not _UNDEFINED.search(joined)
    if broken > MOSTLY_UTF8 * special:
        return Scan("cp1252" if is_1252 else "latin-1", 0, longest, quotes > 0, False)
    return Scan(encoding, lines, longest, quotes > 0, lone == 0 and not broken, broken)


def _is_utf8(block: bytes) -> bool:
    """Whether a block of whole lines is UTF-8."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def csv_head(path: Path, encoding: str | None = None) -> Head:
    """Return the delimiter and the column names of a CSV file.

    Raises
    ------
    SourceError
        The file is empty, has no header, or names a column twice.
    """
    with opened(path) as handle:
        raw = handle.read(HEAD_BYTES)
    used = encoding or ("cp1252" if not _is_utf8_head(raw) else _encoding(path, raw))
    text = raw.decode("utf-8-sig" if used == "utf-8" else used, errors="replace")
    if not text.strip():
        raise SourceError(
            "the file is empty: it has no header",
            where=str(path),
            fix="export it again; a table without rows needs a header, or is left out of `inputs`",
        )
    return _head_of(text, str(path))


def _is_utf8_head(raw: bytes) -> bool:
    is_bom = any(raw.startswith(bom) for bom, _ in _BOMS)
    return is_bom or b"\0" in raw or _is_utf8(raw[: raw.rfind(b"\n") + 1] or raw)


def _head_of(text: str, place: str) -> Head:
    lines = io.StringIO(text, newline=None)
    first, skipped = lines.readline(), 0
    while not first.strip():
        first, skipped = lines.readline(), skipped + 1
    declared = first.strip().removeprefix("sep=")
    if declared != first.strip() and (declared in DELIMITERS or not declared):
        first, skipped, delimiter = lines.readline(), skipped + 1, declared or "\t"
    else:
        delimiter = max(DELIMITERS, key=first.count)
    records = csv.reader(_from(first, lines), delimiter=delimiter)
    names = [name.strip() for name in next(records)]
    n_lines = records.line_num
    header = tuple(name or f"column_{number}" for number, name in enumerate(names, start=1))
    check_header(header, next(records, []), place)
    return Head(delimiter, header, skipped, n_lines)


def _from(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def check_header(header: tuple[str, ...], second: list[str], place: str) -> None:
    """Refuse a first line of values, and repeated column names."""
    kinds, below = ([_kind(cell) for cell in line] for line in (header, second))
    # Numbers and years are valid column names.
    counts = {str(number) for number in (*range(len(header) + 1), *range(1990, 2100))}
    is_counted = all(name in counts for name, kind in zip(header, kinds, strict=True) if kind)
    if any(kinds) and kinds == below and not is_counted:
        raise SourceError(
            f"the first line is not a header but values: {', '.join(header[:6])}",
            where=place,
            fix="add a header line with the column names",
        )
    lower = [name.lower() for name in header]
    twice = sorted({name for name in header if lower.count(name.lower()) > 1})
    if twice:
        raise SourceError(
            f"the header repeats column names: {', '.join(twice)}",
            where=place,
            fix="rename the columns; if the first line has values, add a header line with the "
            "column names",
        )


def _kind(cell: str) -> str:
    text = cell.strip()
    return "date" if _DATED.fullmatch(text) else "number" if _COUNTED.fullmatch(text) else ""


class Cleaner:
    """Writes the records of a file as a clean copy, and keeps the lines that fit none.

    Parameters
    ----------
    head : Head
        The header.
    delimiter : str
        Separator of the cells of the copy.

    Attributes
    ----------
    lines, records, record_lines : int
        Non-empty lines below the header; records written, and the lines they span.
    rejects : list of Reject
        Lines that fit no record.
    """

    def __init__(self, head: Head, delimiter: str) -> None:
        self.head, self.delimiter = head, delimiter
        self.lines = self.records = self.record_lines = 0
        self.rejects: list[Reject] = []
        self._pushed_back: deque[tuple[int, str]] = deque()
        self._shapes: set[str] = set()

    def write(self, path: Path, encoding: str, copy: Path) -> None:
        """Write the copy: UTF-8, with one header line.

        Raises
        ------
        SourceError
            The file ends inside a character.
        """
        try:
            self._write(path, encoding, copy)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"the file is not valid {_NAMES.get(encoding, encoding)}: {error}",
                where=str(path),
                fix=f"export it again as UTF-8, or try: iconv -f {encoding} -t utf-8 -c OLD > NEW",
            ) from error

    def _write(self, path: Path, encoding: str, copy: Path) -> None:
        errors = "replace" if encoding.startswith("utf-8") else "strict"
        with (
            opened(path) as raw,
            io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=None) as handle,
            copy.open("w", encoding="utf-8", newline="") as out,
        ):
            writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
            writer.writerow(self.head.columns)
            source = enumerate(handle, start=1)
            for _ in range(self.head.skipped + self.head.lines):
                next(source, None)
            while (item := self._next(source)) is not None:
                self._take(*item, source, writer)

    def _next(self, source: Iterator[tuple[int, str]]) -> tuple[int, str] | None:
        """Return the next line that is not empty."""
        if self._pushed_back:
            return self._pushed_back.popleft()
        for number, line in source:
            if line.strip():
                self.lines += 1
                return number, line.rstrip("\n")
        return None

    def _take(self, number: int, line: str, source: Iterator[tuple[int, str]], writer: Any) -> None:
        if len(line) > MAX_LINE:
            why = f"a line of {len(line):,} characters; up to {MAX_LINE:,} are read"
            self.rejects.append(Reject(number, line[:SHOWN], why))
            return
        cells, is_open = self._cells(line)
        if is_open:
            self._take_open(number, line, source, writer)
        elif cells is None or len(cells) != len(self.head.columns):
            found = "text after a closing quote" if cells is None else f"{len(cells)} cells"
            why = f"{len(self.head.columns)} cells are expected, found {found}"
            self.rejects.append(Reject(number, line[:SHOWN], why))
        else:
            self._keep(cells, 1, writer)

    def _cells(self, text: str) -> tuple[list[str] | None, bool]:
        """Return the cells of a record or None, and whether a quote is open."""
        if '"' not in text:
            return text.split(self.head.delimiter), False
        lines = text.split("\n")
        try:
            with_ends = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
            reader = csv.reader(with_ends, delimiter=self.head.delimiter, strict=True)
            cells = next(reader)
        except csv.Error as error:
            return None, "unexpected end" in str(error)
        return (cells if reader.line_num == len(lines) else None), False

    def _take_open(
        self, number: int, line: str, source: Iterator[tuple[int, str]], writer: Any
    ) -> None:
        """Take the lines up to the closing quote as one record, or only the first one as broken."""
        more: list[tuple[int, str]] = []
        size = len(line)
        while len(more) < MAX_RECORD_LINES and (item := self._next(source)) is not None:
            more.append(item)
            size += len(item[1])
            if size > MAX_LINE:
                break
            if '"' not in item[1]:
                continue
            text = "\n".join([line, *(following for _, following in more)])
            cells, is_open = self._cells(text)
            if is_open:
                continue
            if cells and len(cells) == len(self.head.columns) and not self._encloses_records(more):
                self._keep(cells, 1 + len(more), writer)
                return
            break
        self._pushed_back.extendleft(reversed(more))
        self.rejects.append(Reject(number, line[:SHOWN], "a quote is opened and not closed"))

    def _encloses_records(self, more: list[tuple[int, str]]) -> bool:
        """Whether an open quote encloses lines that are records of their own."""
        n = len(self.head.columns) - 1
        alike = [
            line.count(self.head.delimiter) == n
            and _shape(line.split(self.head.delimiter, 1)[0]) in self._shapes
            for _, line in more
        ]
        return n > 0 and sum(alike) * 2 >= len(alike)

    def _keep(self, cells: list[str], n_lines: int, writer: Any) -> None:
        if len(self._shapes) < SHAPES_KEPT:
            self._shapes.add(_shape(cells[0]))
        writer.writerow(cells)
        self.records += 1
        self.record_lines += n_lines


def _shape(text: str) -> str:
    """Return the shape of a cell: letters as a, digits as 9, runs as one character.

    >>> _shape("ACME-0042"), _shape("dear all")
    ('a-9', 'a a')
    """
    plain = re.sub(r"[^\W\d_]+", "a", text.strip().strip('"'))
    return re.sub(r"\d+", "9", plain)
