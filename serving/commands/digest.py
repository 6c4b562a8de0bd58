"""The digest command: what is new, due or possible, per person."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from serving.commands.console import console, print_json, print_text
from serving.commands.options import NO_DATA, CompanyArgument, JsonOption, StateOption, workspace_of

PANEL = "Score and serve"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def digest(
    company: CompanyArgument,
    state: StateOption = None,
    to: Annotated[
        str | None, typer.Option(help="Only the digest of this owner, manager or sign-in name.")
    ] = None,
    form: Annotated[
        Literal["text", "html", "slack", "teams"],
        typer.Option("--format", help="Form in which the digests are printed."),
    ] = "text",
    is_sent: Annotated[
        bool, typer.Option("--send", help="Send them by mail to everyone with an address.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print or send a few lines per person: notices, late plans, deadlines, rises, a chance.

    On the weekday of `digest.weekday` everything, on other days new notices only: run it after
    every refresh.
    """
    from serving.integrations.digest_messages import as_html, as_slack, as_teams, as_text
    from serving.run.digests import digests, send_digests

    workspace = workspace_of(company, state, NO_DATA)
    made = digests(workspace, workspace.company.clock())
    made = [each for each in made if to is None or each.person == to]
    if is_sent:
        done = send_digests(workspace, made)
        console.print(f"sent {len(done.sent):,} digests")
        for each in done.without_address:
            console.print(f"no address: {each.person} (access.people in company.yaml)")
        return
    if as_json:
        print_json([each.as_dict() for each in made])
        return
    address = workspace.company.digest.address
    for each in made:
        if form == "text":
            print_text(f"{each.person}: {each.title}\n{as_text(each, address)}")
        elif form == "html":
            print_text(as_html(each, address))
        else:
            print_json((as_slack if form == "slack" else as_teams)(each, address))
    if not made:
        console.print("nothing new for anyone")
