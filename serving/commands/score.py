"""Commands that score accounts and bring scores to people and systems."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.runtime.errors import ConfigError
from serving.commands.console import (
    Steps,
    console,
    print_json,
    print_text,
    steps_unless,
)
from serving.commands.options import (
    NO_DATA,
    CompanyArgument,
    DataOption,
    JsonOption,
    StateOption,
    open_company,
    workspace_of,
)

if TYPE_CHECKING:
    from serving.batch.score_book import ScoreRun

PANEL = "Score and serve"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def run(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    weeks: Annotated[
        int,
        typer.Option(
            min=0,
            max=52,
            help="For shipped examples: train as of this many weeks ago, and score the accounts "
            "once in each week since.",
        ),
    ] = 0,
) -> None:
    """Run every step: check, features, train, promote, score, report."""
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
    _print_scores(made.book)
    console.print("\n[bold]Results[/]")
    for what, where in made.summary.items():
        # A path has a line of its own, so that it can be copied whole.
        print_text(f"{what}\n    {where}")


@app.command(rich_help_panel=PANEL)
def score(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    rows: Annotated[
        Path | None, typer.Option(help="Ready-made table only: file of new rows to score.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Ready-made table only: .csv or .parquet file to write.")
    ] = None,
) -> None:
    """Score every account with the published release, and export the scores."""
    from serving.run.score_table import score_table

    opened = open_company(company, state, data, steps := Steps())
    workspace = opened.workspace
    if workspace.company.table is not None:
        with workspace.state.lock("score"):
            score_table(workspace, rows, out, workspace.company.clock(), steps)
        return
    if rows is not None or out is not None:
        raise ConfigError(
            "--rows and --out are for a company with a ready-made table",
            where=str(workspace.folder),
            fix="omit them to score and export every account",
        )
    _print_scores(opened.score().run)


def _print_scores(scored: ScoreRun) -> None:
    from serving.batch.score_book import top_at_risk

    console.print("\n[bold]Most at risk, by recurring revenue expected to be lost[/]")
    for line in top_at_risk(scored, 10):
        console.print(line, markup=False)


@app.command(rich_help_panel=PANEL)
def serve(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; other machines need API keys or sign-in."),
    ] = "127.0.0.1",
) -> None:
    """Start the scoring service: API, pages and report.

    Local only until you create an API key or configure sign-in.
    """
    from serving.run.servers import is_open, serve_command

    workspace = workspace_of(company, state, data)
    command, environment = serve_command(workspace, port, host)
    console.print(f"\nBellwether is at [bold]http://{host}:{port}[/]  (Ctrl-C stops it)")
    if is_open(workspace):
        console.print("Open to every user of this machine: no API keys, no sign-in.")
    os.execvpe(command[0], command, environment)  # noqa: S606  our own interpreter, no shell


@app.command("mlflow", rich_help_panel=PANEL)
def mlflow_ui(
    company: CompanyArgument,
    state: StateOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
) -> None:
    """Start MLflow's pages about trainings and registered models; on this machine only."""
    from serving.run.servers import mlflow_command

    command, environment = mlflow_command(workspace_of(company, state, NO_DATA), port)
    console.print(f"\nMLflow is at [bold]http://127.0.0.1:{port}[/]  (Ctrl-C stops it)")
    os.execvpe(command[0], command, environment)  # noqa: S606  our own interpreter, no shell


@app.command(rich_help_panel=PANEL)
def monitor(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure freshness, drift, expected and realised performance of the published models."""
    opened = open_company(company, state, data, steps_unless(as_json))
    report = opened.monitor().report
    if as_json:
        print_json(report)
        return
    fresh = report["freshness"]
    stale = f", stale: {fresh['stale_after_days']} are allowed" if fresh["is_stale"] else ""
    console.print(f"features as of {fresh['as_of'][:10]}, {fresh['age_days']} days old{stale}")
    for target, part in report["targets"].items():
        console.print(f"\n[bold]{target}[/]  model {part['bundle_sha'][:12]}, {part['verdict']}")
        for words in part["words"]:
            print_text(f"  {words}")


@app.command(rich_help_panel=PANEL)
def export(
    company: CompanyArgument,
    to: Annotated[
        str, typer.Option(help="Target system: salesforce, hubspot, gainsight, or a mapping file.")
    ],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    state: StateOption = None,
) -> None:
    """Export the latest scores with the field names, types and scales of another system."""
    from serving.run.exports import export_mapped

    n = export_mapped(workspace_of(company, state, NO_DATA), to, out)
    print_text(f"wrote {n:,} accounts to {out}")


@app.command(rich_help_panel=PANEL)
def outcomes(
    company: CompanyArgument,
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    state: StateOption = None,
) -> None:
    """Export outcomes reported through the API as the source table `outcomes`, for training."""
    from serving.run.exports import export_outcomes

    n = export_outcomes(workspace_of(company, state, NO_DATA), out)
    print_text(f"wrote {n:,} outcomes to {out}")
