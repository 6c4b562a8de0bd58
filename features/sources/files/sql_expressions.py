"""SQL that a company writes into its configuration, checked before any of it runs.

The text is parsed, not searched: a mapping is one expression over the columns of its input, `sql`
is one SELECT over the inputs. Neither may read a file, the environment, the settings or a table
that is not an input. The engine that runs them is locked as well
(`features.sources.files.sql.lock`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import duckdb

from configs.runtime.errors import ConfigError, SourceError, did_you_mean

TABLE_FUNCTIONS = frozenset(
    {"unnest", "range", "generate_series", "json_each", "json_tree", "regexp_split_to_table"}
)
"""Functions that may stand where a table does: they compute rows from values."""

FORBIDDEN = re.compile(
    r"read_.*|.*_scan|glob|sniff_csv|query|query_table|getenv|getvariable|current_setting"
    r"|current_query.*|current_(user|role|database|catalog|schemas?|connection_id)|user"
    r"|session_user|version|which_secret|nextval|currval|setval|setseed|write_log|sleep_ms"
    r"|json_(de)?serialize_.*|json_execute_.*|(pg|has|inet|duckdb|pragma|parquet|__).*_.*"
    r"|in_search_path|txid_current|.*_description"
)
"""Functions that read files, settings or the session, or that act instead of computing."""

NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Kinds of query that only read."""

RELATIONS = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT"}
)
"""What may stand after FROM."""

PLAIN_NODE: Mapping[str, Any] = {
    "modifiers": [],
    "where_clause": None,
    "group_expressions": [],
    "group_sets": [],
    "having": None,
    "sample": None,
    "qualify": None,
}
"""A SELECT of one expression has none of these clauses."""


def one_expression(
    connection: duckdb.DuckDBPyConnection, text: str, where: str, columns: Collection[str] = ()
) -> str:
    """Return a company's expression in parentheses, ready to be part of a larger query.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Parses the text; nothing runs.
    text : str
        As written in ``company.yaml``.
    where : str
        The key, for messages.
    columns : collection of str
        Columns of the input, for hints.

    Raises
    ------
    SourceError
        The text is not one expression.
    ConfigError
        It reads something other than its row.
    """
    fix = "write a column of the input, or one SQL expression over its columns"
    hint = did_you_mean(text, columns)
    said = f"{text!r} is neither a column nor one SQL expression" + (f"; {hint}" if hint else "")
    # A comment at the end must not swallow the parenthesis.
    wrapped = f"({text}\n)" if "--" in text else f"({text})"
    for query in (f"SELECT {text}", f"SELECT {wrapped}"):
        tree, problem = _parsed(connection, query)
        if tree is None:
            raise SourceError(f"{said}\n{problem}".rstrip(), where=where, fix=fix)
        if not _is_one_expression(tree):
            raise SourceError(said, where=where, fix=fix)
        _refuse(tree, text, where, frozenset())
    return wrapped


def one_select(
    connection: duckdb.DuckDBPyConnection, text: str, where: str, inputs: Collection[str]
) -> str:
    """Return a company's SELECT over its inputs, ready to stand in parentheses.

    Raises
    ------
    SourceError
        It cannot be parsed.
    ConfigError
        It is not one SELECT, or reads something other than the inputs.
    """
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise SourceError(str(error).strip(), where=where, fix="correct the SQL") from error
    if len(statements) != 1:
        raise _not_one_select(where)
    query = text.strip()
    ends = [len(query), *(at for at in range(len(query) - 1, 0, -1) if query[at] == ";")]
    for end in ends:  # a semicolon and the comments behind it cannot stand in parentheses
        inner = f"{query[:end]}\n"
        tree, _ = _parsed(connection, f"FROM ({inner})")
        if tree is not None and _parsed(connection, inner)[0] is not None:
            _refuse(tree, text, where, frozenset(name.lower() for name in inputs))
            return inner
    raise _not_one_select(where)


def _not_one_select(where: str) -> ConfigError:
    return ConfigError(
        "`sql` holds something other than one SELECT",
        where=where,
        fix="write one SELECT over the inputs; nothing else is run",
    )


def _parsed(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, str]:
    """Return the tree of a single SELECT and an empty text; otherwise None and what is wrong."""
    try:
        if len(connection.extract_statements(query)) != 1:
            return None, ""
    except duckdb.Error as error:
        return None, str(error).splitlines()[0]
    row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        return None, str(tree.get("error_message", ""))
    return tree["statements"], ""


def _is_one_expression(tree: Any) -> bool:
    node = tree[0]["node"]
    if node["type"] != "SELECT_NODE" or node["from_table"]["type"] != "EMPTY":
        return False
    selected = node["select_list"]
    is_plain = not node["cte_map"]["map"] and all(
        node.get(key) == empty for key, empty in PLAIN_NODE.items()
    )
    is_value = len(selected) == 1 and not selected[0]["alias"] and selected[0]["class"] != "STAR"
    return is_plain and is_value


def _refuse(tree: Any, text: str, where: str, inputs: frozenset[str]) -> None:
    found = sorted(set(_reaches(tree, inputs)))
    if found:
        raise ConfigError(
            f"{text.strip()!r} is not run: {'; '.join(found)}",
            where=where,
            fix="compute from the rows of the inputs only; what lies elsewhere becomes an input: "
            "name its file or table under `inputs`, and select from it with `sql`",
        )


def _reaches(item: Any, tables: frozenset[str]) -> Iterator[str]:
    """Yield what a parsed query reaches beyond values and the tables it may read."""
    if isinstance(item, list):
        for part in item:
            yield from _reaches(part, tables)
    if not isinstance(item, dict):
        return
    ctes = (item.get("cte_map") or {}).get("map", [])
    known = tables | {str(entry["key"]).lower() for entry in ctes}
    yield from _own_reach(item, known)
    for part in item.values():
        yield from _reaches(part, known)


def _own_reach(item: dict[str, Any], tables: frozenset[str]) -> Iterator[str]:
    kind = str(item.get("type", ""))
    if kind.endswith("_NODE") and kind not in NODES:
        yield "it changes data"
    if "sample" in item and "alias" in item:
        yield from _relation_reach(item, kind, tables)
    elif item.get("class") == "PARAMETER":
        yield "it holds a placeholder for a value (? or $)"
    elif item.get("class") in {"FUNCTION", "WINDOW"}:
        yield from _function_reach(item)


def _relation_reach(item: dict[str, Any], kind: str, tables: frozenset[str]) -> Iterator[str]:
    if kind not in RELATIONS:
        yield "it asks about the engine instead of selecting rows"
    elif kind == "TABLE_FUNCTION":
        name = str(item["function"].get("function_name", ""))
        if name.lower() not in TABLE_FUNCTIONS:
            yield f"the table function {name}() may not be used"
    elif kind == "BASE_TABLE":
        path = [str(part) for part in item["qualified_name"]["path"]]
        if len(path) > 1 or path[0].lower() not in tables:
            name = ".".join(path)
            hint = did_you_mean(name, tables)
            yield f"{name} is none of the inputs it may read" + (f", {hint}" if hint else "")


def _function_reach(item: dict[str, Any]) -> Iterator[str]:
    name = str(item["function_name"])
    if FORBIDDEN.fullmatch(name.lower()):
        yield f"the function {name}() may not be used"
