"""Proposal of a configuration: recognised files, linked to accounts and checked on the data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from configs.runtime.errors import BellwetherError, SourceError
from features.sources.files.csv_files import csv_head
from features.sources.files.readers import CSV_ENDINGS, ENDINGS, open_files
from features.sources.files.sql import ident, one_row, scratch_duckdb
from features.sources.parsing import type_parsing
from features.sources.proposal.account_keys import link_to_accounts
from features.sources.proposal.billing_shape import add_billing
from features.sources.proposal.by_names import ENOUGH, named_draft, named_drafts
from features.sources.proposal.draft import Answers, Choice, TableDraft
from features.sources.proposal.file_profile import FileProfile, profile_file
from features.sources.proposal.known_time import set_known_at
from features.sources.proposal.starters import starter_drafts
from features.sources.proposal.value_words import translated
from features.sources.scaffold import company_name
from features.tables.source_tables import TABLES, SourceColumn

READABLE = (*(ending for endings in ENDINGS.values() for ending in endings), ".zip")
"""Endings of files that can be read as tables."""

STALE_DAYS = 7
"""Days without activity from which the data counts as ended and the clock is pinned."""

_IN_UTC = re.compile(r"(?i)utc|gmt")

WITHOUT_ACCOUNT = ("accounts", "owners", "rates")


@dataclass
class Proposal:
    """A proposed configuration.

    Attributes
    ----------
    name, title : str
        Name of the company, and for people.
    inputs : dict of str to str
        Input to its file or pattern, relative to the data folder.
    drafts : list of TableDraft
        The mapped tables, accounts first.
    unused : dict of str to str
        File to the reason why it is not mapped.
    settings : dict of str to Choice
        ``now`` and ``reporting_currency``.
    targets : dict of str to dict
        Outcomes to predict.
    """

    name: str
    title: str
    inputs: dict[str, str] = field(default_factory=dict)
    drafts: list[TableDraft] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Choice] = field(default_factory=dict)
    targets: dict[str, dict[str, str]] = field(default_factory=dict)

    def place_of(self, draft: TableDraft) -> str:
        """Return the key of a table's mapping, with its number where a table has several."""
        same = [item for item in self.drafts if item.table == draft.table]
        number = f".{same.index(draft)}" if len(same) > 1 else ""
        return f"tables.{draft.table}{number}"

    def choices(self) -> dict[str, Choice]:
        """Return every value of the proposal by its key in ``company.yaml``."""
        found = dict(self.settings)
        for draft in self.drafts:
            place = self.place_of(draft)
            found |= {f"{place}.columns.{name}": item for name, item in draft.columns.items()}
            for number, (choice, _, _) in enumerate(draft.links):
                found[f"{place}.account.{number}"] = choice
            found |= {f"{place}.billing.{name}": item for name, item in draft.billing.items()}
            for name in ("known_at", "leave_out", "timezone"):
                choice = getattr(draft, name)
                if choice is not None:
                    found[f"{place}.{name}"] = choice
        return found

    def questions(self) -> dict[str, Choice]:
        """Return the values that a person should decide."""
        return {key: item for key, item in self.choices().items() if item.sure == "low"}

    def guesses(self) -> dict[str, Choice]:
        """Return the values that count as unconfirmed."""
        return {key: item for key, item in self.choices().items() if item.sure != "high"}


