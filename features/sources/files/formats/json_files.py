"""JSON files: one object per line, an array of objects, or objects in sequence.

Nested objects become columns ``a.b``; arrays, and objects with very many different keys, are kept
as JSON text. A line that is no JSON object is set aside with its line number; an error inside an
array is reported, because the rest of the file cannot be read reliably.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import IO, Any

from configs.runtime.errors import SourceError
from features.sources.files.formats.csv_files import SHOWN, opened
from features.sources.files.formats.typed_rows import CHUNK, TypedRows
from features.sources.files.staged import Reject

LINE_ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
ENDINGS = (*LINE_ENDINGS, ".json", ".json.gz")

MAX_DEPTH = 5
"""Levels of nested objects that become columns; deeper ones are kept as JSON text."""
MAX_COLUMNS = 1_000
MAX_VALUE = 64 * 2**20
"""Maximum number of characters of one record."""
BLOCK = 2**20
NO_NAME = "(no name)"
_NESTED = frozenset({dict, list})
_AFTER = frozenset(" \t\r\n,]")
"""Characters that end a number."""

Record = dict[str, Any]
"""One parsed object: its keys are data."""


class _RepeatedKeyError(ValueError):
    """A key occurs twice in one object."""


class _TooWideError(Exception):
    """The objects below a key have too many different keys."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _object(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _RepeatedKeyError(f"the key {counts.most_common(1)[0][0]!r} occurs twice")
    return found


_DECODER = JSONDecoder(object_pairs_hook=_object)


@dataclass
class JsonReading:
    """Result of reading JSON files.

    Attributes
    ----------
    rows : TypedRows
        The records.
    lines : int
        Lines that are not empty, or elements.
    rejects : list of Reject
        Lines and elements that are no object.
    as_text : set of str
        Keys whose objects are kept as JSON text, because they have too many different keys.
    """

    rows: TypedRows
    lines: int = 0
    rejects: list[Reject] = field(default_factory=list)
    as_text: set[str] = field(default_factory=set)


def read_json_files(
    files: Sequence[Path], partitions: Sequence[dict[str, str | None]], folder: Path
) -> JsonReading:
    """Read JSON files into typed rows.

    Parameters
    ----------
    files : sequence of Path
        The files; keys that a file lacks are empty in its rows.
    partitions : sequence of dict
        Partition columns of each file.
    folder : Path
        Folder for the chunks.

    Raises
    ------
    SourceError
        A file is damaged or truncated, has no record, or has two columns of the same name.
    """
    as_text: set[str] = set()
    for attempt in range(MAX_COLUMNS):
        place = folder / str(attempt)
        place.mkdir()
        reading = JsonReading(TypedRows(place), as_text=as_text)
        try:
            for path, own in zip(files, partitions, strict=True):
                _read_file(path, own, reading)
        except _TooWideError as error:
            as_text.add(error.key)
            continue
        _check_columns(reading, files)
        return reading
    raise AssertionError("every pass keeps one more key as text")


def _read_file(path: Path, partitions: dict[str, str | None], reading: JsonReading) -> None:
    chunk: list[Record] = []
    for number, item in _values(path):
        reading.lines += 1
        if isinstance(item, Reject):
            reading.rejects.append(item)
            continue
        try:
            flat = _flat(item, reading.as_text)
        except _RepeatedKeyError as error:
            reading.rejects.append(Reject(number, _shown(item), str(error)))
            continue
        chunk.append(flat)
        if len(chunk) == CHUNK:
            _add(chunk, partitions, reading, path)
            chunk = []
    if chunk:
        _add(chunk, partitions, reading, path)


def _add(
    chunk: list[Record], partitions: dict[str, str | None], reading: JsonReading, path: Path
) -> None:
    names = dict.fromkeys(name for record in chunk for name in record)
    wide = [*dict.fromkeys([*reading.rows.kinds, *names])]
    if len(wide) > MAX_COLUMNS:
        raise _too_wide(wide, path)
    columns: dict[str, Sequence[object]] = {
        name: [record.get(name) for record in chunk] for name in names
    }
    reading.rows.add(columns | {k: [v] * len(chunk) for k, v in partitions.items()}, len(chunk))


