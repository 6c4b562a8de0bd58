"""Permissions of callers: scopes, roles and visible accounts.

Systems have an API key with scopes, users have a role. Customer success managers see their own
accounts, managers those of their team, leaders and administrators all accounts. Accounts without an
owner are visible to all users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Request
from starlette.datastructures import Headers

from configs.runtime.state_directory import read_json
from configs.schema.company import Company
from serving.http.problems import ProblemError

READ, SCORE, WRITE, METRICS, ADMIN = "read", "score", "write", "metrics", "admin"
ANYONE = ""
"""No scope: authentication is sufficient."""

SCOPES: dict[str, str] = {
    READ: "read published scores, the history of an account, models and catalogues",
    SCORE: "score accounts: single, batches, what-if and jobs",
    WRITE: "send outcomes and feedback",
    METRICS: "read the metrics of the service",
    ADMIN: "everything",
}
"""Scopes of API keys with their descriptions."""

Role = Literal["csm", "manager", "leader", "admin"]

ROLES: dict[str, frozenset[str]] = {
    "csm": frozenset({READ, SCORE, WRITE}),
    "manager": frozenset({READ, SCORE, WRITE}),
    "leader": frozenset({READ, SCORE, WRITE}),
    "admin": frozenset(SCOPES),
}
"""Scopes by role, from the most to the least restricted role."""

OWNERS = "owners.json"


@dataclass(frozen=True)
class Caller:
    """Caller of a request.

    Attributes
    ----------
    name : str
        Key id or user, for logs.
    scopes : frozenset of str
        Allowed scopes.
    role : str
        A key of `ROLES`; empty for systems.
    owner_id : str
        Owner whose accounts the user manages; empty for systems.
    """

    name: str
    scopes: frozenset[str]
    role: str = ""
    owner_id: str = ""

    def may(self, scope: str) -> bool:
        """Return whether the caller has a scope."""
        return scope == ANYONE or scope in self.scopes or ADMIN in self.scopes

    def owners(self, managers: Mapping[str, str]) -> frozenset[str] | None:
        """Return the owners whose accounts are visible, in addition to pooled ones; None for all.

        Parameters
        ----------
        managers : mapping of str to str
            Manager by owner.

        Examples
        --------
        >>> managers = {"ada": "ben", "ben": "chloe", "dev": "chloe"}
        >>> sorted(Caller("ben", frozenset(), "manager", "ben").owners(managers))
        ['ada', 'ben']
        >>> sorted(Caller("chloe", frozenset(), "manager", "chloe").owners(managers))
        ['ada', 'ben', 'chloe', 'dev']
        >>> Caller("crm", frozenset()).owners(managers) is None
        True
        """
        if self.role not in {"csm", "manager"}:
            return None
        if self.role == "csm":
            return frozenset({self.owner_id})
        return frozenset({self.owner_id} | {o for o in managers if self._leads(o, managers)})

    def _leads(self, owner: str, managers: Mapping[str, str]) -> bool:
        seen: set[str] = set()
        while owner in managers and owner not in seen:
            seen.add(owner)
            owner = managers[owner]
            if owner == self.owner_id:
                return True
        return False


LOCAL = Caller("local", frozenset(SCOPES))
"""Local caller without authentication, if no API key and no sign-in is configured."""


@dataclass(frozen=True)
class RequiredRole:
    """FastAPI dependency: the caller must have a scope."""

    scope: str

    async def __call__(self, request: Request) -> Caller:
        """Return the caller.

        Raises
        ------
        ProblemError
            The caller does not have the scope.
        """
        caller = caller_of(request)
        if not caller.may(self.scope):
            raise ProblemError(
                "forbidden", f"{caller.name} does not have the required scope {self.scope}"
            )
        return caller


def caller_of(request: Request) -> Caller:
    """Return the caller that the request guard has authenticated."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise ProblemError("unauthenticated", "sign in, or send an API key")
    return caller


def once(headers: Headers, name: str) -> str | None:
    """Return a header that identifies the caller; None when it is absent.

    A proxy that adds its header to the caller's own leaves two; the true one is unknown.

    Raises
    ------
    ProblemError
        It comes more than once.
    """
    given = headers.getlist(name)
    if len(given) > 1:
        raise ProblemError(
            "unauthenticated",
            f"the header {name} comes {len(given)} times; it must come once, and a proxy has to "
            "replace what the caller sends",
        )
    return given[0] if given else None


def seen(table: pa.Table, owners: frozenset[str] | None) -> pa.Table:
    """Return the visible rows: those of some owners, and pooled ones."""
    if owners is None:
        return table
    mine = pc.is_in(table["owner_id"], value_set=pa.array(sorted(owners), pa.string()))
    return table.filter(pc.or_(mine, pc.is_null(table["owner_id"])))


def sees(owners: frozenset[str] | None, facts: Mapping[str, Any]) -> bool:
    """Return whether an account with these facts is visible."""
    owner = facts.get("owner_id")
    return owners is None or owner is None or owner in owners


def read_managers(folder: Path | None) -> dict[str, str]:
    """Return the manager of each owner in the newest feature vectors."""
    path = folder / OWNERS if folder else None
    if path is None or not path.is_file():
        return {}
    return {owner: who["manager_id"] for owner, who in read_json(path).items() if who["manager_id"]}


def read_capacities(folder: Path | None) -> dict[str, float]:
    """Return ``owners.capacity`` of each owner in the newest feature vectors.

    An owner without a value gets the mean of the others; without any values all owners are equal.
    """
    path = folder / OWNERS if folder else None
    if path is None or not path.is_file():
        return {}
    found = {owner: who.get("capacity") for owner, who in read_json(path).items()}
    known = [float(capacity) for capacity in found.values() if capacity is not None]
    usual = sum(known) / len(known) if known else 1.0
    return {
        owner: usual if capacity is None else float(capacity) for owner, capacity in found.items()
    }


def sees_people(company: Company, caller: Caller) -> bool:
    """Return whether a caller sees the ids of contacts, users and respondents.

    A local caller of a service without keys and sign-in has the files anyway, and sees them.

    Examples
    --------
    >>> from configs.schema.company import Company, parse_company
    >>> company = parse_company({"name": "acme", "targets": {}}, where="an example")
    >>> sees_people(company, Caller("ada", frozenset(), "csm", "ada"))
    True
    >>> sees_people(company, Caller("bo", frozenset(), "leader"))
    False
    """
    if caller is LOCAL or caller == LOCAL:
        return True
    shown = {**company.privacy.people.model_dump()}
    return bool(shown[caller.role or "systems"] == "shown")
