"""A state directory of version 0.1.0: every row is kept, and its scores replay.

`version_0_1_0` holds what the code of that version wrote for a simulated company: one SQL dump per
database, cut to six accounts, and the two bundles of the published release (expansion with 20
boosting rounds instead of 150, to be small).
"""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, Table, create_engine, insert, inspect, select

from configs.runtime.database import connect, reading, writing
from configs.runtime.migrate import open_engine
from configs.runtime.migrations.versions import r0001_version_0_1_0 as version_0_1_0
from configs.runtime.state_directory import State
from configs.runtime.tables import metadata
from configs.schema.company import parse_company
from configs.schema.plays import load_plays
from configs.schema.workspace import Environment, Workspace
from serving.auth.api_keys import KeyStore
from serving.integrations.webhooks import WAITING, Outbox
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import replay
from serving.ledger.store.feedback_store import FeedbackStore, ReportedOutcome
from serving.ledger.store.ledger import Ledger
from serving.online.jobs import QUEUED, RUNNING, Jobs
from serving.workflow.risk_store import RiskStore
from training.registry.releases import mirror, open_store
from training.registry.shadow import shadow_of

KEPT = Path(__file__).parent / "version_0_1_0"
NOW = datetime(2026, 6, 29, 10, tzinfo=UTC)
RENAMED = {("score_jobs", "seen_at"): "due_at"}
COMPANY = {
    "config_version": 1,
    "name": "acme",
    "targets": {
        "churn": {"outcome": "churn", "observed_in": "subscriptions"},
        "expansion": {"outcome": "expansion", "observed_in": "subscriptions"},
    },
    "webhooks": {"crm": {"url": "https://crm.example.com/in"}},
}


def restore(folder: Path) -> dict[str, Path]:
    """Write the databases of version 0.1.0 and return them by name."""
    files = {}
    for dump in sorted(KEPT.glob("*.sql")):
        kind, name = dump.stem.split("-")
        files[name] = folder / kind / f"{name}.db"
        files[name].parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(files[name])
        connection.executescript(dump.read_text(encoding="utf-8"))
        connection.close()
    return files


def rows_of(engine: Engine, table: Table) -> list[dict]:
    with reading(engine) as connection:
        found = connection.execute(select(table)).mappings().all()
    return sorted((dict(row) for row in found), key=repr)


def old_rows(files: dict[str, Path]) -> dict[str, list[dict]]:
    """Return every row of the restored databases, as version 0.1.0 read them."""
    found = {}
    for file in files.values():
        engine = create_engine(f"sqlite:///{file}")
        for name in inspect(engine).get_table_names():
            found[name] = rows_of(engine, version_0_1_0.metadata.tables[name])
        engine.dispose()
    return found


def copy_to_server(url: str, rows: dict[str, list[dict]]) -> None:
    engine = connect(url, Path())
    with writing(engine) as connection:
        version_0_1_0.metadata.create_all(connection)
        for table in version_0_1_0.metadata.sorted_tables:
            if rows.get(table.name):
                connection.execute(insert(table), rows[table.name])
    engine.dispose()


@pytest.fixture
def old(tmp_path: Path, url: str) -> tuple[Workspace, dict[str, list[dict]]]:
    """A workspace on a state directory of version 0.1.0, and the rows it held."""
    files = restore(tmp_path)
    rows = old_rows(files)
    if url:
        copy_to_server(url, rows)
    shutil.copytree(KEPT / "bundles", tmp_path / "bundles")
    company = parse_company(COMPANY, where="company.yaml")
    places = Environment(ledger_url=url or None)
    return Workspace(company, tmp_path, tmp_path, State(tmp_path), places), rows


def open_and_close_every_store(workspace: Workspace) -> None:
    plays = load_plays(workspace.folder)
    for store in (
        Ledger.open(workspace),
        FeedbackStore(workspace),
        Jobs(workspace),
        KeyStore(workspace),
        Outbox(workspace),
        RiskStore.open(workspace, plays),
    ):
        store.close()
    open_store(workspace).engine.dispose()


def test_no_row_is_lost(old):
    workspace, before = old
    assert set(before) == set(version_0_1_0.metadata.tables)
    assert all(before.values()), "every table of the fixture has a row"
    open_and_close_every_store(workspace)
    for name, rows in before.items():
        after = all_rows(workspace, metadata.tables[name])
        expected = [{RENAMED.get((name, key), key): row[key] for key in row} for row in rows]
        kept = [{key: row[key] for key in expected[0]} for row in after]
        assert sorted(kept, key=repr) == sorted(expected, key=repr), name


def files_of(workspace: Workspace) -> list[Path]:
    return sorted(workspace.state.root.glob("*/*.db"))


def holds(file: Path, table: Table) -> bool:
    engine = create_engine(f"sqlite:///{file}")
    found = inspect(engine).has_table(table.name)
    engine.dispose()
    return found


def all_rows(workspace: Workspace, table: Table) -> list[dict]:
    url = workspace.places.ledger_url
    if url:
        engine = open_engine(url, Path(), [])
    else:
        file = next(file for file in files_of(workspace) if holds(file, table))
        engine = connect(None, file)
    rows = rows_of(engine, table)
    engine.dispose()
    return rows


def test_old_scores_replay(old):
    workspace, before = old
    store = open_store(workspace)
    mirror(store, store.mirror_folder)
    store.engine.dispose()
    with Ledger.open(workspace) as ledger:
        rows = [ledger.scores.find(row["score_id"]) for row in before["scores"]]
        assert len(rows) == 14
        assert {row.target for row in rows} == {"churn", "expansion"}
        assert any(row.reasons for row in rows)
        found = [replay(ModelArchive(workspace.state), row) for row in rows]
    assert [item.words for item in found if not item.is_reproduced] == []


def test_every_store_goes_on_where_version_0_1_0_stopped(old):
    workspace, before = old
    with Ledger.open(workspace) as ledger:
        (known,) = ledger.outcomes.known("churn")
        assert (known.label, known.contract) == (1, "until")
        assert len(ledger.runs.every()) == 2
        assert len(ledger.runs.last("expansion")) == 6
    feedback = FeedbackStore(workspace)
    assert [item["verdict"] for item in feedback.feedback()] == ["useful"]
    (told,) = feedback.outcomes()
    again = ReportedOutcome(told["account_id"], "churned", "2026-06-20", "2026-07-31", "price")
    assert feedback.record_outcomes([again], "crm", NOW) == ["known"]
    feedback.close()
    keys = KeyStore(workspace)
    assert [key.revoked_at is None for key in keys.every()].count(True) == 1
    keys.close()
    risks = RiskStore.open(workspace, load_plays(workspace.folder))
    (event,) = risks.events(before["risk_events"][0]["entity_id"])
    assert event.text == "Their champion left"
    risks.close()
    outbox = Outbox(workspace)
    (message,) = outbox.messages(WAITING)
    assert message.event == "book.published"
    assert outbox.queue.claim(message.message_id, NOW)
    outbox.close()
    jobs = Jobs(workspace)
    assert {job.state for job in jobs.of("crm")} == {QUEUED, RUNNING}
    assert len(jobs.queue.due(NOW)) == 2, "the worker of version 0.1.0 is gone"
    jobs.close()
    store = open_store(workspace)
    assert shadow_of(store) == before["releases"][0]["release_id"]
    store.engine.dispose()
