"""RFC 9457 problem documents: every error of the service has one of these types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NotRequired

import orjson
from pydantic import Field
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope
from typing_extensions import TypedDict  # pydantic reads this one before Python 3.12

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


class FieldError(TypedDict):
    """Error in one field of a request."""

    pointer: str
    message: str


class Problem(TypedDict):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    instance: NotRequired[str]
    errors: NotRequired[list[FieldError]]
    retry_after: NotRequired[Annotated[int, Field(ge=1, description="seconds, as in Retry-After")]]


class ProblemKind(TypedDict):
    """Documentation of a problem type: its meaning and what to do."""

    type: str
    status: int
    title: str
    about: str


@dataclass(frozen=True)
class ProblemType:
    """One type of problem, documented at its own address.

    Attributes
    ----------
    slug : str
        Last part of its address, after `ROOT`.
    status : int
        HTTP status.
    title : str
        Title, the same for every occurrence.
    about : str
        Meaning, and what to do.
    """

    slug: str
    status: int
    title: str
    about: str

    @property
    def uri(self) -> str:
        """The problem's type."""
        return ROOT + self.slug

    def as_dict(self) -> ProblemKind:
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
        "No account with this id is in the online store. Ids are case-sensitive and spaces count. "
        "A new account is added by the next refresh of the features.",
    ),
    ProblemType(
        "unauthenticated",
        401,
        "Not signed in",
        "Send an API key as `Authorization: Bearer bw_…` or `X-API-Key: bw_…` (`bellwether keys "
        "create` creates one), or sign in through your company's proxy or identity provider.",
    ),
    ProblemType(
        "forbidden",
        403,
        "Not allowed",
        "You are signed in, but your API key or role does not have the required scope. "
        "`bellwether keys create COMPANY --scopes …` creates a key with other scopes; roles are "
        "set in company.yaml.",
    ),
    ProblemType(
        "too-slow",
        408,
        "Request too slow",
        "The headers of a request must arrive within 10 seconds, and so must its body.",
    ),
    ProblemType(
        "too-many-requests",
        429,
        "Too many requests",
        "This process is already handling its maximum number of requests. Wait for the time in "
        "Retry-After; request many accounts in one batch instead of one by one.",
    ),
    ProblemType(
        "rate-limited",
        429,
        "Rate limit exceeded",
        "Your API key or user sent more requests per minute than `limits` in company.yaml allows. "
        "Wait for the time in Retry-After; request many accounts in one batch instead of one by "
        "one.",
    ),
    ProblemType(
        "not-found",
        404,
        "Not found",
        "This address does not exist; /openapi.json lists all addresses.",
    ),
    ProblemType(
        "method-not-allowed",
        405,
        "Method not allowed",
        "The address does not accept this method; the Allow header lists those it accepts.",
    ),
    ProblemType(
        "too-large",
        413,
        "Request too large",
        "A request body is limited to 1,000,000 bytes, its headers to 65,536. Request fewer "
        "accounts at once.",
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "Unsupported media type",
        "Send JSON with Content-Type: application/json.",
    ),
    ProblemType(
        "wrong-host",
        421,
        "Wrong host",
        "The service accepts only configured host names (BELLWETHER_HOSTS, comma-separated). This "
        "protects it against DNS rebinding.",
    ),
    ProblemType(
        "changed-meanwhile",
        409,
        "Changed in the meantime",
        "Another user recorded an event after you opened the page. Reload it and decide again.",
    ),
    ProblemType(
        "invalid-request",
        422,
        "Invalid request",
        "The request does not match the API schema; `errors` lists each location and error.",
    ),
    ProblemType(
        "not-predicted",
        409,
        "Not predicted",
        "The account is known but has no score; see its status. Send the features without "
        "account_id to score them alone.",
    ),
    ProblemType(
        "job-not-done",
        409,
        "Job not done",
        "The job has no results yet; GET /v1/score-jobs/{job_id} returns its state.",
    ),
    ProblemType(
        "idempotency-key-reused",
        409,
        "Idempotency-Key used before",
        "This key was used before with another body. A key identifies one request; use a new key "
        "for a new request.",
    ),
    ProblemType(
        "cursor-expired",
        410,
        "Cursor expired",
        "Newer scores were published after the first page. Start again without a cursor.",
    ),
    ProblemType(
        "not-ready",
        503,
        "Not ready",
        "No release is published, or its features are not in the online store yet. Retry later; "
        "/v1/health lists what is missing.",
    ),
    ProblemType(
        "unavailable",
        503,
        "Temporarily unavailable",
        "The online store or the score ledger does not respond. Scores are returned only after "
        "they are recorded. Retry after the time in Retry-After.",
    ),
    ProblemType(
        "internal-error",
        500,
        "Internal error",
        "Unexpected error; see the log for this request id.",
    ),
    ProblemType(
        "invalid-account-id",
        422,
        "Invalid account id",
        "An account id is a string of 1 to 200 characters. In a batch the other accounts are "
        "scored.",
    ),
    ProblemType(
        "score-failed",
        500,
        "Score failed",
        "This account could not be scored; the others of the batch were. See the log.",
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
    """Error that is answered as a problem document."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[FieldError] | None = None,
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
    errors: Sequence[FieldError] | None = None,
    retry_after: int | None = None,
) -> Problem:
    """Return a problem document; `retry_after` in seconds overrides the default.

    >>> problem("unknown-account", "no account A-1")["status"]
    404
    """
    kind = TYPES[slug]
    document: Problem = {
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


def of_fault(instance: str) -> Problem:
    """Return the problem of an unexpected exception; the details are in the log only."""
    return problem("internal-error", "see the log for details", instance=instance)


def item_problem(status: str, account_id: str) -> Problem:
    """Return the problem of one account of a batch; its status is in `OF_STATUS`."""
    return problem(OF_STATUS[status], f"{account_id}: {STATUS_WORDS[status]}")


def response(document: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document as a response."""
    return Response(
        orjson.dumps(document),
        status_code=document["status"],
        media_type=MEDIA_TYPE,
        headers=headers_of(document) | dict(headers or {}),
    )


def headers_of(document: Problem) -> dict[str, str]:
    """Return the headers of a problem: no caching; Retry-After for 429 and 503."""
    headers = {"Cache-Control": "no-store", **_ALSO.get(document["status"], {})}
    if "retry_after" in document:
        headers["Retry-After"] = str(document["retry_after"])
    return headers


def slug_of(document: Problem) -> str:
    """Return the slug of a problem document in `TYPES`."""
    return document["type"].removeprefix(ROOT)


def is_for_people(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser asks for a page."""
    return "text/html" in headers.get("accept", "") and not scope["path"].startswith("/v1")


def of_error(error: BellwetherError, instance: str = "") -> Problem:
    """Return the problem document of an error."""
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
    return problem("internal-error", "see the log for details", instance=instance)
