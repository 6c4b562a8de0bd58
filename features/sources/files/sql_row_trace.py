"""Row trace of the `sql` of a mapping: input rows that a join loses or repeats.

The statement runs again with the number of each input row carried through joins, sub-queries and
WITH clauses. Rows cannot be traced through GROUP BY or DISTINCT; then only counts are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from features.sources.files.readers import RawInput
from features.sources.files.sql import ROW, SqlNode, one_row
from features.sources.manifest import SqlRows

VIEW, NUMBER = "bw_traced", "bw_traced_row"


@dataclass(frozen=True)
class RowTrace:
    """Trace of the rows of the main input of a statement.

    Attributes
    ----------
    input : str
        The input with the name of the table, else the one with the most rows.
    rows_in, rows_out : int
        Its rows, and the rows of the result.
    is_followed : bool
        The rows could be traced; otherwise the counts below are 0.
    lost : int
        Input rows that a join drops.
    filtered : int
        Input rows that WHERE or QUALIFY drops.
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

    def as_dict(self) -> SqlRows:
        """Return the trace as plain JSON values."""
        return {
            "input": self.input,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "is_followed": self.is_followed,
            "lost": self.lost,
            "filtered": self.filtered,
            "doubled": self.doubled,
        }


def trace(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    sql: str,
    relation: str,
    inputs: Mapping[str, RawInput],
) -> RowTrace | None:
    """Trace the rows of an input through a statement that was materialised as `relation`.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the open inputs.
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
    RowTrace or None
        None for a statement without inputs.
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
        return plain  # the statement groups, or its tree has a part that cannot be traced
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
    """Return the number of input rows that reach the result; None if they cannot be traced."""
    parsed = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    tree = json.loads(parsed[0][0])
    if tree["error"] or not _RowNumberRewriter(name, with_filters).rewrite(
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


class _RowNumberRewriter:
    """Rewrites a parsed statement so that its result has the row numbers of one input."""

    def __init__(self, name: str, with_filters: bool) -> None:
        self.name, self.with_filters = name.lower(), with_filters

    def rewrite(self, node: SqlNode, known: frozenset[str]) -> bool:
        """Carry the row number through a query; return whether this is possible."""
        for entry in node.get("cte_map", {}).get("map", []):
            if self.rewrite(entry["value"]["query_node"], known):
                known |= {entry["key"].lower()}
        if node["type"] == "SET_OPERATION_NODE":
            done = [self.rewrite(child, known) for child in node["children"]]
            return node["setop_type"] == "UNION" and node["setop_all"] and all(done)
        return node["type"] == "SELECT_NODE" and self._select(node, known)

    def _select(self, node: SqlNode, known: frozenset[str]) -> bool:
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

    def _source(self, item: SqlNode, known: frozenset[str]) -> str | None:
        """Return the alias of a source with the row number, None for others."""
        if item["type"] == "SUBQUERY":
            return item["alias"] if self.rewrite(item["subquery"]["node"], known) else None
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


def _sources(item: SqlNode) -> list[SqlNode]:
    if item["type"] == "JOIN":
        return [*_sources(item["left"]), *_sources(item["right"])]
    return [item]


def _has_implicit(item: SqlNode) -> bool:
    """Whether tables are joined by commas, with the condition in WHERE."""
    if item["type"] != "JOIN":
        return False
    is_implicit = item["is_implicit"] or item["ref_type"] == "CROSS"
    return is_implicit or _has_implicit(item["left"]) or _has_implicit(item["right"])


def _column(alias: str) -> SqlNode:
    return {
        "class": "COLUMN_REF",
        "type": "COLUMN_REF",
        "alias": NUMBER,
        "query_location": 0,
        "query_location_length": 0,
        "column_names": [alias, NUMBER],
    }
