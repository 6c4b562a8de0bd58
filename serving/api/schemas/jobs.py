"""Types of the routes of score jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from serving.api.schemas.base import AccountId, RequestBody
from serving.scoring.answer import CONTRACT


class JobRequest(RequestBody):
    """Accounts to score in the background."""

    account_ids: list[AccountId] | None = Field(
        None,
        min_length=1,
        max_length=100_000,
        description="default: every account of the latest published scores",
    )


@with_config(CONTRACT)
class JobAnswer(TypedDict):
    """State of a score job."""

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    n_accounts: int
    n_done: int
    release_id: Annotated[str | None, Field(description="release of all its scores")]
    created_at: str
    finished_at: str | None
    problem: Annotated[str | None, Field(description="why it failed or is waiting")]


@with_config(CONTRACT)
class JobList(TypedDict):
    """Score jobs, newest first."""

    results: list[JobAnswer]
