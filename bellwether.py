"""The front door: one command per step, each a few lines that call one function."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleDimensions
from rich.table import Table

# The rooms carry plain names. A stranger's package of the same name, found first, is told of before
# anything is imported from it: its errors would be all one sees.
if _strangers := [
    f"{room}: {(spec and spec.origin) or 'not found'}"
    for room in ("configs", "features", "training", "serving")
    if (spec := find_spec(room)) is None
    or Path(spec.origin or "").resolve().parent != Path(__file__).resolve().with_name(room)
]:
    sys.stderr.write(
        "error: other packages stand where Bellwether's own should\n"
        f"  where: {', '.join(_strangers)}; expected in {Path(__file__).resolve().parent}\n"
        "  to do: install Bellwether into an environment of its own, and start it from another"
        " folder, without PYTHONPATH\n"
    )
    sys.exit(2)

from configs.runtime.errors import BellwetherError, ConfigError, ModelError, did_you_mean
from configs.runtime.state_directory import State, keep_private
from configs.runtime.telemetry import switch_off_telemetry
from configs.schema.company import SHIPPED as SHIPPED
from configs.schema.company import company_folder, load_company
from configs.schema.workspace import Environment, Workspace, data_folder

if TYPE_CHECKING:
    from serving.auth.api_keys import KeyStore
    from serving.batch.score_book import ScoreRun
    from serving.ledger.replay import Replay

switch_off_telemetry()

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Which accounts will leave, which will grow: how early, why, how sure, "
    "and was it right last time.",
)


class Output(Console):
    """Standard output: on a terminal as wide as it is; in a pipe or a file, nothing is cut."""

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and rows there are."""
        measured = super().size
        return measured if self.is_terminal else ConsoleDimensions(UNCUT, measured.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


def lines_of(*headers: str) -> Table:
    """Return a table without lines; where the terminal is narrow, values are folded, not cut."""
    table = Table(box=None)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


console = Output(highlight=False)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)  # commands stay in one piece

UNCUT = 1_000_000
"""Columns of an output that is no terminal."""

CompanyArgument = Annotated[
    str, typer.Argument(help="a company folder, or the name of a shipped example")
]
StateOption = Annotated[
    str | None,
    typer.Option("--state", help="state directory; default BELLWETHER_STATE or ./state/<company>"),
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="folder of the raw files; default BELLWETHER_DATA")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print it as JSON")]
PdfOption = Annotated[
    bool, typer.Option("--pdf", help="print it as PDF too, with the Chromium that is installed")
]


@dataclass
class Settings:
    """Options that stand before the command."""

    is_debug: bool = False


settings = Settings()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    """Take the options that stand before the command."""
    settings.is_debug = debug


def workspace_of(company: str, state: str | None, data: str | None) -> Workspace:
    """Resolve a company's configuration, data and state."""
    folder = company_folder(company)
    loaded = load_company(folder)
    folder = folder.parent if folder.is_file() else folder
    root = Path(state or os.environ.get("BELLWETHER_STATE") or Path("state") / loaded.name)
    keep_private(root)
    return Workspace(
        company=loaded,
        folder=folder,
        data=data_folder(loaded, folder, data),
        state=State(root.absolute()),
        places=Environment.from_environment(),
    )


