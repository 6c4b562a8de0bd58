"""A single ready-made table read into memory, for training and scoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pandas as pd

from configs.runtime.errors import DataError
from configs.schema.source_mapping import Input
from configs.schema.workspace import Workspace
from features.sources.files.readers import RawInput, open_files, open_input, paths_of
from features.sources.files.sql import duckdb_errors, ident, scratch_duckdb

NAME = "table"


@dataclass(frozen=True)
class SingleTable:
    """The rows of one table.

    Attributes
    ----------
    rows : pandas.DataFrame
        Columns of a CSV file as text, of other inputs with their types.
    place : str
        File, or connection and table, for messages.
    malformed : int
        Lines that do not fit the header, or are no JSON object; they are not part of the rows.
    notes : tuple of str
        Notes on the format of the file.
    """

    rows: pd.DataFrame
    place: str
    malformed: int
    notes: tuple[str, ...] = ()


def read_input(workspace: Workspace, name: str) -> SingleTable:
    """Read an input of the company into memory.

    Raises
    ------
    SourceError
        The input does not exist or cannot be read.
    """
    with scratch_duckdb(paths_of(workspace, name)) as connection:
        return _whole(connection, open_input(connection, workspace, name))


def _whole(connection: duckdb.DuckDBPyConnection, opened: RawInput) -> SingleTable:
    if opened.lines.lost:
        raise DataError(
            f"{opened.lines.lost:,} of {opened.lines.total:,} lines are neither kept nor set aside",
            where=opened.place,
            fix="please report this; until then, export the file again with every text in double "
            "quotes",
        )
    with duckdb_errors(opened.place):
        rows = connection.execute(f"SELECT * FROM {ident(opened.name)}").df()
    return SingleTable(rows, opened.place, opened.malformed, opened.notes)


def read_path(path: Path) -> SingleTable:
    """Read a file of any format into memory; unknown endings are read as CSV.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    with scratch_duckdb([path]) as connection:
        return _whole(connection, open_files(connection, NAME, [path], str(path), any_ending=True))


def read_single_table(workspace: Workspace, path: Path) -> SingleTable:
    """Read a file of any format into memory.

    Raises
    ------
    SourceError
        The input does not exist or cannot be read.
    """
    item = Input(file=str(path.absolute()))
    company = workspace.company.model_copy(update={"inputs": {NAME: item}})
    return replace(read_input(replace(workspace, company=company), NAME), place=str(path))
