"""The column of a table that identifies the account, found by the overlap of values."""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from features.sources.account_links import normalised
from features.sources.files.sql import ident, one_row
from features.sources.proposal.draft import Choice, Sure, TableDraft
from features.sources.proposal.file_profile import ColumnProfile, common_form, plain_name
from features.sources.proposal.guesses.column_names import ACCOUNT_NAMES

FEW = 0.5
"""Share of rows below which a column does not identify the account."""
SURE = 0.9
MORE = 0.005
"""Further share of rows from which a second column is used as well."""
MAX_LINKS = 3

_SQL = re.compile(r'^[a-z_]+\(.*"')
"""SQL of a starter: a function of quoted columns."""

WAYS = ("value", "domain", "name")


@dataclass(frozen=True)
class Overlap:
    """A column of a table against a column of the accounts.

    Attributes
    ----------
    column, matches, by : str
        As in `configs.schema.source_mapping.AccountLink`.
    rows : int
        Rows with a value.
    matched : int
        Rows whose value belongs to exactly one account.
    """

    column: str
    matches: str
    by: str
    rows: int
    matched: int

    @property
    def share(self) -> float:
        """Share of the rows with a value that belong to an account."""
        return self.matched / self.rows if self.rows else 0.0


def link_to_accounts(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, accounts: TableDraft
) -> list[Overlap]:
    """Set how the rows of a table find their account; return every overlap that was tried."""
    account_id = accounts.columns["account_id"].value
    tried = _overlaps(connection, draft, accounts)
    found = sorted(
        tried,
        key=lambda item: (
            item.matched < SURE * max(other.matched for other in tried),
            _documented(draft, item),
            WAYS.index(item.by),
            -item.matched,
            item.matches != account_id,
            not _is_named(item.column),
        ),
    )
    good = [item for item in found if item.share >= FEW]
    if not good:
        return found
    first = good[0]
    chosen = [first]
    for item in good[1:]:
        if len(chosen) == MAX_LINKS or item.column in {link.column for link in chosen}:
            continue
        if _gain(connection, draft, accounts, chosen, item) >= MORE:
            chosen.append(item)
    rows = _relation(draft)  # the shares that are shown count every row
    chosen = [_overlap(connection, rows, c.column, accounts, c.matches, c.by) for c in chosen]
    first = chosen[0]
    draft.columns.pop("account_id", None)
    is_plain = len(chosen) == 1 and first.by == "value" and first.matches == account_id
    if is_plain and _is_exact(connection, draft, accounts, first):
        choice = Choice(first.column, _why(first), _sure(first), _others(found, first))
        draft.columns = {"account_id": choice, **draft.columns}
        return found
    draft.links = [
        (Choice(item.column, _why(item), _sure(item), _others(found, item)), item.matches, item.by)
        for item in chosen
    ]
    return found


def _why(item: Overlap) -> str:
    return (
        f"{item.matched:,} of {item.rows:,} rows with {item.column} match {item.matches} "
        f"({item.share:.0%})"
    )


def _sure(item: Overlap) -> Sure:
    return "high" if item.share >= SURE and item.matched >= 3 else "medium"


def _others(found: list[Overlap], chosen: Overlap) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            item.column for item in found if item.share >= FEW and item.column != chosen.column
        )
    )[:3]


def _documented(draft: TableDraft, item: Overlap) -> int:
    """Return the place of a column among those that the tool documents for the account."""
    named = (item.column, item.by)
    known = draft.link_columns
    return known.index(named) if named in known else len(known)


def _text(column: str) -> str:
    """Return SQL of a column, or the SQL that a starter documents for a part of one."""
    return f"({column})" if _SQL.search(column) else ident(column)


def _is_named(header: str) -> bool:
    return common_form(plain_name(header)) in {common_form(name) for name in ACCOUNT_NAMES}


def _overlaps(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, accounts: TableDraft
) -> list[Overlap]:
    keys = _keys(accounts)
    own = [column for column in draft.file.columns.values() if _may_link(column)]
    pairs = [
        (column.name, key, by)
        for column in own
        for key, by in keys
        if _is_comparable(column, accounts.file.columns[key], by)
        or ((column.name, by) in draft.link_columns and by == "value")
    ]
    pairs += [
        (text, key, by)
        for text, by in draft.link_columns
        if text not in draft.file.columns
        for key, key_by in keys
        if key_by == by
    ]
    return [
        _overlap(connection, _sample(draft), text, accounts, key, by) for text, key, by in pairs
    ]


