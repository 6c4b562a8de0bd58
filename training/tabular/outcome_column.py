"""The label column of a ready-made table: which words mean that it happened, and which that not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from configs.runtime.errors import DataError, did_you_mean
from configs.schema.ready_table import LabelColumn, ReadyTable
from features.sources.parsing.text_values import FALSE, MISSING, TRUE, UNKNOWN
from training.tabular.column_kinds import convert, text_of

SHOWN = 8
"""Words of a label column that are shown."""

KEPT = frozenset(
    {
        "active", "stayed", "stay", "retained", "renewed", "kept", "current", "existing", "live",
        "not churned", "not lost", "no churn", "customer", "existing customer", "open", "flat",
        "non churn", "none",
    }
)  # fmt: skip
"""Words that mean it did not happen, besides no and false."""

OPEN = UNKNOWN | {"pending", "undecided", "open question", "to be decided", "not sure", "unclear",
                  "other"}  # fmt: skip
"""Words that say neither: such rows have no label."""


@dataclass(frozen=True)
class OutcomeColumn:
    """A label column, read.

    Attributes
    ----------
    values : pandas.Series
        1.0, 0.0, and NaN where no label is given.
    words : dict of str to str
        Each word of the column and what it counts as, with the number of its rows.
    """

    values: pd.Series
    words: dict[str, str]


def read_label(table: ReadyTable, column: pd.Series, place: str) -> OutcomeColumn:
    """Return the label of every row.

    Raises
    ------
    DataError
        The wanted word is not there, or it is unclear what other words mean.
    """
    text = _text(column)
    values = sorted(text.dropna().unique())
    where = f"column {table.label.column}, {place}"
    positive = _positives(table.label.positive, values)
    _refuse_none(table.label, positive, values, where)
    negative = _negatives(table.label, positive, values, text, where)
    said = pd.Series(1.0, text.index).where(text.isin(positive), 0.0)
    label = said.where(text.isin(positive | negative))
    return OutcomeColumn(label, _told(text, positive, negative))


def _text(column: pd.Series) -> pd.Series:
    """Return the words in lower case; whole numbers without a point."""
    plain = convert(column, "category", pd.Series(dtype="datetime64[us, UTC]"))
    return text_of(plain, MISSING).astype("object").str.lower()


def _refuse_none(
    label: LabelColumn, positive: frozenset[str], values: list[str], where: str
) -> None:
    if positive or set(values) <= set(FALSE):
        return
    wanted = label.positive
    said = "1, true or yes" if wanted is None else repr(wanted)
    raise DataError(
        f"no row has the label {said}; there are: {', '.join(values[:SHOWN])}",
        where=where,
        fix=did_you_mean(str(wanted), values)
        or f"name it:  label: {{column: {label.column}, positive: …}}",
    )


def _positives(wanted: str | None, values: Iterable[str]) -> frozenset[str]:
    """Return the spellings of the wanted value among those there are."""
    known = set(values)
    if wanted is None:
        return frozenset(set(TRUE) & known)
    exact = frozenset(value for value in known if value == wanted.lower())
    return exact or (frozenset(set(TRUE) & known) if wanted.lower() in TRUE else frozenset())


def _negatives(
    label: LabelColumn, positive: frozenset[str], values: list[str], text: pd.Series, where: str
) -> frozenset[str]:
    """Return the words that mean it did not happen; ask about those that may mean either."""
    others = [value for value in values if value not in positive]
    if label.negative is not None:
        return _told_negatives(label, others, where)
    known = {value for value in others if value in FALSE or value in KEPT}
    unclear = [value for value in others if value not in known and value not in OPEN]
    if len(unclear) == 1 and not known:
        return frozenset(unclear)  # the one other word
    if not unclear:
        return frozenset(known)
    counts = text.value_counts()
    shown = ", ".join(f"{value} ({counts[value]:,} rows)" for value in unclear[:SHOWN])
    if label.positive is None:
        raise DataError(
            f"the label has {len(values)} different values: {', '.join(values[:SHOWN])}",
            where=where,
            fix=f"say which one counts:  label: {{column: {label.column}, positive: …}}",
        )
    names = ", ".join([*sorted(known), *unclear])
    raise DataError(
        f"the label has {len(values)} different values, and it is not clear whether some mean that "
        f"it did not happen: {shown}",
        where=where,
        fix=f"name those that do; rows with any other have no label:  label: {{column: "
        f"{label.column}, positive: {label.positive}, negative: [{names}]}}",
    )


def _told_negatives(label: LabelColumn, others: list[str], where: str) -> frozenset[str]:
    told = {word.lower() for word in label.negative or ()}
    lost = sorted(told - set(others))
    if lost:
        raise DataError(
            f"no row has the label {', '.join(map(repr, lost))}; besides the positive there are: "
            f"{', '.join(others[:SHOWN])}",
            where=where,
            fix=did_you_mean(lost[0], others) or "correct label.negative",
        )
    return frozenset(told)


def _told(text: pd.Series, positive: frozenset[str], negative: frozenset[str]) -> dict[str, str]:
    counts = text.value_counts().sort_index()
    meaning = {**dict.fromkeys(positive, "happened"), **dict.fromkeys(negative, "did not happen")}
    return {
        str(word): f"{meaning.get(str(word), 'no label')}, {int(n):,} rows"
        for word, n in counts.items()
    }