def _too_wide(names: list[str], path: Path) -> Exception:
    """Return the signal to keep the widest key as text, or an error if no key is nested."""
    parents = Counter(name.rpartition(".")[0] for name in names if "." in name)
    (key, count), *_ = parents.most_common(1) or [("", 0)]
    if count > MAX_COLUMNS // 10:
        return _TooWideError(key)
    return SourceError(
        f"{path.name} has more than {MAX_COLUMNS:,} different keys",
        where=str(path),
        fix="export records of one shape, with values that vary below one key",
    )


def _check_columns(reading: JsonReading, files: Sequence[Path]) -> None:
    names = list(reading.rows.kinds)
    if not names:
        raise SourceError(
            f"{files[0].name} has no records",
            where=str(files[0]),
            fix="export it again; a table without rows is left out of `inputs`",
        )
    # `a` is empty where it is null or {} in some records, and an object in others.
    parents = {name[:at] for name in names for at in _dots(name)}
    reading.rows.droppable |= parents & set(names)
    lower = Counter(name.lower() for name in names)
    twice = [name for name in names if lower[name.lower()] > 1]
    if twice:
        raise SourceError(
            f"keys differ only in upper and lower case: {', '.join(twice)}",
            where=str(files[0]),
            fix="write each key in one way",
        )


def _dots(name: str) -> Iterator[int]:
    return (match.start() for match in re.finditer(r"\.", name))


def _flat(record: Record, as_text: set[str]) -> Record:
    """Return a record with nested objects as ``a.b``."""
    if _NESTED.isdisjoint(map(type, record.values())) and "" not in record:
        return record
    flat: Record = {}
    _flatten(record, "", 1, as_text, flat)
    return flat


def _flatten(record: Record, prefix: str, depth: int, as_text: set[str], flat: Record) -> None:
    for key, value in record.items():
        name = prefix + (key or NO_NAME)
        if type(value) is dict and value and depth < MAX_DEPTH and name not in as_text:
            _flatten(value, f"{name}.", depth + 1, as_text, flat)
            continue
        if name in flat:
            raise _RepeatedKeyError(f"the key {name!r} occurs twice")
        if type(value) is dict or type(value) is list:
            flat[name] = _text(value) if value or type(value) is list else None
        else:
            flat[name] = value


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _shown(value: object) -> str:
    return _text(value)[:SHOWN]


def _values(path: Path) -> Iterator[tuple[int, Record | Reject]]:
    """Yield number and content of every line or element."""
    with opened(path) as handle:
        head = handle.read(BLOCK)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
            raise SourceError(
                f"{path.name} is not UTF-8, which JSON has to be",
                where=str(path),
                fix="export it again as UTF-8, or try: iconv -f utf-16 -t utf-8 OLD > NEW",
            )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise SourceError("the file is empty", where=str(path), fix="export it again")
    with opened(path) as handle:
        if start.startswith(b"["):
            yield from _Elements(path, handle).array()
        elif path.name.lower().endswith(LINE_ENDINGS) or _is_lines(start):
            yield from _lines(path, handle)
        else:
            yield from _Elements(path, handle).sequence()


def _is_lines(start: bytes) -> bool:
    """Whether the first line is a complete value and others follow."""
    line, _, rest = start.partition(b"\n")
    try:
        json.loads(line)
    except (JSONDecodeError, UnicodeDecodeError):
        return False
    return bool(rest.strip())


def _lines(path: Path, handle: IO[bytes]) -> Iterator[tuple[int, Record | Reject]]:
    number = 0
    while raw := handle.readline(MAX_VALUE):
        number += 1
        if not raw.strip():
            continue
        if len(raw) == MAX_VALUE and not raw.endswith(b"\n"):
            while (rest := handle.readline(MAX_VALUE)) and not rest.endswith(b"\n"):
                pass
            yield number, _reject(number, raw, f"a line of more than {MAX_VALUE:,} bytes")
            continue
        yield number, _line(path, number, raw)


