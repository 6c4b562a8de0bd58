"""Column roles guessed from names and content; every guess is reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from configs.runtime.errors import SourceError, did_you_mean
from training.health_audit.reading.parse_values import is_number, looks_like_date, looks_like_text

Fits = Callable[[pd.Series], bool]


@dataclass(frozen=True)
class ColumnRole:
    """A role of a column.

    Attributes
    ----------
    name, meaning : str
        Name in options, and in words.
    words : tuple of str
        Column names of this role, most specific first, compared without case and punctuation.
    fits : callable
        Whether the values of a column fit the role.
    required : bool
        Whether the audit needs the column.
    """

    name: str
    meaning: str
    words: tuple[str, ...]
    fits: Fits
    required: bool = False


def _anything(_column: pd.Series) -> bool:
    return True


_ACCOUNT = ColumnRole(
    "account",
    "the account",
    ("accountid", "account", "customerid", "customer", "companyid", "company", "clientid",
     "client", "tenantid", "tenant", "orgid", "organisationid", "organizationid", "entityid",
     "accountname", "customername", "companyname", "id"),
    _anything,
    required=True,
)  # fmt: skip
_ARR = ColumnRole(
    "arr",
    "ARR",
    ("arr", "annualrecurringrevenue", "acv", "mrr", "revenue", "contractvalue", "amount", "value",
     "arrlost", "lostarr"),
    is_number,
)  # fmt: skip
_CURRENCY = ColumnRole(
    "currency", "currency", ("currency", "currencyisocode", "currencycode"), looks_like_text
)
_SEGMENT = ColumnRole(
    "segment",
    "segment",
    ("segment", "tier", "plan", "region", "size", "sizeclass", "customersegment"),
    looks_like_text,
)

SCORES: tuple[ColumnRole, ...] = (
    _ACCOUNT,
    ColumnRole(
        "date",
        "the date of the score",
        ("scoredat", "scoredon", "scoredate", "asof", "asofdate", "snapshotdate", "snapshotat",
         "snapshot", "date", "day", "month", "week", "period", "timestamp", "calculatedat"),
        looks_like_date,
    ),
    ColumnRole(
        "recorded",
        "the time of writing",
        ("recordedat", "recordedon", "knownat", "loadedat", "createdat", "createddate",
         "insertedat", "updatedat", "lastmodifieddate", "modifiedat", "systemmodstamp"),
        looks_like_date,
    ),
    ColumnRole(
        "score",
        "the score",
        ("healthscore", "score", "overallscore", "totalscore", "health", "overallhealth",
         "churnprobability", "churnrisk", "riskscore", "risk", "probability", "propensity",
         "churnscore", "grade", "rating", "points"),
        is_number,
    ),
    ColumnRole(
        "band",
        "the band",
        ("band", "healthband", "colour", "color", "healthcolor", "rag", "ragstatus", "status",
         "healthstatus", "riskband", "risklevel", "healthcategory", "category", "health", "risk",
         "score", "healthscore", "grade", "rating", "level"),
        looks_like_text,
    ),
    _SEGMENT,
    _ARR,
    _CURRENCY,
    ColumnRole(
        "renewal",
        "the renewal date",
        ("renewson", "renewaldate", "renewsat", "renewal", "contractenddate", "contractend",
         "enddate", "termend", "expirydate", "expiresat"),
        looks_like_date,
    ),
    ColumnRole(
        "components",
        "the components of the score",
        ("components", "measures", "details"),
        looks_like_text,
    ),
)  # fmt: skip

OUTCOMES: tuple[ColumnRole, ...] = (
    _ACCOUNT,
    ColumnRole(
        "date",
        "the date of the decision",
        ("decidedon", "decidedat", "decisiondate", "noticeat", "noticedate", "noticeon",
         "cancelledat", "canceledat", "cancelledon", "canceldate", "cancellationdate", "churnedat",
         "churnedon", "churndate", "closedate", "closedat", "closedon", "lostdate", "outcomedate",
         "eventdate", "occurredat", "date", "effectiveon", "effectivedate", "renewaldate",
         "enddate", "endedon"),
        looks_like_date,
        required=True,
    ),
    ColumnRole(
        "kind",
        "the outcome",
        ("outcome", "kind", "type", "event", "eventtype", "movement", "result", "status", "stage",
         "churned", "ischurned", "haschurned", "churn", "lost", "cancelled", "canceled", "renewed",
         "retained"),
        _anything,
    ),
    _ARR,
    _CURRENCY,
    _SEGMENT,
)  # fmt: skip


@dataclass(frozen=True)
class AuditColumns:
    """One role and its column.

    Attributes
    ----------
    table, role, meaning : str
        ``scores`` or ``outcomes``, the role, and its words.
    column : str
        The column of the file.
    how : str
        ``by its name``, ``by its values`` or ``as configured``.
    """

    table: str
    role: str
    meaning: str
    column: str
    how: str


def plain_name(name: str) -> str:
    """Return a column name without case, punctuation and the suffix of custom fields.

    >>> plain_name("Health_Score__c"), plain_name("Account ID")
    ('healthscore', 'accountid')
    """
    return re.sub(r"[^a-z0-9]", "", re.sub(r"__c$", "", name.lower()))


def guess_columns(
    frame: pd.DataFrame, table: str, roles: Sequence[ColumnRole], given: Mapping[str, str]
) -> dict[str, AuditColumns]:
    """Return the column of every role found in the file.

    Parameters
    ----------
    frame : pandas.DataFrame
        The file as read.
    table : str
        ``scores`` or ``outcomes``.
    roles : sequence of ColumnRole
        The roles, in order of priority.
    given : mapping of str to str
        ``<table>.<role>`` to column, from the command line.

    Raises
    ------
    SourceError
        A given column or role does not exist, or a required role has no column.
    """
    _refuse_unknown(frame, table, roles, given)
    found: dict[str, AuditColumns] = {}
    for role in roles:
        if (name := given.get(f"{table}.{role.name}")) is not None:
            found[role.name] = AuditColumns(table, role.name, role.meaning, name, "as configured")
    for role in roles:
        taken = {guess.column for guess in found.values()}
        if role.name not in found and (guess := _guess(frame, table, role, taken)):
            found[role.name] = guess
    for role in roles:
        if role.required and role.name not in found:
            raise _missing(frame, table, role)
    return found


def _refuse_unknown(
    frame: pd.DataFrame, table: str, roles: Sequence[ColumnRole], given: Mapping[str, str]
) -> None:
    names = {f"{table}.{role.name}" for role in roles}
    for key, column in given.items():
        if not key.startswith(f"{table}."):
            continue
        if key not in names:
            raise SourceError(
                f"there is no role {key!r}",
                where="--column",
                fix=did_you_mean(key, names) or "one of: " + ", ".join(sorted(names)),
            )
        if column not in frame:
            raise SourceError(
                f"the {table} file has no column {column!r}",
                where=f"--column {key}={column}; the file has: {', '.join(map(str, frame))}",
                fix=did_you_mean(column, map(str, frame)),
            )


def _guess(
    frame: pd.DataFrame, table: str, role: ColumnRole, taken: set[str]
) -> AuditColumns | None:
    names = [str(name) for name in frame]
    free = {plain_name(name): name for name in reversed(names) if name not in taken}
    for word in role.words:
        name = free.get(word)
        if name is not None and role.fits(frame[name]):
            return AuditColumns(table, role.name, role.meaning, name, "by its name")
    if role.name != "date":
        return None
    dated = [name for name in names if name not in taken and _is_dated(frame, name)]
    return (
        AuditColumns(table, role.name, role.meaning, dated[0], "by its values") if dated else None
    )


def _is_dated(frame: pd.DataFrame, name: str) -> bool:
    other = any(plain_name(name) in role.words for role in SCORES if role.name != "date")
    return not other and looks_like_date(frame[name]) and not is_number(frame[name])


def _missing(frame: pd.DataFrame, table: str, role: ColumnRole) -> SourceError:
    return misnamed(frame, table, role) or SourceError(
        f"no column of the {table} file looks like {role.meaning}",
        where=f"columns: {', '.join(map(str, frame))}",
        fix=f"--column {table}.{role.name}=NAME, or swap the two files if they are in the wrong "
        "order",
    )


def misnamed(frame: pd.DataFrame, table: str, role: ColumnRole) -> SourceError | None:
    """Return the error for a column whose values do not fit its name."""
    named = {plain_name(str(name)): str(name) for name in reversed(list(frame))}
    name = next((named[word] for word in role.words if word in named), None)
    if name is None:
        return None
    cells = frame[name].dropna()
    shown = ", ".join(repr(str(cell)) for cell in cells.drop_duplicates().head(3))
    return SourceError(
        f"column {name!r} of the {table} file is named like {role.meaning}, but too few of its "
        "values fit",
        where=f"{len(cells):,} of {len(frame):,} rows have a value, such as {shown or 'none'}",
        fix=f"correct the export; --column {table}.{role.name}={name} accepts the column and "
        "leaves "
        "out unreadable rows",
    )


def component_columns(frame: pd.DataFrame, guesses: Mapping[str, AuditColumns]) -> list[str]:
    """Return the other number columns of the scores file: the components of the score."""
    taken = {guess.column for guess in guesses.values()}
    ids = {"id", "row", "index", "rowid", "year", "quarter"}
    return [
        str(name)
        for name in frame
        if name not in taken
        and plain_name(str(name)) not in ids
        and not any(
            plain_name(str(name)) in role.words for role in SCORES if role.fits is looks_like_date
        )
        and is_number(frame[name])
        and frame[name].nunique() > 1
    ]
