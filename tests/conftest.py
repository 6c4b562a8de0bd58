"""Shared fixtures: where the real data and the servers are."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

ROOT = Path(__file__).resolve().parent.parent
IS_CI = os.environ.get("CI", "").lower() == "true"


def absent(what: str, how: str) -> None:
    """Skip with a reason on a person's machine; fail where nothing may be skipped."""
    words = f"{what}; {how}"
    if IS_CI:
        pytest.fail(words)
    pytest.skip(words)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the public data sets."""
    folder = Path(os.environ.get("BELLWETHER_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        absent(f"no public data at {folder}", "set BELLWETHER_TEST_DATA to the folder of it")
    return folder


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """A PostgreSQL server; tests make and drop their own schemas or databases in it."""
    url = os.environ.get("BELLWETHER_TEST_POSTGRES", "postgresql://root@127.0.0.1:5432/test")
    address = url.split("@")[-1].split("/")[0]
    host, _, port = address.partition(":")
    if not _answers(host, int(port or 5432)):
        absent(f"no PostgreSQL at {address}", "start it, or set BELLWETHER_TEST_POSTGRES")
    return url


@pytest.fixture(scope="session")
def redis_address() -> str:
    """A Redis server as host:port; tests use key prefixes of their own."""
    address = os.environ.get("BELLWETHER_TEST_REDIS", "127.0.0.1:6379")
    host, _, port = address.partition(":")
    if not _answers(host, int(port)):
        absent(f"no Redis at {address}", "start it, or set BELLWETHER_TEST_REDIS")
    return address


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The empty string for SQLite; otherwise a schema of its own on the test server."""
    if request.param == "sqlite":
        yield ""
        return
    server = request.getfixturevalue("postgres_url")
    schema = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield f"{server}?options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()
