"""The company folder's ``company.yaml`` as typed, frozen models.

Behaviour lives here and is hashed into every model and score; places and secrets live in the
environment (`configs.places`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from configs.errors import ConfigError, did_you_mean
from configs.hashing import digest

COMPANY_FILE = "company.yaml"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Days = Annotated[int, Field(ge=0, le=3660)]
Share = Annotated[float, Field(ge=0, le=1)]


class Model(BaseModel):
    """Frozen, strict about names, with defaults written in the class."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Input(Model):
    """A raw table as it lies somewhere: a file, or a table of a named connection."""

    file: str | None = Field(None, description="CSV or Parquet, relative to the data folder")
    connection: Name | None = Field(
        None, description="its URL is the environment variable BELLWETHER_CONNECTION_<NAME>"
    )
    table: str | None = Field(None, description="schema.table of that connection")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_place(self) -> Input:
        if (self.file is None) == (self.connection is None):
            raise ValueError("an input has either `file`, or `connection` and `table`")
        if self.connection is not None and self.table is None:
            raise ValueError("an input with `connection` also needs `table`")
        return self


class TableMapping(Model):
    """How a company's own table becomes one of ours."""

    source: str | None = Field(
        None, alias="from", description="an input; by default the input of the same name"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="our column: their column or SQL expression"
    )
    sql: str | None = Field(
        None, description="a SELECT over the inputs that yields our columns; instead of `from`"
    )
    known_at: str | None = Field(
        None, description="their column or SQL expression for when the row became visible"
    )
    known_delay_days: Days = Field(
        0, description="without `known_at`: days after it happened that a row becomes visible"
    )
    timezone: str = Field("UTC", description="of timestamps written without a zone")
    history: bool = Field(
        False,
        description="the table keeps every version of a row (each with known_at), so attributes "
        "may be used as features",
    )


class Grid(Model):
    """The moments of prediction: one grid feeds every model."""

    every: Literal["week", "month"] = "month"
    start_on: date | None = Field(
        None,
        description="first as_of; by default 182 days after the first row of usage_events (of "
        "support_tickets, else of invoices, where there is none): before that, features would "
        "tell how long the records go back, and not how accounts fare",
    )


class Cohort(Model):
    """Who is scored."""

    min_tenure_days: Days = Field(28, description="younger accounts are `too_new`")
    active_within_days: Days = Field(
        91, description="without contracts: no activity for this long is `closed`"
    )
    grace_days: Days = Field(
        45, description="an annual renewal this late is `pending_renewal`, not lost"
    )
    monthly_grace_days: Days = Field(7, description="the same for terms under 45 days")


class Target(Model):
    """One outcome to predict: a printed, versioned contract."""

    outcome: Literal["churn", "contraction", "expansion"]
    observed_in: Literal["subscriptions", "activity", "outcomes", "labels"] = Field(
        description="subscriptions: terms end or change; activity: silence or spend; "
        "outcomes: dated rows of the outcomes table; labels: rows of the labels table"
    )
    horizon_days: Annotated[int, Field(ge=7, le=730)] = 91
    lead_time_days: Days = 0
    margin: Annotated[float, Field(ge=0, le=10)] = Field(
        0.1, description="relative change of ARR or spend that counts as movement"
    )
    until_renewal: bool = Field(
        True,
        description="accounts under contract are asked about this renewal, whenever it is; "
        "otherwise about the horizon",
    )
    label_version: Annotated[int, Field(ge=1)] = 1


class Tuning(Model):
    """The Optuna search."""

    trials: Annotated[int, Field(ge=0, le=10_000)] = 20
    timeout_seconds: Annotated[int, Field(ge=1)] | None = None
    inner_folds: Annotated[int, Field(ge=1, le=10)] = 3


class Training(Model):
    """How models are fitted and compared."""

    seed: int = 7
    folds: Annotated[int, Field(ge=1, le=24)] = 4
    fold_days: Annotated[int, Field(ge=7, le=730)] = Field(
        91, description="length of one test period"
    )
    model_seeds: Annotated[int, Field(ge=1, le=25)] = Field(
        3, description="boosters averaged in logit space"
    )
    bootstrap_draws: Annotated[int, Field(ge=100, le=10_000)] = 300
    threads: Annotated[int, Field(ge=0)] = Field(
        0,
        description="of LightGBM; 0 takes one for small tables and every core for large ones; the "
        "model is the same with any number",
    )
    tuning: Tuning = Tuning()


class Gates(Model):
    """What a challenger must show before it is promoted without the word provisional."""

    min_events: Annotated[int, Field(ge=1)] = 100
    min_folds: Annotated[int, Field(ge=1)] = 3
    min_auc_lower: Share = Field(0.60, description="lower 95 % limit of out-of-time AUC")
    no_signal_auc_lower: Share = Field(
        0.50, description="a lower limit at or below this publishes the base rate"
    )
    max_calibration_ratio: Annotated[float, Field(ge=1)] = Field(
        1.25, description="observed/expected and slope lie within 1/x and x"
    )
    max_auc: Share = Field(0.95, description="above this it is too good: look for a leak")
    champion_tolerance: Share = Field(
        0.005, description="log-loss a challenger may lose against the champion's recipe"
    )


