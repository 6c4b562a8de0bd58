"""Types of the routes that return scores: batches, and the published scores."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from serving.api.schemas.base import MAX_BATCH, RequestBody
from serving.batch.filters import CURSOR
from serving.scoring.answer import CONTRACT, Answer
from serving.scoring.export_columns import ExportRow


class BatchRequest(RequestBody):
    """Accounts to score."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"account_ids": ["A-0001", "A-0002"]}]}
    )
    account_ids: list[Any] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        description="strings, in any order, repeats allowed; answered in the same order. An item "
        "that is not an account id is answered as `invalid_account_id`; the others are scored",
    )


@with_config(CONTRACT)
class BatchAnswer(TypedDict):
    """One answer per account of the request, in the same order; all of one release."""

    request_id: str
    release_id: str
    counts: Annotated[dict[str, int], Field(description="number of accounts by status")]
    results: list[Answer]


@with_config(CONTRACT)
class ScoresPage(TypedDict):
    """Page of the published scores: canonical rows, highest expected loss first."""

    book_id: Annotated[str, Field(description="id of the score run")]
    release_id: str
    as_of: str
    total: Annotated[int, Field(description="rows that match the filters")]
    results: list[ExportRow]
    next_cursor: Annotated[
        str | None,
        Field(description="`cursor` of the next page; null on the last page", pattern=CURSOR),
    ]
