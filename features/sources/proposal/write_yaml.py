"""A proposal as the text of ``company.yaml``, with the reason for every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from features.sources.proposal.draft import Choice, TableDraft
from features.sources.proposal.proposal import Proposal

NOTE_AT = 58
"""Column at which notes begin."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_. ()/-]*[A-Za-z0-9_)]|[A-Za-z_]")
_NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def company_yaml(proposal: Proposal, data: str = ".") -> str:
    """Return the text of ``company.yaml``.

    Parameters
    ----------
    proposal : Proposal
        From `features.sources.proposal.propose`.
    data : str
        Folder of the files, relative to the company folder.
    """
    return "\n".join(_lines(proposal, data)) + "\n"


def _lines(proposal: Proposal, data: str) -> Iterator[str]:
    yield "# Proposed by `bellwether init` from the files in the data folder."
    yield "# Guesses are listed at the end; `bellwether check FOLDER` reports them until they are"
    yield "# confirmed: correct what is wrong, then run `bellwether confirm FOLDER`."
    yield ""
    yield "config_version: 1"
    yield f"name: {proposal.name}"
    yield f"title: {_scalar(proposal.title)}"
    for name in ("now", "reporting_currency"):
        choice = proposal.settings.get(name)
        if choice is not None:
            yield _noted(f"{name}: {choice.value}", choice)
    yield f"data: {_scalar(data)}"
    yield ""
    yield "inputs:"
    for name, pattern in proposal.inputs.items():
        table = f"{{connection: {proposal.connection}, table: {_scalar(pattern)}}}"
        yield f"  {name}: {table if proposal.connection else _scalar(pattern)}"
    for pattern, why in proposal.unused.items():
        yield f"  # not used: {pattern}: {' '.join(why.split())}"
    yield ""
    yield "tables:"
    yield from _tables(proposal)
    yield ""
    yield "# Outcomes to predict."
    yield "targets:"
    for name, keys in proposal.targets.items():
        yield f"  {name}:"
        for key, value in keys.items():
            yield f"    {key}: {value}"
    guesses = proposal.guesses()
    if guesses:
        yield ""
        yield "# Guesses, each with its evidence. Once a person has confirmed or corrected a value,"
        yield "# remove its line, or run `bellwether confirm FOLDER`."
        yield "guesses:"
        for key, choice in guesses.items():
            yield f"  {key}: {_guess(choice)}"


def _tables(proposal: Proposal) -> Iterator[str]:
    names = list(dict.fromkeys(draft.table for draft in proposal.drafts))
    for name in names:
        parts = [draft for draft in proposal.drafts if draft.table == name]
        yield f"  {name}:"
        for draft in parts:
            lines = list(_mapping(draft))
            lead = "    - " if len(parts) > 1 else "    "
            rest = "      " if len(parts) > 1 else "    "
            yield from (f"{rest}# {note}" for note in _remarks(draft))
            yield from (
                f"{lead if number == 0 else rest}{line}" for number, line in enumerate(lines)
            )


def _remarks(draft: TableDraft) -> list[str]:
    return [f"Recognised by {draft.origin}.", *(f"Note: {note}." for note in draft.notes)]


def _mapping(draft: TableDraft) -> Iterator[str]:
    yield f"from: {draft.file.name}"
    if draft.links:
        yield "account:"
        for choice, matches, by in draft.links:
            way = "" if by == "value" else f", by: {by}"
            text = f"  - {{column: {_scalar(choice.value)}, matches: {_scalar(matches)}{way}}}"
            yield _noted(text, choice)
    yield "columns:"
    for name, choice in draft.columns.items():
        yield _noted(f"  {name}: {_scalar(choice.value)}", choice, draft.origin)
    if draft.billing:
        yield "billing:"
        for name, choice in draft.billing.items():
            value = choice.value if name == "minor_units" else _scalar(choice.value)
            yield _noted(f"  {name}: {value}", choice, draft.origin)
    for name in ("known_at", "leave_out", "timezone"):
        choice = getattr(draft, name)
        if choice is not None:
            yield _noted(f"{name}: {_scalar(choice.value)}", choice, draft.origin)


def _noted(text: str, choice: Choice, origin: str = "") -> str:
    if choice.sure == "high" and origin.partition(":")[0] == choice.why:
        return text  # said once, above the table
    mark = "" if choice.sure == "high" else f"guess, {choice.sure}: "
    why = " ".join(choice.why.split())
    return f"{text:<{NOTE_AT}}  # {mark}{why}"


def _scalar(text: str) -> str:
    r"""Return a YAML scalar for a text.

    >>> _scalar("Created at"), _scalar("yes"), _scalar("'month'"), _scalar("a: b")
    ('Created at', '"yes"', '"\'month\'"', '"a: b"')
    """
    is_bare = _BARE.fullmatch(text) and text.lower() not in _NOT_TEXT
    return text if is_bare else json.dumps(text, ensure_ascii=False)


def _guess(choice: Choice) -> str:
    parts = [f"why: {json.dumps(' '.join(choice.why.split()), ensure_ascii=False)}"]
    parts.append(f"sure: {choice.sure}")
    if choice.others:
        others = ", ".join(json.dumps(item, ensure_ascii=False) for item in choice.others)
        parts.append(f"or: [{others}]")
    return "{" + ", ".join(parts) + "}"
