"""Mappings by usual column names and values, for files that no starter knows."""

from __future__ import annotations

import re

from features.sources.proposal.draft import BY_NAMES, Choice, Sure, TableDraft
from features.sources.proposal.file_profile import (
    ColumnProfile,
    FileProfile,
    common_form,
    plain_name,
    words_of,
)
from features.sources.proposal.guesses.column_names import COLUMN_NAMES, FILE_WORDS
from features.sources.proposal.guesses.value_words import translated
from features.sources.proposal.starters import is_overwritten_name
from features.tables.source_tables import TABLES, SourceColumn

FILE_WORD = 4.0
"""Weight of a table's word in the name of the file."""

ENOUGH = 2.5
"""Score from which a file counts as recognised."""

MARKS: dict[str, frozenset[str]] = {
    "subscriptions": frozenset({"arr", "renews_on", "auto_renew", "notice_at", "ended_on"}),
    "support_tickets": frozenset({"priority", "resolved_at", "csat", "first_response_at"}),
    "survey_responses": frozenset({"score", "comment"}),
    "usage_events": frozenset({"feature", "user_id"}),
    "invoices": frozenset({"due_on", "paid_on", "amount"}),
    "opportunities": frozenset({"stage", "close_on", "commit"}),
    "contacts": frozenset({"role", "is_champion", "left_at"}),
    "health_scores": frozenset({"score", "band"}),
    "outcomes": frozenset({"reason", "decided_on", "effective_on"}),
    "accounts": frozenset({"industry", "segment", "owner_id", "parent_account_id", "region"}),
    "owners": frozenset({"manager_id", "team", "capacity"}),
    "milestones": frozenset({"milestone", "reached_on", "due_on"}),
    "touches": frozenset({"initiated_by", "play"}),
    "entitlements": frozenset({"limit", "used"}),
    "rates": frozenset({"rate"}),
}
"""Columns that set a table apart from others with ids and dates."""


def named_drafts(file: FileProfile) -> list[TableDraft]:
    """Return a draft for every table whose required columns a file may have, best first."""
    drafts = [draft for table in COLUMN_NAMES if (draft := named_draft(file, table)) is not None]
    return sorted(drafts, key=lambda draft: -draft.score)


def named_draft(
    file: FileProfile, table: str, known: dict[str, Choice] | None = None
) -> TableDraft | None:
    """Return the draft of a file as one table; None where a required column is missing.

    Parameters
    ----------
    file : FileProfile
        The file.
    table : str
        The canonical table.
    known : dict of str to Choice, optional
        Columns that are decided already.
    """
    spec, names = TABLES[table], COLUMN_NAMES[table]
    draft = TableDraft(file, table, BY_NAMES, 0.0, columns=dict(known or {}))
    pairs = sorted(
        (
            (score, name, header)
            for name, known in names.items()
            for header, column in file.columns.items()
            if (score := _similarity(header, known)) > 0
            and fits(table, name, spec.columns[name], column)
        ),
        key=lambda item: -item[0],
    )
    used: set[str] = set()
    for score, name, header in pairs:
        if name in draft.columns or header in used:
            continue
        others = tuple(other for _, also, other in pairs if also == name and other != header)
        draft.columns[name] = Choice(
            header, _why(file.columns[header], score), _sure(score), others
        )
        used.add(header)
    required = {n for n, c in spec.columns.items() if c.required and n != "account_id"}
    if table == "survey_responses":
        required.discard("kind")
        _set_kind(draft)
    if table == "accounts":
        required |= {"account_id"}
    if not required <= draft.columns.keys():
        return None
    draft.columns = {n: draft.columns[n] for n in spec.columns if n in draft.columns}
    draft.score = _score(draft, file, table)
    draft.overwritten = frozenset(name for name in file.columns if is_overwritten_name(name))
    return draft


def _similarity(header: str, names: tuple[str, ...]) -> float:
    """Return how well a header fits the names of a column, 0 to 1."""
    plain = plain_name(header)
    if plain in names:
        return 1.0 - 0.015 * names.index(plain)
    alike = [place for place, name in enumerate(names) if common_form(name) == common_form(plain)]
    if alike:
        return 0.9 - 0.015 * alike[0]
    words = words_of(header)
    for place, name in enumerate(names):
        # A longer header that contains the whole name: account_renewal_date.
        if len(name) >= 6 and (plain.endswith(name) or plain.startswith(name)) and len(words) <= 5:
            return 0.7 - 0.01 * place
    return 0.0


