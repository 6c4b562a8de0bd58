"""The company folder's ``company.yaml`` as typed, frozen models.

Behaviour lives here and is hashed into every model and score; places and secrets live in the
environment (`configs.schema.workspace`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from configs.runtime.errors import ConfigError, did_you_mean
from configs.runtime.hashing import digest
from configs.schema.base import ConfigModel, Days, Name, Share
from configs.schema.ready_table import TABLE_INPUT, ReadyTable, Written, target_of
from configs.schema.rules import Rules
from configs.schema.yaml_models import parse_model, read_yaml

COMPANY_FILE = "company.yaml"

SHIPPED = Path(__file__).parents[1] / "companies"
"""The examples, by name."""


class Input(ConfigModel):
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


class TableMapping(ConfigModel):
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
    written: dict[str, Written] = Field(
        default_factory=dict,
        description="our column: how its text is to be read where that cannot be seen: day_first, "
        "month_first, decimal_comma, decimal_point",
    )
    roll_up: bool = Field(
        False,
        description="of accounts: an account with a parent is part of its topmost parent, for "
        "which its rows count in every table",
    )
    history: bool = Field(
        False,
        description="the table keeps every version of a row (each with known_at), so attributes "
        "may be used as features",
    )
    unfold: Literal["year", "quarter", "month", "off"] | None = Field(
        None,
        description="subscriptions only: the billing period of rows whose renewal date is "
        "overwritten at each renewal; they become one row per period. Without it the pattern is "
        "recognised and reported; `off` takes rows as they are",
    )


class Grid(ConfigModel):
    """The moments of prediction: one grid feeds every model."""

    every: Literal["week", "month"] = "month"
    start_on: date | None = Field(
        None,
        description="first as_of; by default 182 days after the first row of usage_events (of "
        "support_tickets, else of invoices, where there is none): before that, features would "
        "tell how long the records go back, and not how accounts fare",
    )


class Cohort(ConfigModel):
    """Who is scored."""

    min_tenure_days: Days = Field(28, description="younger accounts are `too_new`")
    active_within_days: Days = Field(
        91, description="without contracts: no activity for this long is `closed`"
    )
    grace_days: Days = Field(
        45, description="an annual renewal this late is `pending_renewal`, not lost"
    )
    monthly_grace_days: Days = Field(7, description="the same for terms under 45 days")


class GrowthRoom(ConfigModel):
    """When an account has no room to grow: it is then no example of, nor asked about, expansion.

    It has none when every term it holds is full: `seats` at `max_seats` where the source gives
    that, and on a top plan where these are named here. What is not known counts as room; without
    either, every account has room.
    """

    top_plans: tuple[str, ...] = Field(
        (), description="subscriptions.plan of the dearest tiers, above which nothing is sold"
    )
    products: tuple[str, ...] = Field(
        (),
        description="subscriptions.product of all that is sold: who lacks one has room; empty "
        "when a further product does not count",
    )


class Growth(ConfigModel):
    """When a chance of growth is something to sell, and how much of it is measured."""

    min_events: Annotated[int, Field(ge=5)] = Field(
        20,
        description="past growths of a kind (seats, tier, product, usage) from which its chance "
        "and its amount are measured; with fewer a rule names the kind, without a chance",
    )
    min_tested: Annotated[int, Field(ge=3)] = Field(
        8, description="of these, growths in the test periods"
    )
    nearly_full: Share = Field(0.85, description="share of an allowance used that is nearly full")
    full_weeks: Annotated[int, Field(ge=0, le=104)] = Field(
        4, description="weeks an allowance is nearly full before the rule asks for more of it"
    )
    notice_window_days: Days = Field(
        30, description="this long before the last day of notice nothing else is sold"
    )


class Target(ConfigModel):
    """One outcome to predict: a printed, versioned contract."""

    outcome: Literal["churn", "contraction", "expansion"]
    observed_in: Literal["subscriptions", "activity", "outcomes", "labels", "table"] = Field(
        description="subscriptions: terms end or change; activity: silence or spend; "
        "outcomes: dated rows of the outcomes table; labels: rows of the labels table; "
        "table: the label column of a ready-made table"
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
    end_reasons: tuple[Literal["churned", "payment_failure"], ...] = Field(
        ("churned", "payment_failure"),
        description="churn in subscriptions: the reasons that count as this outcome. Accounts that "
        "leave for another one are no example of it. Terms that end without a reason are churned",
    )
    label_version: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _has_reasons(self) -> Target:
        if not self.end_reasons:
            raise ValueError("end_reasons names no reason: nothing could ever happen")
        return self


Setting = Literal[
    "num_leaves",
    "max_depth",
    "learning_rate",
    "min_data_in_leaf",
    "feature_fraction",
    "bagging_fraction",
    "lambda_l2",
]

SETTING_LIMITS: dict[str, tuple[float, float]] = {
    "num_leaves": (2, 63),
    "max_depth": (1, 8),
    "learning_rate": (0.001, 1.0),
    "min_data_in_leaf": (1, 100_000),
    "feature_fraction": (0.01, 1.0),
    "bagging_fraction": (0.05, 1.0),
    "lambda_l2": (1e-6, 1e6),
}
"""Outside of these LightGBM refuses, or explaining a score takes too long."""


class Range(ConfigModel):
    """Where a setting is searched; written ``[low, high]``."""

    low: float
    high: float

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        is_pair = isinstance(value, (list, tuple)) and len(value) == 2
        return {"low": value[0], "high": value[1]} if is_pair else value

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"the range begins above its end ({self.low} to {self.high})")
        return self


class Tuning(ConfigModel):
    """The Optuna search."""

    trials: Annotated[int, Field(ge=0, le=10_000)] = 20
    timeout_seconds: Annotated[int, Field(ge=1)] | None = Field(
        None, description="stop searching after this long, whatever trials are left"
    )
    inner_folds: Annotated[int, Field(ge=1, le=10)] = 3
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="processes that share the search on this machine; with BELLWETHER_OPTUNA_URL "
        "on PostgreSQL, trainings on other machines share it too",
    )
    space: dict[Setting, Range] = Field(
        default={}, description="setting: [low, high], instead of the range usually searched"
    )

    @model_validator(mode="after")
    def _within_limits(self) -> Tuning:
        for name, item in self.space.items():
            low, high = SETTING_LIMITS[name]
            if item.low < low or item.high > high:
                raise ValueError(f"{name} is searched within {low:g} and {high:g} at most")
        return self


class Training(ConfigModel):
    """How models are fitted and compared."""

    seed: int = 7
    folds: Annotated[int, Field(ge=1, le=24)] = 4
    fold_days: Annotated[int, Field(ge=7, le=730)] = Field(
        91, description="length of one test period"
    )
    repeats: Annotated[int, Field(ge=1, le=50)] = Field(
        3, description="times the accounts of a table without time are dealt into folds"
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


class Gates(ConfigModel):
    """What a challenger must show before it is promoted without the word provisional."""

    min_events: Annotated[int, Field(ge=1)] = 100
    min_folds: Annotated[int, Field(ge=1)] = 3
    min_auc_lower: Share = Field(0.60, description="lower 95 % limit of AUC within test periods")
    no_signal_auc_lower: Share = Field(
        0.50, description="a lower limit at or below this publishes the base rate"
    )
    max_calibration_ratio: Annotated[float, Field(ge=1)] = Field(
        1.25, description="observed/expected and slope lie within 1/x and x"
    )
    max_auc: Share = Field(0.95, description="above this it is too good: look for a leak")
    champion_tolerance: Share = Field(
        0.005,
        description="log-loss a challenger may lose against the champion's recipe, and against the "
        "published model itself on cohorts after its cut-off",
    )
    lead_days: Days = Field(
        60, description="days before a decision at which it must still be seen coming"
    )
    min_lead_auc: Share = Field(
        0.55, description="AUC that decisions at least `lead_days` ahead must reach"
    )
    min_segment_auc: Share = Field(
        0.50, description="no segment's AUC may surely (upper 95 % limit) lie below this"
    )
    max_segment_ratio: Annotated[float, Field(ge=1)] = Field(
        1.5,
        description="no segment's observed/expected may surely lie outside 1/x and x",
    )


class Serving(ConfigModel):
    """How scores are shown."""

    capacity_per_month: Annotated[int, Field(ge=1)] = Field(
        40,
        description="accounts the whole team can work in a month: lift, alerts, bands and the week "
        "all follow from it; owners.capacity shares it among CSMs",
    )
    band_days: dict[Literal["elevated", "high"], Days] = Field(
        default={"elevated": 182, "high": 91},
        description="the band and those above it hold as many accounts as the team can work in so "
        "many days, counted when a release is published; its cuts are frozen there",
    )
    stale_after_days: Days = Field(10, description="features older than this are said to be stale")
    online_by_name_up_to: Annotated[int, Field(ge=0)] = Field(
        10_000,
        description="with more accounts, Feast's online store holds no features by name, only the "
        "vectors that are served; 1,000 accounts take 1.6 s and 22 MB; changes no score",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_multiples(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "bands" in raw:
            raise ValueError(
                "`bands` (multiples of the base rate) is replaced by `band_days`: bands are sized "
                "to what the team can work, such as band_days: {elevated: 182, high: 91}"
            )
        return raw

    @model_validator(mode="after")
    def _in_order(self) -> Serving:
        days = self.band_days
        if set(days) != {"elevated", "high"} or days["high"] > days["elevated"]:
            raise ValueError("band_days names elevated and high, and high holds no more days")
        return self


class Checks(ConfigModel):
    """Methodological checks (`bellwether checks` lists them) that are not heeded, and why."""

    ignore: dict[
        Annotated[str, Field(pattern=r"^BW-[A-Z]\d\d$")], Annotated[str, Field(min_length=1)]
    ] = Field(default={}, description="code: the reason, which the model card repeats")


class Person(ConfigModel):
    """Somebody who signs in, where their groups or their name do not say enough."""

    role: Literal["csm", "manager", "leader", "admin"] | None = None
    owner_id: str = Field("", description="whose accounts they look after; default their name")


class Access(ConfigModel):
    """What people who sign in may see. Whom to trust is in the environment."""

    groups: dict[str, Literal["csm", "manager", "leader", "admin"]] = Field(
        default={}, description="group: role; who is in several has the one that sees most"
    )
    people: dict[str, Person] = Field(default={}, description="by the name they sign in with")
    user_claim: str = Field("email", description="claim of the token that names a person")
    groups_claim: str = Field("groups", description="claim of the token with their groups")
    require_email_verified: bool = Field(
        False,
        description="refuse tokens that do not carry email_verified; one that says false is always "
        "refused. Leave it off only where the issuer gives out addresses it has verified itself",
    )
    user_header: str = Field("X-Forwarded-Email", description="header of the trusted proxy")
    groups_header: str = Field("X-Forwarded-Groups", description="separated by commas")


NewsKind = Literal[
    "account.band_changed", "account.escalated", "book.published", "release.published"
]


class Webhook(ConfigModel):
    """Where news is sent. Its secret is in the environment, BELLWETHER_WEBHOOK_SECRET_<NAME>."""

    url: str = Field(description="https, or http on this machine")
    events: tuple[NewsKind, ...] = Field(
        get_args(NewsKind),
        description="a changed band is sent only when the move is larger than its uncertainty; an "
        "escalation once, when its trigger fires",
    )


class Retention(ConfigModel):
    """How long the ledger keeps scores. Nothing is removed whose outcome is open, unless told."""

    compact_after_hours: Annotated[float, Field(ge=0)] = Field(
        24,
        description="older scores keep what they share (vector, reasons, facts) with others once; "
        "nothing is lost",
    )
    vectors_days: Annotated[int, Field(ge=100)] | None = Field(
        730,
        description="vectors and reasons that no score gave for so long are removed; a score "
        "without them can be judged by its outcome, and not be replayed",
    )
    scores_days: Annotated[int, Field(ge=1)] | None = Field(
        1_095, description="scores are removed after so long, once their outcome is known"
    )
    max_scores: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="more than these are removed, once their outcome is known: first what repeats "
        "a score within a month, then the oldest",
    )
    keep_open: bool = Field(
        True, description="false removes scores by age and number whether their outcome is known"
    )


class Limits(ConfigModel):
    """How much callers may ask. Each limit is for all workers of one machine together."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = Field(
        6_000,
        description="of each key and of each person who signs in; null for no limit. As many may "
        "come at once; who is at this machine while the service is open has no limit",
    )
    callers: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="the same for single ones: key id, or the name they sign in with"
    )


