"""Commands about data: start a company, check its tables, build its features."""

from __future__ import annotations

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
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    table: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet file of a ready-made table; its columns are guessed."),
    ] = None,
) -> None:
    """Create a company folder with a commented company.yaml."""
    from features.sources.scaffold import scaffold

    if table is not None:
        _init_table(folder, table)
        return
    for path in scaffold(folder):
        print_text(f"wrote {path}")
    print_text(f"next: edit company.yaml, then  bellwether check {folder}")


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
    as_json: JsonOption = False,
) -> None:
    """Read the raw tables and print a graded data-quality report."""
    opened = open_company(company, state, data, steps_unless(as_json))
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