def _line(path: Path, number: int, raw: bytes) -> Record | Reject:
    try:
        value = _DECODER.decode(raw.decode("utf-8-sig" if number == 1 else "utf-8").strip())
    except UnicodeDecodeError as error:
        return _reject(number, raw, f"not UTF-8: {error.reason}")
    except _RepeatedKeyError as error:
        return _reject(number, raw, str(error))
    except (JSONDecodeError, RecursionError) as error:
        if not raw.endswith(b"\n"):
            raise SourceError(
                f"{path.name} is truncated: line {number:,} is the last one, has no end, and is "
                "no complete JSON value",
                where=str(path),
                fix="export it again; if the line is complete, end it with a line break to set it "
                "aside",
            ) from error
        return _reject(number, raw, f"not JSON: {error}")
    return value if isinstance(value, dict) else _reject(number, raw, "not a JSON object")


def _reject(number: int, raw: bytes, why: str) -> Reject:
    return Reject(number, raw[:SHOWN].decode("utf-8", "replace").rstrip("\r\n"), why)


class _Elements:
    """Decodes an array, or objects in sequence, without reading the whole file at once."""

    _BETWEEN = re.compile(r"[\s]*")

    def __init__(self, path: Path, handle: IO[bytes]) -> None:
        self.path = path
        self._handle = handle
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._buffer, self._at, self._number, self._is_end = "", 0, 0, False

    def array(self) -> Iterator[tuple[int, Record | Reject]]:
        """Yield the elements of an array that is the whole file."""
        self._skip()
        self._at += 1
        if self._skip() == "]":
            self._at += 1
        else:
            yield from self._elements_of_array()
        if self._skip():
            raise self._error("has content after the end of its array")

    def _elements_of_array(self) -> Iterator[tuple[int, Record | Reject]]:
        mark = ","
        while mark == ",":
            yield self._next()
            mark = self._skip()
            self._at += 1
        if mark != "]":
            raise self._error("is damaged, a comma is missing" if mark else "is truncated")

    def sequence(self) -> Iterator[tuple[int, Record | Reject]]:
        """Yield values in sequence; a single object around a list is refused."""
        items = 0
        while self._skip():
            number, item = self._next()
            items += 1
            if items == 1 and isinstance(item, dict) and not self._skip():
                self._check_is_record(item)
            yield number, item

    def _check_is_record(self, item: Record) -> None:
        lists = [k for k, v in item.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if lists:
            raise SourceError(
                f"{self.path.name} is one object; its records seem to be in the list {lists[0]!r}",
                where=str(self.path),
                fix=f"extract them:  jq '.{lists[0]}' {self.path.name} > records.json",
            )

    def _skip(self) -> str:
        """Skip white space and return the next character, empty at the end of the file."""
        while True:
            self._at = self._BETWEEN.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer) or not self._read():
                return self._buffer[self._at : self._at + 1]

    def _read(self) -> bool:
        """Read the next block; return False at the end of the file."""
        # As much as is waiting already, so that a long value is not decoded too often.
        block = self._handle.read(max(BLOCK, len(self._buffer) - self._at))
        try:
            text = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise self._error(f"is not UTF-8: {error.reason}") from error
        self._buffer, self._at = self._buffer[self._at :] + text, 0
        self._is_end = not block
        return bool(block)

    def _next(self) -> tuple[int, Record | Reject]:
        self._skip()
        self._number += 1
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except _RepeatedKeyError as error:
                raise self._error(f"is ambiguous: {error}") from error
            except (JSONDecodeError, RecursionError) as error:
                if len(self._buffer) - self._at > MAX_VALUE or not self._read():
                    why = "is damaged or truncated" if self._is_end else "is damaged"
                    raise self._error(f"{why} ({str(error).split(':')[0]})") from error
                continue
            is_open = isinstance(value, int | float) and self._buffer[end : end + 1] not in _AFTER
            if is_open and self._read():
                continue  # a number may go on in the next block
            self._at = end
            if isinstance(value, dict):
                return self._number, value
            return self._number, Reject(self._number, _shown(value), "not a JSON object")

    def _error(self, why: str) -> SourceError:
        return SourceError(
            f"{self.path.name} {why}, after {max(0, self._number - 1):,} records",
            where=str(self.path),
            fix="export it again, if possible as JSON lines (one object per line, .jsonl), where a "
            "broken line costs only itself",
        )
