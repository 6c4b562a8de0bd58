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
"""How a text is read that can be read in two ways: 01/02/2024, or 1,234."""

TABLE_INPUT: Name = "table"
"""The input a `file` becomes."""


class LabelColumn(ConfigModel):
    """The column that says what happened."""

    column: str
    positive: str | None = Field(
        None, description="the value that means it happened; by default 1, true or yes"
    )
    negative: tuple[str, ...] | None = Field(
        None,
        description="the values that mean it did not happen, where there are more than two; rows "
        "with any other value have no label",
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
    """One table to learn from: one row per account, or per account and as_of."""

    file: str | None = Field(None, description="CSV or Parquet, relative to the data folder")
    source: str | None = Field(None, alias="from", description="an input, instead of `file`")
    id: str | None = Field(
        None, description="column that names the account; without it every row is one of its own"
    )
    label: LabelColumn = Field(description="the column that says what happened, and which value")
    outcome: Literal["churn", "contraction", "expansion"] = Field(
        "churn", description="what the label tells: churn, contraction or expansion"
    )
    as_of: str | None = Field(
        None, description="column of the moment a row describes; without it the table is static"
    )
    taken_on: date | None = Field(
        None, description="of a static table: the day it describes; date columns need it"
    )
    horizon_days: Annotated[int, Field(ge=7, le=730)] | None = Field(
        None, description="days after as_of within which the label was decided"
    )
    label_known_at: str | None = Field(
        None, description="column of when the label was known, instead of `horizon_days`"
    )
    decided_at: str | None = Field(
        None, description="column of when it was decided, empty when it was not: for lead times"
    )
    segment: str | None = Field(None, description="column to compare segments by")
    arr: str | None = Field(None, description="column of the yearly value of an account")
    mrr: str | None = Field(None, description="column of its monthly value, instead of `arr`")
    health_score: str | None = Field(
        None, description="column of the score used so far: compared with, never a feature"
    )
    health_score_means: Literal["health", "risk"] = Field(
        "health", description="what a higher health_score stands for"
    )
    columns: dict[str, ColumnKind] = Field(
        default_factory=dict,
        description="how a column is read, where that is not seen: number, flag, category, date, "
        "drop",
    )
    written: dict[str, Written] = Field(
        default_factory=dict,
        description="column: how its text is to be read where that cannot be seen: day_first, "
        "month_first, decimal_comma, decimal_point",
    )
    words: dict[str, str] = Field(
        default_factory=dict, description="what a column is called in reasons"
    )
    signs: dict[str, Sign] = Field(
        default_factory=dict,
        description="column: 1 when more of it should raise the outcome, -1 when lower it",
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
                "a table with `as_of` needs `horizon_days` or `label_known_at`: until when a label "
                "is open decides which rows a cut-off may learn from"
            )
        return self

    @property
    def input_name(self) -> str:
        """The input its rows come from."""
        return self.source or TABLE_INPUT

    @property
    def named(self) -> dict[str, str]:
        """Columns with a part of their own, by key."""
        keys = (
            "id", "as_of", "label_known_at", "decided_at", "segment", "arr", "mrr", "health_score",
        )  # fmt: skip
        given = {key: getattr(self, key) for key in keys}
        return {"label": self.label.column, **{k: v for k, v in given.items() if v is not None}}


def target_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one target of a table as written; its mistakes are told where they stand.

    >>> target_of({"outcome": "expansion", "horizon_days": 30})["expansion"]["horizon_days"]
    30
    """
    outcome, horizon = table.get("outcome"), table.get("horizon_days")
    outcome = outcome if outcome in ("contraction", "expansion") else "churn"
    target = {"outcome": outcome, "observed_in": "table", "until_renewal": False}
    if isinstance(horizon, int) and 7 <= horizon <= 730:
        target["horizon_days"] = horizon
    return {outcome: target}
