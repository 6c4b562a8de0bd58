"""The nightly command: scores from new data, if the data is ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from configs.runtime.errors import NotReadyError
from serving.commands.console import (
    console,
    error_console,
    lines_of,
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
    workspace_of,
)

if TYPE_CHECKING:
    from configs.schema.workspace import Workspace
    from serving.monitoring.refresh_records import RefreshSummary

PANEL = "Score and serve"

SHOWN = 14
"""Refreshes that --history prints as text."""

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def refresh(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    even_if_not_ready: Annotated[
        bool,
        typer.Option(
            "--even-if-not-ready",
            help="Score although today's data is late or incomplete; the summary records it.",
        ),
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Print the last refreshes and do nothing else.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Update scores and exports from new data every night.

    A failure or data that is not ready keeps the earlier results.
    """
    from serving.run.refresh import refresh_company

    workspace = workspace_of(company, state, NO_DATA if history else data)
    if history:
        _print_history(workspace, as_json=as_json)
        return
    with workspace.state.lock("refresh"), _results_kept_on_failure(workspace):
        done = refresh_company(
            workspace,
            workspace.company.clock(),
            steps_unless(as_json),
            even_if_not_ready=even_if_not_ready,
        )
    if as_json:
        print_json(done.as_dict())
    else:
        _print_summary(done)
    if done.status == "not_ready":
        from serving.run.score import earlier_results

        error_console.print(f"not ready: nothing was scored; {earlier_results(workspace)}")
        raise typer.Exit(NotReadyError.exit_code)


@contextmanager
def _results_kept_on_failure(workspace: Workspace) -> Iterator[None]:
    from serving.run.score import earlier_results

    try:
        yield
    except Exception:
        error_console.print(f"refresh failed; {earlier_results(workspace)}")
        raise


def _print_summary(done: RefreshSummary) -> None:
    from serving.monitoring.refresh_records import STATUS_WORDS

    console.print(f"\n[bold]Refresh: {STATUS_WORDS[done.status]}[/]")
    for line in _lines(done):
        print_text(f"  {line}")


def _lines(done: RefreshSummary) -> Iterator[str]:
    targets = done.readiness["targets"]
    words = ", ".join(f"{name} {part['level'].replace('_', ' ')}" for name, part in targets.items())
    yield f"readiness: {words}" + (" (pinned clock)" if done.readiness["is_pinned"] else "")
    if done.is_overridden:
        yield "scored although not ready (--even-if-not-ready)"
    seen: set[str] = set()
    for finding in (item for part in targets.values() for item in part["findings"]):
        if finding["reason"] not in seen:
            seen.add(finding["reason"])
            yield f"  {finding['level'].replace('_', ' ')}: {finding['reason']}"
            yield f"    to do: {finding['to_do']}"
    yield f"data quality: grade {done.grade}"
    changed = {name: item for name, item in done.tables.items() if item.built != "unchanged"}
    for name, item in changed.items():
        yield f"{name}: {item.new_rows:+,} rows, {item.rows:,} in all; {item.built}"
    if len(changed) < len(done.tables):
        yield f"{len(done.tables) - len(changed)} tables unchanged"
    if done.status == "scored":
        yield f"accounts scored: {done.accounts_scored:,}"
        yield f"risk bands changed: {done.bands_changed:,}"
    steps = ", ".join(f"{name} {value:.1f} s" for name, value in done.seconds.items())
    yield f"time: {steps}; processor {done.cpu_seconds:.1f} s"


def _print_history(workspace: Workspace, *, as_json: bool) -> None:
    from serving.monitoring.refresh_records import STATUS_WORDS, RefreshRecords

    kept = RefreshRecords(workspace.state).history()
    if as_json:
        print_json([item.as_dict() for item in kept])
        return
    if not kept:
        print_text("no refresh is recorded yet")
        return
    table = lines_of("started", "result", "new rows", "scored", "bands changed", "grade", "seconds")
    for item in kept[-SHOWN:]:
        words = STATUS_WORDS[item.status] + (f": {item.reason}" if item.reason else "")
        table.add_row(
            item.started_at,
            words + (" (not ready, overridden)" if item.is_overridden else ""),
            f"{sum(change.new_rows for change in item.tables.values()):,}",
            f"{item.accounts_scored:,}",
            f"{item.bands_changed:,}",
            item.grade,
            f"{sum(item.seconds.values()):.0f}",
        )
    console.print(table)
