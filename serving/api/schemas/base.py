"""Base class and shared field types of request bodies."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from serving.scoring.answer import CONTRACT

MAX_BATCH = 1_000
MAX_ID_LENGTH = 200

AccountId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00]+$")]
FreeText = Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")]


class RequestBody(BaseModel):
    """JSON body of a request: no undeclared keys, no infinite numbers."""

    model_config = CONTRACT
