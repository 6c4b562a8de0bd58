"""Commands on personal data: deletion of accounts and persons, and retention."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from serving.commands.console import console, lines_of, print_json, print_text
from serving.commands.options import (
    NO_DATA,
    CompanyArgument,
    DataOption,
    JsonOption,
    StateOption,
    workspace_of,
)

if TYPE_CHECKING:
    from serving.privacy.forget import Forgotten

PANEL = "Administration"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def forget(
    company: CompanyArgument,
    account: Annotated[
        list[str] | None, typer.Option(help="Id of an account to delete; repeatable.")
    ] = None,
    person: Annotated[
        list[str] | None,
        typer.Option(help="Id or e-mail address of a person to delete; repeatable."),
    ] = None,
    state: StateOption = None,
    data: DataOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
    keep_out: Annotated[
        bool,
        typer.Option(
            "--keep-out",
            help="Set their rows aside in every later load, while the raw exports hold them.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete accounts or persons from everything derived: files, ledger, online store, MLflow.

    Scores of other accounts stay replayable. Restart a running service afterwards.
    """
    from serving.privacy.forget import check_raw, preview, subjects
    from serving.privacy.forget import forget as delete

    workspace = workspace_of(company, state, data)
    wanted = subjects(workspace, account or (), person or ())
    with workspace.state.lock("forget"):
        found = preview(workspace, wanted, reads_raw=dry_run or not keep_out)
        if not as_json:
            _print_found(found)
        if dry_run:
            if as_json:
                print_json([asdict(item) for item in found])
            return
        if not keep_out:
            check_raw(found)
        if not yes:
            typer.confirm("Delete all of this? It cannot be undone.", abort=True)
        done = delete(workspace, wanted, datetime.now(UTC), getpass.getuser(), keeps_out=keep_out)
    if as_json:
        print_json([asdict(item) for item in done])
        return
    for item in done:
        print_text(
            f"{item.kind} {item.value}: {item.deleted:,} rows deleted, {item.changed:,} values "
            "replaced"
        )
    print_text(
        f"Now: bellwether refresh {company}   updates the scores; restart a running service. "
        "Backups, files you exported, and other systems are not changed."
    )


def _print_found(found: list[Forgotten]) -> None:
    for item in found:
        print_text(
            f"{item.kind} {item.value}: {item.deleted:,} rows to delete and {item.changed:,} "
            f"values to replace in {len(item.findings):,} places"
        )
        table = lines_of("place", "rows", "values")
        for place, deleted, changed in _grouped(item):
            table.add_row(place, f"{deleted:,}", f"{changed:,}")
        if item.findings:
            console.print(table)
        for name, n in item.raw.items():
            print_text(f"  raw input {name}: {n:,} rows (not changed)")


def _grouped(item: Forgotten) -> list[tuple[str, int, int]]:
    """Return the findings by folder, so that a hundred snapshots are one line."""
    sums: dict[str, list[int]] = {}
    for finding in item.findings:
        parts = finding.place.split("/")
        counts = sums.setdefault("/".join(parts[:2]), [0, 0])
        counts[0] += finding.deleted
        counts[1] += finding.changed
    return [(place, deleted, changed) for place, (deleted, changed) in sums.items()]


@app.command(rich_help_panel=PANEL)
def tidy(
    company: CompanyArgument,
    state: StateOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what is older than `retention` and `ledger` in company.yaml allow.

    The current release, the latest scores and scores with an open outcome stay.
    """
    from serving.run.tidy import tidy_company

    workspace = workspace_of(company, state, NO_DATA)
    with workspace.state.lock("tidy"):
        done = tidy_company(workspace, datetime.now(UTC), is_trial=dry_run)
    if as_json:
        print_json(asdict(done))
        return
    for line in done.lines:
        print_text(line)