class Steps:
    """Prints one line per step, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, words: str) -> None:
        """Print one step."""
        since = time.monotonic() - self._start
        console.print(f"[dim]{since:6.1f} s[/]  {_escape(words)}", soft_wrap=True)

    def title(self, words: str) -> None:
        """Print a heading."""
        console.print(f"\n[bold]{_escape(words)}[/]")


def steps_beside(as_json: bool) -> Callable[[str], None]:
    """Return what prints steps; beside JSON, nothing is printed."""
    return (lambda _words: None) if as_json else Steps()


def _escape(words: str) -> str:
    return words.replace("[", r"\[")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder to write")],
    table: Annotated[
        Path | None,
        typer.Option(help="of a ready-made table: its CSV or Parquet file; columns are guessed"),
    ] = None,
) -> None:
    """Write a commented company folder to start from."""
    from features.sources.scaffold import scaffold

    if table is not None:
        _init_table(folder, table)
        return
    for path in scaffold(folder):
        console.print(f"wrote {path}", soft_wrap=True)
    console.print("next: edit company.yaml, then  bellwether check " + str(folder), soft_wrap=True)


def _init_table(folder: Path, table: Path) -> None:
    from training.tabular.scaffold import scaffold_table

    guesses = scaffold_table(folder, table)
    console.print(f"wrote {folder / 'company.yaml'}; guessed, to be checked:", soft_wrap=True)
    shown = lines_of("key", "value", "guessed from", "or")
    for guess in guesses:
        others = ", ".join(guess.others[:4])
        shown.add_row(guess.key, _escape(str(guess.value)), _escape(guess.why), _escape(others))
    console.print(shown)
    console.print(f"next: correct it, then  bellwether check {folder}", soft_wrap=True)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="folder to write the tables into")],
    accounts: Annotated[int, typer.Option(min=2, help="how many accounts")] = 1000,
    months: Annotated[int, typer.Option(min=6, max=120, help="how long a history")] = 30,
    seed: Annotated[int, typer.Option(help="same seed, same bytes")] = 7,
) -> None:
    """Make the raw tables of a simulated SaaS company whose true hazard is known."""
    from features.simulator import simulate as make
    from features.simulator import write_tables

    write_tables(make(seed=seed, n_accounts=accounts, months=months), folder)
    console.print(
        f"wrote {folder}; next:  bellwether run simulated --data {folder}", soft_wrap=True
    )


@app.command()
def check(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the raw tables and print a graded quality report."""
    from features.quality import check_quality
    from features.sources import load_sources

    workspace = workspace_of(company, state, data)
    now = workspace.company.clock()
    steps = steps_beside(as_json)
    if workspace.company.webhooks:
        from serving.integrations.webhooks import check_webhooks

        check_webhooks(workspace)
    if workspace.company.table is not None:
        _check_table(workspace, as_json)
        return
    with workspace.state.lock("check"):
        report = check_quality(workspace, load_sources(workspace, now, steps), now)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, default=str))
    else:
        report.render(console)


