"""The front door: one command per step, each a few lines that call one function."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
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

from configs.company import load_company
from configs.errors import BellwetherError, ConfigError, did_you_mean
from configs.places import Places, Workspace, data_folder
from configs.quiet import switch_off_telemetry
from configs.state import State

if TYPE_CHECKING:
    from serving.book import BookRun

switch_off_telemetry()

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Which accounts will leave, which will grow: how early, why, how sure, "
    "and was it right last time.",
)
console = Console(highlight=False)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)  # commands stay in one piece

SHIPPED = Path(__file__).parent / "configs" / "companies"

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


def company_folder(name: str) -> Path:
    """Return the folder of a company, by path or by the name of a shipped example."""
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


def workspace_of(company: str, state: str | None, data: str | None) -> Workspace:
    """Resolve a company's configuration, data and state."""
    folder = company_folder(company)
    loaded = load_company(folder)
    folder = folder.parent if folder.is_file() else folder
    root = Path(state or os.environ.get("BELLWETHER_STATE") or Path("state") / loaded.name)
    return Workspace(
        company=loaded,
        folder=folder,
        data=data_folder(loaded, folder, data),
        state=State(root.absolute()),
        places=Places.from_environment(),
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


def _escape(words: str) -> str:
    return words.replace("[", r"\[")


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="folder to write")]) -> None:
    """Write a commented company folder to start from."""
    from features.sources.scaffold import scaffold

    for path in scaffold(folder):
        console.print(f"wrote {path}", soft_wrap=True)
    console.print("next: edit company.yaml, then  bellwether check " + str(folder), soft_wrap=True)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="folder to write the tables into")],
    accounts: Annotated[int, typer.Option(min=2, help="how many accounts")] = 1000,
    months: Annotated[int, typer.Option(min=6, max=120, help="how long a history")] = 30,
    seed: Annotated[int, typer.Option(help="same seed, same bytes")] = 7,
) -> None:
    """Make the raw tables of a simulated SaaS company whose true hazard is known."""
    from features.world import simulate as make
    from features.world import write

    write(make(seed=seed, n_accounts=accounts, months=months), folder)
    console.print(
        f"wrote {folder}; next:  bellwether run simulated --data {folder}", soft_wrap=True
    )