class Serving(Model):
    """How scores are shown."""

    bands: dict[Literal["elevated", "high"], float] = Field(
        default={"elevated": 1.5, "high": 3.0},
        description="risk bands start at this multiple of the base rate; frozen at release",
    )
    capacity_per_month: Annotated[int, Field(ge=1)] = Field(
        40, description="accounts the team can work in a month"
    )
    stale_after_days: Days = Field(10, description="features older than this are said to be stale")


class Checks(Model):
    """Methodological checks (`bellwether checks` lists them) that are not heeded, and why."""

    ignore: dict[
        Annotated[str, Field(pattern=r"^BW-[A-Z]\d\d$")], Annotated[str, Field(min_length=1)]
    ] = Field(default={}, description="code: the reason, which the model card repeats")


class Company(Model):
    """Everything a company decides. Hashes to `config_hash`."""

    config_version: Literal[1] = 1
    name: Name
    title: str = ""
    about: str = Field("", description="where the data comes from, licence")
    now: datetime | None = Field(None, description="pins the clock, for data that has ended")
    reporting_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    entity: Name = Field("account", description="what one row is about; its id is account_id")
    data: str = Field(
        ".",
        description="folder of the files, relative to this one; --data or "
        "BELLWETHER_DATA override it",
    )
    inputs: dict[Name, Input] = Field(default_factory=dict)
    tables: dict[str, TableMapping] = Field(default_factory=dict)
    grid: Grid = Grid()
    cohort: Cohort = Cohort()
    targets: dict[Name, Target]
    training: Training = Training()
    gates: Gates = Gates()
    serving: Serving = Serving()
    checks: Checks = Checks()
    exclude_features: tuple[str, ...] = Field(
        (), description="features not to train on; shell patterns"
    )

    @property
    def config_hash(self) -> str:
        """Identity of the behaviour: changes with any key but places, titles and the clock."""
        behaviour = self.model_dump(
            mode="json", by_alias=True, exclude={"title", "about", "now", "data", "inputs"}
        )
        return digest(behaviour)

    def clock(self) -> datetime:
        """Return the pinned `now`, or the present, in UTC. Called at the edge only."""
        if self.now is None:
            return datetime.now(UTC)
        return self.now.replace(tzinfo=UTC) if self.now.tzinfo is None else self.now.astimezone(UTC)


def load_company(folder: Path) -> Company:
    """Read and check ``company.yaml`` of a company folder.

    Raises
    ------
    ConfigError
        Naming the file, the key and the closest known key.
    """
    path = folder if folder.suffix in {".yaml", ".yml"} else folder / COMPANY_FILE
    if not path.is_file():
        raise ConfigError(
            "no company configuration here",
            where=str(path),
            fix=f"bellwether init {folder}   writes one to start from",
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not readable as YAML: {error}", where=str(path), fix="correct the line it names"
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError("the file holds no keys", where=str(path), fix="bellwether init FOLDER")
    return parse_company(raw, where=str(path))


def parse_company(raw: dict[str, Any], *, where: str) -> Company:
    """Check a parsed configuration; every mistake is named at once."""
    try:
        return Company.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            "the configuration has mistakes:\n" + "\n".join(_explain(error)),
            where=where,
            fix="correct these keys; `bellwether init FOLDER` writes an example with all of them",
        ) from error


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(str(item["loc"][-1]), _known_keys(item["loc"][:-1]))
            lines.append(f"  {key}: unknown key; {hint or 'see `bellwether init` for all keys'}")
        else:
            lines.append(f"  {key}: {item['msg']}")
    return lines


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at `location`, following nested models and mappings."""
    model: type[BaseModel] | None = Company
    for part in location:
        field = model.model_fields.get(str(part)) if model else None
        if field is None:
            continue  # the key of a mapping: its model is already the current one
        model = _model_of(field.annotation)
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None


def midnight(moment: datetime) -> datetime:
    """Return 00:00 UTC of the day of `moment`.

    >>> midnight(datetime(2026, 3, 2, 15, 4, tzinfo=UTC)).isoformat()
    '2026-03-02T00:00:00+00:00'
    """
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def grid_moments(every: str, first: date, last: date) -> list[date]:
    """Return the grid's days from `first` to `last`: Mondays, or firsts of the month.

    >>> grid_moments("month", date(2026, 1, 15), date(2026, 3, 1))
    [datetime.date(2026, 2, 1), datetime.date(2026, 3, 1)]
    >>> grid_moments("week", date(2026, 1, 1), date(2026, 1, 12))
    [datetime.date(2026, 1, 5), datetime.date(2026, 1, 12)]
    """
    span = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    if every == "month":
        return [day for day in span if day.day == 1]
    return [day for day in span if day.weekday() == 0]