@app.command()
def revenue(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    movements: Annotated[
        Path | None, typer.Option(help="Write every movement of ARR to this CSV file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print ARR, losses and growth by quarter with GRR and NRR, as finance can check them."""
    from features.quality import company_revenue
    from features.sources import load_sources

    workspace = workspace_of(company, state, data)
    now = workspace.company.clock()
    with workspace.state.lock("revenue"):
        found, rows = company_revenue(workspace, load_sources(workspace, now), now)
    if movements is not None:
        rows.to_csv(movements, index=False)
        steps_beside(as_json)(f"wrote {len(rows):,} movements to {movements}")
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, default=str))
    else:
        found.render(console)


def _check_table(workspace: Workspace, as_json: bool) -> None:
    from training.tabular.table_frame import build_table_frame

    made = build_table_frame(workspace, workspace.company.clock())
    if as_json:
        columns = [asdict(column) for column in made.columns]
        typer.echo(json.dumps({"contract": made.contract, "columns": columns}, indent=1))
        return
    shown = lines_of("column", "part", "read as", "missing", "different", "")
    for column in made.columns:
        missing = f"{100 * column.missing:.1f} %" if column.missing else ""
        words = _escape(column.words)
        shown.add_row(
            _escape(column.name), column.part, column.kind, missing, f"{column.different:,}", words
        )
    console.print(shown)
    console.print(_contract_words(made.contract), soft_wrap=True, markup=False)
    for note in made.contract["file_notes"]:
        console.print(note, soft_wrap=True, markup=False)
    for word, meaning in made.contract["label_words"].items():
        console.print(f"  {word}: {meaning}", soft_wrap=True, markup=False)


def _contract_words(contract: dict[str, Any]) -> str:
    left = ", ".join(f"{n:,} {why}" for why, n in contract["excluded"].items())
    return f"{contract['words']}: {contract['event_rows']:,} of {contract['used_rows']:,} rows" + (
        f"; left out: {left}" if left else ""
    )


@app.command()
def catalogue(
    as_json: JsonOption = False,
) -> None:
    """Print every feature: name, meaning, unit, window, theme, expected signs."""
    from features.signals import feature_catalogue as features

    if as_json:
        typer.echo(json.dumps([item.as_dict() for item in features()], indent=1))
        return
    table = lines_of("feature", "meaning", "unit", "window", "theme", "churn", "growth")
    signs = {1: "raises", -1: "lowers", 0: "free"}
    for item in features():
        window = f"{item.window_days} d" if item.window_days else ""
        churn, growth = signs[item.churn_sign], signs[item.expansion_sign]
        table.add_row(item.name, item.meaning, item.unit, window, item.theme, churn, growth)
    console.print(table)


@app.command()
def checks(
    as_json: JsonOption = False,
) -> None:
    """Print every methodological check of a training: code, severity, what is right."""
    from training.checks.registry import as_dicts

    if as_json:
        typer.echo(json.dumps(as_dicts(), indent=1))
        return
    table = lines_of("code", "about", "severity", "passes when")
    for item in as_dicts():
        table.add_row(item["code"], item["section"], item["severity"], item["title"])
    console.print(table)


@app.command()
def features(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build features and labels, fill the feature store, and say what was left out and why."""
    from features.pipeline import build_features, left_out

    workspace = workspace_of(company, state, data)
    steps = steps_beside(as_json)
    with workspace.state.lock("features"):
        built = build_features(workspace, workspace.company.clock(), steps)
    missing, names = left_out(built), built.features.names
    if as_json:
        typer.echo(json.dumps({"built": names, "left_out": missing}, indent=1))
        return
    console.print(f"\n[bold]{len(names)} features built[/]")
    for why, lost in missing["features"].items():
        console.print(f"left out, {_escape(why)}: {', '.join(lost)}", soft_wrap=True)
    for target, reasons in missing["rows"].items():
        told = ", ".join(reasons) or "every row is used"
        console.print(f"rows not used for {target}: {_escape(told)}", soft_wrap=True)


@app.command()
def train(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    target: Annotated[
        list[str] | None, typer.Option(help="train this target only; repeatable; default all")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="trials of the search for settings; default training.tuning.trials"),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="train as if it were this day, UTC: nothing known later is read",
        ),
    ] = None,
) -> None:
    """Train, tune, calibrate and judge the targets; register the challengers."""
    from training.training_request import train_company

    workspace = workspace_of(company, state, data)
    with workspace.state.lock("train"):
        trained = train_company(
            workspace,
            targets=target or (),
            trials=trials,
            as_of=as_of.date() if as_of else None,
            progress=Steps(),
        )
        for item in trained.values():
            card = (item.folder / "card.md").read_text(encoding="utf-8")
            console.print(card, markup=False, soft_wrap=True)


@app.command()
def verify(
    company: CompanyArgument,
    target: Annotated[str | None, typer.Argument(help="one target; default all")] = None,
    state: StateOption = None,
    data: DataOption = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="fit the recorded recipes again, to the same bytes")
    ] = False,
) -> None:
    """Recompute every number of the model cards from what was kept; say what differs."""
    from training.pipeline import candidates
    from training.reproduce import rows_again, verify_all

    workspace, steps = workspace_of(company, state, data if refit else "."), Steps()
    with workspace.state.lock("verify"):
        known = candidates(workspace)
        if target is not None and target not in known:
            raise ConfigError(f"no trained target {target!r}", fix=did_you_mean(target, known))
        chosen = {target: known[target]} if target else known
        rows = rows_again(workspace, workspace.company.clock(), steps) if refit else None
        for item in verify_all(workspace, chosen, rows):
            steps(f"{item.target}: {item.n_compared:,} values came out again")


@app.command()
def truth(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold the trained models of a simulated company against its true hazard."""
    from features.pipeline import build_features
    from training.pipeline import candidates
    from training.simulated_truth import as_text, compare_with_truth

    workspace = workspace_of(company, state, data)
    with workspace.state.lock("truth"):
        built = build_features(workspace, workspace.company.clock())
        found = [
            compare_with_truth(workspace, built, item) for item in candidates(workspace).values()
        ]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for item in found:
        console.print(as_text(item), markup=False, soft_wrap=True)


@app.command()
def promote(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    note: Annotated[str, typer.Option(help="why, for the record")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="publish as provisional over a model that met all gates")
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="to the ledger only: scored, compared, never shown")
    ] = False,
    end_shadow: Annotated[
        bool, typer.Option("--end-shadow", help="score nothing in the shadow any more")
    ] = False,
) -> None:
    """Publish the latest trained models as one release."""
    from features.pipeline import build_features
    from training.pipeline import candidates
    from training.promote import end_shadow as leave_shadow
    from training.promote import promote as publish
    from training.train_table import table_feature_set

    workspace, steps = workspace_of(company, state, data), Steps()
    if end_shadow:
        leave_shadow(workspace, steps)
        return
    with workspace.state.lock("promote"):
        now, trained = workspace.company.clock(), candidates(workspace)
        is_table = workspace.company.table is not None
        publish(
            workspace,
            table_feature_set(workspace, trained)
            if is_table
            else build_features(workspace, now, steps).features,
            trained,
            created_at=now,
            note=note,
            is_forced=force,
            is_shadow=shadow,
            progress=steps,
        )


