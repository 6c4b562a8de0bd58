"""Commands about data: start a company, check its tables, build its features."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.console import (
    console,
    escape,
    lines_of,
    print_json,
    print_text,
    steps_unless,
)
from serving.commands.options import (
    CompanyArgument,
    DataOption,
    JsonOption,
    StateOption,
    open_company,
    workspace_of,
)

if TYPE_CHECKING:
    from configs.schema.workspace import Workspace
    from features.sources.proposal import Proposal
    from features.sources.proposal.draft import Choice
    from features.sources.proposal.raw_tables import RawTables

PANEL = "Data"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder to write the tables into.")],
    accounts: Annotated[int, typer.Option(min=2, help="Number of accounts.")] = 1000,
    months: Annotated[int, typer.Option(min=6, max=120, help="Length of the history.")] = 30,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same files.")] = 7,
) -> None:
    """Write the raw tables of a simulated SaaS company, to try Bellwether on."""
    from serving.company import simulate as write

    write(folder, accounts=accounts, months=months, seed=seed)
    print_text(f"wrote {folder}; next:  bellwether run simulated --data {folder}")


@app.command(rich_help_panel=PANEL)
def init(
    folder: Annotated[Path, typer.Argument(help="Company folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the exports, where they are not in the company folder."),
    ] = None,
    connection: Annotated[
        str | None,
        typer.Option(help="Database with the tables: its URL is in BELLWETHER_CONNECTION_<NAME>."),
    ] = None,
    schema: Annotated[str, typer.Option(help="Only tables of this schema of the database.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Take the best guess for everything.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A value to use instead of the guess: KEY=VALUE, repeatable."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV, Excel, JSON or Parquet file of a ready-made table; its columns are guessed."
        ),
    ] = None,
) -> None:
    """Propose a company.yaml from exports or a database, or write a commented template."""
    from features.sources.proposal.raw_tables import data_files, database_tables
    from features.sources.scaffold import scaffold

    if table is not None:
        _init_table(folder, table)
    elif connection is not None:
        tables = database_tables(connection, schema, folder)
        _init_from(folder, folder, tables, parse_answers(set_ or []), ask=not yes)
    elif data is not None or (folder.is_dir() and data_files(folder)):
        place = data or folder
        _init_from(folder, place, place, parse_answers(set_ or []), ask=not yes)
    else:
        for path in scaffold(folder):
            print_text(f"wrote {path}")
        print_text(f"next: edit company.yaml, then  bellwether check {folder}")


@app.command(rich_help_panel=PANEL)
def start(
    folder: Annotated[
        Path, typer.Argument(help="Company folder to set up; created when absent.")
    ] = Path("company"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3001,
) -> None:
    """Set a company up in the browser: upload exports, check the mapping, run; local only."""
    from serving.run.start_app import HOST, serve_start, start_desk

    def announce() -> None:
        console.print(f"\nThe setup is at [bold]http://{HOST}:{port}/start[/]  (Ctrl-C stops it)")
        print_text("Open to every user of this machine.")

    serve_start(start_desk(folder), port, announce)


def parse_answers(texts: list[str]) -> dict[str, str]:
    """Return the answers of ``--set KEY=VALUE``.

    Raises
    ------
    ConfigError
        A text has no ``=``.
    """
    from configs.runtime.errors import ConfigError

    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(
            f"--set {wrong[0]!r} has no value",
            where="the command line",
            fix="write  --set tables.subscriptions.columns.arr=Amount",
        )
    return {key.strip(): value.strip() for key, _, value in (t.partition("=") for t in texts)}


def _init_from(
    folder: Path, data: Path, source: Path | RawTables, answers: dict[str, str], *, ask: bool
) -> None:
    from datetime import UTC, datetime

    from features.sources.proposal import propose
    from features.sources.proposal.company_file import refuse_existing, write_company

    refuse_existing(folder)
    now = datetime.now(UTC)
    proposal = propose(source, now, answers)
    _show_files(proposal)
    if ask and sys.stdin.isatty() and proposal.questions():
        answers |= _ask(proposal.questions())
        proposal = propose(source, now, answers)
    path = write_company(folder, data, proposal)
    guesses = proposal.guesses()
    print_text(f"wrote {path}")
    if guesses:
        print_text(f"{len(guesses)} guesses to confirm; they are listed at the end of the file:")
        _show_guesses(guesses)
    print_text("")
    open_company(str(folder), None, None, steps_unless(False)).check().report.render(console)
    print_text(
        f"next: compare ARR and losses with finance, correct company.yaml, then\n"
        f"  bellwether confirm {folder}   bellwether run {folder}"
    )


def _show_files(proposal: Proposal) -> None:
    shown = lines_of("file", "table", "recognised by", "rows", "account found by")
    for draft in proposal.drafts:
        links = [f"{choice.value} = {matches}" for choice, matches, _ in draft.links]
        own = draft.columns.get("account_id")
        found = ", ".join(links) or (own.value if own else "")
        shown.add_row(
            escape(proposal.inputs[draft.file.name]),
            draft.table,
            escape(draft.origin),
            f"{draft.file.source.rows:,}",
            escape(found),
        )
    for pattern, why in proposal.unused.items():
        shown.add_row(escape(pattern), "not used", escape(why), "", "")
    console.print(shown)


def _show_guesses(guesses: Mapping[str, Choice]) -> None:
    shown = lines_of("key", "value", "sure", "why", "or")
    for key, choice in guesses.items():
        others = ", ".join(choice.others[:3])
        value = escape(choice.value)
        shown.add_row(escape(key), value, choice.sure, escape(choice.why), escape(others))
    console.print(shown)


def _ask(questions: Mapping[str, Choice]) -> dict[str, str]:
    """Ask for the values that the data does not decide."""
    answers = {}
    for key, choice in questions.items():
        others = f"; or: {', '.join(choice.others)}" if choice.others else ""
        print_text(f"{key}: {choice.why}{others}")
        answers[key] = str(typer.prompt("  value", default=choice.value))
    return answers


@app.command(rich_help_panel=PANEL)
def confirm(
    folder: Annotated[Path, typer.Argument(help="Company folder.")],
    keys: Annotated[
        list[str] | None, typer.Argument(help="Guesses to confirm; all when none is named.")
    ] = None,
) -> None:
    """Confirm the guesses in company.yaml, so that they no longer count as open."""
    from features.sources.proposal.company_file import confirm_guesses

    done = confirm_guesses(folder, keys or [])
    for key in done:
        print_text(f"confirmed {key}")
    if not done:
        print_text("no open guesses")


def _init_table(folder: Path, table: Path) -> None:
    from training.tabular.scaffold import scaffold_table

    guesses = scaffold_table(folder, table)
    print_text(f"wrote {folder / 'company.yaml'}; guessed, to be checked:")
    shown = lines_of("key", "value", "guessed from", "or")
    for guess in guesses:
        others = ", ".join(guess.others[:4])
        shown.add_row(guess.key, escape(str(guess.value)), escape(guess.why), escape(others))
    console.print(shown)
    print_text(f"next: correct it, then  bellwether check {folder}")


@app.command(rich_help_panel=PANEL)
def check(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="Print grade, issues and rows of every load so far instead; reads no tables.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the raw tables and print a graded data-quality report."""
    opened = open_company(company, state, data, steps_unless(as_json))
    if history:
        _print_history(opened.workspace, as_json)
        return
    if opened.workspace.company.webhooks:
        from serving.integrations.webhooks import check_webhooks

        check_webhooks(opened.workspace)
    if opened.workspace.company.table is not None:
        _check_table(opened.workspace, as_json)
        return
    quality = opened.check()
    if as_json:
        print_json(quality.as_dict())
    else:
        quality.report.render(console)