class Company(ConfigModel):
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
    table: ReadyTable | None = Field(
        None, description="one ready-made table with a label column, instead of `tables`"
    )
    grid: Grid = Grid()
    cohort: Cohort = Cohort()
    room: GrowthRoom = GrowthRoom()
    growth: Growth = Growth()
    targets: dict[Name, Target]
    training: Training = Training()
    gates: Gates = Gates()
    serving: Serving = Serving()
    checks: Checks = Checks()
    access: Access = Access()
    limits: Limits = Limits()
    ledger: Retention = Retention()
    webhooks: dict[Name, Webhook] = Field(default_factory=dict)
    exclude_features: tuple[str, ...] = Field(
        (), description="features not to train on; shell patterns"
    )
    rules: Rules = Field(
        Rules(),
        description="what to look at while events are too few for a model (configs.schema.rules)",
    )

    @model_validator(mode="before")
    @classmethod
    def _ready_table(cls, raw: Any) -> Any:
        """Give a company with a ready-made table its input and its one target."""
        table = raw.get("table") if isinstance(raw, dict) else None
        if not isinstance(table, dict):
            return raw
        clash = [key for key in ("tables", "targets") if key in raw]
        if clash:
            raise ValueError(f"`table` stands alone: remove {', '.join(clash)}")
        inputs = raw.get("inputs") or {}
        if isinstance(table.get("file"), str):
            inputs = {**inputs, TABLE_INPUT: table["file"]}
        return {**raw, "inputs": inputs, "targets": target_of(table)}

    @model_validator(mode="after")
    def _known_input(self) -> Company:
        if self.table is not None and self.table.input_name not in self.inputs:
            hint = did_you_mean(self.table.input_name, self.inputs)
            raise ValueError(f"table.from: there is no input {self.table.input_name!r}; {hint}")
        return self

    @property
    def config_hash(self) -> str:
        """Identity of the behaviour: changes with any key but places, titles and the clock."""
        places = dict.fromkeys(
            ("title", "about", "now", "data", "inputs", "access", "limits", "ledger", "webhooks"),
            True,
        )
        behaviour = self.model_dump(
            mode="json",
            by_alias=True,
            exclude={**places, "table": {"file", "source"}, "serving": {"online_by_name_up_to"}},
        )
        return digest(behaviour)

    def clock(self) -> datetime:
        """Return the pinned `now`, or the present, in UTC. Called at the edge only."""
        if self.now is None:
            return datetime.now(UTC)
        return self.now.replace(tzinfo=UTC) if self.now.tzinfo is None else self.now.astimezone(UTC)


def company_folder(name: str) -> Path:
    """Return the folder of a company, by path or by the name of a shipped example.

    Raises
    ------
    ConfigError
        There is neither.
    """
    if Path(name).exists():
        return Path(name)
    if (SHIPPED / name).is_dir():
        return SHIPPED / name
    known = [path.name for path in SHIPPED.iterdir() if path.is_dir()]
    raise ConfigError(
        f"there is no company folder {name!r}",
        where=f"looked at {Path(name).absolute()}, then among the examples: "
        + ", ".join(sorted(known)),
        fix=did_you_mean(name, known) or f"bellwether init {name}   writes one to start from",
    )


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
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError("the file holds no keys", where=str(path), fix="bellwether init FOLDER")
    return parse_company(raw, where=str(path))


def parse_company(raw: dict[str, Any], *, where: str) -> Company:
    """Check a parsed configuration; every mistake is named at once."""
    return parse_model(
        Company,
        raw,
        what="the configuration has mistakes",
        where=where,
        fix="correct these keys; `bellwether init FOLDER` writes an example with all of them",
    )


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