@app.command()
def rollback(
    company: CompanyArgument,
    state: StateOption = None,
    to: Annotated[str | None, typer.Option(help="a release id; default the one before")] = None,
    note: Annotated[str, typer.Option(help="why, for the record")] = "",
) -> None:
    """Return to an earlier release."""
    from training.promote import roll_back

    workspace = workspace_of(company, state, data=".")
    with workspace.state.lock("rollback"):
        roll_back(workspace, to=to, note=note, progress=Steps())


@app.command()
def releases(company: CompanyArgument, state: StateOption = None) -> None:
    """List what was published, when and why, and what is in the shadow."""
    from training.registry.releases import history, open_store
    from training.registry.shadow import shadow_of

    store = open_store(workspace_of(company, state, data="."))
    table = lines_of("#", "release", "action", "published", "note")
    for item in history(store):
        when = f"{item.published_at:%Y-%m-%d %H:%M} UTC"
        table.add_row(str(item.sequence), item.release_id, item.action, when, item.note)
    console.print(table)
    if shadow := shadow_of(store):
        console.print(f"in the shadow: {shadow}")


@app.command()
def relog(company: CompanyArgument, state: StateOption = None) -> None:
    """Send the tracking server what it could not take while it was down."""
    from training.promote import mirror_aliases
    from training.registry.mlflow_registry import relog as send
    from training.registry.releases import current, open_store

    workspace, steps = workspace_of(company, state, data="."), Steps()
    sent = send(workspace)
    steps(f"trainings that waited to be sent: {len(sent)}")
    for run in sent:
        steps(f"{run.target}: registered as {run.model_name} version {run.version}")
    store = open_store(workspace)
    if current(store) is not None:
        mirror_aliases(workspace, store, None, steps)


@app.command()
def score(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    rows: Annotated[
        Path | None, typer.Option(help="of a ready-made table: a file of new rows to score")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="of a ready-made table: a copy as .csv or .parquet")
    ] = None,
) -> None:
    """Score every account with the published release, and export the book."""
    from serving.run.pipeline import score_company
    from serving.run.score_table import score_table

    workspace, steps = workspace_of(company, state, data), Steps()
    if workspace.company.table is not None:
        with workspace.state.lock("score"):
            score_table(workspace, rows, out, workspace.company.clock(), steps)
        return
    if rows is not None or out is not None:
        raise ConfigError(
            "--rows and --out are for a company with a ready-made table",
            where=str(workspace.folder),
            fix="without them, the accounts of the book are scored and exported",
        )
    with workspace.state.lock("score"):
        run = score_company(workspace, workspace.company.clock(), steps)
    _print_book(run)


@app.command()
def report(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    pdf: PdfOption = False,
) -> None:
    """Write the report on whether the score is valid and how the book stands."""
    from serving.run.pipeline import report_company

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("report"):
        path = report_company(workspace, workspace.company.clock(), steps)
    _wrote(path, pdf=pdf)