def data_files(folder: Path) -> list[Path]:
    """Return the files of a folder and of its subfolders that can be read as tables, sorted."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name.lower().endswith(READABLE)
        and not any(
            part.startswith(".") or part == "state" for part in path.relative_to(folder).parts
        )
        and path.name.lower() not in {"readme.txt", "requirements.txt", "license.txt"}
    ]
    return sorted(found)


def propose(folder: Path, now: datetime, answers: Answers | None = None) -> Proposal:
    """Propose the configuration of a folder of exports.

    Parameters
    ----------
    folder : Path
        Folder of the files.
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
    files = data_files(folder)
    if not files:
        endings = ", ".join(READABLE)
        raise SourceError(
            "no file to read in the folder",
            where=str(folder),
            fix=f"put the exports there; endings read: {endings}",
        )
    title = folder.resolve().name
    proposal = Proposal(company_name(title), title)
    given = answers or {}
    with scratch_duckdb(files) as connection:
        profiles = _profiles(connection, folder, files, proposal)
        drafts = _drafts(profiles, proposal, given)
        accounts = _pick_accounts(drafts, proposal, folder)
        proposal.drafts = [accounts]
        _add_from_accounts(accounts, drafts)
        for draft in drafts:
            if draft is not accounts and draft.table != "accounts":
                _complete(connection, draft, accounts, proposal)
        _complete_columns(connection, accounts)
        order = list(TABLES)
        proposal.drafts.sort(key=lambda item: order.index(item.table))
        _set_currency(connection, proposal)
        _set_clock(connection, proposal, now)
        _set_targets(connection, proposal)
    _apply(proposal, given)
    return proposal


def _profiles(
    connection: duckdb.DuckDBPyConnection, folder: Path, files: list[Path], proposal: Proposal
) -> list[FileProfile]:
    profiles = []
    for pattern, paths in _grouped(folder, files).items():
        name = _input_name(pattern, proposal.inputs)
        try:
            opened = open_files(connection, name, paths, f"file {pattern}")
        except BellwetherError as error:
            proposal.unused[pattern] = error.what
            continue
        if not opened.rows:
            proposal.unused[pattern] = "it has no rows"
            continue
        proposal.inputs[name] = pattern
        profiles.append(profile_file(connection, opened))
    return profiles


