"""Uploaded files: streamed to disk, named safely, and checked before they count as data."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from configs.runtime.errors import BellwetherError, SourceError
from configs.runtime.state_directory import work_folder
from features.sources.files.formats.csv_files import csv_head
from features.sources.files.formats.excel import ENDINGS as EXCEL_ENDINGS
from features.sources.files.formats.excel import OTHER_ENDINGS
from features.sources.files.formats.zip_files import ENDING as ZIP_ENDING
from features.sources.files.formats.zip_files import MAX_BYTES, MAX_RATIO, SMALL, check_archive
from features.sources.files.readers import CSV_ENDINGS, PARQUET_ENDINGS
from features.sources.proposal.raw_tables import READABLE
from serving.http.problems import ProblemError

MAX_FILE_BYTES = 500 * 2**20
"""Size limit of one uploaded file."""

MAX_FILES = 50
MAX_FIELD_BYTES = 10_000
UPLOAD_BYTES = 20 * MAX_FILE_BYTES
"""Size limit of one upload with all its files."""

UPLOAD_SECONDS = 1_800.0
"""Time limit of one upload."""

MAX_NAME = 100
_BLOCK = 1 << 20
_WORK = ".upload."


@dataclass(frozen=True)
class Uploaded:
    """Result of an upload.

    Attributes
    ----------
    fields : dict of str to str
        Fields of the form that are not files.
    kept : dict of str to Path
        Form field of a file, or its name where several files have one field, to the stored file.
    refused : dict of str to str
        Name of a file to the reason why it was not stored.
    """

    fields: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Path] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def safe_name(given: str) -> str:
    r"""Return a file name without folders, control characters and pattern characters.

    >>> safe_name("../../etc/Kunden (2).csv"), safe_name("C:\\data\\a*b?.CSV")
    ('Kunden (2).csv', 'a_b_.CSV')
    >>> safe_name(".."), safe_name("..hidden.csv")
    ('file', 'hidden.csv')
    """
    name = unicodedata.normalize("NFC", given).replace("\\", "/").rpartition("/")[2]
    name = re.sub(r"[^\w .()+-]", "_", name).strip(" .")
    stem, dot, endings = name.partition(".")
    return f"{stem[: MAX_NAME - len(endings)]}{dot}{endings[-MAX_NAME:]}" if name else "file"


def check_name(name: str, accepted: Collection[str] = READABLE) -> None:
    """Refuse a name whose ending is not read.

    Raises
    ------
    SourceError
        The ending is not one of those accepted.
    """
    if name.lower().endswith(tuple(accepted)):
        return
    is_old = name.lower().endswith(OTHER_ENDINGS)
    raise SourceError(
        f"{name} has an ending that is not read",
        fix="save it as .xlsx or .csv" if is_old else f"endings read: {', '.join(accepted)}",
    )


def check_file(path: Path) -> None:
    """Refuse a file that is empty, is not what its name says, or grows beyond all measure.

    Raises
    ------
    SourceError
        The file cannot be used.
    """
    name = path.name.lower()
    if path.stat().st_size == 0:
        raise SourceError(f"{path.name} is empty", fix="export it again")
    if name.endswith(".gz"):
        _check_gzip(path)
    if name.endswith((ZIP_ENDING, *EXCEL_ENDINGS)):
        check_archive(path)
    elif name.endswith(CSV_ENDINGS):
        csv_head(path)
    elif name.endswith(PARQUET_ENDINGS):
        with path.open("rb") as handle:
            if handle.read(4) != b"PAR1":
                raise SourceError(f"{path.name} is not a Parquet file", fix="export it again")


def _check_gzip(path: Path) -> None:
    packed, size = path.stat().st_size, 0
    try:
        with gzip.open(path) as handle:
            while block := handle.read(_BLOCK):
                size += len(block)
                if size > MAX_BYTES or (size > SMALL and size > MAX_RATIO * packed):
                    raise SourceError(
                        f"{path.name} grows from {packed:,} to more than {size:,} bytes and may be "
                        "a ZIP bomb",
                        fix="unpack it yourself if you trust it, and upload the file inside",
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            f"{path.name} is not a readable gzip file, or is truncated: {error}",
            fix="copy or export it again; `gzip -t FILE` tests it",
        ) from error


async def receive(
    request: Request, folder: Path, is_allowed: Callable[[str], bool], *, by_field: bool = False
) -> Uploaded:
    """Store the files of a form in a folder as they arrive, and check each of them.

    A file of the same name is replaced. A file that is refused leaves nothing behind.

    Parameters
    ----------
    request : Request
        With a body of type ``multipart/form-data``, whose first field is the form's token.
    folder : Path
        Folder for the files; created when absent.
    is_allowed : callable
        Whether a token is that of the form; no file is stored before.
    by_field : bool
        Files are named after their form field, with their own ending.

    Raises
    ------
    ProblemError
        The body is not such a form, or has no valid token.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ProblemError("unsupported-media-type", "an upload must be multipart/form-data")
    with work_folder(folder, _WORK) as aside:
        parts = _Parts(aside, is_allowed, by_field)
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        try:
            async for chunk in request.stream():
                await run_in_threadpool(parser.write, chunk)
            parser.finalize()
        except FormParserError as error:
            raise ProblemError("invalid-request", "the form is damaged or incomplete") from error
        finally:
            parts.close()
        if not parts.is_complete:
            raise ProblemError("invalid-request", "the upload is incomplete; send it again")
        return await run_in_threadpool(_store, parts, folder)


