"""Vendor starters: how the exports of a tool map to the source tables (``configs/starters``).

A starter recognises a file by its headers and proposes its mapping; `bellwether init` reads all of
them. Headers are compared without case, spaces and punctuation. Adding a tool is adding a file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from configs.schema.base import ConfigModel, Days, Name
from configs.schema.yaml_models import parse_model, read_yaml

STARTERS = Path(__file__).parents[1] / "starters"
"""Folder of the shipped starters."""


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Headers = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
"""One column under its possible names (label, API name, dbt name); the first one present counts."""


class StarterLink(ConfigModel):
    """A column that may identify the account, compared with the accounts' own columns."""

    column: Headers = ()
    sql: str | None = Field(
        None, description="SQL of the value where it is part of a column; instead of `column`"
    )
    by: Literal["value", "domain", "name"] = "value"

    @model_validator(mode="after")
    def _one_value(self) -> StarterLink:
        if bool(self.column) == (self.sql is not None):
            raise ValueError("a link has either `column` or `sql`")
        return self


class StarterBilling(ConfigModel):
    """`configs.schema.source_mapping.Billing` with the vendor's column names."""

    rows: Literal["term", "period", "subscription", "change", "invoice_line"]
    amount: Headers = ()
    amount_is: Literal["arr", "mrr", "interval", "total", "change_in_arr", "change_in_mrr"] = (
        "interval"
    )
    quantity: Headers = ()
    interval: Headers = Field((), description="column; a word in quotes is a constant")
    interval_count: Headers = ()
    minor_units: bool = False
    sql: dict[Literal["amount", "quantity", "interval", "interval_count"], str] = Field(
        default_factory=dict, description="SQL of these values, used before their columns"
    )

    @model_validator(mode="after")
    def _has_amount(self) -> StarterBilling:
        if not self.amount and "amount" not in self.sql:
            raise ValueError("billing needs `amount` or `sql.amount`")
        return self


class StarterFile(ConfigModel):
    """One kind of file a tool exports, and the table it fills.

    SQL in `sql`, `known_at` and `leave_out` names source columns in double quotes; an expression
    whose columns are not all in the file is left out.
    """

    name: Name
    about: str = Field(description="where in the tool the export is, or the API object")
    table: Name
    also: bool = Field(
        False, description="fills a further table from a file that another entry recognises"
    )
    required: tuple[Headers, ...] = Field(
        description="columns that must be in the file for it to be recognised"
    )
    columns: dict[str, Headers] = Field(
        default_factory=dict, description="canonical column: source column"
    )
    sql: dict[str, str] = Field(
        default_factory=dict, description="canonical column: SQL, used before `columns`"
    )
    account: tuple[StarterLink, ...] = ()
    known_at: Headers = Field((), description="time a row reached the tool, never overwritten")
    known_delay_days: Days = 0
    overwritten: tuple[str, ...] = Field(
        (), description="columns that change in place: never a `known_at` of the first version"
    )
    leave_out: str | None = None
    leave_out_also: Headers = Field(
        (), description="further conditions, each used where its columns are in the file"
    )
    billing: StarterBilling | None = None
    timezone: str = "UTC"
    history: bool = False
    notes: tuple[str, ...] = Field((), description="traps of this export, shown to the user")

    @model_validator(mode="after")
    def _consistent(self) -> StarterFile:
        both = set(self.columns) & set(self.sql)
        if both and any(not self.columns[name] for name in both):
            raise ValueError(f"columns without a name: {', '.join(sorted(both))}")
        return self


class Starter(ConfigModel):
    """The exports of one tool."""

    vendor: str
    version: Annotated[int, Field(ge=1)]
    source: tuple[str, ...] = Field(description="documentation of the column names")
    files: tuple[StarterFile, ...]


@cache
def load_starters() -> tuple[Starter, ...]:
    """Return the shipped starters, by file name.

    Raises
    ------
    ConfigError
        A starter has mistakes.
    """
    return tuple(
        parse_model(
            Starter,
            read_yaml(path),
            what="the starter has mistakes",
            where=str(path),
            fix="compare it with another starter in configs/starters",
        )
        for path in sorted(STARTERS.glob("*.yaml"))
    )
