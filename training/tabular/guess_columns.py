"""Guesses of the roles of columns in an unknown table, with reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from configs.runtime.errors import DataError
from features.sources.parsing.text_values import FALSE, TRUE
from training.tabular.column_kinds import (
    Kind,
    convert,
    detect_kind,
    is_text_column,
    parse_dates,
    text_of,
)

HORIZON_DAYS = 91
"""Comment on a guessed as_of if the table has no time at which labels became known."""

MAX_SEGMENTS = 12

_LABELS = (
    "churn", "churned", "ischurn", "ischurned", "haschurned", "churnflag", "churnlabel",
    "churnvalue", "attrition", "attritionflag", "exited", "left", "cancelled", "canceled",
    "terminated", "label", "target", "outcome", "y",
)  # fmt: skip
_KEPT = ("retained", "renewed", "stayed", "active", "isactive")
_GREW = ("expanded", "expansion", "upsell", "upsold", "upselling", "grew")
_IDS = (
    "accountid", "customerid", "clientid", "companyid", "userid", "memberid", "subscriberid",
    "account", "customer", "client", "id",
)  # fmt: skip
_AS_OF = (
    "asof", "asofdate", "asofon", "snapshotdate", "snapshoton", "snapshot", "snapshotat",
    "observationdate", "observedon", "scoredate", "perioddate", "period", "month", "date",
)  # fmt: skip
_KNOWN = ("labelknownat", "labelknownon", "labeldate", "outcomeknownat", "outcomedate")
_DECIDED = (
    "decidedat", "decidedon", "decisiondate", "churndate", "churnedat", "churnedon",
    "cancelledat", "canceledat", "canceldate", "cancellationdate", "exitdate", "enddate",
)  # fmt: skip
_SEGMENTS = (
    "segment", "tier", "plan", "contract", "contracttype", "subscriptiontype", "region",
    "geography", "country", "industry",
)  # fmt: skip
_ARR = ("arr", "annualrecurringrevenue", "acv", "annualvalue", "annualrevenue")
_MRR = ("mrr", "monthlyrecurringrevenue", "monthlycharges", "monthlycharge", "monthlyfee")
_HEALTH = ("healthscore", "health", "customerhealth", "healthindex")
_LOST = re.compile(r"churn|left|exit|attrit|cancel|lost|closed|terminat|gone|leav", re.IGNORECASE)
_LOSS_NEGATED = re.compile(r"\b(?:not|no|never)\b|non", re.IGNORECASE)


@dataclass(frozen=True)
class TableGuess:
    """Guess of one key of the ``table`` section.

    Attributes
    ----------
    key : str
        Of `configs.schema.ready_table.ReadyTable`.
    value : str or int
        Value of the key: a column except for ``horizon_days``, ``outcome`` and ``positive``.
    why : str
        Reason of the guess.
    others : tuple of str
        Alternative columns.
    """

    key: str
    value: str | int
    why: str
    others: tuple[str, ...] = field(default=())


def guess_table(rows: pd.DataFrame) -> list[TableGuess]:
    """Guess the roles of the columns.

    Parameters
    ----------
    rows : pandas.DataFrame
        The table, one row per account, or per account and as_of.

    Returns
    -------
    list of TableGuess
        ``label`` first; keys without a guess are left out.

    Raises
    ------
    DataError
        No column has two values, so none can be a label.
    """
    columns = {str(name): rows[name] for name in rows}
    found = _label(columns)
    free = {name: values for name, values in columns.items() if name != found[0].value}
    ids = _named(free, _IDS, lambda values: bool(text_of(values).notna().all()))
    found += _id(ids, rows)
    entity = next((str(item.value) for item in found if item.key == "id"), None)
    found += _times(free, entity)
    taken = {item.value for item in found}
    free = {name: values for name, values in free.items() if name not in taken}
    found += _one("segment", _named(free, _SEGMENTS, _is_segment), "few different values")
    value = _one("arr", _named(free, _ARR, _is_number), "its name")
    found += value or _one("mrr", _named(free, _MRR, _is_number), "its name")
    return found + _one("health_score", _named(free, _HEALTH, _is_number), "its name")


def plain_guess(name: str) -> str:
    """Return a column's name in lower case without punctuation.

    >>> plain_guess("Customer_ID"), plain_guess("isChurned")
    ('customerid', 'ischurned')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _named(
    columns: dict[str, pd.Series],
    names: Sequence[str],
    fits: Callable[[pd.Series], bool] = lambda _values: True,
) -> list[str]:
    """Return the matching columns, best name first."""
    rank = {name: place for place, name in enumerate(names)}
    here = [name for name, values in columns.items() if plain_guess(name) in rank and fits(values)]
    return sorted(here, key=lambda name: rank[plain_guess(name)])


