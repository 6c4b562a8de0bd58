"""Rows of Python values as typed Arrow batches, for formats whose cells carry their own types.

Workbooks, JSON files and database cursors yield Python values. They are written to disk in chunks,
each with the types found in it; when all are known, every column has one type: a number, a date, a
flag, or text where the values are mixed. No value is lost to a type guessed too early, and a table
larger than memory can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from features.sources.files.sql import ROW, ident

Kind = Literal["null", "flag", "whole", "large", "number", "day", "time", "instant", "text"]
"""Kinds of values; `large` are whole numbers that a floating-point number cannot hold."""

TYPES: dict[Kind, pa.DataType] = {
    "null": pa.string(),
    "flag": pa.bool_(),
    "whole": pa.int64(),
    "large": pa.int64(),
    "number": pa.float64(),
    "day": pa.date32(),
    "time": pa.timestamp("us"),
    "instant": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
}
WIDER: dict[frozenset[Kind], Kind] = {
    frozenset({"whole", "large"}): "large",
    frozenset({"whole", "number"}): "number",
    frozenset({"day", "time"}): "time",
}
"""Kind of a column with values of two kinds; of any other two kinds it is text."""

CHUNK = 50_000
EXACT = 2**53
"""Whole numbers up to this are exact as floating-point numbers."""

_NUMBERS = frozenset({int, float, Decimal})


class TypedRows:
    """Chunks of rows on disk, and the kind of each column so far.

    Parameters
    ----------
    folder : Path
        Empty folder for the chunks; the caller removes it after the rows are staged.

    Attributes
    ----------
    rows : int
        Rows added.
    kinds : dict of str to Kind
        Column → kind, in the order of first appearance.
    droppable : set of str
        Columns that are left out when they have no value.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self.kinds: dict[str, Kind] = {}
        self.droppable: set[str] = set()
        self._mixed: set[str] = set()
        self._chunks: list[dict[str, Kind]] = []

    def add(self, columns: Mapping[str, Sequence[object]], n_rows: int) -> None:
        """Add a chunk of rows, column by column; columns that it lacks are empty in it."""
        arrays: dict[str, pa.Array] = {}
        kinds: dict[str, Kind] = {}
        for name, values in columns.items():
            kind, array = typed_array(values)
            before = self.kinds.get(name, "null")
            self.kinds[name] = wider(before, kind)
            if kind == "text" and not _is_text(values):
                self._mixed.add(name)
            if "null" not in (before, kind) and self.kinds[name] == "text" and before != kind:
                self._mixed.add(name)
            kinds[name], arrays[name] = kind, array
        table = pa.table(arrays) if arrays else pa.table({"": pa.nulls(n_rows)})
        file = str(self._file(len(self._chunks)))
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        self._chunks.append(kinds)
        self.rows += n_rows

    def add_rows(self, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add rows of one width in chunks; a table without rows keeps its columns."""
        source = iter(rows)
        chunk = list(islice(source, CHUNK))
        if not chunk and not self._chunks:
            self.add({name: [] for name in names}, 0)
        while chunk:
            values = zip(*chunk, strict=True)
            self.add(dict(zip(names, values, strict=True)), len(chunk))
            chunk = list(islice(source, CHUNK))

    @property
    def columns(self) -> dict[str, Kind]:
        """Column → kind of the columns that are read."""
        return {
            name: kind
            for name, kind in self.kinds.items()
            if kind != "null" or name not in self.droppable
        }

    @property
    def mixed(self) -> list[str]:
        """Columns that are text because their values have several kinds."""
        return [name for name in self.columns if name in self._mixed]

    def reader(self) -> pa.RecordBatchReader:
        """Return all rows with one type per column."""
        columns = self.columns
        schema = pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, columns))

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.arrow"

    def _batches(self, schema: pa.Schema, columns: dict[str, Kind]) -> Iterator[pa.RecordBatch]:
        for number, kinds in enumerate(self._chunks):
            with pa.memory_map(str(self._file(number))) as source:
                table = pa.ipc.open_file(source).read_all()
            arrays = [
                _as_kind(table[name], kinds[name], kind)
                if name in kinds
                else pa.nulls(len(table), TYPES[kind])
                for name, kind in columns.items()
            ]
            yield from pa.table(arrays, schema=schema).to_batches()


def stage_rows(connection: duckdb.DuckDBPyConnection, name: str, rows: TypedRows) -> None:
    """Make rows readable as ``raw.<name>``, numbered in their order."""
    stage_batches(connection, name, rows.reader())


def stage_batches(
    connection: duckdb.DuckDBPyConnection, name: str, reader: pa.RecordBatchReader
) -> None:
    """Stream Arrow batches into ``raw.<name>``, numbered in their order."""
    stream = f"bw_stream_{name}"
    connection.register(stream, reader)
    try:
        connection.execute(
            f"CREATE OR REPLACE TABLE raw.{ident(name)} AS "
            f"SELECT row_number() OVER () AS {ROW}, * FROM {ident(stream)}"
        )
    finally:
        connection.unregister(stream)


def wider(one: Kind, other: Kind) -> Kind:
    """Return the kind of a column with values of two kinds.

    >>> wider("whole", "number"), wider("null", "day"), wider("large", "number")
    ('number', 'day', 'text')
    """
    if one == other or other == "null":
        return one
    return other if one == "null" else WIDER.get(frozenset({one, other}), "text")


def typed_array(values: Sequence[object]) -> tuple[Kind, pa.Array]:
    """Return the kind of values and an Arrow array of them; mixed values become text.

    >>> typed_array([1.0, None, 2.0])[0], typed_array([1.5, 2])[0], typed_array(["007", 7])[0]
    ('whole', 'number', 'text')
    """
    found = set(map(type, values)) - {type(None)}
    if not found:
        return "null", pa.nulls(len(values), pa.string())
    if found == {str}:
        return "text", _texts(values)
    if found == {bool}:
        return "flag", pa.array(values, pa.bool_())
    if found <= _NUMBERS:
        return _numbers(values, found)
    if found <= {date, datetime}:
        return _times(values, found)
    return "text", _texts([as_text(value) for value in values])


def _numbers(values: Sequence[Any], found: set[type]) -> tuple[Kind, pa.Array]:
    if Decimal in found:
        values = [_plain_number(value) for value in values]
        found = set(map(type, values)) - {type(None)}
    try:
        if found == {int}:
            return _whole(pa.array(values, pa.int64()))
        if found == {float}:
            return _floats(pa.array(values, pa.float64()))
        if all(abs(value) <= EXACT for value in values if type(value) is int):
            return _floats(pa.array([v if v is None else float(v) for v in values], pa.float64()))
    except OverflowError:  # beyond 64 bits
        pass
    return "text", _texts([as_text(value) for value in values])


def _plain_number(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    is_whole = value.is_finite() and value == value.to_integral_value()
    return int(value) if is_whole else float(value)


def _whole(array: pa.Array) -> tuple[Kind, pa.Array]:
    ends = pc.min_max(array).as_py()
    is_large = max(abs(ends["min"]), abs(ends["max"])) > EXACT
    return ("large" if is_large else "whole"), array


def _floats(array: pa.Array) -> tuple[Kind, pa.Array]:
    """Return whole numbers as such: workbooks store every number as a floating-point number."""
    is_whole = pc.and_(pc.equal(pc.floor(array), array), pc.less_equal(pc.abs(array), EXACT))
    if pc.all(is_whole).as_py():
        return "whole", array.cast(pa.int64())
    return "number", array


def _times(values: Sequence[Any], found: set[type]) -> tuple[Kind, pa.Array]:
    if found == {date}:
        return "day", pa.array(values, pa.date32())
    zones = {value.tzinfo is not None for value in values if isinstance(value, datetime)}
    if zones == {False}:
        full = [datetime.combine(v, datetime.min.time()) if type(v) is date else v for v in values]
        return "time", pa.array(full, pa.timestamp("us"))
    if zones == {True} and found == {datetime}:
        return "instant", pa.array(values, pa.timestamp("us", tz="UTC"))
    return "text", _texts([as_text(value) for value in values])


def _is_text(values: Sequence[object]) -> bool:
    return set(map(type, values)) <= {str, type(None)}


def _texts(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot hold
        clean = [v if v is None else v.encode("utf-8", "replace").decode() for v in values]
        return pa.array(clean, pa.string())


def _as_kind(array: pa.ChunkedArray, old: Kind, new: Kind) -> pa.ChunkedArray:
    if old == new:
        return array
    if old == "null":
        return pa.chunked_array([pa.nulls(len(array), TYPES[new])])
    if new != "text":
        return array.cast(TYPES[new])
    return pa.chunked_array([_texts([as_text(value) for value in array.to_pylist()])])


def as_text(value: object) -> str | None:
    """Return a value of a column with mixed values as text.

    A number never has exactly three decimals, because 1.234 next to texts such as 2.500,00 could
    be read as a thousand.

    >>> as_text(1001.0), as_text(1.234), as_text(1e-7), as_text(date(2026, 1, 2)), as_text(True)
    ('1001', '1.2340', '0.0000001', '2026-01-02', 'true')
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal):
        return _number_text(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC)).isoformat(sep=" ")
    if isinstance(value, bytes | bytearray):
        return _bytes_text(bytes(value))
    return str(value)


def _number_text(value: float | Decimal) -> str | None:
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    if not exact.is_finite():
        return None if exact.is_nan() else str(value)
    if exact == exact.to_integral_value():
        return str(int(exact))
    text = format(exact.normalize(), "f")
    return f"{text}0" if len(text.partition(".")[2]) == 3 else text


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()
