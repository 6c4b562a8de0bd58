"""The ``table`` section of ``company.yaml``: one ready-made table with a label column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from configs.schema.base import ConfigModel, Name

ColumnKind = Literal["number", "flag", "category", "date", "drop"]
Sign = Literal[-1, 0, 1]
Written = Literal["day_first", "month_first", "decimal_comma", "decimal_point"]
"""Format of ambiguous text, such as 01/02/2024 or 1,234."""

TABLE_INPUT: Name = "table"
"""Name of the input that `file` defines."""


class LabelColumn(ConfigModel):
    """The label column and the meaning of its values."""

    column: str
    positive: str | None = Field(None, description="value of an event; by default 1, true or yes")
    negative: tuple[str, ...] | None = Field(
        None,
        description="values of a non-event, where the column has more than two; rows with any "
        "other value have no label",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("positive", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # YAML reads a bare Yes as true and 1 as a number; the column is read as text.
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, int | float) else value

    @field_validator("negative", mode="before")
    @classmethod
    def _as_texts(cls, value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else None if value is None else [value]
        return None if values is None else tuple(cls._as_text(item) for item in values)


class ReadyTable(ConfigModel):
    """One table to train on: one row per account, or per account and as_of."""

    file: str | None = Field(
        None, description="CSV, Excel, JSON or Parquet file, relative to the data folder"
    )
    source: str | None = Field(None, alias="from", description="an input, instead of `file`")
    id: str | None = Field(
        None, description="column of the account id; without it every row is an account of its own"
    )
    label: LabelColumn = Field(description="the label column, and which value is an event")
    outcome: Literal["churn", "contraction", "expansion"] = Field(
        "churn", description="outcome the label describes: churn, contraction or expansion"
    )
    as_of: str | None = Field(
        None, description="column of the instant a row describes; without it the table is static"
    )
    taken_on: date | None = Field(
        None, description="day a static table describes; required with date columns"
    )
    horizon_days: Annotated[int, Field(ge=7, le=730)] | None = Field(
        None, description="days after as_of within which the label was decided"
    )
    label_known_at: str | None = Field(
        None, description="column of the time the label was known, instead of `horizon_days`"
    )
    decided_at: str | None = Field(
        None, description="column of the time of the decision, empty for non-events: for lead times"
    )
    segment: str | None = Field(None, description="column of the segment")
    arr: str | None = Field(None, description="column of the annual revenue of an account")
    mrr: str | None = Field(None, description="column of its monthly revenue, instead of `arr`")
    health_score: str | None = Field(
        None,
        description="column of the health score in use: compared with the model, never a feature",
    )
    health_score_means: Literal["health", "risk"] = Field(
        "health", description="meaning of a higher health_score"
    )
    columns: dict[str, ColumnKind] = Field(
        default_factory=dict,
        description="column: its kind, where it is not recognised: number, flag, category, date, "
        "drop",
    )
    written: dict[str, Written] = Field(
        default_factory=dict,
        description="column: format of its text where it is ambiguous: day_first, month_first, "
        "decimal_comma, decimal_point",
    )
    words: dict[str, str] = Field(default_factory=dict, description="column: its name in reasons")
    signs: dict[str, Sign] = Field(
        default_factory=dict,
        description="column: 1 when a higher value should raise the outcome, -1 when it should "
        "lower it",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> ReadyTable:
        if (self.file is None) == (self.source is None):
            raise ValueError("a table has either `file` or `from`")
        if self.arr is not None and self.mrr is not None:
            raise ValueError("a table has either `arr` or `mrr`")
        if self.as_of is not None and self.taken_on is not None:
            raise ValueError("`taken_on` is for a table without `as_of`")
        if self.as_of is None and self.label_known_at is not None:
            raise ValueError("`label_known_at` needs `as_of`")
        if self.as_of is not None and (self.horizon_days is None) == (self.label_known_at is None):
            raise ValueError(
                "a table with `as_of` needs `horizon_days` or `label_known_at`: they decide from "
                "which day a label may be used for training"
            )
        return self

    @property
    def input_name(self) -> str:
        """Name of the input with its rows."""
        return self.source or TABLE_INPUT

    @property
    def named(self) -> dict[str, str]:
        """Columns with a special role, by key."""
        keys = (
            "id", "as_of", "label_known_at", "decided_at", "segment", "arr", "mrr", "health_score",
        )  # fmt: skip
        given = {key: getattr(self, key) for key in keys}
        return {"label": self.label.column, **{k: v for k, v in given.items() if v is not None}}


def target_of(table: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return the target of a ready-made table; invalid values are left to its own validation.

    >>> target_of({"outcome": "expansion", "horizon_days": 30})["expansion"]["horizon_days"]
    30
    """
    outcome, horizon = table.get("outcome"), table.get("horizon_days")
    name = str(outcome) if outcome in ("contraction", "expansion") else "churn"
    target: dict[str, object] = {"outcome": name, "observed_in": "table", "until_renewal": False}
    if isinstance(horizon, int) and 7 <= horizon <= 730:
        target["horizon_days"] = horizon
    return {name: target}
