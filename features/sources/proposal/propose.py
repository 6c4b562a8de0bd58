"""Proposal of a configuration: recognised files, linked to accounts and checked on the data."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb

from configs.runtime.errors import BellwetherError, SourceError
from features.sources.files.sql import ident, scratch_duckdb
from features.sources.proposal import settings
from features.sources.proposal.draft import Answers, Choice, TableDraft
from features.sources.proposal.file_profile import FileProfile, profile_file
from features.sources.proposal.guesses.account_keys import link_to_accounts
from features.sources.proposal.guesses.billing_shape import add_billing
from features.sources.proposal.guesses.by_names import ENOUGH, named_draft, named_drafts
from features.sources.proposal.guesses.known_time import set_known_at
from features.sources.proposal.guesses.value_words import translated
from features.sources.proposal.proposal import Proposal
from features.sources.proposal.raw_tables import RawTables, folder_tables
from features.sources.proposal.starters import starter_drafts
from features.sources.scaffold import company_name
from features.tables.source_tables import TABLES

_IN_UTC = re.compile(r"(?i)utc|gmt")

WITHOUT_ACCOUNT = ("accounts", "owners", "rates")


def propose(source: Path | RawTables, now: datetime, answers: Answers | None = None) -> Proposal:
    """Propose the configuration of a folder of exports, or of a database.

    Parameters
    ----------
    source : Path or RawTables
        Folder of the files; or the tables of a database
        (`features.sources.proposal.raw_tables.database_tables`).
    now : datetime
        The present, UTC: data that ends much earlier gets a pinned clock.
    answers : mapping of str to str, optional
        Key in ``company.yaml`` → the value a person chose; ``files.NAME`` → the table of an input,
        empty to leave it out.

    Raises
    ------
    SourceError
        There is no file to read, or none that can serve as accounts.
    """
    raw = folder_tables(source) if isinstance(source, Path) else source
    proposal = Proposal(company_name(raw.title), raw.title, connection=raw.connection)
    given = answers or {}
    with scratch_duckdb(raw.files) as connection:
        profiles = _profiles(connection, raw, proposal)
        drafts = _drafts(profiles, proposal, given)
        accounts = _pick_accounts(drafts, proposal, raw.where)
        proposal.drafts = [accounts]
        _add_from_accounts(accounts, drafts)
        for draft in drafts:
            if draft is not accounts and draft.table != "accounts":
                _complete(connection, draft, accounts, proposal)
        _complete_columns(connection, accounts)
        order = list(TABLES)
        proposal.drafts.sort(key=lambda item: order.index(item.table))
        settings.set_currency(connection, proposal)
        settings.set_clock(connection, proposal, now)
        settings.set_targets(connection, proposal)
    return answered(proposal, given)


def _profiles(
    connection: duckdb.DuckDBPyConnection, source: RawTables, proposal: Proposal
) -> list[FileProfile]:
    profiles = []
    for table in source.tables:
        try:
            opened = table.open(connection)
        except BellwetherError as error:
            proposal.unused[table.place] = error.what
            continue
        if not opened.rows:
            proposal.unused[table.place] = "it has no rows"
            continue
        proposal.inputs[table.name] = table.place
        profiles.append(profile_file(connection, opened))
    return profiles


def _drafts(profiles: list[FileProfile], proposal: Proposal, answers: Answers) -> list[TableDraft]:
    found: list[TableDraft] = []
    for file in profiles:
        asked = answers.get(f"files.{file.name}")
        if asked == "":
            proposal.unused[proposal.inputs[file.name]] = "left out"
            continue
        drafts = _of_file(file, asked)
        if drafts:
            found += drafts
        else:
            proposal.unused[proposal.inputs[file.name]] = (
                f"its columns do not have what {asked} needs" if asked else "not recognised"
            )
    return found


def _of_file(file: FileProfile, asked: str | None) -> list[TableDraft]:
    """Return the drafts of a file: of a starter with its further tables, or the best by names."""
    known = starter_drafts(file)
    if asked is not None:
        same = [draft for draft in known if draft.table == asked]
        by_name = named_draft(file, asked) if asked in TABLES else None
        return same[:1] or ([by_name] if by_name else [])
    complete = [draft for draft in known if _is_complete(draft)]
    if complete:
        own = [draft for draft in complete if not draft.is_also]
        return [*own[:1], *(draft for draft in complete if draft.is_also)] if own else []
    named = [draft for draft in named_drafts(file) if draft.score >= ENOUGH]
    return named[:1]


def _is_complete(draft: TableDraft) -> bool:
    """Whether a draft has the required columns; the account may be found by its values."""
    spec = TABLES[draft.table]
    needed = {name for name, column in spec.columns.items() if column.required}
    if draft.table != "accounts":
        needed.discard("account_id")
    return needed <= draft.columns.keys()


def _pick_accounts(drafts: list[TableDraft], proposal: Proposal, place: str) -> TableDraft:
    found = [draft for draft in drafts if draft.table == "accounts"]
    if not found:
        raise SourceError(
            "no file looks like the list of accounts (one row per account, with an id and the day "
            "it began)",
            where=f"{place}: {', '.join(proposal.inputs.values())}",
            fix="add an export of accounts (companies, customers) from the CRM or billing system",
        )
    best = max(found, key=lambda item: (item.is_from_starter, item.score, item.file.source.rows))
    for draft in found:
        if draft is not best:
            proposal.unused[proposal.inputs[draft.file.name]] = (
                f"accounts come from {proposal.inputs[best.file.name]}"
            )
    return best


def _add_from_accounts(accounts: TableDraft, drafts: list[TableDraft]) -> None:
    """Add the terms that the list of accounts itself holds, where no other file has any."""
    if any(draft.table == "subscriptions" for draft in drafts):
        return
    key = accounts.columns["account_id"]
    own = replace(key, why="one subscription per account", sure="medium")
    known = {"account_id": key, "subscription_id": own}
    draft = named_draft(accounts.file, "subscriptions", known)
    if draft is None or not {"renews_on", "ended_on", "arr"} & draft.columns.keys():
        return
    drafts.append(draft)


def _complete(
    connection: duckdb.DuckDBPyConnection,
    draft: TableDraft,
    accounts: TableDraft,
    proposal: Proposal,
) -> None:
    """Link a table to the accounts and complete its mapping; a table without a link is unused."""
    if draft.table not in WITHOUT_ACCOUNT and draft.file is not accounts.file:
        tried = link_to_accounts(connection, draft, accounts)
        if not draft.links and "account_id" not in draft.columns:
            best = max(tried, key=lambda item: item.share, default=None)
            near = f"; best: {best.column} and {best.matches}, {best.share:.0%}" if best else ""
            proposal.unused[proposal.inputs[draft.file.name]] = (
                f"looks like {draft.table}, but no column matches the accounts{near}"
            )
            return
    has_arr = draft.is_from_starter and "arr" in draft.columns
    if draft.table == "subscriptions" and not draft.billing and not has_arr:
        add_billing(connection, draft)
    _complete_columns(connection, draft)
    proposal.drafts.append(draft)


def _complete_columns(connection: duckdb.DuckDBPyConnection, draft: TableDraft) -> None:
    set_known_at(connection, draft)
    for name, choice in list(draft.columns.items()):
        column = draft.file.columns.get(choice.value)
        text = column and translated(draft.table, name, column)
        if column and text:
            words = ", ".join(column.values[:4])
            draft.columns[name] = replace(choice, value=text, why=f"{choice.why}; words: {words}")
        elif column and name == "csat" and not column.is_number:
            del draft.columns[name]
    _set_deleted(draft)
    _set_timezone(draft)


def _set_deleted(draft: TableDraft) -> None:
    """Leave out rows that the tool marks as deleted."""
    if draft.leave_out is not None:
        return
    for name in ("isdeleted", "_fivetran_deleted", "fivetrandeleted", "deleted", "archived"):
        header = draft.file.find((name,))
        if header and draft.file.columns[header].is_flag:
            text = f"lower(CAST({ident(header)} AS VARCHAR)) IN ('true', '1', 'yes', 't')"
            draft.leave_out = Choice(text, f"{header} marks deleted rows")
            return


def _set_timezone(draft: TableDraft) -> None:
    """Mark times without a zone: they are read as UTC until a person says otherwise."""
    if draft.timezone is not None:
        return
    used = [
        column
        for name, choice in draft.columns.items()
        if TABLES[draft.table].columns[name].kind == "instant"
        and (column := draft.file.columns.get(choice.value)) is not None
        and column.times > 0
    ]
    bare = [
        c for c in used if c.zoned < 0.5 and c.dates < 0.5 and not re.search(r"(?i)utc|gmt", c.name)
    ]
    if bare:
        draft.timezone = Choice(
            "UTC",
            f"{bare[0].name} has no time zone",
            "medium",
            ("Europe/London", "America/New_York"),
        )


def answered(proposal: Proposal, answers: Answers) -> Proposal:
    """Return a proposal with the values that a person chose; the given one is unchanged.

    Parameters
    ----------
    proposal : Proposal
        From `propose`.
    answers : mapping of str to str
        As in `propose`. Answers to ``files.NAME`` have an effect in `propose` only, because they
        decide which tables there are.
    """
    copies = [
        replace(
            draft, columns=dict(draft.columns), links=list(draft.links), billing=dict(draft.billing)
        )
        for draft in proposal.drafts
    ]
    made = replace(proposal, drafts=copies, settings=dict(proposal.settings))
    for draft in copies:
        place = made.place_of(draft)
        # Links are numbered: the last ones first, so that removing one moves no other.
        for key, value in sorted(answers.items(), reverse=True):
            if key.startswith(f"{place}."):
                _apply_to(draft, key.removeprefix(f"{place}."), value)
    for name in ("now", "reporting_currency"):
        if name in answers:
            made.settings.pop(name, None)
            if answers[name]:
                made.settings[name] = Choice(answers[name], CHOSEN)
    return made


CHOSEN = "chosen by a person"


def _apply_to(draft: TableDraft, key: str, value: str) -> None:
    section, _, name = key.partition(".")
    choice = Choice(value, CHOSEN) if value else None
    if section in ("columns", "billing"):
        target = draft.columns if section == "columns" else draft.billing
        target.pop(name, None)
        if choice:
            target[name] = choice
        if section == "columns" and name == "account_id" and choice:
            draft.links = []
    elif section == "account" and name.isdigit() and int(name) < len(draft.links):
        _, matches, by = draft.links[int(name)]
        if choice:
            draft.links[int(name)] = (choice, matches, by)
        else:
            del draft.links[int(name)]
    elif section in ("known_at", "leave_out", "timezone"):
        setattr(draft, section, choice)
