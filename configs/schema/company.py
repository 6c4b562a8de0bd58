"""Typed, frozen models of ``company.yaml``.

Behaviour is configured here and hashed into every model and score; paths and secrets are set in the
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
from configs.schema.ready_table import TABLE_INPUT, ReadyTable, target_of
from configs.schema.refresh import Refresh
from configs.schema.rules import Rules
from configs.schema.source_mapping import Guess, Input, TableParts
from configs.schema.yaml_models import parse_model, read_yaml

COMPANY_FILE = "company.yaml"

SHIPPED = Path(__file__).parents[1] / "companies"
"""Folder of the shipped examples."""


class Grid(ConfigModel):
    """Prediction instants (as_of), shared by all models."""

    every: Literal["week", "month"] = "month"
    start_on: date | None = Field(
        None,
        description="first as_of; by default 182 days after the first row of usage_events (of "
        "support_tickets, else of invoices, where there is none): earlier features would reflect "
        "the start of the records rather than the accounts",
    )


class Cohort(ConfigModel):
    """Accounts that are scored."""

    min_tenure_days: Days = Field(28, description="younger accounts are `too_new`")
    active_within_days: Days = Field(
        91, description="without contracts: days without activity until an account is `closed`"
    )
    grace_days: Days = Field(
        45, description="days an annual renewal may be late: `pending_renewal`, not lost"
    )
    monthly_grace_days: Days = Field(7, description="the same for terms under 45 days")


class GrowthRoom(ConfigModel):
    """Accounts without room to grow, which are left out of expansion in training and scoring.

    An account has no room when every term it holds is full: `seats` at `max_seats` where the source
    has that column, and on a top plan where plans are named here. Unknown values count as room;
    without either condition every account has room.
    """

    top_plans: tuple[str, ...] = Field((), description="subscriptions.plan of the highest tiers")
    products: tuple[str, ...] = Field(
        (),
        description="subscriptions.product of all products sold: an account that lacks one has "
        "room; empty when a further product does not count",
    )


class Growth(ConfigModel):
    """Expansion offers: minimum sample sizes and conditions of a recommendation."""

    min_events: Annotated[int, Field(ge=5)] = Field(
        20,
        description="past expansions of a kind (seats, tier, product, usage) from which its "
        "probability and amount are estimated; with fewer a rule names the kind, without a "
        "probability",
    )
    min_tested: Annotated[int, Field(ge=3)] = Field(
        8, description="expansions of these in the test periods"
    )
    nearly_full: Share = Field(
        0.85, description="used share of an allowance from which it is nearly full"
    )
    full_weeks: Annotated[int, Field(ge=0, le=104)] = Field(
        4, description="weeks an allowance is nearly full before the rule recommends more of it"
    )
    notice_window_days: Days = Field(
        30, description="days before the notice deadline without a recommendation"
    )


class Target(ConfigModel):
    """One outcome to predict: a versioned label definition."""

    outcome: Literal["churn", "contraction", "expansion"]
    observed_in: Literal["subscriptions", "activity", "outcomes", "labels", "table"] = Field(
        description="subscriptions: terms end or change; activity: inactivity or spend; "
        "outcomes: dated rows of the outcomes table; labels: rows of the labels table; "
        "table: the label column of a ready-made table"
    )
    horizon_days: Annotated[int, Field(ge=7, le=730)] = 91
    lead_time_days: Days = 0
    margin: Annotated[float, Field(ge=0, le=10)] = Field(
        0.1, description="relative change of ARR or spend that counts as a movement"
    )
    until_renewal: bool = Field(
        True,
        description="predict the next renewal of accounts under contract, whenever it is; "
        "otherwise the horizon",
    )
    end_reasons: tuple[Literal["churned", "payment_failure"], ...] = Field(
        ("churned", "payment_failure"),
        description="churn in subscriptions: end reasons that count as this outcome. Accounts that "
        "leave for another reason are left out. Terms that end without a reason are churned",
    )
    label_version: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _has_reasons(self) -> Target:
        if not self.end_reasons:
            raise ValueError("end_reasons is empty: the outcome could never occur")
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
"""Limits of LightGBM and of the time an explanation takes."""


class Range(ConfigModel):
    """Search range of a setting, written ``[low, high]``."""

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
        None, description="time limit of the search"
    )
    inner_folds: Annotated[int, Field(ge=1, le=10)] = 3
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="processes that share the search on this machine; with BELLWETHER_OPTUNA_URL "
        "on PostgreSQL, trainings on other machines share it, too",
    )
    space: dict[Setting, Range] = Field(
        default={}, description="setting: [low, high], instead of the default range"
    )

    @model_validator(mode="after")
    def _within_limits(self) -> Tuning:
        for name, item in self.space.items():
            low, high = SETTING_LIMITS[name]
            if item.low < low or item.high > high:
                raise ValueError(f"{name} is searched within {low:g} and {high:g} at most")
        return self


class Training(ConfigModel):
    """Fitting and comparison of models."""

    seed: int = 7
    folds: Annotated[int, Field(ge=1, le=24)] = 4
    fold_days: Annotated[int, Field(ge=7, le=730)] = Field(
        91, description="length of one test period"
    )
    repeats: Annotated[int, Field(ge=1, le=50)] = Field(
        3, description="repetitions of the random folds of a table without time"
    )
    model_seeds: Annotated[int, Field(ge=1, le=25)] = Field(
        3, description="boosters averaged in logit space"
    )
    bootstrap_draws: Annotated[int, Field(ge=100, le=10_000)] = 300
    threads: Annotated[int, Field(ge=0)] = Field(
        0,
        description="LightGBM threads; 0 uses one for small tables and every core for large ones; "
        "the model does not depend on it",
    )
    tuning: Tuning = Tuning()


class Gates(ConfigModel):
    """Requirements for promoting a challenger without the mark provisional."""

    min_events: Annotated[int, Field(ge=1)] = 100
    min_folds: Annotated[int, Field(ge=1)] = 3
    min_auc_lower: Share = Field(0.60, description="lower 95 % limit of AUC within test periods")
    no_signal_auc_lower: Share = Field(
        0.50, description="lower AUC limit at or below which the base rate is published"
    )
    max_calibration_ratio: Annotated[float, Field(ge=1)] = Field(
        1.25, description="observed/expected and slope must lie within 1/x and x"
    )
    max_auc: Share = Field(0.95, description="AUC above which a leak is suspected")
    champion_tolerance: Share = Field(
        0.005,
        description="log loss a challenger may lose against the champion's configuration, and "
        "against the published model on cohorts after its cut-off",
    )
    lead_days: Days = Field(
        60, description="days before a decision at which the model must still detect it"
    )
    min_lead_auc: Share = Field(
        0.55, description="minimum AUC for decisions at least `lead_days` ahead"
    )
    min_segment_auc: Share = Field(
        0.50, description="minimum upper 95 % limit of every segment's AUC"
    )
    max_segment_ratio: Annotated[float, Field(ge=1)] = Field(
        1.5,
        description="no segment's observed/expected may lie outside 1/x and x (95 % interval)",
    )


class Serving(ConfigModel):
    """Presentation of scores."""

    capacity_per_month: Annotated[int, Field(ge=1)] = Field(
        40,
        description="accounts the whole team can work in a month; decides lift, alerts, bands and "
        "the weekly list; owners.capacity decides the shares of the CSMs",
    )
    band_days: dict[Literal["elevated", "high"], Days] = Field(
        default={"elevated": 182, "high": 91},
        description="the band and those above it hold as many accounts as the team can work in "
        "this many days; thresholds are fixed when a release is published",
    )
    stale_after_days: Days = Field(10, description="age from which features are marked as stale")
    online_by_name_up_to: Annotated[int, Field(ge=0)] = Field(
        10_000,
        description="number of accounts up to which Feast's online store also holds features by "
        "name, not only the served vectors; 1,000 accounts take 1.6 s and 22 MB; changes no score",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_multiples(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "bands" in raw:
            raise ValueError(
                "`bands` (multiples of the base rate) is replaced by `band_days`: bands are sized "
                "by the capacity of the team, such as band_days: {elevated: 182, high: 91}"
            )
        return raw

    @model_validator(mode="after")
    def _in_order(self) -> Serving:
        days = self.band_days
        if set(days) != {"elevated", "high"} or days["high"] > days["elevated"]:
            raise ValueError("band_days needs elevated and high, and high must not be larger")
        return self


class Checks(ConfigModel):
    """Methodological checks to ignore (`bellwether checks` lists them), with the reason."""

    ignore: dict[
        Annotated[str, Field(pattern=r"^BW-[A-Z]\d\d$")], Annotated[str, Field(min_length=1)]
    ] = Field(default={}, description="code: the reason, printed on the model card")


class Person(ConfigModel):
    """Role and accounts of one user, where groups do not define them."""

    role: Literal["csm", "manager", "leader", "admin"] | None = None
    owner_id: str = Field(
        "", description="owner of the accounts they look after; by default their name"
    )


class Access(ConfigModel):
    """Permissions of users who sign in. The issuer or proxy is set in the environment."""

    groups: dict[str, Literal["csm", "manager", "leader", "admin"]] = Field(
        default={}, description="group: role; of several groups the widest role applies"
    )
    people: dict[str, Person] = Field(default={}, description="by sign-in name")
    user_claim: str = Field("email", description="token claim with the user's name")
    groups_claim: str = Field("groups", description="token claim with the user's groups")
    require_email_verified: bool = Field(
        False,
        description="refuse tokens without email_verified; tokens with email_verified false are "
        "always refused. Switch it off only for issuers that verify every address themselves",
    )
    user_header: str = Field(
        "X-Forwarded-Email", description="header of the trusted proxy with the user's name"
    )
    groups_header: str = Field(
        "X-Forwarded-Groups", description="header with the user's groups, separated by commas"
    )


NewsKind = Literal[
    "account.band_changed", "account.escalated", "book.published", "release.published"
]


class Webhook(ConfigModel):
    """Webhook endpoint. Its secret is BELLWETHER_WEBHOOK_SECRET_<NAME> in the environment."""

    url: str = Field(description="https, or http on this machine")
    events: tuple[NewsKind, ...] = Field(
        get_args(NewsKind),
        description="events to send; a changed band only when the change exceeds its uncertainty, "
        "an escalation once, when its trigger fires",
    )


class Retention(ConfigModel):
    """Retention of the ledger. Scores with an open outcome are kept unless `keep_open` is false."""

    compact_after_hours: Annotated[float, Field(ge=0)] = Field(
        24,
        description="age from which identical vectors, reasons and facts of scores are stored "
        "once; nothing is lost",
    )
    vectors_days: Annotated[int, Field(ge=100)] | None = Field(
        730,
        description="age from which vectors and reasons are removed; a score without them can be "
        "evaluated but not replayed",
    )
    scores_days: Annotated[int, Field(ge=1)] | None = Field(
        1_095, description="age from which scores with a known outcome are removed"
    )
    max_scores: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="number of scores above which those with a known outcome are removed: first "
        "repetitions within a month, then the oldest",
    )
    keep_open: bool = Field(
        True, description="false also removes scores with an open outcome by age and number"
    )


class FileRetention(ConfigModel):
    """Days that files are kept; `null` keeps them for ever.

    `bellwether tidy` and `bellwether refresh` remove older ones. The latest score run and report
    always stay.
    """

    books_days: Annotated[int, Field(ge=100)] | None = Field(
        730, description="score runs of all accounts; the pages compare runs of the last 12 weeks"
    )
    exports_days: Annotated[int, Field(ge=1)] | None = Field(
        90, description="scores.csv of earlier score runs"
    )
    reports_days: Annotated[int, Field(ge=1)] | None = Field(730, description="reports")
    quarantine_days: Annotated[int, Field(ge=1)] | None = Field(
        90,
        description="source values of quarantined rows since they were read; row numbers and "
        "reasons stay",
    )
    raw_copies_days: Annotated[int, Field(ge=0)] | None = Field(
        1, description="copies of raw files that an interrupted run left behind"
    )


Visibility = Literal["shown", "masked"]


class DigestSettings(ConfigModel):
    """Digests by mail. The mail server is set in the environment."""

    weekday: Literal[
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
    ] = Field(
        "monday", description="day of the weekly digest; on other days new notices only are sent"
    )
    address: Annotated[str, Field(pattern=r"^https?://[^\s/]+$")] = Field(
        "http://127.0.0.1:3000", description="address of the service, for the links"
    )
    sender: str = Field("bellwether@localhost", description="sender of the mails")


class PeopleVisibility(ConfigModel):
    """Whether a role sees contacts, users and respondents of accounts, or only masked ids.

    CSMs see their own accounts only, and managers those of their team.
    """

    csm: Visibility = "shown"
    manager: Visibility = "shown"
    leader: Visibility = "masked"
    admin: Visibility = "masked"
    systems: Visibility = Field("shown", description="callers with an API key")
    exports: Visibility = Field(
        "masked", description="scores.csv, scores.parquet, CRM exports and CSV versions of pages"
    )


class Privacy(ConfigModel):
    """Personal data on pages, in API answers and in exports."""

    people: PeopleVisibility = PeopleVisibility()


class Limits(ConfigModel):
    """Rate limits. Each limit covers all workers of one machine together."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = Field(
        6_000,
        description="requests per key and per signed-in user, all at once if need be; null for no "
        "limit. Local requests to an open service have no limit",
    )
    callers: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="key id or sign-in name: its own limit"
    )


