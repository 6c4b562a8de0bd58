"""Commands about models: train, publish, return to an earlier release."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from serving.commands.console import Steps, console, lines_of, print_json, print_text
from serving.commands.options import (
    NO_DATA,
    CompanyArgument,
    DataOption,
    JsonOption,
    StateOption,
    open_company,
    workspace_of,
)

PANEL = "Train and publish"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def train(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Target to train; repeat for several. Default: all targets."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Trials of the hyperparameter search. Default: training.tuning.trials."),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Train on what was known at 00:00 UTC of a day."),
    ] = None,
) -> None:
    """Train, tune, calibrate and evaluate models, and register them as challengers."""
    trained = open_company(company, state, data, Steps()).train(
        target or (), trials=trials, as_of=as_of.date() if as_of else None
    )
    for item in trained.targets.values():
        print_text(item.card)


@app.command(rich_help_panel=PANEL)
def checks(as_json: JsonOption = False) -> None:
    """List every methodological check of a training: code, severity and pass criterion."""
    from training.checks.registry import as_dicts

    if as_json:
        print_json(as_dicts())
        return
    table = lines_of("code", "about", "severity", "passes when")
    for item in as_dicts():
        table.add_row(item["code"], item["section"], item["severity"], item["title"])
    console.print(table)


@app.command(rich_help_panel=PANEL)
def promote(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    note: Annotated[str, typer.Option(help="Reason, for the record.")] = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Publish a provisional model over one that met all gates."),
    ] = False,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Score in the shadow: to the ledger only, never shown."),
    ] = False,
    end_shadow: Annotated[
        bool, typer.Option("--end-shadow", help="Stop scoring in the shadow.")
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


@app.command(rich_help_panel=PANEL)
def rollback(
    company: CompanyArgument,
    state: StateOption = None,
    to: Annotated[
        str | None, typer.Option(help="Release id. Default: the release before the current one.")
    ] = None,
    note: Annotated[str, typer.Option(help="Reason, for the record.")] = "",
) -> None:
    """Return to an earlier release."""
    from training.promote import roll_back

    workspace = workspace_of(company, state, NO_DATA)
    with workspace.state.lock("rollback"):
        roll_back(workspace, to=to, note=note, progress=Steps())


@app.command(rich_help_panel=PANEL)
def releases(company: CompanyArgument, state: StateOption = None) -> None:
    """List the releases: when and why each was published, and which one is in the shadow."""
    from training.registry.releases import history, open_store
    from training.registry.shadow import shadow_of

    store = open_store(workspace_of(company, state, NO_DATA))
    table = lines_of("#", "release", "action", "published", "note")
    for item in history(store):
        when = f"{item.published_at:%Y-%m-%d %H:%M} UTC"
        table.add_row(str(item.sequence), item.release_id, item.action, when, item.note)
    console.print(table)
    if shadow := shadow_of(store):
        console.print(f"in the shadow: {shadow}")


@app.command(rich_help_panel=PANEL)
def relog(company: CompanyArgument, state: StateOption = None) -> None:
    """Send queued trainings to the MLflow server after it was down."""
    from training.promote import mirror_aliases
    from training.registry.mlflow_registry import relog as send
    from training.registry.releases import current, open_store

    workspace, steps = workspace_of(company, state, NO_DATA), Steps()
    sent = send(workspace)
    steps(f"trainings that waited to be sent: {len(sent)}")
    for run in sent:
        steps(f"{run.target}: registered as {run.model_name} version {run.version}")
    store = open_store(workspace)
    if current(store) is not None:
        mirror_aliases(workspace, store, None, steps)