def _sure(score: float) -> Sure:
    return "high" if score > 0.8 else "medium" if score > 0.65 else "low"


def _why(column: ColumnProfile, score: float) -> str:
    values = ", ".join(column.examples[:2])
    return f"{'usual name' if score > 0.75 else 'similar name'}, values like {values}"


def fits(table: str, name: str, spec: SourceColumn, column: ColumnProfile) -> bool:
    """Whether the values of a column suit a canonical one."""
    if column.filled == 0:
        return False
    if translated(table, name, column) is not None:
        return True
    match spec.kind:
        case "instant" | "day":
            is_wrong = is_overwritten_name(column.name) and name != "changed_at"
            return column.is_time and not is_wrong
        case "number" | "count":
            return column.is_number and _in_range(table, name, spec, column)
        case "flag":
            return column.is_flag
        case _:
            return _text_fits(table, name, spec, column)


def _text_fits(table: str, name: str, spec: SourceColumn, column: ColumnProfile) -> bool:
    if name == "currency":
        return all(re.fullmatch(r"[A-Za-z]{3}", text) for text in column.examples)
    if name == "text" and column.distinct <= 1:
        return False  # the same words everywhere
    is_yes_or_no = column.is_flag and column.distinct > 1 and spec.kind == "text"
    if column.is_time or (is_yes_or_no and name != "priority"):
        return False
    if name in TABLES[table].key:
        return column.fill > 0.98 and (column.is_unique or table not in _UNIQUE)
    return True


_UNIQUE = frozenset({"accounts", "support_tickets", "contacts", "invoices", "owners"})
"""Tables with one row per key in most exports."""


def _in_range(table: str, name: str, spec: SourceColumn, column: ColumnProfile) -> bool:
    low, high = column.low or 0.0, column.high or 0.0
    if table == "survey_responses" and name == "score":
        return low >= 0 and high <= 10
    if name in ("discount", "commit"):
        return low >= 0 and high <= 1
    return (spec.low is None or low >= spec.low) and (spec.high is None or high <= spec.high)


def _score(draft: TableDraft, file: FileProfile, table: str) -> float:
    """Return the strength of a recognition: matched columns, typical ones, and the file's name."""
    weights = {"high": 1.0, "medium": 0.6, "low": 0.3}
    matched = sum(weights[choice.sure] for choice in draft.columns.values())
    typical = sum(1.0 for name in draft.columns if name in MARKS[table])
    words = words_of(file.name)
    is_named = any(word in words or word == plain_name(file.name) for word in FILE_WORDS[table])
    unused = len(file.columns) - len(draft.columns)
    return matched + typical + FILE_WORD * is_named - 0.15 * unused


def _set_kind(draft: TableDraft) -> None:
    """Set the kind of survey by the scale of the score, where no column has it."""
    kind = draft.columns.get("kind")
    if kind is not None:
        texts = {text.lower() for text in draft.file.columns[kind.value].examples}
        if texts <= {"nps", "csat", "ces"}:
            if not all(text.islower() for text in draft.file.columns[kind.value].examples):
                text = f'lower("{kind.value}")'
                draft.columns["kind"] = Choice(text, kind.why, kind.sure)
            return
        del draft.columns["kind"]
    score = draft.columns.get("score")
    if score is None:
        return
    column = draft.file.columns[score.value]
    words = words_of(f"{draft.file.name} {score.value}")
    named = next((word for word in ("nps", "csat", "ces") if word in words), None)
    high = column.high or 0.0
    by_scale = "nps" if high > 7 else "ces" if high > 5 else "csat"
    draft.columns["kind"] = Choice(
        f"'{named or by_scale}'",
        f"named {named}" if named else f"scores from {column.low:g} to {high:g}",
        "high" if named else "medium" if by_scale == "nps" else "low",
        tuple(f"'{word}'" for word in ("nps", "csat", "ces") if word != (named or by_scale)),
    )
