"""Personal data in the SQL tables: by table and column, and what `bellwether forget` does there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import LargeBinary, String, Table

from configs.runtime import tables
from features.tables.source_tables import Personal

Action = Literal["delete", "evidence", "replace"]
"""On forgetting: delete the row, keep it as evidence under a pseudonym, or replace the value."""

ACTIONS: dict[Action, str] = {
    "delete": "deleted",
    "evidence": "kept under a random name where they are evidence",
    "replace": "none; values are replaced",
}
"""The actions as text."""


@dataclass(frozen=True)
class TableHolding:
    """Personal data of one SQL table.

    Attributes
    ----------
    table : Table
        The table.
    columns : dict of str to Personal
        Columns that may hold personal data; ``text`` is searched within, JSON included.
    of_account : Action
        What happens to the rows of a forgotten account.
    why : str
        The reason, for the documentation.
    plain : tuple of str
        Text columns without personal data: codes, hashes, random ids.
    """

    table: Table
    columns: dict[str, Personal]
    of_account: Action
    why: str
    plain: tuple[str, ...] = ()


HOLDINGS = (
    TableHolding(
        tables.scores_table,
        {"entity_id": "account", "reasons": "text", "facts": "text"},
        "evidence",
        "a score with a recorded outcome is kept under a random name, without vector, reasons and "
        "facts: it counts in the track record; every other score is deleted",
        ("score_id", "request_id", "target", "release_id", "bundle_sha", "band", "verdict",
         "feature_set", "channel", "vector_ref", "reasons_ref", "facts_ref", "features"),
    ),
    TableHolding(
        tables.contents_table,
        {"body": "text"},
        "delete",
        "vectors, reasons and facts that only deleted scores shared are deleted",
        ("ref", "kind"),
    ),
    TableHolding(
        tables.labels_table,
        {"entity_id": "account"},
        "evidence",
        "the outcome of a kept score, under the same random name; others are deleted",
        ("target", "contract"),
    ),
    TableHolding(
        tables.outcomes_table,
        {"account_id": "account", "reason": "text", "reported_by": "person"},
        "delete",
        "a reported outcome is a source row of the account",
        ("outcome", "decided_on", "effective_on"),
    ),
    TableHolding(
        tables.feedback_table,
        {"account_id": "account", "note": "text", "given_by": "person"},
        "evidence",
        "the verdict on a reason counts in the track record; the note is deleted",
        ("score_id", "reason_code", "verdict"),
    ),
    TableHolding(
        tables.events_table,
        {"entity_id": "account", "text": "text", "who": "person"},
        "delete",
        "an event is measured only through the outcome of its account",
        ("event_id", "kind", "stage", "on_day", "play", "trigger"),
    ),
    TableHolding(
        tables.outbox_table,
        {"body": "text", "problem": "text"},
        "delete",
        "a message about the account is not sent any more",
        ("message_id", "endpoint", "event", "state", "worker"),
    ),
    TableHolding(
        tables.looks_table, {"who": "person"}, "replace", "", ("book_id", "book_before")
    ),
    TableHolding(
        tables.requests_table, {"caller": "person"}, "replace", "", ("key", "request_sha256")
    ),
    TableHolding(
        tables.jobs_table,
        {"caller": "person", "problem": "text"},
        "replace",
        "",
        ("job_id", "request_sha256", "state", "release_id", "worker"),
    ),
    TableHolding(
        tables.keys_table,
        {"name": "text"},
        "replace",
        "",
        ("key_id", "scopes", "secret_sha256"),
    ),
    TableHolding(
        tables.publications_table,
        {"published_by": "person", "note": "text"},
        "replace",
        "",
        ("release_id", "previous", "action"),
    ),
    TableHolding(
        tables.shadow_table,
        {"published_by": "person", "note": "text"},
        "replace",
        "",
        ("release_id",),
    ),
)  # fmt: skip
"""Every table with personal data."""

IMPERSONAL = (
    tables.upkeep_table,
    tables.books_table,
    tables.releases_table,
    tables.pointer_table,
)
"""Tables without personal data: counts, ids of releases and score runs."""


def text_columns(table: Table) -> set[str]:
    """Return the columns of a table that can hold any text."""
    return {
        column.name
        for column in table.columns
        if isinstance(column.type, (String, LargeBinary)) and column.name != "company"
    }
