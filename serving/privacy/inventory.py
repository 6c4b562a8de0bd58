"""Inventory of personal data in the state directory: file patterns, kinds of data, deletion.

The SQL tables are in `serving.privacy.database_columns`, the columns of the source tables in
`features.tables.source_tables`. A test runs a whole company whose account and person carry a unique
text, and fails when that text is in a place that is not listed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from features.tables.source_tables import TABLES, Personal

KINDS: dict[Personal, str] = {
    "account": "account id",
    "person": "id or e-mail address of a person",
    "name": "name of an account or an owner",
    "text": "free text",
}
"""Kinds of personal data, as text."""


@dataclass(frozen=True)
class FileHolding:
    """Personal data in some files of the state directory.

    Attributes
    ----------
    pattern : str
        Path below the state directory, as a shell pattern.
    kinds : frozenset of Personal
        What the files may hold.
    on_forget : str
        What `bellwether forget` does, as text.
    """

    pattern: str
    kinds: frozenset[Personal]
    on_forget: str


def _files(pattern: str, kinds: set[Personal], on_forget: str) -> FileHolding:
    return FileHolding(pattern, frozenset(kinds), on_forget)


_ROWS = "rows of the account or person deleted, mentions elsewhere replaced"

FILES = (
    _files("sources/accounts/keys.parquet", {"account", "name", "text"}, _ROWS),
    _files("sources/accounts/parents.parquet", {"account"}, _ROWS),
    _files("sources/accounts/test_accounts.parquet", {"account"}, _ROWS),
    _files("sources/*/groups/*/accounts.parquet", {"account"}, _ROWS),
    _files(
        "sources/*quarantine.parquet",
        {"account", "person", "name", "text"},
        "the copied values emptied; row number and reason stay",
    ),
    _files("sources/*/manifest.json", {"account", "person", "text"}, "examples replaced"),
    _files("sources/*data.parquet", {"account", "person", "name", "text"}, _ROWS),
    _files("daily/*/data.parquet", {"account", "person", "name"}, _ROWS),
    _files("snapshots/vector/*/part.parquet", {"account", "person", "name"}, _ROWS),
    _files("snapshots/vector/*/owners.json", {"person", "name"}, "the owner deleted"),
    _files("snapshots/*/part.parquet", {"account"}, _ROWS),
    _files("labels/*/*/*.parquet", {"account"}, _ROWS),
    _files(
        "training/*/*.parquet",
        {"account", "person"},
        "the id replaced by a random name: measures are computed again from these rows",
    ),
    _files("scores/*/scores.parquet", {"account", "person", "name"}, _ROWS),
    _files("scores/*/scores.csv", {"account", "person", "name"}, _ROWS),
    _files("scores/*/points.parquet", {"account"}, _ROWS),
    _files("scores/*/reasons.jsonl", {"account"}, _ROWS),
    _files("quality/accounts-*.parquet", {"account"}, _ROWS),
    _files("quality/history.jsonl", {"account"}, "ids in examples replaced"),
    _files("jobs/*", {"account", "person", "name"}, _ROWS),
    _files(
        "reports/*",
        {"account", "person", "name"},
        "entries of the account deleted, ids and names in texts replaced",
    ),
    _files("feast/online.db*", {"account", "person", "name"}, "rows deleted, facts replaced"),
    _files("ledger/*.db*", {"account", "person", "text"}, "see the tables of the database"),
    _files("privacy/deletions.jsonl", {"person"}, "nothing: it names only who deleted"),
)
"""Files with personal data, the narrower pattern first. All other files hold none."""


def kinds_of(path: str) -> frozenset[Personal]:
    """Return the kinds of personal data that a file may hold.

    >>> sorted(kinds_of("labels/churn/ab12/labels.parquet")), sorted(kinds_of("bundles/x/model"))
    (['account'], [])
    """
    found = next((item for item in FILES if fnmatchcase(path, item.pattern)), None)
    return found.kinds if found else frozenset()


def source_columns() -> list[tuple[str, str, Personal]]:
    """Return the columns of the source tables with personal data: table, column, kind."""
    return [
        (table, name, column.personal)
        for table, spec in TABLES.items()
        for name, column in spec.columns.items()
        if column.personal
    ]
