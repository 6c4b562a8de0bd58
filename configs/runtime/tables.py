"""Every SQL table of Bellwether, in one `MetaData`, grouped by the database file that holds it.

On PostgreSQL all of them are in one database. A change of a table needs a revision in
`configs/runtime/migrations`; a test compares both.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from configs.runtime.database import UtcTime

metadata = MetaData()

scores_table = Table(
    "scores",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("company", String(64), nullable=False),
    Column("score_id", String(40), nullable=False, unique=True),
    Column("request_id", Text, nullable=False),
    Column("served_at", UtcTime, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("target", String(64), nullable=False),
    Column("release_id", String(40), nullable=False),
    Column("bundle_sha", String(64), nullable=False),
    Column("probability", Double, nullable=False),
    Column("logit", Double, nullable=False),
    Column("band", String(32), nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("feature_set", String(64), nullable=False),
    Column("reasons", Text, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("facts", Text),
    Column("clock", UtcTime),
    # Keys of the content in `contents_table` that a compacted score shares with others.
    Column("vector_ref", String(32)),
    Column("reasons_ref", String(32)),
    Column("facts_ref", String(32)),
    Index("scores_by_entity", "company", "entity_id", "target"),
)

Index(
    "scores_by_book",
    scores_table.c.company,
    scores_table.c.request_id,
    scores_table.c.target,
    sqlite_where=scores_table.c.channel == "book",
    postgresql_where=scores_table.c.channel == "book",
)

contents_table = Table(
    "score_contents",
    metadata,
    Column("company", String(64), nullable=False),
    Column("ref", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("last_served_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "ref"),
)
"""Vectors, reasons and facts of compacted scores, each once (`serving.ledger.retention`)."""

upkeep_table = Table(
    "score_upkeep",
    metadata,
    Column("company", String(64), nullable=False),
    Column("step", String(16), nullable=False),
    Column("through_row", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("due_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "step"),
)
"""Progress of compaction, and the next time at which the service tidies."""

books_table = Table(
    "score_books",
    metadata,
    Column("company", String(64), nullable=False),
    Column("book_id", String(64), nullable=False),
    Column("target", String(64), nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("served_at", UtcTime, nullable=False),
    Column("release_id", String(40), nullable=False),
    Column("n_scores", Integer, nullable=False),
    Column("is_complete", Integer, nullable=False),
    Column("channel", String(16)),
    PrimaryKeyConstraint("company", "book_id", "target"),
    Index("books_by_time", "company", "target", "served_at"),
)

labels_table = Table(
    "score_labels",
    metadata,
    Column("company", String(64), nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("target", String(64), nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("contract", String(16), nullable=False),
    Column("known_at", UtcTime, nullable=False),
    Column("label", Integer, nullable=False),
    Column("decision_at", UtcTime),
    Column("recorded_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "target", "contract", "as_of", "entity_id", "known_at"),
)


LEDGER_TABLES = (
    scores_table,
    contents_table,
    upkeep_table,
    books_table,
    labels_table,
)


outcomes_table = Table(
    "reported_outcomes",
    metadata,
    Column("company", String(64), nullable=False),
    Column("account_id", String(200), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("decided_on", String(10), nullable=False),
    Column("effective_on", String(10)),
    Column("reason", Text),
    Column("reported_by", Text, nullable=False),
    Column("known_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "account_id", "outcome", "decided_on"),
)

feedback_table = Table(
    "reason_feedback",
    metadata,
    Column("company", String(64), nullable=False),
    Column("score_id", String(40), nullable=False),
    Column("reason_code", String(100), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("given_by", String(200), nullable=False),
    Column("account_id", String(200), nullable=False),
    Column("note", Text),
    Column("given_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "score_id", "reason_code", "verdict", "given_by"),
)

requests_table = Table(
    "idempotency_keys",
    metadata,
    Column("company", String(64), nullable=False),
    Column("caller", String(200), nullable=False),
    Column("key", String(200), nullable=False),
    Column("request_sha256", String(64), nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "caller", "key"),
)


FEEDBACK_TABLES = (
    outcomes_table,
    feedback_table,
    requests_table,
)


jobs_table = Table(
    "score_jobs",
    metadata,
    Column("company", String(64), nullable=False),
    Column("job_id", String(40), nullable=False),
    Column("caller", String(200), nullable=False),
    Column("request_sha256", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("n_accounts", Integer, nullable=False),
    Column("n_done", Integer, nullable=False),
    Column("release_id", String(40)),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("due_at", UtcTime, nullable=False),
    Column("problem", Text),
    Column("worker", String(32)),
    PrimaryKeyConstraint("company", "job_id"),
)


JOB_TABLES = (jobs_table,)


outbox_table = Table(
    "webhook_outbox",
    metadata,
    Column("company", String(64), nullable=False),
    Column("message_id", String(40), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("problem", Text),
    Column("worker", String(32)),
    PrimaryKeyConstraint("company", "message_id"),
    Index("outbox_by_state", "company", "state", "endpoint", "due_at"),
)


OUTBOX_TABLES = (outbox_table,)


keys_table = Table(
    "api_keys",
    metadata,
    Column("company", String(64), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
    PrimaryKeyConstraint("company", "key_id"),
)


KEY_TABLES = (keys_table,)


events_table = Table(
    "risk_events",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("company", String(64), nullable=False),
    Column("event_id", String(64), nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("stage", String(16)),
    Column("on_day", String(10)),
    Column("play", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("trigger", String(64), nullable=False),
    UniqueConstraint("company", "event_id"),
    Index("risk_events_by_entity", "company", "entity_id", "row"),
)

looks_table = Table(
    "looks",
    metadata,
    Column("company", String(64), primary_key=True),
    Column("who", String(200), primary_key=True),
    Column("book_id", String(64), nullable=False),
    Column("book_before", String(64), nullable=False),
)


RISK_TABLES = (
    events_table,
    looks_table,
)


releases_table = Table(
    "releases",
    metadata,
    Column("company", String(64), nullable=False),
    Column("release_id", String(40), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("company", "release_id"),
)

publications_table = Table(
    "release_publications",
    metadata,
    Column("company", String(64), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("release_id", String(40), nullable=False),
    Column("previous", String(40)),
    Column("action", String(16), nullable=False),
    Column("published_at", UtcTime, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    PrimaryKeyConstraint("company", "sequence"),
    ForeignKeyConstraint(["company", "release_id"], ["releases.company", "releases.release_id"]),
)

pointer_table = Table(
    "release_pointer",
    metadata,
    Column("company", String(64), primary_key=True),
    Column("release_id", String(40)),
    Column("sequence", Integer, nullable=False),
)


shadow_table = Table(
    "release_shadow",
    metadata,
    Column("company", String(64), primary_key=True),
    Column("release_id", String(40), nullable=False),
    Column("published_at", UtcTime, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("note", Text, nullable=False),
)


RELEASE_TABLES = (
    releases_table,
    publications_table,
    pointer_table,
    shadow_table,
)
