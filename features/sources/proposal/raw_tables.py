"""Raw tables to propose a mapping for: the files of a folder, or the tables of a database."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from configs.runtime.errors import SourceError
from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.source_mapping import Input
from configs.schema.workspace import Environment, Workspace
from features.sources.files.databases.tables import database_paths, table_names
from features.sources.files.formats.csv_files import csv_head
from features.sources.files.readers import CSV_ENDINGS, ENDINGS, RawInput, open_files, open_input
from features.sources.scaffold import company_name

READABLE = (*(ending for endings in ENDINGS.values() for ending in endings), ".zip")
"""Endings of files that can be read as tables."""


@dataclass(frozen=True)
class RawTable:
    """One raw table.

    Attributes
    ----------
    name : str
        Name of its input.
    place : str
        File or pattern, or table of the database, as written in ``company.yaml``.
    open : callable
        Opens it in a connection.
    """

    name: str
    place: str
    open: Callable[[duckdb.DuckDBPyConnection], RawInput]


@dataclass(frozen=True)
class RawTables:
    """Everything that may be mapped.

    Attributes
    ----------
    title : str
        Name for people.
    where : str
        For messages.
    connection : str
        Name of the database connection; empty for files.
    files : list of Path
        Files that the engine opens.
    tables : list of RawTable
        The tables.
    """

    title: str
    where: str
    connection: str
    files: list[Path]
    tables: list[RawTable]


def data_files(folder: Path) -> list[Path]:
    """Return the files of a folder and of its subfolders that can be read as tables, sorted."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name.lower().endswith(READABLE)
        and not any(
            part.startswith(".") or part == "state" for part in path.relative_to(folder).parts
        )
        and path.name.lower() not in {"readme.txt", "requirements.txt", "license.txt"}
    ]
    return sorted(found)


def folder_tables(folder: Path) -> RawTables:
    """Return the tables of a folder of exports.

    Raises
    ------
    SourceError
        There is no file to read.
    """
    files = data_files(folder)
    if not files:
        raise SourceError(
            "no file to read in the folder",
            where=str(folder),
            fix=f"put the exports there; endings read: {', '.join(READABLE)}",
        )
    taken: dict[str, str] = {}
    tables = []
    for pattern, paths in _grouped(folder, files).items():
        name = _input_name(pattern, taken)
        taken[name] = pattern
        tables.append(RawTable(name, pattern, _file_opener(name, paths, pattern)))
    return RawTables(folder.resolve().name, str(folder), "", files, tables)


def input_names(folder: Path) -> dict[str, str]:
    """Return the inputs of a folder without reading their rows: name to file or pattern."""
    if not data_files(folder):
        return {}
    return {table.name: table.place for table in folder_tables(folder).tables}


def _file_opener(
    name: str, paths: list[Path], pattern: str
) -> Callable[[duckdb.DuckDBPyConnection], RawInput]:
    return lambda connection: open_files(connection, name, paths, f"file {pattern}")


def database_tables(connection: str, schema: str = "", folder: Path = Path()) -> RawTables:
    """Return the tables of a database or warehouse.

    Parameters
    ----------
    connection : str
        Name of the connection, whose URL is ``BELLWETHER_CONNECTION_<NAME>``.
    schema : str
        Only tables of this schema; empty for all.
    folder : Path
        Folder of DuckDB and SQLite files.

    Raises
    ------
    BellwetherError
        The connection has no URL, does not answer, or has no tables.
    """
    raw = {
        "name": "proposed",
        "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}},
    }
    company = parse_company(raw, where="proposal")
    places = Environment.from_environment()
    workspace = Workspace(company, folder, folder, State(folder / "state"), places)
    inputs: dict[str, Input] = {}
    for table in table_names(workspace, connection, schema):
        last = table.rpartition(".")[2]
        taken = dict.fromkeys(inputs, "")
        inputs[_input_name(last, taken)] = Input(connection=connection, table=table)
    workspace = replace(workspace, company=company.model_copy(update={"inputs": inputs}))
    files = [
        path for name, item in inputs.items() for path in database_paths(workspace, name, item)
    ]
    tables = [
        RawTable(name, str(item.table), _table_opener(workspace, name))
        for name, item in inputs.items()
    ]
    title = schema.rpartition(".")[2] or connection
    return RawTables(title, f"connection {connection}", connection, files, tables)


def _table_opener(
    workspace: Workspace, name: str
) -> Callable[[duckdb.DuckDBPyConnection], RawInput]:
    return lambda connection: open_input(connection, workspace, name)


def _grouped(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Return pattern → files: numbered or dated files of one kind are one input."""
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path in files:
        stem, _, ending = path.name.partition(".")
        base = re.sub(r"\d[\d-]*$", "", stem)
        groups.setdefault((path.parent.relative_to(folder).as_posix(), base, ending), []).append(
            path
        )
    found: dict[str, list[Path]] = {}
    for (parent, base, ending), paths in groups.items():
        lead = "" if parent == "." else f"{parent}/"
        if len(paths) == 1 or not base or not _same_kind(paths):
            found |= {f"{lead}{path.name}": [path] for path in paths}
        else:
            found[f"{lead}{base}*.{ending}"] = paths
    return found


def _same_kind(paths: list[Path]) -> bool:
    """Whether files have one header, so that they can be read as one input."""
    if not all(path.name.lower().endswith(CSV_ENDINGS) for path in paths):
        return False
    try:
        return len({csv_head(path) for path in paths}) == 1
    except SourceError:
        return False


def _input_name(pattern: str, taken: dict[str, str]) -> str:
    stem = Path(pattern).name.partition(".")[0].rstrip("*_- ")
    name = company_name(stem)
    number = 2
    while name in taken:
        name = f"{company_name(stem)[:28]}_{number}"
        number += 1
    return name