@app.command()
def audit(
    scores: Annotated[Path, typer.Argument(help="the score's history: CSV or Parquet")],
    outcomes: Annotated[Path | None, typer.Argument(help="what was decided, and when")] = None,
    out: Annotated[Path, typer.Option(help="folder of the report and the record")] = Path("audit"),
    column: Annotated[
        list[str] | None, typer.Option(help="TABLE.PART=COLUMN, e.g. scores.account=Id; repeatable")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="WORD=churn|contraction|expansion|kept; repeatable")
    ] = None,
    higher: Annotated[str | None, typer.Option(help="a high score is healthier or riskier")] = None,
    bands: Annotated[str, typer.Option(help='best to worst: "green, yellow, red"')] = "",
    horizon: Annotated[int, typer.Option(min=7, max=730, help="days to see ahead")] = 91,
    capacity: Annotated[
        int | None, typer.Option(min=1, help="accounts the team can work in a month")
    ] = None,
    through: Annotated[
        str | None, typer.Option(help="until when outcomes are complete, YYYY-MM-DD")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="count only amounts in this one")] = None,
    contracts: Annotated[
        bool, typer.Option("--contracts/--no-contracts", help="no: month to month")
    ] = True,
    probability: Annotated[
        bool | None, typer.Option("--probability/--no-probability", help="the score is one")
    ] = None,
    day_first: Annotated[
        bool | None, typer.Option("--day-first/--month-first", help="how 3/4/2025 is read")
    ] = None,
    decimal_comma: Annotated[
        bool | None, typer.Option("--decimal-comma/--decimal-point", help="how 1,234 is read")
    ] = None,
    draws: Annotated[int, typer.Option(min=100, max=10_000, help="of the bootstrap")] = 1000,
    today: Annotated[str | None, typer.Option(help="the clock, YYYY-MM-DD; default now")] = None,
    pdf: PdfOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge a health score you already have, from two files and without any training."""
    from datetime import time as clock

    from training.health_audit import options
    from training.health_audit.history import kinds_option
    from training.health_audit.run import audit as make

    day = options.day_option(today, "--today")
    asked = options.AuditOptions(
        now=datetime.combine(day, clock(), UTC)
        if day
        else datetime.now(UTC).replace(microsecond=0),
        columns=options.column_options(column or []),
        higher=options.higher_option(higher),
        bands=options.band_options(bands),
        kinds=kinds_option(kind or []),
        horizon_days=horizon,
        capacity_per_month=capacity,
        through=options.day_option(through, "--through"),
        currency=currency,
        has_contracts=contracts,
        is_probability=probability,
        day_first=day_first,
        decimal=options.decimal_option(decimal_comma),
        draws=draws,
    )
    made = make(scores, outcomes, out, asked, steps_beside(as_json))
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=1))
        return
    for line in made.lines:
        console.print(line, markup=False, soft_wrap=True)
    if made.html is not None:
        _wrote(made.html, pdf=pdf)


def _wrote(page: Path, *, pdf: bool) -> None:
    console.print(f"wrote {page}", soft_wrap=True)
    if pdf:
        from training.reporting.pdf import print_pdf

        console.print(f"wrote {print_pdf(page)}", soft_wrap=True)


@app.command()
def forecast(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast GRR and NRR with bands, and show how the same forecast did before."""
    from serving.run.pipeline import forecast_company
    from training.forecast.charts import forecast_lines

    workspace = workspace_of(company, state, data)
    steps = steps_beside(as_json)
    with workspace.state.lock("forecast"):
        content, path = forecast_company(workspace, workspace.company.clock(), steps)
    if as_json:
        typer.echo(json.dumps(content, indent=1))
        return
    for line in forecast_lines(content):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"wrote {path}", soft_wrap=True)


@app.command()
def holdout(
    company: CompanyArgument,
    state: StateOption = None,
    share: Annotated[float, typer.Option(help="of the flagged accounts, between 0 and 1")] = 0.2,
    seed: Annotated[int, typer.Option(help="same seed, same draw")] = 7,
) -> None:
    """Draw by lot which flagged accounts are left alone, alike in risk and ARR; never redrawn."""
    from serving.workflow.holdouts import draw_holdout
    from training.validation.interventions import EXAMPLE, accounts_per_arm

    workspace = workspace_of(company, state, data=".")
    with workspace.state.lock("holdout"):
        drawn = draw_holdout(workspace, share=share, seed=seed, now=workspace.company.clock())
    table = lines_of("stratum", "treated", "left alone")
    for stratum, rows in drawn.accounts.groupby("stratum"):
        held = int((rows["arm"] == "held_out").sum())
        table.add_row(str(stratum), str(len(rows) - held), str(held))
    console.print(table)
    console.print(
        f"{len(drawn.accounts)} accounts drawn, {drawn.kept} keep the arm they had; to tell "
        f"{EXAMPLE[0]:.0%} from {EXAMPLE[1]:.0%} takes {accounts_per_arm(*EXAMPLE):,} in each arm",
        soft_wrap=True,
    )
    console.print(f"kept in {drawn.file}", soft_wrap=True)


