"""The OpenAPI document: derived by FastAPI, completed with problems, security and examples.

Every operation has an example of its request and answer in ``examples/``; a test validates each one
against its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from serving.api.schemas.whatif import WhatIfRequest
from serving.auth.permissions import SCOPES, RequiredRole
from serving.http.problems import (
    BUSY_RETRY_SECONDS,
    MEDIA_TYPE,
    RETRY_SECONDS,
    TYPES,
    Problem,
    problem,
)
from serving.online.whatif import meanings

EXAMPLES = Path(__file__).with_name("examples")
REF = "#/components/schemas/"

ALWAYS = (421, 429, 500, 503)
"""Error statuses of every operation."""

GUARDED = (401, 403)
"""Error statuses of operations that require a scope."""

SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, `bw_…`, or a token of the identity provider",
    },
    "key_header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

TAGS = [
    {"name": "scores", "description": "Scores on request, and the latest published scores."},
    {"name": "jobs", "description": "Scoring of many accounts in the background."},
    {"name": "feedback", "description": "Outcomes of accounts, and feedback on reasons."},
    {"name": "about", "description": "Release, models, columns, problems and health."},
]

Json = dict[str, Any]


def guarded(scope: str, body: type[BaseModel] | None = None) -> Json:
    """Return the route options of an operation that requires a scope, optionally with a JSON body.

    Handlers read the body themselves, so that every error is answered as a problem document.
    """
    extra: Json = {"x-scope": scope}
    if body is not None:
        schema = {"$ref": REF + body.__name__}
        content = {"application/json": {"schema": schema}}
        extra["requestBody"] = {"required": True, "content": content}
    return {"dependencies": [Depends(RequiredRole(scope))], "openapi_extra": extra}


def problems(*codes: int) -> dict[int | str, Json]:
    """Return the OpenAPI responses of the problems of an operation, by status."""
    return {code: _problem_response(code) for code in codes}


def describer(app: FastAPI, bodies: Iterable[type[BaseModel]]) -> Callable[[], Json]:
    """Return a function that creates the OpenAPI document on its first call."""

    def describe() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, tuple(bodies))
        return app.openapi_schema

    return describe


def _described(app: FastAPI, bodies: tuple[type[BaseModel], ...]) -> Json:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description.strip(),
        routes=app.routes,
        tags=TAGS,
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    types: tuple[type[Any], ...] = (Problem, *bodies)
    _, named = TypeAdapter.json_schemas(
        [(kind.__name__, "validation", TypeAdapter(kind)) for kind in types],
        ref_template=REF + "{model}",
    )
    components.update(named["$defs"])
    _name_features(components[WhatIfRequest.__name__]["properties"]["features"])
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    document["components"]["securitySchemes"] = SECURITY
    for methods in document["paths"].values():
        for operation in methods.values():
            _secure(operation)
            _complete(operation)
    return document


def _name_features(schema: Json) -> None:
    """Declare every feature name as a property."""
    value = schema.pop("additionalProperties")
    schema["properties"] = {
        name: {**value, "description": meaning} for name, meaning in meanings().items()
    }
    schema["additionalProperties"] = False


def _secure(operation: Json) -> None:
    scope = operation.get("x-scope")
    operation["security"] = [] if scope is None else [{name: [scope]} for name in SECURITY]
    if scope is None:
        return
    for code in GUARDED:
        operation["responses"].setdefault(str(code), _problem_response(code))
    if scope:
        operation["description"] += f"\n\nRequires the scope `{scope}`: {SCOPES[scope]}."


def _complete(operation: Json) -> None:
    for code in ALWAYS:
        operation["responses"].setdefault(str(code), _problem_response(code))
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for code, answer in operation["responses"].items():
        answer.setdefault("headers", {}).update(_headers(code))
    example = read_example(operation["operationId"])
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in example.get("parameters", {}):
            parameter["example"] = example["parameters"][parameter["name"]]
    for media in operation.get("requestBody", {}).get("content", {}).values():
        media["example"] = example["body"]
    for code, value in example.get("answers", {}).items():
        for media in operation["responses"][code].get("content", {}).values():
            media["example"] = value


def read_example(operation_id: str) -> Json:
    """Return the example of an operation: ``parameters``, ``body`` and ``answers`` by status."""
    example: Json = orjson.loads((EXAMPLES / f"{operation_id}.json").read_bytes())
    return example


def _problem_response(code: int) -> Json:
    kinds = [kind for kind in TYPES.values() if kind.status == code]
    examples = {
        kind.slug: {"summary": kind.title, "value": problem(kind.slug, kind.about)}
        for kind in kinds
    }
    schema = {"$ref": REF + Problem.__name__}
    return {
        "description": " · ".join(kind.title for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": deepcopy(examples)}},
    }


def _headers(code: str) -> Json:
    headers: Json = {
        "X-Request-ID": {
            "description": "id of the request, from the caller or generated; used in the logs",
            "schema": {"type": "string"},
        }
    }
    if code in {"429", "503"}:
        headers["Retry-After"] = {
            "description": "seconds",
            "schema": {"type": "integer", "minimum": 0},
            "example": BUSY_RETRY_SECONDS if code == "429" else RETRY_SECONDS,
        }
    return headers
