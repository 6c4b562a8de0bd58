"""The door: who comes in by key, by token or through a proxy, and when it stands open.

It stands open only while no key was ever made and no sign-in is set up, and then only to callers
on this machine who came by no proxy.
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
"""What tells nothing of a company."""

_FORWARDED = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")


def is_public(path: str) -> bool:
    """Say whether an address is for everybody.

    >>> is_public("/v1/problems"), is_public("/v1/scores")
    (True, False)
    """
    return path in PUBLIC or f"{path}/".startswith(PUBLIC_UNDER)


@dataclass(frozen=True)
class Authenticator:
    """Whom to let in, as it was at the last look.

    Attributes
    ----------
    keyring : Keyring
        The keys of systems.
    people : People
        Who signs in.
    """

    keyring: ApiKeys
    people: SignInSessions

    @cached_property
    def is_open(self) -> bool:
        """Whether no key was ever made and nobody can sign in."""
        return self.keyring.is_empty and not self.people.is_set_up

    def caller(self, scope: Scope, headers: Headers) -> Caller:
        """Return who asks.

        Raises
        ------
        ProblemError
            Nobody we know.
        """
        given = given_secret(headers)
        if given.startswith(PREFIX):
            return self.keyring.caller(given, datetime.now(UTC))
        if given:
            return self.people.of_token(given)
        if self.is_open:
            return _local(scope, headers)
        named = self.people.of_headers(headers)
        if named is not None:
            return named
        raise ProblemError("unauthenticated", "send a key as Authorization: Bearer bw_…")


def given_secret(headers: Headers) -> str:
    """Return the key or token of a request; the empty string when there is none.

    One in Authorization counts before one in X-API-Key.

    Raises
    ------
    ProblemError
        A header comes twice.
    """
    kind, _, token = (once(headers, "authorization") or "").partition(" ")
    key = (once(headers, "x-api-key") or "").strip()
    return token.strip() if kind.lower() == "bearer" else key


def _local(scope: Scope, headers: Headers) -> Caller:
    client = scope.get("client")
    is_near = client is not None and client[0] in LOOPBACK_CLIENTS
    if not is_near or any(_is_forwarded(name) for name in headers):
        raise ProblemError(
            "unauthenticated",
            "no keys are made yet, so this service answers on its own machine only: "
            "bellwether keys create COMPANY",
        )
    return LOCAL


def _is_forwarded(name: str) -> bool:
    return name in _FORWARDED or name.startswith("x-forwarded-")
