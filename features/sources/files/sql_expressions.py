"""Validation of the SQL in company.yaml before it runs.

The SQL is parsed: a mapping is one expression over the columns of its input, `sql` is one SELECT
over the inputs. Neither may read a file, the environment, settings or a table that is not an input.
The engine that runs them is locked as well (`features.sources.files.sql.open_duckdb`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from configs.runtime.errors import ConfigError, SourceError, did_you_mean
from features.sources.files.sql import SqlNode

TABLE_FUNCTIONS = frozenset(
    {"unnest", "range", "generate_series", "json_each", "json_tree", "regexp_split_to_table"}
)
"""Allowed table functions: they compute rows from values."""

FORBIDDEN = re.compile(
    r"read_.*|.*_scan|glob|sniff_csv|query|query_table|getenv|getvariable|current_setting"
    r"|current_query.*|current_(user|role|database|catalog|schemas?|connection_id)|user"
    r"|session_user|version|which_secret|nextval|currval|setval|setseed|write_log|sleep_ms"
    r"|json_(de)?serialize_.*|json_execute_.*|(pg|has|inet|duckdb|pragma|parquet|__).*_.*"
    r"|in_search_path|txid_current|.*_description"
)
"""Functions that read files, settings or the session, or have side effects."""

NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Query nodes that only read."""

RELATIONS = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT"}
)
"""Allowed nodes after FROM."""

PLAIN_NODE: SqlNode = {
    "modifiers": [],
    "where_clause": None,
    "group_expressions": [],
    "group_sets": [],
    "having": None,
    "sample": None,
    "qualify": None,
}
"""Clauses that a SELECT of one expression does not have."""


def one_expression(
    connection: duckdb.DuckDBPyConnection, text: str, where: str, columns: Collection[str] = ()
) -> str:
    """Return a configured expression in parentheses, safe to embed in a larger query.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Parses the text; nothing is executed.
    text : str
        Text from ``company.yaml``.
    where : str
        The key, for messages.
    columns : collection of str
        Columns of the input, for hints.

    Raises
    ------
    SourceError
        The text is not one expression.
    ConfigError
        The expression reads something other than its row.
    """
    fix = "write a column of the input, or one SQL expression over its columns"
    hint = did_you_mean(text, columns)
    message = f"{text!r} is neither a column nor one SQL expression" + (f"; {hint}" if hint else "")
    # A comment at the end must not hide the parenthesis.
    wrapped = f"({text}\n)" if "--" in text else f"({text})"
    for query in (f"SELECT {text}", f"SELECT {wrapped}"):
        tree, problem = _parsed(connection, query)
        if tree is None:
            raise SourceError(f"{message}\n{problem}".rstrip(), where=where, fix=fix)
        if not _is_one_expression(tree):
            raise SourceError(message, where=where, fix=fix)
        _check_access(tree, text, where, frozenset())
    return wrapped


def one_select(
    connection: duckdb.DuckDBPyConnection, text: str, where: str, inputs: Collection[str]
) -> str:
    """Return a configured SELECT over the inputs, safe to embed in parentheses.

    Raises
    ------
    SourceError
        The SQL cannot be parsed.
    ConfigError
        The SQL is not one SELECT, or reads something other than the inputs.
    """
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise SourceError(str(error).strip(), where=where, fix="correct the SQL") from error
    if len(statements) != 1:
        raise _not_one_select(where)
    query = text.strip()
    ends = [len(query), *(at for at in range(len(query) - 1, 0, -1) if query[at] == ";")]
    for end in ends:  # a final semicolon and comments after it are not allowed in parentheses
        inner = f"{query[:end]}\n"
        tree, _ = _parsed(connection, f"FROM ({inner})")
        if tree is not None and _parsed(connection, inner)[0] is not None:
            _check_access(tree, text, where, frozenset(name.lower() for name in inputs))
            return inner
    raise _not_one_select(where)


def _not_one_select(where: str) -> ConfigError:
    return ConfigError(
        "`sql` is not a single SELECT",
        where=where,
        fix="write one SELECT over the inputs",
    )


def _parsed(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, str]:
    """Return the tree of a single SELECT and an empty text, or None and the problem."""
    try:
        if len(connection.extract_statements(query)) != 1:
            return None, ""
    except duckdb.Error as error:
        return None, str(error).splitlines()[0]
    row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    tree: SqlNode = json.loads(row[0]) if row else {"error": True}
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


def _check_access(tree: Any, text: str, where: str, inputs: frozenset[str]) -> None:
    found = sorted(set(_violations(tree, inputs)))
    if found:
        raise ConfigError(
            f"{text.strip()!r} is not allowed: {'; '.join(found)}",
            where=where,
            fix="use only the rows of the inputs; to read another file or table, add it under "
            "`inputs` and select from it with `sql`",
        )


def _violations(item: Any, tables: frozenset[str]) -> Iterator[str]:
    """Yield the violations of a parsed query: access beyond values and allowed tables."""
    if isinstance(item, list):
        for part in item:
            yield from _violations(part, tables)
    if not isinstance(item, dict):
        return
    ctes = (item.get("cte_map") or {}).get("map", [])
    known = tables | {str(entry["key"]).lower() for entry in ctes}
    yield from _node_violations(item, known)
    for part in item.values():
        yield from _violations(part, known)


def _node_violations(item: SqlNode, tables: frozenset[str]) -> Iterator[str]:
    kind = str(item.get("type", ""))
    if kind.endswith("_NODE") and kind not in NODES:
        yield "it changes data"
    if "sample" in item and "alias" in item:
        yield from _relation_violations(item, kind, tables)
    elif item.get("class") == "PARAMETER":
        yield "it has a placeholder for a value (? or $)"
    elif item.get("class") in {"FUNCTION", "WINDOW"}:
        yield from _function_violations(item)


def _relation_violations(item: SqlNode, kind: str, tables: frozenset[str]) -> Iterator[str]:
    if kind not in RELATIONS:
        yield "it queries the engine instead of selecting rows"
    elif kind == "TABLE_FUNCTION":
        name = str(item["function"].get("function_name", ""))
        if name.lower() not in TABLE_FUNCTIONS:
            yield f"the table function {name}() may not be used"
    elif kind == "BASE_TABLE":
        path = [str(part) for part in item["qualified_name"]["path"]]
        if len(path) > 1 or path[0].lower() not in tables:
            name = ".".join(path)
            hint = did_you_mean(name, tables)
            yield f"{name} is not one of its inputs" + (f", {hint}" if hint else "")


def _function_violations(item: SqlNode) -> Iterator[str]:
    name = str(item["function_name"])
    if FORBIDDEN.fullmatch(name.lower()):
        yield f"the function {name}() may not be used"