def _grouped(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Return pattern → files: numbered or dated files of one kind are one input."""
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path in files:
        stem, _, ending = path.name.partition(".")
        base = re.sub(r"\d[\d-]*$", "", stem)
        groups.setdefault((path.parent.relative_to(folder).as_posix(), base, ending), []).append(
            path
        )
    found: dict[str, list[Path]] = {}
    for (parent, base, ending), paths in groups.items():
        lead = "" if parent == "." else f"{parent}/"
        if len(paths) == 1 or not base or not _same_kind(paths):
            found |= {f"{lead}{path.name}": [path] for path in paths}
        else:
            found[f"{lead}{base}*.{ending}"] = paths
    return found


def _same_kind(paths: list[Path]) -> bool:
    """Whether files have one header, so that they can be read as one input."""
    if not all(path.name.lower().endswith(CSV_ENDINGS) for path in paths):
        return False
    try:
        return len({csv_head(path) for path in paths}) == 1
    except SourceError:
        return False


def _input_name(pattern: str, taken: dict[str, str]) -> str:
    stem = Path(pattern).name.partition(".")[0].rstrip("*_- ")
    name = company_name(stem)
    number = 2
    while name in taken:
        name = f"{company_name(stem)[:28]}_{number}"
        number += 1
    return name


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


def _pick_accounts(drafts: list[TableDraft], proposal: Proposal, folder: Path) -> TableDraft:
    found = [draft for draft in drafts if draft.table == "accounts"]
    if not found:
        raise SourceError(
            "no file looks like the list of accounts (one row per account, with an id and the day "
            "it began)",
            where=f"{folder}: {', '.join(proposal.inputs.values())}",
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


def _set_currency(connection: duckdb.DuckDBPyConnection, proposal: Proposal) -> None:
    counts: dict[str, int] = {}
    for draft in proposal.drafts:
        header = draft.columns.get("currency")
        if draft.table not in ("subscriptions", "invoices") or header is None:
            continue
        if header.value not in draft.file.columns:
            continue
        code_text = f"upper(trim({ident(header.value)}))"
        rows = connection.execute(
            f"SELECT {code_text}, count(*) FROM {draft.file.source.relation} "
            f"WHERE {code_text} <> '' GROUP BY 1"
        ).fetchall()
        for code, n in rows:
            counts[str(code)] = counts.get(str(code), 0) + int(n)
    valid = {code: n for code, n in counts.items() if re.fullmatch(r"[A-Z]{3}", code)}
    if not valid:
        has_money = any(d.table in ("subscriptions", "invoices") for d in proposal.drafts)
        proposal.settings["reporting_currency"] = Choice(
            "USD", "no column has the currency", "low" if has_money else "medium", ("EUR", "GBP")
        )
        return
    ordered = sorted(valid, key=lambda code: -valid[code])
    whole = sum(valid.values())
    proposal.settings["reporting_currency"] = Choice(
        ordered[0],
        f"{valid[ordered[0]]:,} of {whole:,} amounts",
        "high" if len(ordered) == 1 else "medium",
        tuple(ordered[1:]),
    )
    if len(ordered) > 1 and not any(draft.table == "rates" for draft in proposal.drafts):
        terms = next(d for d in proposal.drafts if d.table in ("subscriptions", "invoices"))
        terms.notes.append(
            f"amounts in {', '.join(ordered[1:])} need a rates table (currency, as_of_on, rate) to "
            f"be added up in {ordered[0]}"
        )


def _set_clock(connection: duckdb.DuckDBPyConnection, proposal: Proposal, now: datetime) -> None:
    """Pin the clock after the last activity where the data has ended."""
    lasts = []
    for draft in proposal.drafts:
        spec = TABLES[draft.table]
        header = draft.happened_column(spec.happened)
        if spec.activity and header is not None:
            text, kind = type_parsing.prepared(
                SourceColumn("instant", ""), ident(header), draft.file.source.columns[header]
            )
            moment = type_parsing.value(SourceColumn("instant", ""), text, kind, "UTC")
            found = one_row(
                connection, f"SELECT max({moment}) AS last FROM {draft.file.source.relation}"
            )
            if found["last"] is not None:
                lasts.append(found["last"].replace(tzinfo=UTC))
    past = [last for last in lasts if last <= now]
    if not past or (now - max(past)).days <= STALE_DAYS:
        return
    last = max(past)
    midnight = last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    proposal.settings["now"] = Choice(
        f"{midnight:%Y-%m-%dT%H:%M:%SZ}",
        f"the last activity is of {last:%Y-%m-%d}; remove the line once new data arrives",
        "medium",
    )


def _set_targets(connection: duckdb.DuckDBPyConnection, proposal: Proposal) -> None:
    tables = {draft.table: draft for draft in proposal.drafts}
    terms = tables.get("subscriptions")
    if (
        terms is not None
        and {"renews_on", "ended_on"} & terms.columns.keys()
        or (terms is not None and terms.billing)
    ):
        proposal.targets["churn"] = {"outcome": "churn", "observed_in": "subscriptions"}
        if _may_expand(connection, terms):
            proposal.targets["expansion"] = {
                "outcome": "expansion",
                "observed_in": "subscriptions",
            }
    elif "outcomes" in tables:
        proposal.targets["churn"] = {"outcome": "churn", "observed_in": "outcomes"}
    else:
        proposal.targets["churn"] = {
            "outcome": "churn",
            "observed_in": "activity",
            "until_renewal": "false",
        }


def _may_expand(connection: duckdb.DuckDBPyConnection, terms: TableDraft) -> bool:
    """Whether the amounts of earlier terms are kept, so that growth can be seen."""
    rows = terms.billing.get("rows")
    if rows is not None and rows.value == "subscription":
        return False
    key = terms.columns["subscription_id"].value
    if rows is not None and rows.value in ("change", "period", "invoice_line"):
        return True
    holder = terms.links[0][0].value if terms.links else terms.columns["account_id"].value
    value = ident(holder) if holder in terms.file.columns else holder
    found = one_row(
        connection,
        f"SELECT count(*) / greatest(count(DISTINCT {value}), 1) AS per_account "
        f"FROM {terms.file.source.relation}",
    )
    return bool(found["per_account"] > 1.2) and key is not None


def _apply(proposal: Proposal, answers: Answers) -> None:
    """Put the values a person chose in place of the proposed ones."""
    for draft in proposal.drafts:
        place = proposal.place_of(draft)
        for key, value in answers.items():
            if key.startswith(f"{place}."):
                _apply_to(draft, key.removeprefix(f"{place}."), value)
    for name in ("now", "reporting_currency"):
        if name in answers:
            proposal.settings.pop(name, None)
            if answers[name]:
                proposal.settings[name] = Choice(answers[name], CHOSEN)


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
