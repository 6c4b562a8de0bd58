"""Problems as RFC 9457 documents: every error of the service has one of these types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from configs.runtime.errors import BellwetherError, DataError, StateError, UnavailableError
from serving.http.score_text import FAILED, INVALID, STATUS_WORDS, UNKNOWN

MEDIA_TYPE = "application/problem+json"
ROOT = "/v1/problems/"

RETRY_SECONDS, BUSY_RETRY_SECONDS = 10, 1

_ALSO = {
    401: {"WWW-Authenticate": 'Bearer realm="bellwether"'},
    429: {"Retry-After": str(BUSY_RETRY_SECONDS)},
    503: {"Retry-After": str(RETRY_SECONDS)},
}


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem, as documented at its own address.

    Attributes
    ----------
    slug : str
        Last part of its address, `ROOT` before it.
    status : int
        HTTP status.
    title : str
        The same for every occurrence.
    about : str
        What it means and what to do.
    """

    slug: str
    status: int
    title: str
    about: str

    @property
    def uri(self) -> str:
        """The problem's type."""
        return ROOT + self.slug

    def as_dict(self) -> dict[str, Any]:
        """Return the documentation of the type."""
        return {
            "type": self.uri,
            "status": self.status,
            "title": self.title,
            "about": self.about,
        }


def _types(*types: ProblemType) -> dict[str, ProblemType]:
    return {item.slug: item for item in types}


TYPES = _types(
    ProblemType(
        "unknown-account",
        404,
        "Unknown account",
        "No account with this id is in the online store. Ids are compared exactly, capitals and "
        "spaces included. An account created today enters with the next refresh.",
    ),
    ProblemType(
        "unauthenticated",
        401,
        "Not signed in",
        "Send a key as `Authorization: Bearer bw_…` or `X-API-Key: bw_…` (bellwether keys create "
        "makes one), or come through the proxy or the identity provider of your company.",
    ),
    ProblemType(
        "forbidden",
        403,
        "Not allowed",
        "You are known, but your key has no scope for this, or your role none. "
        "`bellwether keys create COMPANY --scopes …` makes a key with other scopes; roles are "
        "given in company.yaml.",
    ),
    ProblemType(
        "too-slow",
        408,
        "Request too slow",
        "The head of a request has to arrive within 10 seconds, and so has its body.",
    ),
    ProblemType(
        "too-many-requests",
        429,
        "Too many requests",
        "More requests are being answered than this process takes at once. Wait as long as "
        "Retry-After says; ask for many accounts in one batch rather than one by one.",
    ),
    ProblemType(
        "rate-limited",
        429,
        "Asked too often",
        "Your key, or you, asked more often in a minute than company.yaml allows under `limits`. "
        "Wait as long as Retry-After says; ask for many accounts in one batch rather than one by "
        "one.",
    ),
    ProblemType(
        "not-found",
        404,
        "Not found",
        "There is nothing at this address; /openapi.json lists what there is.",
    ),
    ProblemType(
        "method-not-allowed",
        405,
        "Method not allowed",
        "The address exists but not for this method; the Allow header names those it takes.",
    ),
    ProblemType(
        "too-large",
        413,
        "Request too large",
        "A request body is at most 1,000,000 bytes, its headers 65,536. Ask for fewer accounts at "
        "once.",
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "Unsupported media type",
        "Bodies are JSON: send Content-Type: application/json.",
    ),
    ProblemType(
        "wrong-host",
        421,
        "Wrong host",
        "The service answers only to the host names it was given (BELLWETHER_HOSTS, separated by "
        "commas), so that no web page can reach it under a name of its own.",
    ),
    ProblemType(
        "changed-meanwhile",
        409,
        "Changed in the meantime",
        "Somebody else recorded something after you looked. Look again, then decide.",
    ),
    ProblemType(
        "invalid-request",
        422,
        "Invalid request",
        "The request does not follow the contract; `errors` names each place and what is wrong.",
    ),
    ProblemType(
        "not-predicted",
        409,
        "Not predicted",
        "The account is known but has no score, as its status says; supply the features without "
        "account_id to suppose one.",
    ),
    ProblemType(
        "job-not-done",
        409,
        "Job not done",
        "The job has no results yet; GET /v1/score-jobs/{job_id} says where it stands.",
    ),
    ProblemType(
        "idempotency-key-reused",
        409,
        "Idempotency-Key used before",
        "This key came with another body before. A key names one request; take another for a "
        "further one.",
    ),
    ProblemType(
        "cursor-expired",
        410,
        "Cursor expired",
        "A newer book was published since the first page. Start again without a cursor.",
    ),
    ProblemType(
        "not-ready",
        503,
        "Not ready",
        "No release is published, or its features are not in the online store yet. Retry later; "
        "/v1/health says what is missing.",
    ),
    ProblemType(
        "unavailable",
        503,
        "Temporarily unavailable",
        "The online store or the score ledger does not answer. No score is given out that could "
        "not be recorded. Retry after the time in Retry-After.",
    ),
    ProblemType(
        "internal-error",
        500,
        "Internal error",
        "Something broke that should not; the log has the details under the request id.",
    ),
    ProblemType(
        "invalid-account-id",
        422,
        "Invalid account id",
        "An account id is a text of 1 to 200 characters. In a batch the other accounts are "
        "answered.",
    ),
    ProblemType(
        "score-failed",
        500,
        "Score failed",
        "This account could not be scored; the others of the batch were. The log says why.",
    ),
)
"""Every type of problem, by slug."""

