"""The ``inputs`` and ``tables`` sections of ``company.yaml``: raw inputs and their mapping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from configs.schema.base import ConfigModel, Days, Name
from configs.schema.ready_table import Written


class Input(ConfigModel):
    """A raw table: one or several files, or a table of a named database connection."""

    file: str | tuple[str, ...] | None = Field(
        None,
        description="CSV, Excel, JSON or Parquet file, relative to the data folder: a name, a "
        "pattern, a folder, an address (s3://, gs://, az://), or a list of these; .gz and .zip are "
        "read as well",
    )
    sheet: str | None = Field(
        None,
        description="sheet of an Excel workbook; by default the first one with a header and rows",
    )
    connection: Name | None = Field(
        None,
        description="name of a connection; its URL is BELLWETHER_CONNECTION_<NAME> in the "
        "environment",
    )
    table: str | None = Field(
        None, description="schema.table in that connection, or catalog.schema.table"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str | list | tuple) else value

    @property
    def files(self) -> tuple[str, ...]:
        """Names, patterns and addresses of the files; empty for a database table."""
        return (self.file,) if isinstance(self.file, str) else self.file or ()

    @property
    def has_local_files(self) -> bool:
        """Whether some of its files are in the data folder, not in an object store."""
        return any("://" not in text for text in self.files)

    @field_validator("sheet", mode="before")
    @classmethod
    def _sheet_name(cls, value: Any) -> Any:
        # YAML reads a bare 2026 as a number.
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_place(self) -> Input:
        if (self.file is None) == (self.connection is None):
            raise ValueError("an input has either `file`, or `connection` and `table`")
        if self.connection is not None and self.table is None:
            raise ValueError("an input with `connection` also needs `table`")
        if self.file is not None and not (self.files and all(self.files)):
            raise ValueError("`file` is empty: name at least one file")
        if self.sheet is not None and self.file is None:
            raise ValueError("`sheet` is for a workbook: it needs `file`")
        return self


class AccountLink(ConfigModel):
    """A value that identifies the account of a row, where the row has no account id.

    The value is compared with a column of the accounts' own source. A value that two accounts
    share identifies neither.
    """

    column: str = Field(description="source column or SQL expression of this table")
    matches: str = Field(description="source column of the accounts table that holds the same")
    by: Literal["value", "domain", "name"] = Field(
        "value",
        description="value: equal text; domain: of an e-mail address or a web site; name: company "
        "names, without case, punctuation and legal form",
    )


class Billing(ConfigModel):
    """Shape of a billing export: what a row is, and how its amount becomes ARR."""

    rows: Literal["term", "period", "subscription", "change", "invoice_line"] = Field(
        description="term: one row per contract term; period: one row per billing period; "
        "subscription: one row per subscription, its current period overwritten; change: one row "
        "per change of the amount, 0 for the end; invoice_line: lines with a service period, "
        "summed per subscription"
    )
    amount: str = Field(description="source column or SQL expression of the price")
    amount_is: Literal["arr", "mrr", "interval", "total", "change_in_arr", "change_in_mrr"] = Field(
        "interval",
        description="what the amount pays for: arr, mrr; interval: one billing interval; total: "
        "the whole term or service period; change_in_…: the difference to the amount before",
    )
    quantity: str | None = Field(
        None, description="column to multiply the amount by, for a price per seat or unit"
    )
    interval: str | None = Field(
        None,
        description="column of the billing interval (month, quarter, year, …), or one of these "
        "words in quotes for all rows",
    )
    interval_count: str | None = Field(
        None, description="column of the number of intervals per period, 3 for every three months"
    )
    minor_units: bool = Field(
        False, description="amounts are in cents (in units for JPY and KRW, as Stripe's API sends)"
    )

    @model_validator(mode="after")
    def _has_interval(self) -> Billing:
        needs = self.rows == "subscription" or self.amount_is == "interval"
        if needs and self.interval is None:
            raise ValueError(
                "billing needs `interval`, a column such as Interval or a word in quotes such as "
                "\"'month'\""
            )
        if self.amount_is.startswith("change_in") and self.rows != "change":
            raise ValueError(f"amount_is: {self.amount_is} only goes with `rows: change`")
        return self


class TableMapping(ConfigModel):
    """Mapping of a source table to a canonical table."""

    source: str | None = Field(
        None, alias="from", description="input; by default the input of the same name"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="canonical column: source column or SQL expression"
    )
    account: tuple[AccountLink, ...] = Field(
        (),
        description="values that identify the account, tried in order, where the rows have no "
        "account id: {column: Person Email, matches: Website, by: domain}",
    )
    leave_out: str | None = Field(
        None,
        description="SQL condition of rows to leave out, such as IsDeleted = 'true'; they are "
        "counted as set aside",
    )
    billing: Billing | None = Field(
        None, description="subscriptions only: shape of the export, and how amounts become ARR"
    )
    sql: str | None = Field(
        None, description="SELECT over the inputs that yields canonical columns; instead of `from`"
    )
    known_at: str | None = Field(
        None, description="source column or SQL expression of the time a row became visible"
    )
    known_delay_days: Days = Field(
        0, description="without `known_at`: days until a row becomes visible"
    )
    timezone: str = Field("UTC", description="time zone of timestamps without one")
    written: dict[str, Written] = Field(
        default_factory=dict,
        description="canonical column: format of its text where it is ambiguous: day_first, "
        "month_first, decimal_comma, decimal_point",
    )
    roll_up: bool = Field(
        False,
        description="accounts only: merge every account into its topmost parent, in all tables",
    )
    history: bool = Field(
        False,
        description="the table keeps every version of a row, each with known_at, so attributes may "
        "be used as features",
    )
    unfold: Literal["year", "quarter", "month", "off"] | None = Field(
        None,
        description="subscriptions only: billing period of rows whose renewal date is overwritten "
        "at each renewal; they are split into one row per period. By default the pattern is "
        "detected and reported; `off` keeps the rows",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_link(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("account"), dict):
            return {**value, "account": [value["account"]]}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> TableMapping:
        if self.account and "account_id" in self.columns:
            raise ValueError("`account` and `columns.account_id` both name the account: remove one")
        if self.billing is not None and ("arr" in self.columns or self.unfold is not None):
            raise ValueError("`billing` replaces `columns.arr` and `unfold`: remove them")
        return self


def _as_parts(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("an empty list: name at least one source, or remove the table")
        return value
    return [{} if value is None else value]


TableParts = Annotated[tuple[TableMapping, ...], BeforeValidator(_as_parts)]
"""The mappings of a table, one per source that fills it; written alone where there is one."""


class Guess(ConfigModel):
    """Evidence for a value that `bellwether init` chose, for a person to confirm."""

    why: str = Field(description="evidence for the choice")
    sure: Literal["high", "medium", "low"] = Field("medium", description="confidence of the guess")
    others: tuple[str, ...] = Field((), alias="or", description="alternatives")
