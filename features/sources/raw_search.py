"""Search of the raw inputs for an account or a person, before it is forgotten."""

from __future__ import annotations

from collections.abc import Collection

from configs.schema.workspace import Workspace
from features.sources.files.readers import open_input, paths_of
from features.sources.files.sql import duckdb_errors, ident, literal, text_list
from features.sources.load import work_connection


def raw_rows_with(
    workspace: Workspace, values: Collection[str], words: Collection[str] = ()
) -> dict[str, int]:
    """Return how many rows of each raw input hold a value; inputs without any are left out.

    The caller holds the lock of the state directory.

    Parameters
    ----------
    workspace : Workspace
        The company and its data.
    values : collection of str
        Compared with whole cells, without case and surrounding spaces.
    words : collection of str
        Searched for within cells, without case.

    Raises
    ------
    SourceError
        An input cannot be read.
    """
    names = list(workspace.company.inputs)
    files = [path for name in names for path in paths_of(workspace, name)]
    state = workspace.state
    state.sources.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = text_list(sorted(value.strip().lower() for value in values))
    found: dict[str, int] = {}
    with work_connection(state.sources, files) as connection:
        for name in names:
            item = open_input(connection, workspace, name)
            tests = [
                test
                for column in item.columns
                for text in [f"lower(trim(CAST({ident(column)} AS VARCHAR)))"]
                for test in (
                    f"list_contains({whole}, {text})",
                    *(f"contains({text}, {literal(word.lower())})" for word in words),
                )
            ]
            with duckdb_errors(item.place):
                row = connection.execute(
                    f"SELECT count(*) FROM {item.relation} WHERE {' OR '.join(tests)}"
                ).fetchone()
            if row and row[0]:
                found[name] = int(row[0])
    return found
