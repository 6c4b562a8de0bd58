"""One table as it lies somewhere, whole, for a table that is ready to learn from or to score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from configs.company import Input
from configs.places import Workspace
from features.sources.raw import open_input, paths_of
from features.sources.sql import ident, open_engine, reading

NAME = "table"


@dataclass(frozen=True)
class Flat:
    """The rows of one table.

    Attributes
    ----------
    rows : pandas.DataFrame
        As read: every column of a CSV as text, others with the types they have.
    place : str
        File, or connection and table, for messages.
    malformed : int
        Lines of a CSV that do not fit its header; they are not among the rows.
    """

    rows: pd.DataFrame
    place: str
    malformed: int


def read_input(workspace: Workspace, name: str) -> Flat:
    """Read an input of the company whole.

    Raises
    ------
    SourceError
        It is not there, or cannot be read.
    """
    with open_engine(files=paths_of(workspace, name)) as connection:
        opened = open_input(connection, workspace, name)
        with reading(opened.place):
            rows = connection.execute(f"SELECT * FROM {ident(name)}").df()
    return Flat(rows, opened.place, opened.malformed)


def read_file(workspace: Workspace, path: Path) -> Flat:
    """Read any CSV or Parquet file whole.

    Raises
    ------
    SourceError
        It is not there, or cannot be read.
    """
    item = Input(file=str(path.absolute()))
    company = workspace.company.model_copy(update={"inputs": {NAME: item}})
    return replace(read_input(replace(workspace, company=company), NAME), place=str(path))
