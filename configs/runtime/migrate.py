"""Opens a database and brings its tables to the schema of this version of the code.

The version is one row in a table of the database. Opening reads it; when it is the current one
nothing else happens. Otherwise one process migrates under a lock, in one transaction, and the
others wait for it. Alembic is imported only when there is something to migrate.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, inspect, select, text

from configs.runtime.database import address, connect, reading, telling, writing
from configs.runtime.errors import StateError
from configs.runtime.state_directory import private_file
from configs.runtime.tables import metadata

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HEAD = "0003"
"""The revision that `configs.runtime.tables` describes."""

VERSION_TABLE = "bellwether_schema"
"""Not Alembic's own name for it, which MLflow uses in the same database."""

_LOCK_KEY = zlib.crc32(VERSION_TABLE.encode())

version_table = Table(
    VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True)
)


def open_engine(url: str | None, file: Path, tables: Sequence[Table]) -> Engine:
    """Connect to a database with the current schema and return its engine.

    Parameters
    ----------
    url : str or None
        SQLAlchemy URL of SQLite or PostgreSQL; None for SQLite in `file`.
    file : Path
        The embedded database.
    tables : sequence of Table
        What an embedded database holds (a group of `configs.runtime.tables`). A database on a
        server holds every table.

    Raises
    ------
    ConfigError
        The URL is not one, or names another kind of database.
    StateError
        The database was written by a later version.
    UnavailableError
        The database does not answer.
    """
    engine = connect(url, file)
    with ExitStack() as failure:
        failure.callback(engine.dispose)
        with telling(engine), _file_lock(engine):
            _bring_up_to_date(engine, tables if _is_embedded(engine) else metadata.sorted_tables)
        failure.pop_all()
    return engine


def migrations() -> ScriptDirectory:
    """Return the revisions of the schema."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(
        Path(__file__).parent / "migrations",
        version_locations=[Path(__file__).parent / "migrations" / "versions"],
    )


@contextmanager
def _file_lock(engine: Engine) -> Iterator[None]:
    """Hold the lock of an embedded database: the first change to WAL does not wait by itself."""
    if not _is_embedded(engine):
        yield
        return
    path = Path(str(engine.url.database))
    try:
        private_file(path)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        raise StateError(
            f"the database cannot be opened: {error}", where=str(path), fix="check its permissions"
        ) from error


def _is_embedded(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite"


def _bring_up_to_date(engine: Engine, tables: Sequence[Table]) -> None:
    with reading(engine) as connection:
        if _version(connection) == HEAD:
            return
    with writing(engine) as connection:
        if not _is_embedded(engine):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        version = _version(connection)
        if version is None and not _holds_any(connection, tables):
            _create(connection, tables)
        elif version != HEAD:
            _migrate(connection, version, tables)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(version_table.c.version_num)).scalar()
    return found


def _holds_any(connection: Connection, tables: Sequence[Table]) -> bool:
    known = inspect(connection)
    return any(known.has_table(table.name) for table in tables)


def _create(connection: Connection, tables: Sequence[Table]) -> None:
    """Create the current schema in an empty database, which is faster than its history."""
    metadata.create_all(connection, tables=tables, checkfirst=False)
    version_table.create(connection)
    connection.execute(version_table.insert(), {"version_num": HEAD})


def _migrate(connection: Connection, version: str | None, tables: Sequence[Table]) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    script = migrations()
    known = {item.revision for item in script.walk_revisions()}
    if version is not None and version not in known:
        raise StateError(
            f"the database has schema {version}, this version of Bellwether knows up to {HEAD}",
            where=address(connection.engine),
            fix="install the version of Bellwether that wrote it, or a later one",
        )

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs(HEAD, revision)

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations(tables=frozenset(table.name for table in tables))
