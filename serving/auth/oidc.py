"""People who sign in: named by a trusted proxy, or by an OpenID Connect token.

The service stores no passwords. Identities come from outside; the company decides what each person
may see (``access`` in company.yaml).
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from starlette.datastructures import Headers

from configs.runtime.errors import ConfigError
from configs.schema.company import Access
from configs.schema.settings import SignIn
from serving.auth.permissions import ROLES, Caller, once
from serving.http.problems import ProblemError

logger = logging.getLogger("bellwether.serving")

PROXY_SECRET = "x-bellwether-proxy-secret"  # noqa: S105  the name of a header
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures with a private key only: with a shared secret, every verifier could sign."""

_FAMILIES = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}

_MALFORMED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""Errors of reading a token: the library checks signatures, not the types of every claim."""

LEEWAY_SECONDS = 60
FETCH_SECONDS = 5.0
KEEP_SECONDS, AGAIN_SECONDS = 300.0, 15.0
"""Lifetime of fetched signing keys, and the shortest pause before an unknown key causes another
fetch."""

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class SignInSessions:
    """Turns what a proxy or a token says into a caller.

    Parameters
    ----------
    access : Access
        Who may see what.
    places : SignIn
        Whom to trust.
    """

    def __init__(self, access: Access, places: SignIn) -> None:
        self._access = access
        self._places = places
        self._proxy_secret = places.proxy_secret.get_secret_value()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._looked_at = float("-inf")
        self._is_wanting = False
        if places.oidc_jwks:
            _check_address(places.oidc_jwks)

    @property
    def is_set_up(self) -> bool:
        """Whether anybody can sign in at all."""
        return bool(self._proxy_secret or self._places.oidc_jwks)

    def refresh(self, monotonic: float) -> str:
        """Look for signing keys when it is time, off the path of requests; return what is wrong."""
        age = monotonic - self._looked_at
        is_due = age > KEEP_SECONDS or (self._is_wanting and age > AGAIN_SECONDS)
        if not self._places.oidc_jwks or not is_due:
            return ""
        self._looked_at, self._is_wanting = monotonic, False
        try:
            found = _fetch(self._places.oidc_jwks).keys
        except (OSError, ValueError, jwt.PyJWTError) as error:
            return f"the signing keys of people cannot be read: {type(error).__name__}"
        self._keys = {key.key_id or "": key for key in found}
        return ""

    def of_headers(self, headers: Headers) -> Caller | None:
        """Return the person a trusted proxy names; None when the request is not from the proxy.

        Raises
        ------
        ProblemError
            The proxy's secret is wrong, or it names no user.
        """
        given, expected = once(headers, PROXY_SECRET), self._proxy_secret
        if given is None or not expected:
            return None
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise ProblemError("unauthenticated", "the proxy's secret is wrong")
        user = (once(headers, self._access.user_header) or "").strip()
        if not user:
            raise ProblemError("unauthenticated", "the proxy names no user")
        if "," in user:  # two headers, joined on the way
            raise ProblemError(
                "unauthenticated",
                f"{self._access.user_header} names more than one person; the proxy has to replace "
                "what the caller sends",
            )
        groups = (once(headers, self._access.groups_header) or "").split(",")
        return self._person(user, [group.strip() for group in groups])

    def of_token(self, token: str) -> Caller:
        """Return whom a token names.

        Raises
        ------
        ProblemError
            It is not signed by the issuer, not for us, not of this time, or its claims do not
            name a person and their groups.
        """
        claims = self._claims_of(token)
        name = self._access.user_claim
        user = claims.get(name)
        if not isinstance(user, str) or not user.strip():
            raise ProblemError("unauthenticated", f"the token's claim {name} is no text")
        if "email" in name:
            self._check_verified(claims)
        return self._person(user.strip(), self._groups_of(claims))

    def _claims_of(self, token: str) -> dict[str, Any]:
        try:
            key = self._key_of(token)
            return jwt.decode(
                token,
                key=key.key,
                algorithms=_algorithms_of(key),
                audience=self._places.oidc_audience,
                issuer=self._places.oidc_issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except _MALFORMED as error:
            words = f"the token is refused: {type(error).__name__}"
            raise ProblemError("unauthenticated", words) from error

    def _check_verified(self, claims: Mapping[str, Any]) -> None:
        """Refuse an address that its issuer did not verify: anybody can write one down."""
        if "email_verified" not in claims:
            if self._access.require_email_verified:
                raise ProblemError("unauthenticated", "the token has no claim email_verified")
            return
        if claims["email_verified"] not in (True, "true", "True"):
            raise ProblemError("unauthenticated", "the token's e-mail address is not verified")

    def _groups_of(self, claims: Mapping[str, Any]) -> list[str]:
        name = self._access.groups_claim
        told = claims.get(name)
        groups = [told] if isinstance(told, str) else told or []
        if not isinstance(groups, list) or not all(isinstance(item, str) for item in groups):
            raise ProblemError(
                "forbidden", f"the token's claim {name} is neither a text nor a list of texts"
            )
        return groups

    def _key_of(self, token: str) -> jwt.PyJWK:
        try:
            key_id = jwt.get_unverified_header(token).get("kid", "")
        except _MALFORMED as error:
            raise ProblemError("unauthenticated", "this is neither a key nor a token") from error
        if not self._places.oidc_jwks or key_id not in self._keys:
            self._is_wanting = True
            raise ProblemError("unauthenticated", "the token is signed with an unknown key")
        return self._keys[key_id]

    def _person(self, user: str, groups: Sequence[str]) -> Caller:
        named = self._access.people.get(user)
        roles = [self._access.groups[group] for group in groups if group in self._access.groups]
        if named and named.role:
            roles.append(named.role)
        if not roles:
            raise ProblemError("forbidden", "you are known, but have no role here yet")
        role = max(roles, key=list(ROLES).index)
        owner = (named and named.owner_id) or user
        return Caller(f"person {user}", ROLES[role], role, owner)


def _algorithms_of(key: jwt.PyJWK) -> list[str]:
    """Return the signatures a key makes: one of another kind is no reason to try it."""
    return [name for name in ALGORITHMS if name.startswith(_FAMILIES.get(key.key_type or "", ()))]


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    is_near = parts.scheme == "http" and parts.hostname in LOOPBACK_NAMES
    if parts.scheme in {"http", "https"} and parts.scheme != "https" and not is_near:
        raise ConfigError(
            "signing keys come from a file, over https, or over http from this machine",
            where="BELLWETHER_OIDC_JWKS",
        )


def _fetch(address: str) -> jwt.PyJWKSet:
    """Read signing keys from a file or an address; the client follows no redirect."""
    if not urlsplit(address).scheme.startswith("http"):
        return jwt.PyJWKSet.from_dict(dict(json.loads(Path(address).read_bytes())))
    return jwt.PyJWKClient(address, cache_jwk_set=False, timeout=FETCH_SECONDS).get_jwk_set()
