"""API keys: created and revoked by command, stored as hashes, checked in memory.

A key is ``bw_<id>_<secret>``. The secret has 256 random bits, so a plain SHA-256 is sufficient; the
secret is shown once and never stored. Running workers reload the keys periodically.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy import update as change

from configs.runtime.database import reading, writing
from configs.runtime.errors import ConfigError, StateError, did_you_mean
from configs.runtime.migrate import open_engine
from configs.runtime.tables import KEY_TABLES, keys_table
from configs.schema.workspace import Workspace
from serving.auth.permissions import SCOPES, Caller
from serving.http.problems import ProblemError

PREFIX = "bw_"
DEFAULT_DAYS = 365
OVERLAP = timedelta(hours=24)
"""Time during which the old key stays valid after a rotation."""


@dataclass(frozen=True)
class Key:
    """Stored data of an API key.

    Attributes
    ----------
    key_id : str
        Public part of the key.
    name : str
        Purpose.
    scopes : str
        Keys of `serving.auth.permissions.SCOPES`, separated by spaces.
    secret_sha256 : str
        Hash of the secret, hexadecimal.
    created_at, expires_at : datetime
        With a zone.
    revoked_at : datetime or None
        Time of revocation.
    """

    key_id: str
    name: str
    scopes: str
    secret_sha256: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def ends_at(self) -> datetime:
        """Return the time from which the key is invalid."""
        return min(self.expires_at, self.revoked_at or self.expires_at)


_NAMES = tuple(item.name for item in fields(Key))


class KeyStore:
    """Store of the API keys of one company; `close` it."""

    def __init__(self, workspace: Workspace) -> None:
        file = workspace.state.ledger / "keys.db"
        self.company = workspace.company.name
        self.engine = open_engine(workspace.places.ledger_url, file, KEY_TABLES)

    def close(self) -> None:
        """Close the database connections."""
        self.engine.dispose()

    def create(self, name: str, scopes: Sequence[str], now: datetime, days: int) -> str:
        """Create a key and return it; the secret cannot be read later.

        Raises
        ------
        ConfigError
            An unknown scope.
        """
        for scope in scopes:
            if scope not in SCOPES:
                hint = did_you_mean(scope, SCOPES)
                raise ConfigError(
                    f"unknown scope {scope!r}", fix=hint or f"scopes: {', '.join(SCOPES)}"
                )
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        record = {
            "company": self.company,
            "key_id": key_id,
            "name": name,
            "scopes": " ".join(sorted(set(scopes))),
            "secret_sha256": _hash(secret),
            "created_at": now,
            "expires_at": now + timedelta(days=days),
        }
        with writing(self.engine) as connection:
            connection.execute(insert(keys_table).values(**record))
        return f"{PREFIX}{key_id}_{secret}"

    def every(self) -> list[Key]:
        """Return all keys, including expired and revoked ones, oldest first."""
        table = keys_table
        query = select(*(table.c[name] for name in _NAMES)).where(table.c.company == self.company)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.created_at, table.c.key_id)).all()
        return [Key(*row) for row in rows]

    def rotate(self, key_id: str, now: datetime, overlap: timedelta = OVERLAP) -> str:
        """Return a new key with the same scopes; the old key stays valid for the overlap.

        Raises
        ------
        StateError
            The key does not exist, or is expired or revoked.
        """
        old = self._valid(key_id, now)
        days = max(1, (old.expires_at - old.created_at).days)
        made = self.create(old.name, old.scopes.split(), now, days)
        self._end(old.key_id, min(old.expires_at, now + overlap))
        return made

    def revoke(self, key_id: str, now: datetime) -> None:
        """Revoke a key immediately. See `rotate`."""
        self._end(self._valid(key_id, now).key_id, now)

    def _valid(self, key_id: str, now: datetime) -> Key:
        wanted = key_id.removeprefix(PREFIX).partition("_")[0]
        found = {key.key_id: key for key in self.every()}.get(wanted)
        if found is None or found.ends_at() <= now:
            words = "is expired or revoked" if found else "does not exist"
            raise StateError(f"the key {wanted[:16]} {words}", fix="bellwether keys list COMPANY")
        return found

    def _end(self, key_id: str, moment: datetime) -> None:
        mine = (keys_table.c.company == self.company) & (keys_table.c.key_id == key_id)
        with writing(self.engine) as connection:
            connection.execute(change(keys_table).where(mine).values(revoked_at=moment))


class ApiKeys:
    """API keys in memory, as of the last reload."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.key_id: key for key in keys}

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever created; an expired key still counts."""
        return not self._keys

    def caller(self, text: str, now: datetime) -> Caller:
        """Return the caller of a key.

        Raises
        ------
        ProblemError
            The key is unknown or expired; the reason is given only with the right secret.
        """
        key_id, _, secret = text.removeprefix(PREFIX).partition("_")
        key = self._keys.get(key_id)
        # Constant time: an unknown id takes as long as a wrong secret.
        is_right = hmac.compare_digest(key.secret_sha256 if key else "", _hash(secret))
        if key is None or not is_right:
            raise ProblemError("unauthenticated", "unknown API key")
        if key.ends_at() <= now:
            raise ProblemError("unauthenticated", f"the key {key_id} expired at {key.ends_at()}")
        return Caller(f"key {key_id}", frozenset(key.scopes.split()))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
