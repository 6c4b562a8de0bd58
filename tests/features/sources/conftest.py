"""Small companies made of text files, and the public data sets."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.workspace import Environment, Workspace
from features.sources import load_sources

NOW = datetime(2024, 7, 1, tzinfo=UTC)
ACCOUNTS = "account_id,created_at\nA1,2024-01-01\nA2,2024-01-02\nA3,2024-01-03\n"
USAGE = (
    "account_id,user_id,occurred_at,feature,quantity\n"
    "A1,u1,2024-02-01 10:00:00,search,3\n"
    "A2,u2,2024-02-02 11:30:00,export,1\n"
    "A3,u3,2024-02-03T09:15:00Z,search,2\n"
)
CHURN = {"churn": {"outcome": "churn", "observed_in": "activity"}}


class SmallCompany:
    """Files by input name; the rest of the configuration by keyword."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.connections: dict[str, str] = {}

    def workspace(self, files=None, *, tables=None, inputs=None, **behaviour) -> Workspace:
        texts = {"accounts": ACCOUNTS, "usage_events": USAGE, **(files or {})}
        for name, text in texts.items():
            if text is not None:
                (self.data / f"{name}.csv").write_bytes(
                    text if isinstance(text, bytes) else text.encode()
                )
        own = {name: f"{name}.csv" for name, text in texts.items() if text is not None}
        company = parse_company(
            {
                "name": "small",
                "inputs": {**own, **(inputs or {})},
                "tables": tables or {},
                "targets": CHURN,
                **behaviour,
            },
            where="test",
        )
        places = Environment(connections=self.connections)
        return Workspace(company, self.folder, self.data, State(self.folder / "state"), places)

    def load(self, files=None, *, now=NOW, progress=lambda _: None, **rest):
        return load_sources(self.workspace(files, **rest), now, progress)


@pytest.fixture
def small(tmp_path):
    return SmallCompany(tmp_path)


@pytest.fixture
def rows():
    """All rows of Parquet files as dicts."""

    def read(*paths):
        names = [str(path) for path in paths]
        relation = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [names])
        names = [item[0] for item in relation.description]
        return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]

    return read


@pytest.fixture
def public_data():
    """Folder of the public data sets; absent is a skip, except in continuous integration."""
    folder = Path(os.environ.get("BELLWETHER_TEST_DATA", "../shared/data"))
    if not folder.is_absolute():
        folder = Path(__file__).parents[3] / folder
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no public data at {folder}: set BELLWETHER_TEST_DATA")
        pytest.skip(f"no public data at {folder}: set BELLWETHER_TEST_DATA")
    return folder
