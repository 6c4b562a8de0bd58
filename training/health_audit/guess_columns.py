"""Which column plays which part, guessed from names and content, and said aloud."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from configs.runtime.errors import SourceError, did_you_mean
from training.health_audit.parse_values import is_number, looks_like_date, looks_like_text

Fits = Callable[[pd.Series], bool]


@dataclass(frozen=True)
class ColumnRole:
    """A part a column can play.

    Attributes
    ----------
    name, meaning : str
        Its name in options, and in words.
    words : tuple of str
        Names of columns that play it, the most telling first, compared without case and signs.
    fits : callable
        Whether the values of a column could be that.
    required : bool
        Nothing can be done without it.
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
    "annual recurring revenue",
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
        "when the score stood",
        ("scoredat", "scoredon", "scoredate", "asof", "asofdate", "snapshotdate", "snapshotat",
         "snapshot", "date", "day", "month", "week", "period", "timestamp", "calculatedat"),
        looks_like_date,
    ),
    ColumnRole(
        "recorded",
        "when the row was written",
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
        "when the contract renews",
        ("renewson", "renewaldate", "renewsat", "renewal", "contractenddate", "contractend",
         "enddate", "termend", "expirydate", "expiresat"),
        looks_like_date,
    ),
    ColumnRole(
        "components",
        "the parts of the score",
        ("components", "measures", "details"),
        looks_like_text,
    ),
)  # fmt: skip

OUTCOMES: tuple[ColumnRole, ...] = (
    _ACCOUNT,
    ColumnRole(
        "date",
        "when it was decided",
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
        "what happened",
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
    """One part and the column that plays it.

    Attributes
    ----------
    table, role, meaning : str
        ``scores`` or ``outcomes``, the part, and its words.
    column : str
        The column of the file.
    how : str
        ``named so``, ``looks like it``, or ``as told``.
    """

    table: str
    role: str
    meaning: str
    column: str
    how: str


def plain_name(name: str) -> str:
    """Return a column name without case, signs and the suffix of custom fields.

    >>> plain_name("Health_Score__c"), plain_name("Account ID")
    ('healthscore', 'accountid')
    """
    return re.sub(r"[^a-z0-9]", "", re.sub(r"__c$", "", name.lower()))


def guess_columns(
    frame: pd.DataFrame, table: str, roles: Sequence[ColumnRole], told: Mapping[str, str]
) -> dict[str, AuditColumns]:
    """Return the column of every part that one plays.

    Parameters
    ----------
    frame : pandas.DataFrame
        The file as read.
    table : str
        ``scores`` or ``outcomes``.
    roles : sequence of Role
        The parts, in the order in which they choose.
    told : mapping of str to str
        ``<table>.<role>`` to column, from the person.

    Raises
    ------
    SourceError
        A told column or part does not exist; a required part is played by none.
    """
    _refuse_unknown(frame, table, roles, told)
    found: dict[str, AuditColumns] = {}
    for role in roles:
        if (name := told.get(f"{table}.{role.name}")) is not None:
            found[role.name] = AuditColumns(table, role.name, role.meaning, name, "as told")
    for role in roles:
        taken = {guess.column for guess in found.values()}
        if role.name not in found and (guess := _guess(frame, table, role, taken)):
            found[role.name] = guess
    for role in roles:
        if role.required and role.name not in found:
            raise _missing(frame, table, role)
    return found


def _refuse_unknown(
    frame: pd.DataFrame, table: str, roles: Sequence[ColumnRole], told: Mapping[str, str]
) -> None:
    names = {f"{table}.{role.name}" for role in roles}
    for key, column in told.items():
        if not key.startswith(f"{table}."):
            continue
        if key not in names:
            raise SourceError(
                f"there is no part {key!r}",
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
            return AuditColumns(table, role.name, role.meaning, name, "named so")
    if role.name != "date":
        return None
    dated = [name for name in names if name not in taken and _is_dated(frame, name)]
    return (
        AuditColumns(table, role.name, role.meaning, dated[0], "looks like it") if dated else None
    )


def _is_dated(frame: pd.DataFrame, name: str) -> bool:
    other = any(plain_name(name) in role.words for role in SCORES if role.name != "date")
    return not other and looks_like_date(frame[name]) and not is_number(frame[name])


def _missing(frame: pd.DataFrame, table: str, role: ColumnRole) -> SourceError:
    return misnamed(frame, table, role) or SourceError(
        f"no column of the {table} file looks like {role.meaning}",
        where=f"columns: {', '.join(map(str, frame))}",
        fix=f"--column {table}.{role.name}=NAME, or the two files stand in the wrong order",
    )


def misnamed(frame: pd.DataFrame, table: str, role: ColumnRole) -> SourceError | None:
    """Return what is wrong with a column that is named for a part its cells cannot play."""
    named = {plain_name(str(name)): str(name) for name in reversed(list(frame))}
    name = next((named[word] for word in role.words if word in named), None)
    if name is None:
        return None
    cells = frame[name].dropna()
    shown = ", ".join(repr(str(cell)) for cell in cells.drop_duplicates().head(3))
    return SourceError(
        f"column {name!r} of the {table} file is named like {role.meaning}, but too few of its "
        "cells can be that",
        where=f"{len(cells):,} of {len(frame):,} rows have a value, such as {shown or 'none'}",
        fix=f"correct the export; --column {table}.{role.name}={name} takes it as it is and leaves "
        "out the rows that cannot be read",
    )


def component_columns(frame: pd.DataFrame, guesses: Mapping[str, AuditColumns]) -> list[str]:
    """Return the other number columns of the scores file: the parts of the score."""
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