class Company(ConfigModel):
    """Configuration of a company. Hashes to `config_hash`."""

    config_version: Literal[1] = 1
    name: Name
    title: str = ""
    about: str = Field("", description="source and licence of the data")
    now: datetime | None = Field(None, description="pinned clock, for data that has ended")
    reporting_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    entity: Name = Field("account", description="name of the entity; its id is account_id")
    grain: Literal["account", "product"] = Field(
        "account",
        description="what is scored: accounts, or every product of an account on its own, as "
        "ACCOUNT · PRODUCT",
    )
    data: str = Field(
        ".",
        description="folder of the files, relative to this one; overridden by --data or "
        "BELLWETHER_DATA",
    )
    inputs: dict[Name, Input] = Field(default_factory=dict)
    tables: dict[str, TableParts] = Field(
        default_factory=dict,
        description="table: its mapping, or a list of mappings where several sources fill it",
    )
    guesses: dict[str, Guess] = Field(
        default_factory=dict,
        description="key of this file: why it was guessed. Guesses count as unconfirmed until "
        "their entry here is removed; `bellwether confirm` does that",
    )
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
    retention: FileRetention = FileRetention()
    privacy: Privacy = Privacy()
    digest: DigestSettings = DigestSettings()
    refresh: Refresh = Refresh()
    webhooks: dict[Name, Webhook] = Field(default_factory=dict)
    exclude_features: tuple[str, ...] = Field(
        (), description="features left out of training; shell patterns"
    )
    rules: Rules = Field(
        Rules(),
        description="expert rules while there are too few events for a model "
        "(configs.schema.rules)",
    )

    @model_validator(mode="before")
    @classmethod
    def _ready_table(cls, raw: Any) -> Any:
        """Derive the input and the target of a company with a ready-made table."""
        table = raw.get("table") if isinstance(raw, dict) else None
        if not isinstance(table, dict):
            return raw
        clash = [key for key in ("tables", "targets") if key in raw]
        if clash:
            raise ValueError(f"`table` replaces {' and '.join(clash)}: remove {', '.join(clash)}")
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
        """Identity of the behaviour: depends on every key except paths, titles and the clock."""
        places = dict.fromkeys(
            (
                "title",
                "about",
                "now",
                "data",
                "inputs",
                "guesses",
                "access",
                "limits",
                "ledger",
                "retention",
                "privacy",
                "refresh",
                "webhooks",
            ),
            True,
        )
        behaviour = self.model_dump(
            mode="json",
            by_alias=True,
            exclude={**places, "table": {"file", "source"}, "serving": {"online_by_name_up_to"}},
        )
        return digest(behaviour)

    def keeps_history(self, table: str) -> bool:
        """Whether every source of a table keeps every version of its rows."""
        parts = self.tables.get(table, ())
        return bool(parts) and all(part.history for part in parts)

    def clock(self) -> datetime:
        """Return the pinned `now`, or the current time, in UTC. Called at the edge only."""
        if self.now is None:
            return datetime.now(UTC)
        return self.now.replace(tzinfo=UTC) if self.now.tzinfo is None else self.now.astimezone(UTC)


def company_folder(name: str) -> Path:
    """Return the folder of a company, by path or by the name of a shipped example.

    Raises
    ------
    ConfigError
        Neither exists.
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
        The file is missing or invalid; the error names the key and the closest known one.
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
        raise ConfigError("the file has no keys", where=str(path), fix="bellwether init FOLDER")
    return parse_company(raw, where=str(path))


def parse_company(raw: dict[str, Any], *, where: str) -> Company:
    """Validate a parsed configuration; the error lists every mistake."""
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
