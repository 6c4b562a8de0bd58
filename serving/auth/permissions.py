"""Who asks, and what they may see and do.

Systems come with a key and its scopes, people with a role. A customer-success manager sees the
accounts they own, a manager those of their team, leaders and administrators everything; accounts
without an owner are pooled and seen by everybody.
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
from serving.http.problems import ProblemError

READ, SCORE, WRITE, METRICS, ADMIN = "read", "score", "write", "metrics", "admin"
ANYONE = ""
"""Asks for nothing more than to be known."""

SCOPES: dict[str, str] = {
    READ: "the published book, one account's history, models, catalogues",
    SCORE: "scores asked for now: one account, batches, suppositions, jobs",
    WRITE: "outcomes and feedback in",
    METRICS: "the service's metrics",
    ADMIN: "everything",
}
"""What a key can be allowed, in words."""

Role = Literal["csm", "manager", "leader", "admin"]

ROLES: dict[str, frozenset[str]] = {
    "csm": frozenset({READ, SCORE, WRITE}),
    "manager": frozenset({READ, SCORE, WRITE}),
    "leader": frozenset({READ, SCORE, WRITE}),
    "admin": frozenset(SCOPES),
}
"""Scopes by role, from the one that sees least to the one that sees most."""

OWNERS = "owners.json"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name : str
        Key id or user, for logs.
    scopes : frozenset of str
        What may be done.
    role : str
        A key of `ROLES`; empty for systems.
    owner_id : str
        Whose accounts a person looks after; empty for systems.
    """

    name: str
    scopes: frozenset[str]
    role: str = ""
    owner_id: str = ""

    def may(self, scope: str) -> bool:
        """Say whether something is allowed."""
        return scope == ANYONE or scope in self.scopes or ADMIN in self.scopes

    def owners(self, managers: Mapping[str, str]) -> frozenset[str] | None:
        """Return whose accounts are seen, beside pooled ones; None is everybody's.

        Parameters
        ----------
        managers : mapping of str to str
            Owner to their manager.

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
"""Whoever is at this machine, while no keys and no sign-in are set up."""


@dataclass(frozen=True)
class RequiredRole:
    """A dependency of an operation: the caller must have a scope."""

    scope: str

    async def __call__(self, request: Request) -> Caller:
        """Return the caller, or refuse."""
        caller = caller_of(request)
        if not caller.may(self.scope):
            raise ProblemError(
                "forbidden", f"{caller.name} may not do this; it takes the scope {self.scope}"
            )
        return caller


def caller_of(request: Request) -> Caller:
    """Return who asks; the gate has made sure that there is somebody."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise ProblemError("unauthenticated", "sign in, or send a key")
    return caller


def once(headers: Headers, name: str) -> str | None:
    """Return a header that says who asks; None when it is absent.

    A proxy that adds a header beside the caller's own leaves two; which one is true cannot be told.

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
    """Return the rows of the book that somebody sees: their owners' and pooled ones."""
    if owners is None:
        return table
    mine = pc.is_in(table["owner_id"], value_set=pa.array(sorted(owners), pa.string()))
    return table.filter(pc.or_(mine, pc.is_null(table["owner_id"])))


def sees(owners: frozenset[str] | None, facts: Mapping[str, Any]) -> bool:
    """Say whether an account with these facts is seen."""
    owner = facts.get("owner_id")
    return owners is None or owner is None or owner in owners


def read_managers(folder: Path | None) -> dict[str, str]:
    """Return each owner's manager, as they stood in the newest book."""
    path = folder / OWNERS if folder else None
    if path is None or not path.is_file():
        return {}
    return {owner: who["manager_id"] for owner, who in read_json(path).items() if who["manager_id"]}


def read_capacities(folder: Path | None) -> dict[str, float]:
    """Return ``owners.capacity`` of each owner in the newest book: how the team's is shared.

    An owner without one counts as the mean of the others; all count the same where none has one.
    """
    path = folder / OWNERS if folder else None
    if path is None or not path.is_file():
        return {}
    told = {owner: who.get("capacity") for owner, who in read_json(path).items()}
    known = [float(capacity) for capacity in told.values() if capacity is not None]
    usual = sum(known) / len(known) if known else 1.0
    return {
        owner: usual if capacity is None else float(capacity) for owner, capacity in told.items()
    }