def _keys(accounts: TableDraft) -> list[tuple[str, str]]:
    """Return the columns of the accounts that identify one, with how they are compared."""
    name = accounts.columns.get("name")
    keys = []
    for header, column in accounts.file.columns.items():
        is_apart = column.filled >= 2 and column.distinct >= 0.8 * column.filled
        if not is_apart or column.is_time or (column.is_number and not _is_id(column)):
            continue
        if column.mails > 0.8 or column.hosts > 0.8:
            keys.append((header, "domain"))
        is_name = name is not None and header == name.value
        keys.append((header, "name" if is_name else "value"))
    return keys


def _is_id(column: ColumnProfile) -> bool:
    """Whether numbers are ids: whole, positive and different for each row."""
    is_whole = not any("." in text for text in column.examples)
    return is_whole and (column.low or 0) >= 0 and column.distinct >= 0.98 * column.filled


def _may_link(column: ColumnProfile) -> bool:
    is_fraction = column.is_number and any("." in text for text in column.examples)
    return column.filled > 0 and column.distinct > 1 and not column.is_time and not is_fraction


def _is_comparable(column: ColumnProfile, key: ColumnProfile, by: str) -> bool:
    if by == "domain":
        return column.mails > 0.5 or column.hosts > 0.5
    if by == "name":
        return not column.is_number and column.mails < 0.5
    if column.is_number and key.is_number:
        # Any two small integers overlap: only a column named after the account counts.
        return _is_named(column.name) or plain_name(column.name) == plain_name(key.name) != "id"
    return column.is_number == key.is_number and (column.mails > 0.5) == (key.mails > 0.5)


def _relation(draft: TableDraft) -> str:
    return draft.file.source.relation


def _sample(draft: TableDraft) -> str:
    return ident(draft.file.sample)


def _unique_keys(accounts: TableDraft, key: str, by: str) -> str:
    account = ident(accounts.columns["account_id"].value)
    # An account that is left out, such as a merged duplicate, does not make its name ambiguous.
    left_out = accounts.leave_out.value if accounts.leave_out else "false"
    return (
        f"SELECT key FROM (SELECT {account} AS account, {normalised(ident(key), by)} AS key "
        f"FROM {_relation(accounts)} WHERE NOT coalesce({left_out}, false)) "
        f"WHERE key IS NOT NULL GROUP BY key "
        f"HAVING count(DISTINCT account) = 1"
    )


def _matches(accounts: TableDraft, column: str, key: str, by: str) -> str:
    """Return SQL for: the value of a row belongs to exactly one account."""
    unique = _unique_keys(accounts, key, by)
    value = normalised(_text(column), by)
    found = f"coalesce({value} IN ({unique}), false)"
    if by != "domain":
        return found
    parent = f"regexp_replace({value}, '^[^.]+[.]', '')"
    return f"({found} OR coalesce({parent} IN ({unique}), false))"


def _overlap(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    column: str,
    accounts: TableDraft,
    key: str,
    by: str,
) -> Overlap:
    found = one_row(
        connection,
        f"SELECT count(*) FILTER ({normalised(_text(column), 'value')} IS NOT NULL) AS rows, "
        f"count(*) FILTER ({_matches(accounts, column, key, by)}) AS matched "
        f"FROM {rows}",
    )
    return Overlap(column, key, by, int(found["rows"]), int(found["matched"]))


def _gain(
    connection: duckdb.DuckDBPyConnection,
    draft: TableDraft,
    accounts: TableDraft,
    chosen: list[Overlap],
    item: Overlap,
) -> float:
    """Return the share of all rows that a further column identifies in addition."""
    already = " OR ".join(_matches(accounts, c.column, c.matches, c.by) for c in chosen)
    also = _matches(accounts, item.column, item.matches, item.by)
    found = one_row(
        connection,
        f"SELECT count(*) AS rows, count(*) FILTER ({also} AND NOT ({already})) AS more "
        f"FROM {_sample(draft)}",
    )
    return float(found["more"] / found["rows"]) if found["rows"] else 0.0


def _is_exact(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, accounts: TableDraft, item: Overlap
) -> bool:
    """Whether the ids agree to the letter, so that no comparison is needed."""
    found = one_row(
        connection,
        f"SELECT count(*) AS n FROM {_relation(draft)} WHERE CAST({_text(item.column)} AS VARCHAR) "
        f"IN (SELECT CAST({ident(item.matches)} AS VARCHAR) FROM {_relation(accounts)})",
    )
    return int(found["n"]) == item.matched
