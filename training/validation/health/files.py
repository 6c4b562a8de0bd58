"""Reading the two files: CSV of any common make, or Parquet, as they are."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from configs.errors import SourceError

_SNIFFED = 65_536
_WIDE = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 begins, as spreadsheets write "Unicode text"."""
_WORKBOOK = b"PK\x03\x04"
_DELIMITERS = ",;\t|"


def read_file(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file.

    Returns
    -------
    pandas.DataFrame
        Text columns from CSV, empty cells as missing; the file's own types from Parquet.

    Raises
    ------
    SourceError
        The file is missing, empty, or of another kind.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path.name}", where=str(path.absolute()))
    frame = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    frame.columns = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise SourceError(f"{path.name} has no rows", where=str(path), fix="export it again")
    return frame


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path.name} is no readable Parquet file: {error}") from error


def _csv(path: Path) -> pd.DataFrame:
    encoding = _encoding(path)
    delimiter, skipped = _delimiter(path, encoding)
    try:
        return pd.read_csv(
            path,
            dtype=str,
            sep=delimiter,
            skiprows=skipped,
            encoding=encoding,
            skipinitialspace=True,
            keep_default_na=False,
            na_values=["", "NA", "N/A", "n/a", "null", "NULL", "None", "NaN", "nan", "-"],
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError, csv.Error) as error:
        raise SourceError(
            f"{path.name} is no readable CSV file: {str(error).strip()}",
            where=str(path),
            fix="save it as UTF-8 CSV with one header line, or as Parquet",
        ) from error


def _encoding(path: Path) -> str:
    """Return UTF-8 where the file is valid in it, else those of spreadsheets.

    Raises
    ------
    SourceError
        The file is no text.
    """
    with path.open("rb") as raw:
        begins = raw.read(_SNIFFED)
    if begins.startswith(_WIDE):
        return "utf-16"
    if begins.startswith(_WORKBOOK) or b"\0" in begins:
        is_workbook = begins.startswith(_WORKBOOK)
        raise SourceError(
            f"{path.name} is {'a workbook' if is_workbook else 'no text file'}",
            where=str(path),
            fix="save it as UTF-8 CSV with one header line, or as Parquet",
        )
    try:
        with path.open(encoding="utf-8-sig") as handle:
            for _ in handle:
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _delimiter(path: Path, encoding: str) -> tuple[str, int]:
    """Return what parts the cells, and how many lines stand before the header.

    Spreadsheets may say it in a first line of its own, ``sep=;``.
    """
    with path.open(encoding=encoding, errors="replace", newline="") as handle:
        first = handle.read(_SNIFFED).split("\n", 1)[0]
    if (told := first.strip().removeprefix("sep=")) in _DELIMITERS and told:
        return told, 1
    return max(_DELIMITERS, key=first.count), 0