def _one(key: str, names: Sequence[str], why: str) -> list[TableGuess]:
    return [TableGuess(key, names[0], why, tuple(names[1:]))] if names else []


def _label(columns: dict[str, pd.Series]) -> list[TableGuess]:
    """Return label and, if needed, outcome and positive value."""
    two = {name: values for name, values in columns.items() if len(_values(values)) == 2}
    if not two:
        raise DataError(
            f"none of {len(columns)} columns has exactly two values, so none looks like a label",
            fix="add a column with the outcome of each account: yes or no",
        )
    named = _named(two, (*_LABELS, *_KEPT, *_GREW))
    chosen = named[0] if named else list(two)[-1]
    others = (*named, *(name for name in list(two)[::-1] if name not in named))
    why = "its name, and two values" if named else "the last column with two values: a weak guess"
    label = TableGuess("label", chosen, why, tuple(name for name in others if name != chosen))
    return [label, *_outcome(chosen), *_positive(chosen, _values(two[chosen]))]


def _values(column: pd.Series) -> list[str]:
    """Return the different values of a column in lower case; empty if there are many."""
    known = text_of(column).dropna() if is_text_column(column) else column.dropna()
    if known.nunique() > 2:
        return []
    return sorted(set(convert(known, "category", known).dropna().str.lower()))


def _outcome(name: str) -> list[TableGuess]:
    return (
        [TableGuess("outcome", "expansion", "the label's name")]
        if plain_guess(name) in _GREW
        else []
    )


def _positive(name: str, values: Iterable[str]) -> list[TableGuess]:
    """Return the positive value, if it is not 1, true or yes."""
    values = list(values)
    if plain_guess(name) in _KEPT:
        lost = [value for value in values if value in FALSE]
        return [TableGuess("positive", lost[0], f"{name} says who stayed")] if lost else []
    if any(value in TRUE for value in values):
        return []
    lost = [v for v in values if _LOST.search(v) and not _LOSS_NEGATED.search(v)]
    if len(lost) == 1:
        return [TableGuess("positive", lost[0], "it sounds like leaving")]
    return [TableGuess("positive", values[-1], "a weak guess", tuple(values[:-1]))]


def _id(named: Sequence[str], rows: pd.DataFrame) -> list[TableGuess]:
    """Return the account id: of the matching names, the column with the most values."""
    ranked = sorted(named, key=lambda name: -rows[name].nunique())
    if not ranked:
        return []
    n = rows[ranked[0]].nunique()
    why = f"its name, and {n:,} different values in {len(rows):,} rows"
    return [TableGuess("id", ranked[0], why, tuple(ranked[1:]))]


def _times(columns: dict[str, pd.Series], entity: str | None) -> list[TableGuess]:
    """Return as_of, if accounts repeat, and the times of label and decision."""
    dates = {name: values for name, values in columns.items() if _kind(values) == "date"}
    open_ended = {
        name: values for name, values in dates.items() if parse_dates(values).isna().any()
    }
    decided = _one("decided_at", _named(open_ended, _DECIDED), "its name, and empty in some rows")
    repeats = entity is not None and bool(columns[entity].duplicated().any())
    if not repeats:
        return []
    apart = [
        name
        for name, values in dates.items()
        if not pd.DataFrame({"id": columns[str(entity)], "at": parse_dates(values)})
        .duplicated()
        .any()
        and parse_dates(values).notna().all()
    ]
    ranked = [*_named({n: dates[n] for n in apart}, _AS_OF), *apart]
    names = list(dict.fromkeys(ranked))
    if not names:
        return []
    moment = _one("as_of", names, "accounts repeat, and it distinguishes their rows")
    known = _one("label_known_at", _named(dates, _KNOWN), "its name")
    until = known or [
        TableGuess("horizon_days", HORIZON_DAYS, "not in the table: set the horizon of the label")
    ]
    return [*moment, *until, *decided]


def _kind(column: pd.Series) -> Kind | None:
    try:
        return detect_kind(column).kind
    except DataError:
        return None  # unclear; `bellwether check` gives the reason


def _is_number(column: pd.Series) -> bool:
    return _kind(column) == "number"


def _is_segment(column: pd.Series) -> bool:
    return _kind(column) == "category" and int(text_of(column).nunique()) <= MAX_SEGMENTS
