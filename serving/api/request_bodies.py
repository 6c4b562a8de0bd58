"""JSON bodies of requests, validated into models; every error becomes a problem document."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from configs.runtime.errors import did_you_mean
from serving.http.problems import FieldError, ProblemError

MAX_ERRORS = 20

Body = TypeVar("Body", bound=BaseModel)


def json_of(content_type: str, body: bytes) -> Any:
    """Return the value of a JSON body.

    Raises
    ------
    ProblemError
        The body is not JSON, or its Content-Type is not; NaN and infinities are not JSON. A key is
        repeated: one of its values would be dropped without a word.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            "unsupported-media-type", f"the body is {content_type[:80] or 'without Content-Type'}"
        )
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid("", f"not JSON: {error}") from error
    json.loads(body, object_pairs_hook=_unique_keys)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise invalid(f"/{repeated[:100]}", f"the key {repeated[:100]!r} is repeated; send it once")
    return found


async def read_body(request: Request, model: type[Body]) -> Body:
    """Return the body of a request as a model.

    Raises
    ------
    ProblemError
        Names each error, its location and the closest known key.
    """
    body = await request.body()
    json_of(request.headers.get("content-type", ""), body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        errors = [_field_error(item, model) for item in error.errors()[:MAX_ERRORS]]
        detail = "; ".join(f"{item['pointer']}: {item['message']}" for item in errors[:3])
        raise ProblemError("invalid-request", detail, errors=errors) from error


def _field_error(item: Any, model: type[BaseModel]) -> FieldError:
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
    """Return the problem of one error in the body."""
    errors: list[FieldError] = [{"pointer": pointer, "message": message}]
    return ProblemError("invalid-request", message, errors=errors)
