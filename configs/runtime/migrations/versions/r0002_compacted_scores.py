"""Contents that compacted scores share, and the outbox indexed by state."""

from __future__ import annotations

from collections.abc import Collection

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    inspect,
)

from configs.runtime.database import UtcTime

revision = "0002"
down_revision = "0001"

REFS = ("vector_ref", "reasons_ref", "facts_ref")


def upgrade(tables: Collection[str]) -> None:
    """Add what is missing: builds between 0.1.0 and this revision added some of it themselves."""
    if "scores" in tables:
        _add_shared_contents()
    if "webhook_outbox" in tables:
        key = ["company", "state", "endpoint", "due_at"]
        op.create_index("outbox_by_state", "webhook_outbox", key, if_not_exists=True)


def _add_shared_contents() -> None:
    present = {column["name"] for column in inspect(op.get_bind()).get_columns("scores")}
    for name in REFS:
        if name not in present:
            op.add_column("scores", Column(name, String(32)))
    op.create_table(
        "score_contents",
        Column("company", String(64), nullable=False),
        Column("ref", String(32), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("last_served_at", UtcTime, nullable=False),
        PrimaryKeyConstraint("company", "ref"),
        if_not_exists=True,
    )
    op.create_table(
        "score_upkeep",
        Column("company", String(64), nullable=False),
        Column("step", String(16), nullable=False),
        Column("through_row", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
        Column("due_at", UtcTime, nullable=False),
        PrimaryKeyConstraint("company", "step"),
        if_not_exists=True,
    )
