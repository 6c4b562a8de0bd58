"""Label column of a ready-made table: positive, negative and unlabelled values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from configs.runtime.errors import DataError, did_you_mean
from configs.schema.ready_table import LabelColumn, ReadyTable
from features.sources.parsing.text_values import FALSE, MISSING, TRUE, UNKNOWN
from training.tabular.column_kinds import convert, text_of

SHOWN = 8
"""Number of values of a label column in messages."""

KEPT = frozenset(
    {
        "active", "stayed", "stay", "retained", "renewed", "kept", "current", "existing", "live",
        "not churned", "not lost", "no churn", "customer", "existing customer", "open", "flat",
        "non churn", "none",
    }
)  # fmt: skip
"""Negative values, besides no and false."""

OPEN = UNKNOWN | {"pending", "undecided", "open question", "to be decided", "not sure", "unclear",
                  "other"}  # fmt: skip
"""Values of rows without a label."""


@dataclass(frozen=True)
class OutcomeColumn:
    """Parsed label column.

    Attributes
    ----------
    values : pandas.Series
        1.0, 0.0, and NaN without a label.
    words : dict of str to str
        Meaning of each value of the column, with its number of rows.
    """

    values: pd.Series
    words: dict[str, str]


def read_label(table: ReadyTable, column: pd.Series, place: str) -> OutcomeColumn:
    """Return the label of every row.

    Raises
    ------
    DataError
        The positive value is missing, or the meaning of other values is unclear.
    """
    text = _text(column)
    values = sorted(text.dropna().unique())
    where = f"column {table.label.column}, {place}"
    positive = _positives(table.label.positive, values)
    _check_positive(table.label, positive, values, where)
    negative = _negatives(table.label, positive, values, text, where)
    expected = pd.Series(1.0, text.index).where(text.isin(positive), 0.0)
    label = expected.where(text.isin(positive | negative))
    return OutcomeColumn(label, _meanings(text, positive, negative))


def _text(column: pd.Series) -> pd.Series:
    """Return the values in lower case; whole numbers without decimals."""
    plain = convert(column, "category", pd.Series(dtype="datetime64[us, UTC]"))
    return text_of(plain, MISSING).astype("object").str.lower()


def _check_positive(
    label: LabelColumn, positive: frozenset[str], values: list[str], where: str
) -> None:
    if positive or set(values) <= set(FALSE):
        return
    wanted = label.positive
    expected = "1, true or yes" if wanted is None else repr(wanted)
    raise DataError(
        f"no row has the label {expected}; there are: {', '.join(values[:SHOWN])}",
        where=where,
        fix=did_you_mean(str(wanted), values)
        or f"set it:  label: {{column: {label.column}, positive: …}}",
    )


def _positives(wanted: str | None, values: Iterable[str]) -> frozenset[str]:
    """Return the present spellings of the positive value."""
    known = set(values)
    if wanted is None:
        return frozenset(set(TRUE) & known)
    exact = frozenset(value for value in known if value == wanted.lower())
    return exact or (frozenset(set(TRUE) & known) if wanted.lower() in TRUE else frozenset())


def _negatives(
    label: LabelColumn, positive: frozenset[str], values: list[str], text: pd.Series, where: str
) -> frozenset[str]:
    """Return the negative values; raise for unclear ones."""
    others = [value for value in values if value not in positive]
    if label.negative is not None:
        return _given_negatives(label, others, where)
    known = {value for value in others if value in FALSE or value in KEPT}
    unclear = [value for value in others if value not in known and value not in OPEN]
    if len(unclear) == 1 and not known:
        return frozenset(unclear)  # the only other value
    if not unclear:
        return frozenset(known)
    counts = text.value_counts()
    shown = ", ".join(f"{value} ({counts[value]:,} rows)" for value in unclear[:SHOWN])
    if label.positive is None:
        raise DataError(
            f"the label has {len(values)} different values: {', '.join(values[:SHOWN])}",
            where=where,
            fix=f"set the positive value:  label: {{column: {label.column}, positive: …}}",
        )
    names = ", ".join([*sorted(known), *unclear])
    raise DataError(
        f"the label has {len(values)} different values, and the meaning of some is unclear: "
        f"{shown}",
        where=where,
        fix=f"list the negative values; other rows have no label:  label: {{column: "
        f"{label.column}, positive: {label.positive}, negative: [{names}]}}",
    )


def _given_negatives(label: LabelColumn, others: list[str], where: str) -> frozenset[str]:
    given = {word.lower() for word in label.negative or ()}
    lost = sorted(given - set(others))
    if lost:
        raise DataError(
            f"no row has the label {', '.join(map(repr, lost))}; other values are: "
            f"{', '.join(others[:SHOWN])}",
            where=where,
            fix=did_you_mean(lost[0], others) or "correct label.negative",
        )
    return frozenset(given)


def _meanings(
    text: pd.Series, positive: frozenset[str], negative: frozenset[str]
) -> dict[str, str]:
    counts = text.value_counts().sort_index()
    meaning = {**dict.fromkeys(positive, "happened"), **dict.fromkeys(negative, "did not happen")}
    return {
        str(word): f"{meaning.get(str(word), 'no label')}, {int(n):,} rows"
        for word, n in counts.items()
    }