@app.command()
def check(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Read the raw tables and print a graded quality report."""
    from features.quality import check_quality
    from features.sources import load_sources

    workspace = workspace_of(company, state, data)
    now = workspace.company.clock()
    steps = (lambda _words: None) if as_json else Steps()
    with workspace.state.lock("check"):
        report = check_quality(workspace, load_sources(workspace, now, steps), now)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, default=str))
    else:
        report.render(console)


@app.command()
def catalogue(
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Print every feature: name, meaning, unit, window, theme, expected signs."""
    from features.signals import catalogue as features

    if as_json:
        typer.echo(json.dumps([item.as_dict() for item in features()], indent=1))
        return
    table = Table("feature", "meaning", "unit", "window", "theme", "churn", "growth", box=None)
    signs = {1: "raises", -1: "lowers", 0: "free"}
    for item in features():
        window = f"{item.window_days} d" if item.window_days else ""
        churn, growth = signs[item.churn_sign], signs[item.expansion_sign]
        table.add_row(item.name, item.meaning, item.unit, window, item.theme, churn, growth)
    console.print(table)


@app.command()
def checks(
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Print every methodological check of a training: code, severity, what is right."""
    from training.checks.registry import as_dicts

    if as_json:
        typer.echo(json.dumps(as_dicts(), indent=1))
        return
    table = Table("code", "about", "severity", "passes when", box=None)
    for item in as_dicts():
        table.add_row(item["code"], item["section"], item["severity"], item["title"])
    console.print(table)


@app.command()
def features(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Build features and labels, and fill the feature store."""
    from features.build import build_features

    workspace = workspace_of(company, state, data)
    with workspace.state.lock("features"):
        build_features(workspace, workspace.company.clock(), Steps())


@app.command()
def train(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Train, tune, calibrate and judge every target; register the challengers."""
    from features.build import build_features
    from training.run import train_targets

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("train"):
        built = build_features(workspace, workspace.company.clock(), steps)
        for item in train_targets(workspace, built, steps).values():
            console.print((item.folder / "card.md").read_text(encoding="utf-8"), markup=False)


@app.command()
def promote(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    note: Annotated[str, typer.Option(help="why, for the record")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="publish as provisional over a model that met all gates")
    ] = False,
) -> None:
    """Publish the latest trained models as one release."""
    from features.build import build_features
    from training.promote import promote as publish
    from training.run import candidates

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("promote"):
        now, trained = workspace.company.clock(), candidates(workspace)
        built = build_features(workspace, now, steps)
        publish(
            workspace,
            built.features,
            trained,
            created_at=now,
            note=note,
            is_forced=force,
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
    """List what was published, when and why."""
    from training.releases import history, open_store

    table = Table("#", "release", "action", "published", "note", box=None)
    for item in history(open_store(workspace_of(company, state, data="."))):
        when = f"{item.published_at:%Y-%m-%d %H:%M} UTC"
        table.add_row(str(item.sequence), item.release_id, item.action, when, item.note)
    console.print(table)


@app.command()
def relog(company: CompanyArgument, state: StateOption = None) -> None:
    """Send the tracking server what it could not take while it was down."""
    from training.promote import mirror_aliases
    from training.registry import relog as send
    from training.releases import current, open_store

    workspace, steps = workspace_of(company, state, data="."), Steps()
    sent = send(workspace)
    steps(f"trainings that waited to be sent: {len(sent)}")
    for run in sent:
        steps(f"{run.target}: registered as {run.model_name} version {run.version}")
    release = current(open_store(workspace))
    if release is not None:
        mirror_aliases(workspace, release, None, steps)


@app.command()
def score(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Score every account with the published release, and export the book."""
    from serving.pipeline import score_company

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("score"):
        run = score_company(workspace, workspace.company.clock(), steps)
    _print_book(run)


@app.command()
def report(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Write the report on whether the score is valid and how the book stands."""
    from serving.pipeline import report_company

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("report"):
        path = report_company(workspace, workspace.company.clock(), steps)
    console.print(f"wrote {path}", soft_wrap=True)


@app.command()
def run(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Do it all: check, features, labels, train, promote, score, report."""
    from serving.pipeline import run_company

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("run"):
        made = run_company(workspace, workspace.company.clock(), steps)
    made.quality.render(console)
    _print_book(made.book)
    _print_made(made.summary)


@app.command()
def refresh(company: CompanyArgument, state: StateOption = None, data: DataOption = None) -> None:
    """Refresh scores and exports once; safe in cron: a failure keeps yesterday's results."""
    from serving.pipeline import refresh_company

    workspace, steps = workspace_of(company, state, data), Steps()
    with workspace.state.lock("refresh"), _kept_on_failure(workspace):
        refresh_company(workspace, workspace.company.clock(), steps)


@contextmanager
def _kept_on_failure(workspace: Workspace) -> Iterator[None]:
    from serving.pipeline import standing_results

    try:
        yield
    except Exception:
        complaints.print(f"refresh failed; {standing_results(workspace)}")
        raise


@app.command()
def serve(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    port: Annotated[int, typer.Option(help="on 127.0.0.1 only")] = 3000,
) -> None:
    """Serve scores, pages and the report on this machine."""
    from serving.pipeline import serve_command

    workspace = workspace_of(company, state, data)
    command, environment = serve_command(workspace, port)
    console.print(f"\nBellwether is at [bold]http://127.0.0.1:{port}[/]  (Ctrl-C ends it)")
    os.execvpe(command[0], command, environment)  # noqa: S606  our own interpreter, no shell


def _print_book(book: BookRun) -> None:
    from serving.book import top_at_risk

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