@app.command()
def run(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    weeks: Annotated[
        int,
        typer.Option(
            min=0,
            max=52,
            help="for examples: train as of so many weeks ago, and publish a book in each since",
        ),
    ] = 0,
) -> None:
    """Do it all: check, features, labels, train, promote, score, report."""
    from serving.run.pipeline import run_company
    from serving.run.score_table import run_table

    workspace, steps = workspace_of(company, state, data), Steps()
    if workspace.company.table is not None:
        with workspace.state.lock("run"):
            run_table(workspace, workspace.company.clock(), steps)
        return
    with workspace.state.lock("run"):
        made = run_company(workspace, workspace.company.clock(), steps, weeks=weeks)
    made.quality.render(console)
    _print_book(made.book)
    _print_made(made.summary)


@app.command()
def refresh(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Refresh scores and exports once; safe in cron: a failure keeps yesterday's results."""
    from serving.run.pipeline import refresh_company

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("refresh"), _kept_on_failure(workspace):
        refresh_company(workspace, workspace.company.clock(), steps)


@contextmanager
def _kept_on_failure(workspace: Workspace) -> Iterator[None]:
    from serving.run.pipeline import standing_results

    try:
        yield
    except Exception:
        complaints.print(f"refresh failed; {standing_results(workspace)}")
        raise


@app.command()
def monitor(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at freshness, drift, expected and realised performance of what is published."""
    from serving.run.pipeline import monitor_company

    workspace = workspace_of(company, state, data)
    steps = steps_beside(as_json)
    with workspace.state.lock("monitor"):
        report = monitor_company(workspace, workspace.company.clock(), steps)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    fresh = report["freshness"]
    stale = f", stale: {fresh['stale_after_days']} are allowed" if fresh["is_stale"] else ""
    console.print(f"features as of {fresh['as_of'][:10]}, {fresh['age_days']} days old{stale}")
    for target, told in report["targets"].items():
        console.print(f"\n[bold]{target}[/]  model {told['bundle_sha'][:12]}, {told['verdict']}")
        for words in told["words"]:
            console.print(f"  {_escape(words)}", soft_wrap=True)


@app.command()
def replay(
    company: CompanyArgument,
    state: StateOption = None,
    score_id: Annotated[str | None, typer.Option(help="one score, by its id")] = None,
    account: Annotated[str | None, typer.Option(help="the last scores of an account")] = None,
    at: Annotated[
        datetime | None, typer.Option(help="with --account: as served by this day, UTC")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="else: so many, over the whole ledger")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Compute past scores again from the ledger, and say whether they are the same."""
    from serving.run.pipeline import replay_scores

    found = replay_scores(
        workspace_of(company, state, data="."),
        score_id=score_id,
        account=account,
        at=at.replace(tzinfo=UTC) + timedelta(days=1) if at else None,
        sample=sample,
    )
    if as_json:
        typer.echo(json.dumps([item.as_dict() for item in found], indent=1))
    else:
        _print_replays(found)
    failed = [item for item in found if not item.is_reproduced]
    if failed:
        raise ModelError(
            f"{len(failed)} of {len(found)} scores cannot be reproduced",
            where=", ".join(item.row.score_id for item in failed[:5]),
            fix="restore the bundle or the row that is named; what was served stands in the ledger",
        )


def _print_replays(found: list[Replay]) -> None:
    for item in found:
        row = item.row
        console.print(
            f"{row.score_id}  {_escape(row.entity_id)} {row.target} as of {row.as_of:%Y-%m-%d}, "
            f"{row.channel}, model {row.bundle_sha[:12]}\n"
            f"    served   {row.probability!r}\n"
            f"    replayed {item.probability!r}   {_escape(item.words)}",
            soft_wrap=True,
        )
    same = sum(item.is_identical for item in found)
    console.print(f"{same} of {len(found)} the same, bit for bit")


@app.command()
def serve(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    port: Annotated[int, typer.Option(help="where to listen")] = 3000,
    host: Annotated[
        str, typer.Option(help="this machine only; another needs keys or sign-in")
    ] = "127.0.0.1",
) -> None:
    """Serve scores, pages and the report: to this machine, or to who has a key or signs in."""
    from serving.run.pipeline import is_open, serve_command

    workspace = workspace_of(company, state, data)
    command, environment = serve_command(workspace, port, host)
    console.print(f"\nBellwether is at [bold]http://{host}:{port}[/]  (Ctrl-C ends it)")
    if is_open(workspace):
        console.print("Open to whoever is at this machine: no keys are made, nobody signs in.")
    os.execvpe(command[0], command, environment)  # noqa: S606  our own interpreter, no shell


@app.command("mlflow")
def mlflow_ui(
    company: CompanyArgument,
    state: StateOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="where to listen")] = 5000,
) -> None:
    """Open MLflow's pages of trainings and registered models; on this machine only."""
    from serving.run.pipeline import mlflow_command

    command, environment = mlflow_command(workspace_of(company, state, data="."), port)
    console.print(f"\nMLflow is at [bold]http://127.0.0.1:{port}[/]  (Ctrl-C ends it)")
    os.execvpe(command[0], command, environment)  # noqa: S606  our own interpreter, no shell


