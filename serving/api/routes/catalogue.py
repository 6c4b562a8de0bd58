"""Description of the service: release, reason codes, columns, problem types, models, health."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Path
from starlette.responses import Response

from serving.api.openapi import guarded, problems
from serving.api.requests import json_answer
from serving.api.schemas.catalogue import (
    ColumnAbout,
    Health,
    ModelCard,
    ReasonCatalogue,
    ReasonKind,
    ReleaseAnswer,
    ReleaseTarget,
)
from serving.auth.permissions import ANYONE, READ
from serving.http.problems import TYPES, ProblemError, ProblemKind
from serving.online.current_state import Live
from serving.online.server_state import ServerState
from serving.scoring.export_columns import COLUMNS
from serving.scoring.scorer import ScoringModel
from training.model.reason_text import ReasonCode, catalogue_version, reason_catalogue

NAME = r"^[a-z][a-z0-9_]{0,40}$"
_ONE_OF_TYPES: dict[str, Any] = {"enum": list(TYPES)}
Slug = Annotated[
    str, Path(description="last part of the problem type", json_schema_extra=_ONE_OF_TYPES)
]
Target = Annotated[str, Path(description="a target of GET /v1/release", pattern=NAME)]

router = APIRouter(prefix="/v1", tags=["about"])


@router.get(
    "/release",
    summary="The published release",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": ReleaseAnswer}, **problems(503)},
)
async def release(live: Live) -> Response:
    """Return the published release: models, bands and label definition of each target."""
    return json_answer(release_answer(live))


@router.get(
    "/reasons",
    summary="All reason codes",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": ReasonCatalogue}},
)
async def reasons() -> Response:
    """Return the reason catalogue: codes are stable, their text may change with the version."""
    catalogue: ReasonCatalogue = {
        "version": catalogue_version(),
        "reasons": [_reason_kind(item) for item in reason_catalogue()],
    }
    return json_answer(catalogue)


@router.get(
    "/columns",
    summary="The columns of exports",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": list[ColumnAbout]}},
)
async def columns() -> Response:
    """Return name, type and description of every column of the canonical rows."""
    found: list[ColumnAbout] = [
        {"name": name, "type": str(kind), "about": about} for name, (kind, about) in COLUMNS.items()
    ]
    return json_answer(found)


@router.get(
    "/problems",
    summary="All problem types",
    response_model=None,
    responses={200: {"model": list[ProblemKind]}},
)
async def problem_types() -> Response:
    """Return the meaning of each problem type and what to do."""
    return json_answer([kind.as_dict() for kind in TYPES.values()])


@router.get(
    "/problems/{slug}",
    summary="One problem type",
    response_model=None,
    responses={200: {"model": ProblemKind}, **problems(404, 422)},
)
async def problem_type(slug: Slug) -> Response:
    """Return the meaning of a problem type and what to do."""
    if slug not in TYPES:
        raise ProblemError("not-found", f"no problem type {slug[:80]!r}")
    return json_answer(TYPES[slug].as_dict())


@router.get(
    "/model-card/{target}",
    summary="Model card of one target",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": ModelCard}, **problems(404, 422, 503)},
)
async def model_card(target: Target, live: Live) -> Response:
    """Return label definition, training data, metrics and features of a model."""
    return json_answer(card(live, target))


@router.get(
    "/health",
    summary="State of the service",
    response_model=None,
    **guarded(ANYONE),
    responses={200: {"model": Health}, 503: {"model": Health}},
)
async def health(live: Live) -> Response:
    """Answer 200 when accounts can be scored, otherwise 503 with the same body."""
    loop = asyncio.get_running_loop()
    state = await loop.run_in_executor(live.probes, partial(health_of, live))
    answer = json_answer(state)
    answer.status_code = 200 if state["is_ready"] else 503
    return answer


def _reason_kind(code: ReasonCode) -> ReasonKind:
    return cast("ReasonKind", {name: getattr(code, name) for name in code.__dataclass_fields__})


def release_answer(live: ServerState) -> ReleaseAnswer:
    """Return the published release with the label definition of each target."""
    stage = live.current()
    release = stage.release
    return {
        "release_id": release.release_id,
        "created_at": release.created_at,
        "targets": {model.target: _release_target(model) for model in stage.scorer.models},
        "feature_set": release.feature_set,
        "reason_catalogue_version": release.reason_catalogue_version,
        "config_hash": release.config_hash,
        "note": release.note,
    }


def _release_target(model: ScoringModel) -> ReleaseTarget:
    return {
        "bundle_sha": model.sha,
        "verdict": model.verdict,
        "outcome": model.outcome,
        "bands": {name: cut for cut, name in model.cuts},
        "bands_sized_by": dict(model.basis) or None,
        "predicts": model.contract.get("words"),
        "horizon_days": model.contract["horizon_days"],
        "lead_time_days": model.contract["lead_time_days"],
    }


_CARD = (
    "target",
    "outcome",
    "label_contract",
    "kind",
    "n_rows",
    "n_entities",
    "trained_from",
    "trained_to",
    "labels_known_to",
    "base_rate",
    "rung",
    "verdict",
    "gates",
    "metrics",
    "calibration",
    "features",
    "built_with",
    "training_fingerprint",
    "config_hash",
)
"""Keys of the manifest of a bundle that the model card shows."""


def card(live: ServerState, target: str) -> ModelCard:
    """Return the model card of a target from its bundle."""
    for model in live.current().scorer.models:
        if model.target == target:
            manifest = model.bundle.manifest.to_dict()
            shown = {name: manifest[name] for name in _CARD if name in manifest}
            head = {"bundle_sha": model.sha, "predicts": model.contract.get("words")}
            return cast("ModelCard", head | shown)
    raise ProblemError("not-found", f"the release has no target {target[:80]!r}")


def health_of(live: ServerState) -> Health:
    """Return the state of the service; sends a query to the online store."""
    stage, book = live.stage, live.book
    has_store = stage is not None and stage.store.is_ready(stage.scorer.feature_hash)
    is_ready = has_store and live.has_ledger
    word: Literal["ok", "degraded"] = "ok" if not live.notes else "degraded"
    return {
        "status": word if is_ready else "not_ready",
        "is_ready": is_ready,
        "company": live.workspace.company.name,
        "access": "open" if live.door.is_open else "closed",
        "release_id": stage.release.release_id if stage else None,
        "feature_set": stage.scorer.feature_hash if stage else None,
        "online_store": has_store,
        "ledger": live.has_ledger,
        "book_id": book.run.run_id if book else None,
        "data_through": book.run.as_of if book else None,
        "is_stale": live.is_stale() if book else None,
        "notes": live.notes,
    }