def _print_history(workspace: Workspace, as_json: bool) -> None:
    from features.quality import read_history

    loads = read_history(workspace.state)
    if as_json:
        print_json([load.as_dict() for load in loads])
        return
    if not loads:
        print_text("no load has been checked yet: `bellwether check FOLDER` begins the history")
        return
    shown = lines_of("load", "grade", "errors", "warnings", "rows", "targets", "errors in")
    for load in loads:
        errors = [item for item in load.issues if item.severity == "error"]
        targets = ", ".join(f"{name} {words}" for name, words in load.readiness.items())
        named = dict.fromkeys(f"{i.table}: {i.code}" if i.table else i.code for i in errors)
        shown.add_row(
            load.at[:16].replace("T", " "),
            load.grade,
            f"{len(errors):,}",
            f"{load.count('warning'):,}",
            f"{sum(load.rows.values()):,}",
            escape(targets.replace("_", " ")),
            escape(", ".join(named)),
        )
    console.print(shown)


def _check_table(workspace: Workspace, as_json: bool) -> None:
    from training.tabular.table_frame import build_table_frame

    made = build_table_frame(workspace, workspace.company.clock())
    if as_json:
        columns = [asdict(column) for column in made.columns]
        print_json({"contract": made.contract, "columns": columns})
        return
    shown = lines_of("column", "part", "read as", "missing", "different", "")
    for column in made.columns:
        missing = f"{100 * column.missing:.1f} %" if column.missing else ""
        words = escape(column.words)
        shown.add_row(
            escape(column.name), column.part, column.kind, missing, f"{column.different:,}", words
        )
    console.print(shown)
    print_text(_contract_text(made.contract))
    for note in made.contract["file_notes"]:
        print_text(note)
    for word, meaning in made.contract["label_words"].items():
        print_text(f"  {word}: {meaning}")


