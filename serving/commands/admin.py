"""Commands for administrators: API keys, retention of the ledger, webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from serving.commands.console import (
    console,
    error_console,
    escape,
    lines_of,
    print_json,
    print_text,
)
from serving.commands.options import (
    NO_DATA,
    CompanyArgument,
    JsonOption,
    StateOption,
    workspace_of,
)

if TYPE_CHECKING:
    from serving.auth.api_keys import KeyStore

PANEL = "Administration"

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True)
app.add_typer(
    keys,
    name="keys",
    help="Create, list, rotate and revoke API keys of the service.",
    rich_help_panel=PANEL,
)

KeyArgument = Annotated[str, typer.Argument(help="Id of the key, as `bellwether keys list` shows.")]


@contextmanager
def _key_store(company: str, state: str | None) -> Iterator[KeyStore]:
    from serving.auth.api_keys import KeyStore

    store = KeyStore(workspace_of(company, state, NO_DATA))
    try:
        yield store
    finally:
        store.close()


def _show_key(key: str) -> None:
    typer.echo(key)
    error_console.print("Keep it now: it is not shown again, and only its hash is kept.")


@keys.command("create")
def create_key(
    company: CompanyArgument,
    state: StateOption = None,
    name: Annotated[str, typer.Option(help="Name of the system that uses the key.")] = "",
    scopes: Annotated[
        str, typer.Option(help="Scopes, separated by commas: read, score, write, metrics, admin.")
    ] = "read,score",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until the key expires.")] = 365,
) -> None:
    """Create an API key and show it once. From then on, every request needs a key or sign-in."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _key_store(company, state) as store:
        _show_key(store.create(name, wanted, datetime.now(UTC), days))


@keys.command("list")
def list_keys(company: CompanyArgument, state: StateOption = None) -> None:
    """List all keys, including expired and revoked ones."""
    table = lines_of("key", "for", "scopes", "created", "expires", "")
    with _key_store(company, state) as store:
        for key in store.every():
            word = "" if key.ends_at() > datetime.now(UTC) else "expired"
            made, ends = f"{key.created_at:%Y-%m-%d}", f"{key.ends_at():%Y-%m-%d %H:%M} UTC"
            table.add_row(key.key_id, escape(key.name), key.scopes, made, ends, word)
    console.print(table)


@keys.command("rotate")
def rotate_key(
    company: CompanyArgument,
    key_id: KeyArgument,
    state: StateOption = None,
    hours: Annotated[float, typer.Option(min=0, help="Hours that the old key still works.")] = 24,
) -> None:
    """Replace a key with a new one; the old key works for some hours more."""
    with _key_store(company, state) as store:
        _show_key(store.rotate(key_id, datetime.now(UTC), timedelta(hours=hours)))


@keys.command("revoke")
def revoke_key(company: CompanyArgument, key_id: KeyArgument, state: StateOption = None) -> None:
    """Revoke a key; running services refuse it within seconds."""
    with _key_store(company, state) as store:
        store.revoke(key_id, datetime.now(UTC))
    console.print(f"{key_id} is revoked")


@app.command(rich_help_panel=PANEL)
def ledger(
    company: CompanyArgument,
    state: StateOption = None,
    look: Annotated[
        bool, typer.Option("--look", help="Only report the size; change nothing.")
    ] = False,
    compact_after_hours: Annotated[
        float | None,
        typer.Option(min=0, help="Hours until scores are compacted. Default: company.yaml."),
    ] = None,
    vectors_days: Annotated[
        int | None,
        typer.Option(min=100, help="Days that feature vectors are kept. Default: company.yaml."),
    ] = None,
    scores_days: Annotated[
        int | None, typer.Option(min=1, help="Days that scores are kept. Default: company.yaml.")
    ] = None,
    max_scores: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of scores to keep. Default: company.yaml."),
    ] = None,
    open_too: Annotated[
        bool, typer.Option("--open-too", help="Also remove scores whose outcome is not known yet.")
    ] = False,
    shrink: Annotated[
        bool,
        typer.Option("--shrink", help="Return freed space to the disk; writers wait meanwhile."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compact the score ledger and remove old scores, as set under `ledger` in company.yaml."""
    from serving.run.ledger import tidy_ledger

    workspace = workspace_of(company, state, NO_DATA)
    given = {
        "compact_after_hours": compact_after_hours,
        "vectors_days": vectors_days,
        "scores_days": scores_days,
        "max_scores": max_scores,
        "keep_open": False if open_too else None,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    keeping = workspace.company.ledger.model_copy(update=changed)
    done = tidy_ledger(workspace, None if look else keeping, shrink=shrink)
    if as_json:
        print_json(done)
        return
    for when in ("before", "after"):
        size = done[when]["bytes"] / 2**20
        console.print(f"{when}: {done[when]['scores']:,} scores, {size:,.1f} MB")
    print_text(done["words"])


@app.command(rich_help_panel=PANEL)
def webhooks(
    company: CompanyArgument,
    state: StateOption = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Send messages that failed for good once more.")
    ] = False,
) -> None:
    """List webhook messages that wait or failed, and their number by state."""
    from serving.integrations.webhooks import DEAD, WAITING, Outbox

    outbox = Outbox(workspace_of(company, state, NO_DATA))
    try:
        if retry:
            console.print(f"{outbox.revive(datetime.now(UTC)):,} messages wait again")
        for (name, what), n in sorted(outbox.counts().items()):
            console.print(f"{name}: {n:,} {what}")
        table = lines_of("message", "to", "event", "state", "attempts", "problem")
        for item in (*outbox.messages(WAITING), *outbox.messages(DEAD)):
            cells = (item.message_id, item.endpoint, item.event, item.state)
            table.add_row(*cells, str(item.attempts), escape(item.problem or ""))
        console.print(table)
    finally:
        outbox.close()
