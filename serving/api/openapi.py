"""The description of the contract: what FastAPI derives, completed with problems and examples.

Every operation has an example of what is asked and answered, kept in ``examples/`` by operation;
a test holds each of them against the schema it stands beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.api import schemas
from serving.auth.permissions import SCOPES, RequiredRole
from serving.http.problems import BUSY_RETRY_SECONDS, MEDIA_TYPE, RETRY_SECONDS, TYPES, problem
from serving.online.whatif import meanings

EXAMPLES = Path(__file__).with_name("examples")
REF = "#/components/schemas/"

ALWAYS = (421, 429, 500, 503)
"""Statuses any operation may answer with."""

GUARDED = (401, 403)
"""Statuses of operations that are not for everybody."""

SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "a key of this service, `bw_…`, or a token of the identity provider",
    },
    "key_header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

TAGS = [
    {"name": "scores", "description": "Scores asked for now, and the book scored last."},
    {"name": "jobs", "description": "Whole books scored in the background."},
    {"name": "feedback", "description": "What became of accounts, and what reasons were worth."},
    {"name": "about", "description": "What answers, and how well it is."},
]

Json = dict[str, Any]


def guarded(scope: str, body: type[BaseModel] | None = None) -> Json:
    """Return the options of an operation that takes a scope, and perhaps a JSON body.

    Handlers read bodies by themselves, so that every mistake gets a problem of ours.
    """
    extra: Json = {"x-scope": scope}
    if body is not None:
        schema = {"$ref": REF + body.__name__}
        content = {"application/json": {"schema": schema}}
        extra["requestBody"] = {"required": True, "content": content}
    return {"dependencies": [Depends(RequiredRole(scope))], "openapi_extra": extra}


def problems(*codes: int) -> dict[int | str, Json]:
    """Return what OpenAPI says of the problems an operation may answer with, by status."""
    return {code: _problem_response(code) for code in codes}


def describer(app: FastAPI, bodies: Iterable[type[BaseModel]]) -> Callable[[], Json]:
    """Return a function that describes an application; it does so once, when first asked."""

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
    models = [(model, "validation") for model in (schemas.Problem, *bodies)]
    _, named = models_json_schema(models, ref_template=REF + "{model}")  # type: ignore[arg-type]
    components.update(named["$defs"])
    _name_features(components[schemas.WhatIfRequest.__name__]["properties"]["features"])
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    document["components"]["securitySchemes"] = SECURITY
    for methods in document["paths"].values():
        for operation in methods.values():
            _secure(operation)
            _complete(operation)
    return document


def _name_features(schema: Json) -> None:
    """Give every feature its place: the values of a supposition are by these names only."""
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
        operation["description"] += f"\n\nTakes the scope `{scope}`: {SCOPES[scope]}."


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
    schema = {"$ref": REF + schemas.Problem.__name__}
    return {
        "description": " · ".join(kind.title for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": deepcopy(examples)}},
    }


def _headers(code: str) -> Json:
    told: Json = {
        "X-Request-ID": {
            "description": "the caller's own, or one made for this request; logs carry it",
            "schema": {"type": "string"},
        }
    }
    if code in {"429", "503"}:
        told["Retry-After"] = {
            "description": "seconds",
            "schema": {"type": "integer", "minimum": 0},
            "example": BUSY_RETRY_SECONDS if code == "429" else RETRY_SECONDS,
        }
    return told
