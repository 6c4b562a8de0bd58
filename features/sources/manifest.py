"""Types of the manifest that accompanies every canonical table."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Basis = Literal["column", "delay", "default"]
Period = Literal["year", "quarter", "month"]

Profile = dict[str, dict[str, int]]
"""Column → counts of value formats (`features.sources.cleaning.timestamp_profile`)."""


class LineTotals(TypedDict):
    """Lines of a CSV file below its header."""

    total: int
    kept: int
    set_aside: int


class RepeatedIds(TypedDict):
    """Repeated values of a column that looks like an event id."""

    ids: int
    repeated: int
    rows: int


class OutsideValues(TypedDict):
    """Values outside their range since a day (`features.sources.cleaning.outside_values`).

    Attributes
    ----------
    since : str
        ISO day of the first of them, without a few earlier ones.
    rows, whole : int
        Values outside, and all values, since then.
    rows_before, whole_before : int
        Likewise before.
    low, high : float
        Smallest and largest value outside.
    """

    since: str
    rows: int
    whole: int
    rows_before: int
    whole_before: int
    low: float
    high: float


class SqlRows(TypedDict):
    """Rows of the main input of a `sql` mapping (`features.sources.files.sql_row_trace`)."""

    input: str
    rows_in: int
    rows_out: int
    is_followed: bool
    lost: int
    filtered: int
    doubled: int


class InputFacts(TypedDict, total=False):
    """Reading facts of the inputs of a table.

    Attributes
    ----------
    lines : dict of str to LineTotals
        Input → lines of its CSV files.
    file_notes : list of str
        Notes on encodings.
    sql_rows : SqlRows or None
        Row trace of a `sql` mapping.
    """

    lines: dict[str, LineTotals]
    file_notes: list[str]
    sql_rows: SqlRows | None


class ColumnFacts(TypedDict, total=False):
    """Reading facts of the columns of a table.

    Attributes
    ----------
    written : dict of str to str
        Column → note on its format.
    marks : dict of str to list of str
        Column → currency marks.
    examples, remedies : dict
        Reason in the quarantine → example values, and → mapping line that fixes them.
    repeated_ids : dict of str to RepeatedIds
        Unmapped columns that look like an event id.
    types : dict of str to str
        Column → type in the source.
    outside : dict of str to OutsideValues
        Reason in the quarantine → since when values lie outside their range.
    """

    written: dict[str, str]
    marks: dict[str, list[str]]
    examples: dict[str, list[str]]
    remedies: dict[str, str]
    repeated_ids: dict[str, RepeatedIds]
    types: dict[str, str]
    outside: dict[str, OutsideValues]


class ReadingFacts(InputFacts, ColumnFacts):
    """Reading facts of a table; facts without content are absent."""


class RowCounts(TypedDict):
    """Row counts and time span of a table."""

    rows_read: int
    rows: int
    rows_quarantined: int
    rows_duplicate: int
    first_happened: str | None
    last_happened: str | None
    last_known: str | None
    quarantined: dict[str, int]
    noted: dict[str, int]


class FileFacts(TypedDict):
    """Identity of one input file."""

    file: str
    size: int
    mtime_ns: int
    sha256: str


class Fingerprint(TypedDict):
    """Identity of the content of an input: of its files, or of a database table."""

    content: str
    files: NotRequired[list[FileFacts]]
    table: NotRequired[str | None]
    rows: NotRequired[int]
    hash: NotRequired[str]


class SplitTerms(TypedDict, total=False):
    """Fields of `features.sources.billing.billing_periods.BillingPeriods`."""

    period: Period | None
    subscriptions: int
    rows: int
    is_guess: bool
    shape: str


class BuiltTable(RowCounts, ColumnFacts):
    """Facts about a table from `features.sources.build_table`."""

    columns: list[str]
    profile: Profile
    known_basis: Basis
    history: bool


class TableFacts(BuiltTable, InputFacts):
    """Facts about one source of a table, or about all of them together."""

    unfolded: SplitTerms


class ServedPart(TypedDict):
    """One file of canonical rows.

    Attributes
    ----------
    file : str
        Path in the folder of the table.
    months : dict of str to list of int
        Rows by month (`features.sources.months`); empty for tables that are not kept by month.
    """

    file: str
    months: dict[str, list[int]]


class TableManifest(TableFacts):
    """Manifest of a canonical table; without `parts`, its rows are in ``data.parquet``.

    `built` describes what the last build read. Of a table that is built per file, `dropped` lists
    the rows that another group of files repeats, by group, and `whole` the identity of the mapping
    and the reason where all files have to be read in one piece. `merged` has the state of each
    group whose rows were compared with those of all others.
    """

    identity: str
    fingerprints: dict[str, Fingerprint]
    inputs: dict[str, int]
    parts: NotRequired[list[ServedPart]]
    built: NotRequired[str]
    dropped: NotRequired[dict[str, list[int]]]
    whole: NotRequired[list[str]]
    merged: NotRequired[dict[str, str]]
