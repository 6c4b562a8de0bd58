"""Shared fixtures: where the real data and the servers are, and a simulated company."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from sqlalchemy import create_engine, make_url, text

from configs.runtime.telemetry import switch_off_telemetry
from configs.schema.company import SHIPPED
from configs.schema.workspace import open_workspace

switch_off_telemetry()  # before a test imports a library that would send it

ROOT = Path(__file__).resolve().parent.parent
IS_CI = os.environ.get("CI", "").lower() == "true"

# Workers share the cores: idle threads of LightGBM and NumPy sleep and do not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a person has set for work of their own (state, data, servers) is not for the tests.
for _name in [name for name in os.environ if name.startswith("BELLWETHER_")]:
    if not _name.startswith("BELLWETHER_TEST_"):
        del os.environ[_name]


LONGEST_FILES = (
    "tests/test_line.py",
    "tests/test_bellwether.py",
    "tests/test_python_api.py",  # after the first has built the company that both use
    "tests/features/test_company_cases.py",
    "tests/features/quality/test_quality.py",
    "tests/features/tables/test_point_in_time.py",
    "tests/features/test_labels.py",
    "tests/features/snapshots/test_grid.py",
)
"""Long files, the longest first; the rest follow by their number of slow tests, then of tests."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the longest files to the workers first, so that they end at the same time."""
    if not hasattr(config, "workerinput"):
        return
    place = {ROOT / name: i for i, name in enumerate(LONGEST_FILES)}
    n_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    n_tests = Counter(item.path for item in items)

    def order(item: pytest.Item) -> tuple[int, int, int]:
        return place.get(item.path, len(place)), -n_slow[item.path], -n_tests[item.path]

    items.sort(key=order)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from searching what was imported, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_unconfigure() -> None:
    """Let the interpreter clean up as usual when it ends; C++ bindings print what is left."""
    gc.unfreeze()


def absent(what: str, how: str) -> None:
    """Skip with a reason on a person's machine; fail where nothing may be skipped."""
    words = f"{what}; {how}"
    if IS_CI:
        pytest.fail(words)
    pytest.skip(words)


@pytest.fixture(scope="session", name="absent")
def absent_fixture() -> Callable[[str, str], None]:
    """Return what to call when something a test needs is not on this machine."""
    return absent


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
    yield request.getfixturevalue("scratch_database")


@pytest.fixture
def scratch_database(postgres_url: str) -> Iterator[str]:
    """A schema of its own on the PostgreSQL server, as a URL that makes tables there."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield f"{postgres_url}?options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@dataclass(frozen=True)
class SimulatedCompany:
    """Data and state of a simulated company whose features are built; modules share it.

    The data is read in place and the state is copied: neither may be changed.
    """

    data: Path
    state: Path

    def config(self) -> dict[str, Any]:
        """Return its configuration, for changes that concern no feature."""
        shipped = yaml.safe_load((SHIPPED / "simulated" / "company.yaml").read_text())
        return {**shipped, "grid": {"every": "month", "start_on": "2024-11-01"}}

    def copy_into(self, folder: Path, config: dict[str, Any]) -> None:
        """Give a folder this configuration and a state of its own."""
        (folder / "company.yaml").write_text(yaml.safe_dump(config))
        shutil.copytree(self.state, folder / "state")


@pytest.fixture(scope="session")
def simulated_company(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCompany:
    """400 simulated accounts over 24 months: built once per test run, by one of its workers."""
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "simulated"
    company = SimulatedCompany(root / "data", root / "state")
    with FileLock(f"{root}.lock"):
        if not (root / "complete").exists():
            _build(company, root)
            (root / "complete").touch()
    return company


def _build(company: SimulatedCompany, root: Path) -> None:
    # imported where it is used: most tests do without
    import bellwether
    from features.pipeline import build_features

    bellwether.simulate(company.data, accounts=400, months=24)
    (root / "company.yaml").write_text(yaml.safe_dump(company.config()))
    workspace = open_workspace(root, state=company.state, data=company.data)
    build_features(workspace, workspace.company.clock())


@pytest.fixture(scope="session")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Spark on two local cores; all it writes lies in a folder of the tests."""
    if find_spec("pyspark") is None:
        absent("pyspark is not installed", "`make spark` installs it")
    if shutil.which("java") is None:
        absent("there is no Java", "install OpenJDK 17")
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        # small tables: planning and compiling would take longer than the work
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
    }
    builder = SparkSession.builder.master("local[2]").appName("bellwether tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = builder.config(map=settings).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()
