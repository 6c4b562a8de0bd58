"""Authenticator: identifies callers by API key, token or trusted proxy.

Without any API key or sign-in configured, requests from this machine that came through no proxy are
accepted without authentication.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from starlette.datastructures import Headers
from starlette.types import Scope

from serving.auth.api_keys import PREFIX, ApiKeys
from serving.auth.oidc import SignInSessions
from serving.auth.permissions import LOCAL, Caller, once
from serving.http.problems import ProblemError

LOOPBACK_CLIENTS = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})

PUBLIC = ("/openapi.json",)
PUBLIC_UNDER = ("/static/", "/v1/problems/")
"""Addresses without company data."""

_FORWARDED = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")


def is_public(path: str) -> bool:
    """Return whether an address needs no authentication.

    >>> is_public("/v1/problems"), is_public("/v1/scores")
    (True, False)
    """
    return path in PUBLIC or f"{path}/".startswith(PUBLIC_UNDER)


@dataclass(frozen=True)
class Authenticator:
    """Authentication settings, as of the last reload.

    Attributes
    ----------
    keyring : ApiKeys
        API keys.
    people : SignInSessions
        Sign-in by proxy or token.
    """

    keyring: ApiKeys
    people: SignInSessions

    @cached_property
    def is_open(self) -> bool:
        """Whether no API key was ever created and no sign-in is configured."""
        return self.keyring.is_empty and not self.people.is_set_up

    def caller(self, scope: Scope, headers: Headers) -> Caller:
        """Return the caller of a request.

        Raises
        ------
        ProblemError
            The caller is not known.
        """
        given = given_secret(headers)
        if given.startswith(PREFIX):
            return self.keyring.caller(given, datetime.now(UTC))
        if given:
            return self.people.of_token(given)
        if self.is_open:
            return local_caller(scope, headers)
        named = self.people.of_headers(headers)
        if named is not None:
            return named
        raise ProblemError("unauthenticated", "send a key as Authorization: Bearer bw_…")


def given_secret(headers: Headers) -> str:
    """Return the key or token of a request, or an empty string.

    Authorization has priority over X-API-Key.

    Raises
    ------
    ProblemError
        A header is repeated.
    """
    kind, _, token = (once(headers, "authorization") or "").partition(" ")
    key = (once(headers, "x-api-key") or "").strip()
    return token.strip() if kind.lower() == "bearer" else key


def local_caller(scope: Scope, headers: Headers) -> Caller:
    """Return the caller of a request from this machine that came through no proxy.

    Raises
    ------
    ProblemError
        The request comes from elsewhere.
    """
    client = scope.get("client")
    is_near = client is not None and client[0] in LOOPBACK_CLIENTS
    if not is_near or any(_is_forwarded(name) for name in headers):
        raise ProblemError(
            "unauthenticated",
            "without API keys this service accepts local requests only: "
            "bellwether keys create COMPANY",
        )
    return LOCAL


def _is_forwarded(name: str) -> bool:
    return name in _FORWARDED or name.startswith("x-forwarded-")