def _store(parts: _Parts, folder: Path) -> Uploaded:
    """Check the files and move the good ones into the folder."""
    made = Uploaded(parts.fields, {}, dict(parts.refused))
    for name, path in parts.files.items():
        try:
            check_file(path)
        except BellwetherError as error:
            made.refused[path.name] = f"{error.what}; {error.fix}" if error.fix else error.what
            continue
        ending = path.name.partition(".")[2]
        target = folder / (path.name if name == path.name else f"{name}.{ending}")
        path.replace(target)
        made.kept[name] = target
    return made


class _Parts:
    """Receiver of the parts of a form: fields into memory, files onto the disk."""

    def __init__(self, folder: Path, is_allowed: Callable[[str], bool], by_field: bool) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.refused: dict[str, str] = {}
        self.is_complete = False
        self._folder, self._is_allowed, self._by_field = folder, is_allowed, by_field
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._field, self._name = "", ""
        self._text = b""
        self._file: BinaryIO | None = None
        self._size = 0

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        """Close a file that is still open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""
        self._field, self._name, self._text, self._size = "", "", b"", 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        given = options.get(b"filename")
        if given is None:
            return
        if not self._is_allowed(self.fields.get("token", "")):
            raise ProblemError("forbidden", "the form is not of this page; load the page again")
        if not given:
            return  # a file input that was left empty
        name = safe_name(given.decode("utf-8", "replace"))
        key = self._field if self._by_field else name
        if why := self._objection(key, name):
            self.refused[name] = why
            return
        path = self._folder / str(len(self.files)) / name
        path.parent.mkdir(exist_ok=True)
        self._name, self._file = key, path.open("wb")
        self.files[key] = path

    def _objection(self, key: str, name: str) -> str:
        """Return why a file is not taken; empty if it is."""
        try:
            check_name(name)
        except SourceError as error:
            return f"{error.what}; {error.fix}"
        if key in self.files:
            return "two files have this name; rename one of them"
        if len(self.files) >= MAX_FILES:
            return f"an upload has at most {MAX_FILES} files; upload it afterwards"
        return ""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._file is not None:
            if self._size > MAX_FILE_BYTES:
                self._refuse(f"it is larger than {MAX_FILE_BYTES // 2**20} MB")
            else:
                self._file.write(data[start:end])
        elif not self._headers.get(b"content-disposition", b"").count(b"filename"):
            self._text += data[start:end]
            if self._size > MAX_FIELD_BYTES:
                raise ProblemError("too-large", "a field of the form is too long")

    def _refuse(self, why: str) -> None:
        self.close()
        path = self.files.pop(self._name)
        path.unlink(missing_ok=True)
        self.refused[path.name] = f"{why}; copy it into the folder of the exports instead"

    def _end(self) -> None:
        self.close()
        if not self._name and self._text:
            self.fields[self._field] = self._text.decode("utf-8", "replace")

    def _finish(self) -> None:
        self.is_complete = True