OF_STATUS = {
    UNKNOWN: "unknown-account",
    INVALID: "invalid-account-id",
    FAILED: "score-failed",
}
"""The problem behind a status of one account."""


class ProblemError(BellwetherError):
    """A problem to be answered as such."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = TYPES[slug]
        self.errors = errors
        self.retry_after = retry_after


def problem(
    slug: str,
    detail: str,
    *,
    instance: str = "",
    errors: Sequence[Mapping[str, str]] | None = None,
    retry_after: int | None = None,
) -> dict[str, Any]:
    """Return a problem document; `retry_after` is in seconds, where it is not the usual one.

    >>> problem("unknown-account", "no account A-1")["status"]
    404
    """
    kind = TYPES[slug]
    document: dict[str, Any] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }
    if instance:
        document["instance"] = instance
    if errors:
        document["errors"] = list(errors)
    if retry_after is not None:
        document["retry_after"] = retry_after
    return document


def of_fault(instance: str) -> dict[str, Any]:
    """Return the problem of a fault of ours; what it was is nobody's business but the log's."""
    return problem("internal-error", "the log has the details", instance=instance)


def item_problem(status: str, account_id: str) -> dict[str, Any]:
    """Return the problem of one account of a batch; its status is in `OF_STATUS`."""
    return problem(OF_STATUS[status], f"{account_id}: {STATUS_WORDS[status]}")


def response(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document as a response."""
    return Response(
        orjson.dumps(document),
        status_code=document["status"],
        media_type=MEDIA_TYPE,
        headers=headers_of(document) | dict(headers or {}),
    )


def headers_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of a problem: nobody keeps it; 429 and 503 say when to come back."""
    headers = {"Cache-Control": "no-store", **_ALSO.get(document["status"], {})}
    if "retry_after" in document:
        headers["Retry-After"] = str(document["retry_after"])
    return headers


def slug_of(document: Mapping[str, Any]) -> str:
    """Return which of `TYPES` a problem document is."""
    return str(document["type"]).removeprefix(ROOT)


def is_for_people(scope: Scope, headers: Headers) -> bool:
    """Say whether a browser asks for a page, and not a system for an answer."""
    return "text/html" in headers.get("accept", "") and not scope["path"].startswith("/v1")


def of_error(error: BellwetherError, instance: str = "") -> dict[str, Any]:
    """Return the problem an error of ours stands for."""
    if isinstance(error, ProblemError):
        return problem(
            error.kind.slug,
            error.what,
            instance=instance,
            errors=error.errors,
            retry_after=error.retry_after,
        )
    if isinstance(error, UnavailableError):
        return problem("unavailable", error.what, instance=instance)
    if isinstance(error, StateError):
        return problem("not-ready", error.what, instance=instance)
    if isinstance(error, DataError):
        return problem("invalid-request", error.what, instance=instance)
    return problem("internal-error", "the log has the details", instance=instance)
