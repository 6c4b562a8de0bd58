"""The same columns in both work queues: `due_at` and `worker` of score jobs and messages."""

from __future__ import annotations

from collections.abc import Collection

from alembic import op
from sqlalchemy import Column, String

revision = "0003"
down_revision = "0002"


def upgrade(tables: Collection[str]) -> None:
    """Rename the last sign of life of a job to the instant it is due: a running job is due now."""
    if "score_jobs" in tables:
        op.execute("ALTER TABLE score_jobs RENAME COLUMN seen_at TO due_at")
    if "webhook_outbox" in tables:
        op.add_column("webhook_outbox", Column("worker", String(32)))