@app.command()
def export(
    company: CompanyArgument,
    to: Annotated[str, typer.Option(help="salesforce, hubspot, gainsight, or a mapping file")],
    out: Annotated[Path, typer.Option(help="CSV to write")],
    state: StateOption = None,
) -> None:
    """Write the last book in the fields of another system: names, types and scales as it has."""
    from serving.run.pipeline import export_mapped

    n = export_mapped(workspace_of(company, state, data="."), to, out)
    console.print(f"wrote {n:,} accounts to {out}", soft_wrap=True)


@app.command()
def outcomes(
    company: CompanyArgument,
    out: Annotated[Path, typer.Option(help="CSV to write")],
    state: StateOption = None,
) -> None:
    """Write what was reported through the API as the source table `outcomes`, for training."""
    from serving.run.pipeline import export_outcomes

    n = export_outcomes(workspace_of(company, state, data="."), out)
    console.print(f"wrote {n:,} outcomes to {out}", soft_wrap=True)


@app.command()
def ledger(
    company: CompanyArgument,
    state: StateOption = None,
    look: Annotated[
        bool, typer.Option("--look", help="change nothing, only say how it is")
    ] = False,
    compact_after_hours: Annotated[
        float | None, typer.Option(min=0, help="instead of ledger.compact_after_hours")
    ] = None,
    vectors_days: Annotated[
        int | None, typer.Option(min=100, help="instead of ledger.vectors_days")
    ] = None,
    scores_days: Annotated[
        int | None, typer.Option(min=1, help="instead of ledger.scores_days")
    ] = None,
    max_scores: Annotated[
        int | None, typer.Option(min=1, help="instead of ledger.max_scores")
    ] = None,
    open_too: Annotated[
        bool,
        typer.Option("--open-too", help="remove scores whose outcome is not known yet as well"),
    ] = False,
    shrink: Annotated[
        bool,
        typer.Option("--shrink", help="give the space back to the disk; writers wait meanwhile"),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compact the ledger and remove what is old enough, as company.yaml says under `ledger`."""
    from serving.run.pipeline import tidy_ledger

    workspace = workspace_of(company, state, data=".")
    given = {
        "compact_after_hours": compact_after_hours,
        "vectors_days": vectors_days,
        "scores_days": scores_days,
        "max_scores": max_scores,
        "keep_open": False if open_too else None,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    keeping = workspace.company.ledger.model_copy(update=changed)
    told = tidy_ledger(workspace, None if look else keeping, shrink=shrink)
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    for when in ("before", "after"):
        size = told[when]["bytes"] / 2**20
        console.print(f"{when}: {told[when]['scores']:,} scores, {size:,.1f} MB")
    console.print(told["words"], soft_wrap=True)


@app.command()
def webhooks(
    company: CompanyArgument,
    state: StateOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="send the dead ones again")] = False,
) -> None:
    """List messages that wait or were given up, after how many of each there are."""
    from serving.integrations.webhooks import DEAD, WAITING, Outbox

    outbox = Outbox(workspace_of(company, state, data="."))
    try:
        if retry:
            console.print(f"{outbox.revive(datetime.now(UTC)):,} messages wait again")
        for (name, what), n in sorted(outbox.counts().items()):
            console.print(f"{name}: {n:,} {what}")
        table = lines_of("message", "to", "event", "state", "attempts", "problem")
        for item in (*outbox.messages(WAITING), *outbox.messages(DEAD)):
            cells = (item.message_id, item.endpoint, item.event, item.state)
            table.add_row(*cells, str(item.attempts), _escape(item.problem or ""))
        console.print(table)
    finally:
        outbox.close()


keys = typer.Typer(no_args_is_help=True, help="Keys of systems that call the service.")
app.add_typer(keys, name="keys")


@contextmanager
def _key_store(company: str, state: str | None) -> Iterator[KeyStore]:
    from serving.auth.api_keys import KeyStore

    store = KeyStore(workspace_of(company, state, data="."))
    try:
        yield store
    finally:
        store.close()


def _show_key(key: str) -> None:
    typer.echo(key)
    complaints.print("Keep it now: it is not shown again, and only its hash is kept.")


@keys.command("create")
def create_key(
    company: CompanyArgument,
    state: StateOption = None,
    name: Annotated[str, typer.Option(help="what it is for")] = "",
    scopes: Annotated[
        str, typer.Option(help="of read, score, write, metrics, admin; by commas")
    ] = "read,score",
    days: Annotated[int, typer.Option(min=1, max=3650, help="until it ends")] = 365,
) -> None:
    """Make a key, and show it once. From then on the service asks everybody for one."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _key_store(company, state) as store:
        _show_key(store.create(name, wanted, datetime.now(UTC), days))


@keys.command("list")
def list_keys(company: CompanyArgument, state: StateOption = None) -> None:
    """List every key there ever was; secrets are not kept."""
    table = lines_of("key", "for", "scopes", "made", "ends", "")
    with _key_store(company, state) as store:
        for key in store.every():
            word = "" if key.ends_at() > datetime.now(UTC) else "over"
            made, ends = f"{key.created_at:%Y-%m-%d}", f"{key.ends_at():%Y-%m-%d %H:%M} UTC"
            table.add_row(key.key_id, _escape(key.name), key.scopes, made, ends, word)
    console.print(table)


@keys.command("rotate")
def rotate_key(
    company: CompanyArgument,
    key_id: str,
    state: StateOption = None,
    hours: Annotated[float, typer.Option(min=0, help="for which the old one still works")] = 24,
) -> None:
    """Make a new key in place of an old one, which works for some hours beside it."""
    with _key_store(company, state) as store:
        _show_key(store.rotate(key_id, datetime.now(UTC), timedelta(hours=hours)))


@keys.command("revoke")
def revoke_key(company: CompanyArgument, key_id: str, state: StateOption = None) -> None:
    """Take a key back; running services refuse it within seconds."""
    with _key_store(company, state) as store:
        store.revoke(key_id, datetime.now(UTC))
    console.print(f"{key_id} is taken back")


def _print_book(book: ScoreRun) -> None:
    from serving.batch.score_book import top_at_risk

    console.print("\n[bold]Most at risk, by recurring revenue expected to be lost[/]")
    for line in top_at_risk(book, 10):
        console.print(line, markup=False)


def _print_made(summary: dict[str, str]) -> None:
    console.print("\n[bold]What was made, and where[/]")
    for what, where in summary.items():
        # A path is copied whole: it stands on a line of its own, which is never broken.
        console.print(f"{_escape(what)}\n    {_escape(where)}", soft_wrap=True)


def main() -> None:
    """Run a command; a person sees what is wrong, where, and what to do, never a traceback."""
    try:
        app()
    except BellwetherError as error:
        if settings.is_debug:
            raise
        complaints.print(f"[bold red]error:[/] {_escape(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if settings.is_debug:
            raise
        words, code = _surprise(error)
        complaints.print(f"[bold red]{words}")
        sys.exit(code)


def _surprise(error: Exception) -> tuple[str, int]:
    """Return the words for an error that is not ours, and the exit code."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"error:[/] cannot be read or written: {_escape(str(error.strerror))}\n"
            f"  where: {_escape(str(error.filename))}\n"
            "  to do: correct the path, its permissions or the disk, then run the command again",
            74,
        )
    return (
        f"unexpected error:[/] {_escape(f'{type(error).__name__}: {error}')}\n"
        "  to do: run the same command as `bellwether --debug …` and report what it prints",
        70,
    )


if __name__ == "__main__":
    main()
