"""Reader of the two files: CSV in common formats, Excel, JSON or Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from configs.runtime.errors import SourceError
from features.sources.files.single_table import read_path
from features.sources.parsing.cells import is_text_column, texts

NOTES = "notes"
"""Key of `pandas.DataFrame.attrs` for the notes on a file."""


def read_file(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV, Excel, JSON or Parquet file.

    Returns
    -------
    pandas.DataFrame
        Text columns from CSV, empty cells as missing; the file's own types from other formats.
        ``attrs["notes"]`` holds notes on the file.

    Raises
    ------
    SourceError
        The file is missing, empty or in another format.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path.name}", where=str(path.absolute()))
    flat = read_path(path)
    frame = flat.rows.copy()
    frame.columns = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise SourceError(f"{path.name} has no rows", where=str(path), fix="export it again")
    for name in frame:
        if is_text_column(frame[name]):
            found = texts(frame[name])
            frame[name] = found.mask(found.isna(), np.nan)
    frame.attrs[NOTES] = [*flat.notes, *_malformed(flat.malformed, path)]
    return frame


def _malformed(n: int, path: Path) -> list[str]:
    return [f"{path.name}: {n:,} lines that fit no record are left out"] if n else []
