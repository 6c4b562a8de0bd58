"""The schema of a database: created, migrated by one process, refused when it is newer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, inspect, select

from configs.runtime import migrate
from configs.runtime.database import connect, reading, writing
from configs.runtime.errors import StateError
from configs.runtime.migrate import HEAD, VERSION_TABLE, migrations, open_engine, version_table
from configs.runtime.migrations.versions import r0001_version_0_1_0 as version_0_1_0
from configs.runtime.tables import (
    FEEDBACK_TABLES,
    JOB_TABLES,
    KEY_TABLES,
    LEDGER_TABLES,
    OUTBOX_TABLES,
    RELEASE_TABLES,
    RISK_TABLES,
    contents_table,
    metadata,
)

GROUPS = {
    "feedback": FEEDBACK_TABLES,
    "jobs": JOB_TABLES,
    "keys": KEY_TABLES,
    "ledger": LEDGER_TABLES,
    "outbox": OUTBOX_TABLES,
    "releases": RELEASE_TABLES,
    "risks": RISK_TABLES,
}

OPEN = """
import logging, sys
from pathlib import Path
from configs.runtime import tables
from configs.runtime.migrate import open_engine
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
print("ready", flush=True)
sys.stdin.read(1)
open_engine(sys.argv[1] or None, Path(sys.argv[2]), tables.LEDGER_TABLES).dispose()
"""


def differences(engine: Engine, tables) -> list:
    """Return what Alembic would change to make a database equal to `configs.runtime.tables`."""
    names = {table.name for table in tables}
    wanted = MetaData()
    for table in metadata.sorted_tables:
        if table.name in names:
            table.to_metadata(wanted)
    with reading(engine) as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        return compare_metadata(context, wanted)


def schema(engine: Engine) -> dict:
    """Return columns, keys and indices of every table of ours, as the database names them."""
    found = inspect(engine)
    return {
        name: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in columns},
            found.get_pk_constraint(name)["constrained_columns"],
            {index["name"]: index["column_names"] for index in found.get_indexes(name)},
            {tuple(item["column_names"]) for item in found.get_unique_constraints(name)},
        )
        for (_, name), columns in found.get_multi_columns().items()
        if name in metadata.tables
    }


def version_of(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.execute(select(version_table.c.version_num)).scalars())


def database_of_0_1_0(url: str, file: Path, tables=metadata.sorted_tables) -> None:
    """Make a database with the tables of version 0.1.0 and no version."""
    engine = connect(url or None, file)
    names = {table.name for table in tables}
    old = [table for table in version_0_1_0.metadata.sorted_tables if table.name in names]
    with writing(engine) as connection:
        version_0_1_0.metadata.create_all(connection, tables=old)
    engine.dispose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "scores.db"


def test_the_last_revision_is_the_one_that_the_tables_describe():
    assert migrations().get_current_head() == HEAD


def test_every_table_belongs_to_one_group():
    named = [table.name for group in GROUPS.values() for table in group]
    assert sorted(named) == sorted(metadata.tables)


@pytest.mark.parametrize("group", GROUPS)
def test_a_new_embedded_database_holds_the_tables_of_its_group(tmp_path, group):
    engine = open_engine(None, tmp_path / "new.db", GROUPS[group])
    assert set(schema(engine)) == {table.name for table in GROUPS[group]}
    assert version_of(engine) == [HEAD]
    assert differences(engine, GROUPS[group]) == []
    engine.dispose()


@pytest.mark.parametrize("group", GROUPS)
def test_a_database_of_version_0_1_0_gets_the_schema_of_a_new_one(tmp_path, url, group):
    file, tables = tmp_path / "old.db", GROUPS[group]
    file.touch()
    database_of_0_1_0(url, file, tables)
    migrated = open_engine(url or None, file, tables)
    held = tables if not url else metadata.sorted_tables
    assert version_of(migrated) == [HEAD]
    assert differences(migrated, held) == []
    if not url:
        new = open_engine(None, tmp_path / "new.db", tables)
        assert schema(migrated) == schema(new)
        new.dispose()
    migrated.dispose()


def test_columns_that_a_build_after_0_1_0_added_are_kept(url, file):
    file.parent.mkdir()
    database_of_0_1_0(url, file)
    engine = connect(url or None, file)
    with writing(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE scores ADD COLUMN vector_ref VARCHAR(32)")
        contents_table.create(connection)
    engine.dispose()
    migrated = open_engine(url or None, file, metadata.sorted_tables)
    assert version_of(migrated) == [HEAD]
    assert differences(migrated, metadata.sorted_tables) == []
    migrated.dispose()


def test_a_database_that_is_up_to_date_is_not_written(file, monkeypatch):
    open_engine(None, file, LEDGER_TABLES).dispose()
    monkeypatch.setattr(migrate, "writing", None)
    open_engine(None, file, LEDGER_TABLES).dispose()


def test_alembic_is_not_imported_for_a_new_or_a_current_database(file):
    code = OPEN + "assert 'alembic' not in sys.modules"
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code, "", str(file)], check=True, input=b"x", timeout=60
        )


def test_a_newer_database_is_refused(url, file):
    engine = open_engine(url or None, file, LEDGER_TABLES)
    with writing(engine) as connection:
        connection.execute(version_table.update().values(version_num="9000"))
    engine.dispose()
    with pytest.raises(StateError, match=f"schema 9000, this version .* up to {HEAD}") as caught:
        open_engine(url or None, file, LEDGER_TABLES)
    assert "later" in caught.value.fix
    engine = connect(url or None, file)
    assert version_of(engine) == ["9000"]
    engine.dispose()


def test_a_migration_that_fails_leaves_the_database_as_it_was(url, file, monkeypatch):
    file.parent.mkdir()
    tables = (*LEDGER_TABLES, *OUTBOX_TABLES)
    database_of_0_1_0(url, file, tables)
    engine = connect(url or None, file)
    before = schema(engine)

    def fail(*_args, **_options):
        raise RuntimeError("killed here")

    monkeypatch.setattr("alembic.op.create_index", fail)
    with pytest.raises(RuntimeError, match="killed here"):
        open_engine(url or None, file, tables)
    assert (schema(engine), inspect(engine).has_table(VERSION_TABLE)) == (before, False)
    engine.dispose()


@pytest.mark.parametrize("is_old", [True, False], ids=["0.1.0", "new"])
def test_of_several_processes_one_migrates_and_the_others_wait(url, file, is_old):
    file.parent.mkdir()
    if is_old:
        database_of_0_1_0(url, file)
    command = [sys.executable, "-c", OPEN, url, str(file)]
    openers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        opener.stdin.write("x")
        opener.stdin.flush()
    said = [opener.communicate(timeout=120)[0] for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4
    n_steps = [log.count("Running upgrade") for log in said]
    assert sorted(n_steps) == [0, 0, 0, int(HEAD) if is_old else 0]
    engine = connect(url or None, file)
    assert version_of(engine) == [HEAD]
    engine.dispose()
