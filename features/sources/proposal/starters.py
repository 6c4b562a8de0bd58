"""Mappings from vendor starters: a file whose headers a starter knows."""

from __future__ import annotations

import re

from configs.schema.starter import Headers, Starter, StarterFile, StarterLink, load_starters
from features.sources.files.sql import ident
from features.sources.proposal.draft import Choice, TableDraft
from features.sources.proposal.file_profile import FileProfile, plain_name
from features.tables.source_tables import TABLES

FIRST_UNIX_TIME = 1e8
"""Numbers from which a column that the tool documents as a time holds Unix times."""

_QUOTED = re.compile(r'"((?:[^"]|"")+)"')


def starter_drafts(file: FileProfile) -> list[TableDraft]:
    """Return the drafts of the starters that know a file, best first.

    The first one is the best match. Entries of the same tool that fill further tables from the
    same file (`also`) follow.
    """
    found = [
        (_strength(entry, file), starter, entry)
        for starter in load_starters()
        for entry in starter.files
        if all(file.find(names) for names in entry.required)
    ]
    own = sorted((item for item in found if not item[2].also), key=lambda item: -item[0])
    if not own:
        return []
    best = own[0][1]
    also = [item for item in found if item[2].also and item[1] is best]
    return [_draft(score, starter, entry, file) for score, starter, entry in [*own, *also]]


def _strength(entry: StarterFile, file: FileProfile) -> float:
    """Return how well an entry describes a file: names that must be there, and names in all."""
    named = [*entry.required, *entry.columns.values()]
    present = {header for names in named if (header := file.find(names))}
    exact = sum(any(name in file.columns for name in names) for names in entry.required)
    return len(entry.required) + len(present) + 0.1 * exact


def _draft(score: float, starter: Starter, entry: StarterFile, file: FileProfile) -> TableDraft:
    origin = f"{starter.vendor}: {entry.about}"
    why = starter.vendor
    draft = TableDraft(
        file, entry.table, origin, score, is_also=entry.also, notes=list(entry.notes)
    )
    for name in TABLES[entry.table].columns:
        text = with_columns(entry.sql[name], file) if name in entry.sql else None
        header = file.find(entry.columns[name]) if name in entry.columns else None
        if text is not None:
            draft.columns[name] = Choice(text, why)
        elif header is not None and _is_readable(file, name, entry.table, header):
            draft.columns[name] = Choice(header, why)
    draft.link_columns = [
        (text, link.by) for link in entry.account if (text := _link_text(link, file))
    ]
    draft.overwritten = frozenset(
        header for name in entry.overwritten if (header := file.find((name,)))
    )
    known = file.find(entry.known_at) if entry.known_at else None
    if known is not None:
        draft.known_at = Choice(known, why)
    conditions = [*([entry.leave_out] if entry.leave_out else []), *entry.leave_out_also]
    present = [text for item in conditions if (text := with_columns(item, file))]
    if present:
        draft.leave_out = Choice(" OR ".join(f"({text})" for text in present), why)
    if entry.billing is not None:
        draft.billing = _billing(entry, file, why)
        if "interval" not in draft.billing and entry.billing.rows == "subscription":
            draft.billing = {}
    if entry.timezone != "UTC":
        draft.timezone = Choice(entry.timezone, why)
    return draft


def _link_text(link: StarterLink, file: FileProfile) -> str | None:
    return with_columns(link.sql, file) if link.sql else file.find(link.column)


def _is_readable(file: FileProfile, name: str, table: str, header: str) -> bool:
    """Whether the values of a column suit the kind of the canonical one; an empty column does."""
    column, kind = file.columns[header], TABLES[table].columns[name].kind
    if column.filled == 0:
        return not TABLES[table].columns[name].required
    if kind in ("instant", "day"):
        is_unix = column.numbers > 0.5 and (column.low or 0) >= FIRST_UNIX_TIME
        return column.times > 0.5 or is_unix
    return column.numbers > 0.5 if kind in ("number", "count") else True


def with_columns(text: str, file: FileProfile) -> str | None:
    """Return SQL with its quoted columns as the file writes them; None if one is not there."""
    missing = False

    def replaced(match: re.Match[str]) -> str:
        nonlocal missing
        header = file.find((match.group(1).replace('""', '"'),))
        missing = missing or header is None
        return ident(header or "")

    found = _QUOTED.sub(replaced, text)
    return None if missing else found


def _billing(entry: StarterFile, file: FileProfile, why: str) -> dict[str, Choice]:
    assert entry.billing is not None
    named: dict[str, Headers] = {
        "amount": entry.billing.amount,
        "quantity": entry.billing.quantity,
        "interval": entry.billing.interval,
        "interval_count": entry.billing.interval_count,
    }
    choices = {"rows": Choice(entry.billing.rows, why)}
    for key, names in named.items():
        header = file.find(names) if names else None
        constant = next((name for name in names if name.startswith("'")), None)
        text = entry.billing.sql.get(key)  # type: ignore[call-overload]
        written = with_columns(text, file) if text else None
        if written or header or constant:
            choices[key] = Choice(written or header or str(constant), why)
    if "amount" not in choices:
        return {}
    choices["amount_is"] = Choice(entry.billing.amount_is, why)
    if entry.billing.minor_units:
        choices["minor_units"] = Choice("true", why)
    return choices


def is_overwritten_name(header: str) -> bool:
    """Whether a header names the time of the last change.

    >>> [is_overwritten_name(n) for n in ("LastModifiedDate", "Updated at", "Created at")]
    [True, True, False]
    """
    plain = plain_name(header)
    marks = ("updated", "modified", "modstamp", "lastchanged", "editedat", "lastsync", "synced")
    return any(mark in plain for mark in marks) or plain.startswith("last")
