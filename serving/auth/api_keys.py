"""Keys of systems: made and taken back by command, kept hashed, checked in memory.

A key is ``bw_<id>_<secret>``. The secret has 256 random bits, so one SHA-256 of it is as good as a
slow hash; it is shown once and never kept. A change reaches running workers with their next look.
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
"""How long the old key works beside the one that replaces it."""


@dataclass(frozen=True)
class Key:
    """What is kept of a key.

    Attributes
    ----------
    key_id : str
        The part that may be told.
    name : str
        What it is for.
    scopes : str
        Keys of `serving.auth.permissions.SCOPES`, separated by spaces.
    secret_sha256 : str
        Hash of the secret, hexadecimal.
    created_at, expires_at : datetime
        With a zone.
    revoked_at : datetime or None
        Since when it is taken back.
    """

    key_id: str
    name: str
    scopes: str
    secret_sha256: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def ends_at(self) -> datetime:
        """Return the moment from which it is no good."""
        return min(self.expires_at, self.revoked_at or self.expires_at)


_NAMES = tuple(item.name for item in fields(Key))


class KeyStore:
    """The keys of one company, in its own database; `close` it."""

    def __init__(self, workspace: Workspace) -> None:
        file = workspace.state.ledger / "keys.db"
        self.company = workspace.company.name
        self.engine = open_engine(workspace.places.ledger_url, file, KEY_TABLES)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def create(self, name: str, scopes: Sequence[str], now: datetime, days: int) -> str:
        """Keep a new key; return it whole, for the only time.

        Raises
        ------
        ConfigError
            A scope nobody knows.
        """
        for scope in scopes:
            if scope not in SCOPES:
                hint = did_you_mean(scope, SCOPES)
                raise ConfigError(
                    f"there is no scope {scope!r}", fix=hint or f"there are: {', '.join(SCOPES)}"
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
        """Return every key there ever was, oldest first."""
        table = keys_table
        query = select(*(table.c[name] for name in _NAMES)).where(table.c.company == self.company)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.created_at, table.c.key_id)).all()
        return [Key(*row) for row in rows]

    def rotate(self, key_id: str, now: datetime, overlap: timedelta = OVERLAP) -> str:
        """Return a new key like this one, which still works for the overlap.

        Raises
        ------
        StateError
            There is no such key, or it is over.
        """
        old = self._living(key_id, now)
        days = max(1, (old.expires_at - old.created_at).days)
        made = self.create(old.name, old.scopes.split(), now, days)
        self._end(old.key_id, min(old.expires_at, now + overlap))
        return made

    def revoke(self, key_id: str, now: datetime) -> None:
        """Take a key back at once. See `rotate`."""
        self._end(self._living(key_id, now).key_id, now)

    def _living(self, key_id: str, now: datetime) -> Key:
        wanted = key_id.removeprefix(PREFIX).partition("_")[0]
        found = {key.key_id: key for key in self.every()}.get(wanted)
        if found is None or found.ends_at() <= now:
            words = "is over already" if found else "does not exist"
            raise StateError(f"the key {wanted[:16]} {words}", fix="bellwether keys list COMPANY")
        return found

    def _end(self, key_id: str, moment: datetime) -> None:
        mine = (keys_table.c.company == self.company) & (keys_table.c.key_id == key_id)
        with writing(self.engine) as connection:
            connection.execute(change(keys_table).where(mine).values(revoked_at=moment))


class ApiKeys:
    """The keys as they stood at the last look; asks nothing and nobody."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.key_id: key for key in keys}

    @property
    def is_empty(self) -> bool:
        """Whether there was never a key; one that is over still shuts the door."""
        return not self._keys

    def caller(self, text: str, now: datetime) -> Caller:
        """Return who a key stands for.

        Raises
        ------
        ProblemError
            It is none of ours, or over; why is told only to who knows the secret.
        """
        key_id, _, secret = text.removeprefix(PREFIX).partition("_")
        key = self._keys.get(key_id)
        # As long for an unknown id as for a wrong secret.
        is_right = hmac.compare_digest(key.secret_sha256 if key else "", _hash(secret))
        if key is None or not is_right:
            raise ProblemError("unauthenticated", "this key is none of ours")
        if key.ends_at() <= now:
            raise ProblemError("unauthenticated", f"the key {key_id} ended at {key.ends_at()}")
        return Caller(f"key {key_id}", frozenset(key.scopes.split()))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
