"""What the service says of itself: release, catalogue, problems, model cards, health."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from serving.api import schemas
from serving.api.openapi import guarded, problems
from serving.api.requests import GetLive, json_answer
from serving.auth.permissions import ANYONE, READ
from serving.http.problems import TYPES, ProblemError
from serving.online.server_state import ServerState
from serving.scoring.export_rows import COLUMNS
from training.model.reason_text import catalogue_version, reason_catalogue

NAME = r"^[a-z][a-z0-9_]{0,40}$"
_ONE_OF_TYPES: dict[str, Any] = {"enum": list(TYPES)}
Slug = Annotated[str, Path(description="last part of its type", json_schema_extra=_ONE_OF_TYPES)]
Target = Annotated[str, Path(description="as GET /v1/release names it", pattern=NAME)]


def about(get_live: GetLive) -> APIRouter:
    """Return the operations that tell what answers, and how well it is."""
    router = APIRouter(prefix="/v1", tags=["about"])

    @router.get(
        "/release",
        summary="What answers at present",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": schemas.ReleaseAnswer}, **problems(503)},
    )
    async def release(request: Request) -> Response:
        """Return the published release: bundles, bands, what each target predicts."""
        return json_answer(release_answer(get_live(request)))

    @router.get(
        "/reasons",
        summary="Every reason code",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": schemas.ReasonCatalogue}},
    )
    async def reasons() -> Response:
        """Return the catalogue: a code is stable, its words may improve with the version."""
        return json_answer(
            {
                "version": catalogue_version(),
                "reasons": [
                    {name: getattr(item, name) for name in item.__dataclass_fields__}
                    for item in reason_catalogue()
                ],
            }
        )

    @router.get(
        "/columns",
        summary="The columns of exports",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": list[schemas.ColumnAbout]}},
    )
    async def columns() -> Response:
        """Return name, type and meaning of every column of the book's canonical rows."""
        return json_answer(
            [
                {"name": name, "type": str(kind), "about": about}
                for name, (kind, about) in COLUMNS.items()
            ]
        )

    @router.get(
        "/problems",
        summary="Every problem type",
        response_model=None,
        responses={200: {"model": list[schemas.ProblemKind]}},
    )
    async def problem_types() -> Response:
        """Return what each type means and what to do about it."""
        return json_answer([kind.as_dict() for kind in TYPES.values()])

    @router.get(
        "/problems/{slug}",
        summary="One problem type",
        response_model=None,
        responses={200: {"model": schemas.ProblemKind}, **problems(404, 422)},
    )
    async def problem_type(slug: Slug) -> Response:
        """Return what it means and what to do about it."""
        if slug not in TYPES:
            raise ProblemError("not-found", f"there is no problem type {slug[:80]!r}")
        return json_answer(TYPES[slug].as_dict())

    @router.get(
        "/model-card/{target}",
        summary="What a model is, and how it did",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": schemas.ModelCard}, **problems(404, 422, 503)},
    )
    async def model_card(target: Target, request: Request) -> Response:
        """Return what the bundle says: predicts what, learned from what, did how well."""
        return json_answer(card(get_live(request), target))

    @router.get(
        "/health",
        summary="What is well and what is not",
        response_model=None,
        **guarded(ANYONE),
        responses={200: {"model": schemas.Health}, 503: {"model": schemas.Health}},
    )
    async def health(request: Request) -> Response:
        """Answer 200 when scores can be given out, otherwise 503 with the same body."""
        live = get_live(request)
        loop = asyncio.get_running_loop()
        state = await loop.run_in_executor(live.probes, partial(health_of, live))
        answer = json_answer(state)
        answer.status_code = 200 if state["is_ready"] else 503
        return answer

    return router


def release_answer(live: ServerState) -> dict[str, Any]:
    """Return the published release with what each target predicts."""
    stage = live.current()
    release = stage.release
    return {
        "release_id": release.release_id,
        "created_at": release.created_at,
        "targets": {
            model.target: {
                "bundle_sha": model.sha,
                "verdict": model.bundle.verdict,
                "outcome": model.bundle.outcome,
                "bands": {name: cut for cut, name in model.cuts},
                "bands_sized_by": model.basis or None,
                "predicts": model.contract.get("words"),
                "horizon_days": model.contract["horizon_days"],
                "lead_time_days": model.contract["lead_time_days"],
            }
            for model in stage.scorer.models
        },
        "feature_set": release.feature_set,
        "reason_catalogue_version": release.reason_catalogue_version,
        "config_hash": release.config_hash,
        "note": release.note,
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


def card(live: ServerState, target: str) -> dict[str, Any]:
    """Return what the bundle of a target says of itself, without the encoder's inside."""
    for model in live.current().scorer.models:
        if model.target == target:
            plain = model.bundle.manifest.to_dict()
            told = {name: plain[name] for name in _CARD if name in plain}
            return {"bundle_sha": model.sha, "predicts": model.contract.get("words"), **told}
    raise ProblemError("not-found", f"the release has no target {target[:80]!r}")


def health_of(live: ServerState) -> dict[str, Any]:
    """Return what is well and what is not; asks the online store."""
    stage, book = live.stage, live.book
    has_store = stage is not None and stage.store.is_ready(stage.scorer.feature_hash)
    is_ready = has_store and live.has_ledger
    word = "ok" if not live.notes else "degraded"
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
