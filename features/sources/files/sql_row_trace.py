"""Which rows of an input the `sql` of a mapping loses, and which it yields more than once.

The statement is run again with the number of each input row carried through its joins, sub-queries
and WITH clauses. What groups or removes duplicates cannot be followed; then only counts are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from features.sources.files.readers import RawInput
from features.sources.files.sql import ROW, one_row

VIEW, NUMBER = "bw_followed", "bw_followed_row"

Node = dict[str, Any]


@dataclass(frozen=True)
class RowTrace:
    """What became of the rows of the input that a statement is about.

    Attributes
    ----------
    input : str
        The input: of the table's name, else the one with the most rows.
    rows_in, rows_out : int
        Its rows, and the rows of the result.
    is_followed : bool
        The rows could be followed; otherwise the numbers below are 0.
    lost : int
        Input rows that a join leaves out.
    filtered : int
        Input rows that WHERE or QUALIFY leaves out.
    doubled : int
        Rows of the result beyond the first of each input row.
    """

    input: str
    rows_in: int
    rows_out: int
    is_followed: bool = False
    lost: int = 0
    filtered: int = 0
    doubled: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping."""
        return asdict(self)


def trace(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    sql: str,
    relation: str,
    inputs: Mapping[str, RawInput],
) -> RowTrace | None:
    """Follow the rows of an input through a statement that has run into `relation`.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Where the inputs are open.
    table : str
        The canonical table.
    sql : str
        The statement.
    relation : str
        SQL name of its result.
    inputs : mapping of str to RawInput
        The inputs it reads.

    Returns
    -------
    Traced or None
        None for a statement that reads no input.
    """
    if not inputs:
        return None
    name = table if table in inputs else max(inputs, key=lambda item: inputs[item].rows)
    rows_out = _number(connection, f"SELECT count(*) AS n FROM {relation}")
    plain = RowTrace(name, inputs[name].rows, rows_out)
    try:
        kept = _rows_kept(connection, sql, name, inputs[name], with_filters=True)
        joined = kept
        if kept is not None and kept < plain.rows_in:
            joined = _rows_kept(connection, sql, name, inputs[name], with_filters=False)
    except duckdb.Error:
        return plain  # it groups, or the parser's tree has a part that cannot be followed
    if kept is None or joined is None:
        return plain
    lost = plain.rows_in - joined
    return RowTrace(
        name, plain.rows_in, rows_out, True, lost, joined - kept, max(0, rows_out - kept)
    )


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(one_row(connection, query)["n"])


def _rows_kept(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    name: str,
    opened: RawInput,
    *,
    with_filters: bool,
) -> int | None:
    """Return how many rows of an input reach the result; None where they cannot be followed."""
    said = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    tree = json.loads(said[0][0])
    if tree["error"] or not _Follower(name, with_filters).follow(
        tree["statements"][0]["node"], frozenset()
    ):
        return None
    text = connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchall()
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {VIEW} AS SELECT * EXCLUDE ({ROW}), {ROW} AS {NUMBER} "
        f"FROM {opened.relation}"
    )
    query = f"SELECT count(DISTINCT {NUMBER}) AS n FROM ({text[0][0]})"
    return _number(connection, query)


class _Follower:
    """Changes a parsed statement so that the number of each row of one input reaches its result."""

    def __init__(self, name: str, with_filters: bool) -> None:
        self.name, self.with_filters = name.lower(), with_filters

    def follow(self, node: Node, known: frozenset[str]) -> bool:
        """Carry the number through a query; return whether that can be done."""
        for entry in node.get("cte_map", {}).get("map", []):
            if self.follow(entry["value"]["query_node"], known):
                known |= {entry["key"].lower()}
        if node["type"] == "SET_OPERATION_NODE":
            done = [self.follow(child, known) for child in node["children"]]
            return node["setop_type"] == "UNION" and node["setop_all"] and all(done)
        return node["type"] == "SELECT_NODE" and self._select(node, known)

    def _select(self, node: Node, known: frozenset[str]) -> bool:
        modifiers = {item["type"] for item in node["modifiers"]}
        if node["group_expressions"] or "DISTINCT_MODIFIER" in modifiers:
            return False
        sources = _sources(node["from_table"])
        alias = next((found for item in sources if (found := self._source(item, known))), None)
        if alias is None:
            return False
        stars = [item for item in node["select_list"] if item["class"] == "STAR"]
        if not any(item["relation_name"].lower() in ("", alias.lower()) for item in stars):
            node["select_list"].append(_column(alias))
        is_implicit = len(sources) > 1 and _has_implicit(node["from_table"])
        if not self.with_filters and not is_implicit:
            node["where_clause"] = node["qualify"] = None
        return True

    def _source(self, item: Node, known: frozenset[str]) -> str | None:
        """Return the alias under which a source carries the number, None where it does not."""
        if item["type"] == "SUBQUERY":
            return item["alias"] if self.follow(item["subquery"]["node"], known) else None
        if item["type"] != "BASE_TABLE":
            return None
        name = item["table_name"].lower()
        alias: str = item["alias"] or item["table_name"]
        if name in known:
            return alias
        if name != self.name:
            return None
        item.update(alias=alias, table_name=VIEW, schema_name="", catalog_name="")
        item["qualified_name"] = {"path": [VIEW]}
        return alias


def _sources(item: Node) -> list[Node]:
    if item["type"] == "JOIN":
        return [*_sources(item["left"]), *_sources(item["right"])]
    return [item]


def _has_implicit(item: Node) -> bool:
    """Whether tables are joined by commas, with the condition in WHERE."""
    if item["type"] != "JOIN":
        return False
    is_implicit = item["is_implicit"] or item["ref_type"] == "CROSS"
    return is_implicit or _has_implicit(item["left"]) or _has_implicit(item["right"])


def _column(alias: str) -> Node:
    return {
        "class": "COLUMN_REF",
        "type": "COLUMN_REF",
        "alias": NUMBER,
        "query_location": 0,
        "query_location_length": 0,
        "column_names": [alias, NUMBER],
    }