def _contract_text(contract: dict[str, Any]) -> str:
    left = ", ".join(f"{n:,} {why}" for why, n in contract["excluded"].items())
    return f"{contract['words']}: {contract['event_rows']:,} of {contract['used_rows']:,} rows" + (
        f"; left out: {left}" if left else ""
    )


@app.command(rich_help_panel=PANEL)
def revenue(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    movements: Annotated[
        Path | None, typer.Option(help="CSV file to write every movement of ARR to.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print ARR, losses and growth by quarter with GRR and NRR, to compare with finance."""
    found = open_company(company, state, data, lambda _: None).revenue()
    if movements is not None:
        found.movements.to_csv(movements, index=False)
        steps_unless(as_json)(f"wrote {len(found.movements):,} movements to {movements}")
    if as_json:
        print_json(found.as_dict())
    else:
        found.summary.render(console)


@app.command(rich_help_panel=PANEL)
def features(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build features and labels, load the feature store, and list what was left out."""
    from features.pipeline import build_features, left_out

    workspace = workspace_of(company, state, data)
    with workspace.state.lock("features"):
        built = build_features(workspace, workspace.company.clock(), steps_unless(as_json))
    missing, names = left_out(built), built.features.names
    if as_json:
        print_json({"built": names, "left_out": missing})
        return
    console.print(f"\n[bold]{len(names)} features built[/]")
    for why, lost in missing["features"].items():
        print_text(f"left out, {why}: {', '.join(lost)}")
    for target, reasons in missing["rows"].items():
        print_text(f"rows not used for {target}: {', '.join(reasons) or 'every row is used'}")


@app.command(rich_help_panel=PANEL)
def catalogue(as_json: JsonOption = False) -> None:
    """List every feature: name, meaning, unit, window, theme and expected signs."""
    from features.signals import feature_catalogue

    if as_json:
        print_json([item.as_dict() for item in feature_catalogue()])
        return
    table = lines_of("feature", "meaning", "unit", "window", "theme", "churn", "growth")
    signs = {1: "raises", -1: "lowers", 0: "free"}
    for item in feature_catalogue():
        window = f"{item.window_days} d" if item.window_days else ""
        churn, growth = signs[item.churn_sign], signs[item.expansion_sign]
        table.add_row(item.name, item.meaning, item.unit, window, item.theme, churn, growth)
    console.print(table)
