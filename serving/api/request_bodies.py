"""Reading JSON bodies into models, with a problem of ours for every mistake."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from configs.runtime.errors import did_you_mean
from serving.http.problems import ProblemError

MAX_ERRORS = 20

Body = TypeVar("Body", bound=BaseModel)


def json_of(content_type: str, body: bytes) -> Any:
    """Return the value of a JSON body.

    Raises
    ------
    ProblemError
        It is not JSON, or does not say that it is; NaN and infinities are not.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            "unsupported-media-type", f"the body is {content_type[:80] or 'of no stated type'}"
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid("", f"not JSON: {error}") from error


async def read_body(request: Request, model: type[Body]) -> Body:
    """Return the body of a request as a model.

    Raises
    ------
    ProblemError
        With each mistake, where it is, and the closest known key.
    """
    body = await request.body()
    json_of(request.headers.get("content-type", ""), body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        mistakes = [_mistake(item, model) for item in error.errors()[:MAX_ERRORS]]
        words = "; ".join(f"{item['pointer']}: {item['message']}" for item in mistakes[:3])
        raise ProblemError("invalid-request", words, errors=mistakes) from error


def _mistake(item: Any, model: type[BaseModel]) -> dict[str, str]:
    pointer = "".join(f"/{str(part)[:100]}" for part in item["loc"])
    if item["type"] == "extra_forbidden":
        hint = did_you_mean(str(item["loc"][-1]), _names(model))
        return {"pointer": pointer, "message": f"unknown key; {hint or 'see /openapi.json'}"}
    return {"pointer": pointer, "message": str(item["msg"])}


def _names(model: type[BaseModel]) -> list[str]:
    names = list(model.model_fields)
    for field in model.model_fields.values():
        for part in getattr(field.annotation, "__args__", ()):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names += part.model_fields
    return names


def invalid(pointer: str, message: str) -> ProblemError:
    """Return the problem of one mistake."""
    errors = [{"pointer": pointer, "message": message}]
    return ProblemError("invalid-request", message, errors=errors)
