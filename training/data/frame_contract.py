"""Contract of the typed training frame, checked once at the start of a training.

Rows come from the feature store, ready-made tables or a caller's code. All later steps rely on the
checked properties: labels, times, order and one row per key.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from configs.runtime.errors import DataError
from features.revenue.growth_kinds import KINDS, UNKNOWN_KIND
from training.data.training_frame import TrainingFrame

SHOWN = 5
"""Number of faults listed in an error; the others are counted."""


@cache
def rows_schema() -> pa.DataFrameSchema:
    """Return the schema of the rows: one per (entity_id, as_of), sorted by (as_of, entity_id)."""
    text = pa.Check(lambda values: values.map(lambda value: isinstance(value, str)), name="text")
    moment = pa.Check(_is_timestamp, name="moments in UTC")
    kinds = pa.Check.isin(["", *KINDS, UNKNOWN_KIND])
    known = pa.Check(
        lambda rows: rows["label_known_at"] >= rows["as_of"],
        name="label_known_at is not before as_of",
    )
    decided = pa.Check(
        lambda rows: rows["decision_at"].isna() | (rows["label"] == 1),
        name="decision_at only where the label is 1",
    )
    return pa.DataFrameSchema(
        {
            "entity_id": pa.Column(checks=text),
            "as_of": pa.Column(checks=[moment, pa.Check(_is_sorted, name="order")]),
            "label": pa.Column(checks=pa.Check.isin([0, 1])),
            "label_known_at": pa.Column(checks=moment),
            "decision_at": pa.Column(checks=moment, nullable=True),
            "arr": pa.Column("float64", pa.Check(np.isfinite, name="finite"), nullable=True),
            "segment": pa.Column(checks=text),
            "is_under_contract": pa.Column("bool"),
            "days_to_renewal": pa.Column("float64", nullable=True),
            "health_score": pa.Column("float64", nullable=True),
            "growth_kind": pa.Column(checks=kinds, required=False),
        },
        checks=[known, decided],
        unique=["as_of", "entity_id"],
        name="training rows",
    )


def check_frame(frame: TrainingFrame) -> TrainingFrame:
    """Return the frame if it satisfies the contract.

    Raises
    ------
    DataError
        With each column, its fault, the number of rows and the first of them.
    """
    either = pa.Check(_is_feature, name="numbers (float64) or text")
    features = pa.DataFrameSchema(
        {name: pa.Column(checks=either, nullable=True) for name in frame.features}
    )
    try:
        rows_schema().validate(frame.rows, lazy=True)
        features.validate(frame.features, lazy=True)
    except SchemaErrors as error:
        raise DataError(
            "the training rows violate their contract: " + "; ".join(_faults(error.failure_cases)),
            where=f"target {frame.target}",
            fix="correct the code that builds the frame; columns: training.data.training_frame",
        ) from error
    return frame


_WORDS = {"multiple_fields_uniqueness": "entity_id and as_of are not unique together"}
"""Messages by pandera's name of a failed check."""


def _is_timestamp(values: pd.Series) -> bool:
    return isinstance(values.dtype, pd.DatetimeTZDtype) and str(values.dtype.tz) == "UTC"


def _is_sorted(values: pd.Series) -> bool:
    return bool(values.is_monotonic_increasing)


def _is_feature(values: pd.Series) -> bool:
    if values.dtype == object:
        return bool(values.dropna().map(lambda value: isinstance(value, str)).all())
    return bool(values.dtype == np.float64)


def _faults(cases: pd.DataFrame) -> list[str]:
    """Return per column and check, columns first, the number of rows and the first of them.

    pandera reports a check of whole rows once per column of each row; it is listed once.
    """
    is_row = cases["schema_context"] == "DataFrameSchema"
    named = cases.assign(column=cases["column"].where(~is_row, "rows"), is_row=is_row)
    found = []
    for (_, column, check), faults in named.groupby(
        ["is_row", "column", "check"], dropna=False, sort=False
    ):
        index = faults["index"].dropna().unique()
        what = _WORDS.get(str(check), check)
        where = f", {len(index):,} rows, the first is {min(index)}" if len(index) else ""
        found.append((is_row[faults.index[0]], f"{column}: {what}{where}"))
    lines = [words for _, words in sorted(found, key=lambda item: item[0])]
    return lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
