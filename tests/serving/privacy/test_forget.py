"""`bellwether forget`: nothing is left of an account or a person, others stay as they are."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from configs.runtime.database import reading, writing
from configs.runtime.errors import DataError
from configs.runtime.migrate import open_engine
from configs.runtime.state_directory import read_manifest
from configs.runtime.tables import (
    OUTBOX_TABLES,
    feedback_table,
    labels_table,
    outbox_table,
    scores_table,
)
from configs.schema.plays import load_plays
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore
from features.sources.cleaning.forget_list import read_forget_list
from serving.batch.score_book import read_latest, read_table
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import replay
from serving.ledger.store.feedback_store import Feedback, FeedbackStore, ReportedOutcome
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import RecordedOutcome
from serving.privacy.forget import RECORD, forget, preview, subjects
from serving.workflow.risk_cases import Event
from serving.workflow.risk_store import RiskStore
from tests.serving.privacy.marked_company import (
    ACCOUNT,
    MENTIONED,
    NAME,
    PERSON,
    TEXT,
    MarkedCompany,
    call,
    traces,
)

pytestmark = pytest.mark.slow

NOW = datetime(2026, 7, 1, tzinfo=UTC)
OF_ACCOUNT = (ACCOUNT, NAME, TEXT, MENTIONED)


@pytest.fixture
def company(marked, tmp_path) -> MarkedCompany:
    """A copy of the company with records of people: outcomes, feedback, risks, messages."""
    copy = marked.copy_to(tmp_path / "company")
    add_records(copy.workspace)
    return copy


def add_records(workspace: Workspace) -> None:
    with Ledger.open(workspace) as ledger:
        [score] = [row for row in ledger.scores.served_by(ACCOUNT) if row.target == "churn"]
        outcome = RecordedOutcome(ACCOUNT, "churn", score.as_of, 1, NOW, NOW, "abc")
        ledger.outcomes.record([outcome], recorded_at=NOW)
        other = other_account(workspace)
        ledger.outcomes.record([replace(outcome, entity_id=other, label=0)], recorded_at=NOW)
    with closing(FeedbackStore(workspace)) as intake:
        for account in (ACCOUNT, other):
            intake.record_outcomes(
                [ReportedOutcome(account, "churned", "2026-06-01", reason=f"{account} left")],
                PERSON, NOW,
            )  # fmt: skip
            score_id = score.score_id if account == ACCOUNT else "s-2"
            note = f"ask {PERSON} about {ACCOUNT}"
            given = Feedback(score_id, account, "churn.usage", "wrong", note)
            intake.record_feedback([given], PERSON, NOW)
    with closing(RiskStore.open(workspace, load_plays(workspace.folder))) as risks:
        for account in (ACCOUNT, other):
            event = Event(f"e-{account}", account, NOW, PERSON, "opened", "open",
                          on=date(2026, 7, 1), text=f"see {ACCOUNT} and {PERSON}")  # fmt: skip
            risks._add_quietly(event)
    engine = open_engine(None, workspace.state.ledger / "outbox.db", OUTBOX_TABLES)
    with writing(engine) as connection:
        for number, account in enumerate((ACCOUNT, other)):
            connection.execute(
                outbox_table.insert().values(
                    company=workspace.company.name, message_id=f"m-{number}", endpoint="crm",
                    event="account.escalated", body=json.dumps({"account_id": account}),
                    state="waiting", attempts=0, created_at=NOW, due_at=NOW,
                )
            )  # fmt: skip
    engine.dispose()


def other_account(workspace: Workspace) -> str:
    run = read_latest(workspace.state)
    assert run is not None
    rows = read_table(run).to_pylist()
    scored = [row["account_id"] for row in rows if row["status"] == "scored"]
    return next(account for account in scored if account != ACCOUNT)


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of every file; of databases, opening one already changes bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", ".db", "-shm", "-wal"))
    }


def replayed(workspace: Workspace) -> dict[str, str]:
    """Return the replay of every score of other accounts by score id."""
    archive = ModelArchive(workspace.state)
    with Ledger.open(workspace) as ledger:
        rows = ledger.scores.read(scores_table.c.entity_id != ACCOUNT)
    return {row.score_id: replay(archive, row).words for row in rows if row.features}


def rows_of(workspace: Workspace, name: str, table) -> Iterator[dict]:
    engine = open_engine(None, workspace.state.ledger / name, (table,))
    with reading(engine) as connection:
        yield from [dict(row) for row in connection.execute(select(table)).mappings()]
    engine.dispose()


def test_a_dry_run_counts_and_changes_nothing(company):
    state = company.folder / "state"
    before = contents(state)
    code, printed = call("forget", *company.options, "--account", ACCOUNT, "--dry-run")
    assert code == 0
    assert "rows to delete" in printed
    assert "sources/usage_events" in printed
    assert "raw input crm_accounts: 1 rows" in printed
    assert "table risk_events" in printed
    assert contents(state) == before
    code, again = call("forget", *company.options, "--account", ACCOUNT, "--dry-run")
    assert again == printed, "databases and online store are as before, too"


def test_it_refuses_while_the_exports_hold_the_account(company):
    before = contents(company.folder / "state")
    code, printed = call("forget", *company.options, "--account", ACCOUNT, "--yes")
    assert code == DataError.exit_code
    assert "the raw inputs still hold" in printed
    assert "--keep-out" in printed
    assert contents(company.folder / "state") == before


def test_it_asks_before_it_deletes(company, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    before = contents(company.folder / "state")
    code, _ = call("forget", *company.options, "--account", ACCOUNT, "--keep-out")
    assert code != 0
    assert contents(company.folder / "state") == before


def test_nothing_is_left_of_an_account_and_others_are_replayed(company):
    workspace, state = company.workspace, company.folder / "state"
    before = replayed(workspace)
    assert len(before) > 80
    assert set(before.values()) == {"the same, bit for bit"}
    assert FeastStore(workspace).forget(ACCOUNT, is_trial=True) > 0

    code, printed = call("forget", *company.options, "--account", ACCOUNT, "--keep-out", "--yes")
    assert code == 0, printed
    assert traces(state, OF_ACCOUNT) == {}
    assert replayed(workspace) == before
    assert FeastStore(workspace).forget(ACCOUNT, is_trial=True) == 0
    code, printed = call("verify", *company.options)
    assert code == 0, printed
    assert "values came out again" in printed
    code, printed = call("replay", *company.options[:3], "--sample", 25)
    assert "the same, bit for bit" in printed

    [entry] = [json.loads(line) for line in (state / "privacy" / RECORD).read_text().splitlines()]
    assert entry["kind"] == "account"
    assert entry["deleted"] > 2_000
    assert entry["by"]
    assert entry["is_kept_out"] is True

    code, printed = call("refresh", *company.options)
    assert code == 0, printed
    assert traces(state, OF_ACCOUNT) == {}, "later loads keep it out"
    manifest = read_manifest(state / "sources" / "accounts")
    assert manifest["quarantined"]["forgotten"] == 1
    quarantined = pq.read_table(state / "sources" / "usage_events" / "quarantine.parquet")
    forgotten = [
        row for row in quarantined.to_pylist() if row["quarantine_reasons"] == ["forgotten"]
    ]
    assert len(forgotten) > 100
    assert {row["account_id"] for row in forgotten} == {None}
    assert ACCOUNT not in {
        row["account_id"] for row in read_table(read_latest(workspace.state)).to_pylist()
    }


def test_evidence_is_kept_under_a_random_name(company):
    workspace = company.workspace
    forget(workspace, subjects(workspace, [ACCOUNT], []), NOW, "Ada", keeps_out=False)
    with Ledger.open(workspace) as ledger:
        kept = ledger.scores.read(scores_table.c.entity_id.startswith("forgotten-"))
        [outcome] = [item for item in ledger.outcomes.known("churn") if item.label == 1]
    assert [row.target for row in kept] == ["churn"]
    assert (kept[0].features, kept[0].reasons, kept[0].facts) == (b"", [], {})
    assert outcome.entity_id == kept[0].entity_id
    feedback = list(rows_of(workspace, "intake.db", feedback_table))
    assert sorted(row["note"] is None for row in feedback) == [False, True]
    predictions = pq.read_table(workspace.state.training / "churn" / "predictions.parquet")
    names = set(predictions["entity_id"].to_pylist())
    assert sum(name.startswith("forgotten-") for name in names) <= 1
    labels = list(rows_of(workspace, "scores.db", labels_table))
    assert len(labels) == 2


def test_manifests_agree_with_what_is_left(company):
    workspace = company.workspace
    forget(workspace, subjects(workspace, [ACCOUNT], []), NOW, "Ada", keeps_out=False)
    for folder in workspace.state.sources.glob("*/"):
        manifest = read_manifest(folder)
        if manifest is not None:
            assert manifest["rows"] == pq.read_metadata(folder / "data.parquet").num_rows
            told = manifest["rows"] + manifest["rows_quarantined"] + manifest["rows_duplicate"]
            assert told == manifest["rows_read"], folder.name
    run = read_latest(workspace.state)
    assert sum(run.statuses.values()) == read_table(run).num_rows


def test_nothing_is_left_of_a_person_who_used_the_product_and_wrote_notes(company):
    workspace = company.workspace
    code, printed = call("forget", *company.options, "--person", PERSON, "--keep-out", "--yes")
    assert code == 0, printed
    state = company.folder / "state"
    assert traces(state, (PERSON,)) == {}
    assert set(traces(state, (ACCOUNT,))), "the account stays"
    [other] = [
        row for row in rows_of(workspace, "intake.db", feedback_table) if row["score_id"] == "s-2"
    ]
    assert other["given_by"].startswith("forgotten-")
    assert other["note"] == f"ask [removed] about {ACCOUNT}"
    listed = read_forget_list(workspace.state)
    assert listed.contains("person", PERSON.upper())
    assert PERSON not in (state / "privacy" / "forget_list.json").read_text()
    code, printed = call("check", *company.options)
    assert traces(state, (PERSON,)) == {}
    manifest = read_manifest(state / "sources" / "usage_events")
    assert manifest["quarantined"]["forgotten"] > 10


def test_an_owner_is_replaced_and_keeps_their_accounts_in_one_book(company):
    workspace = company.workspace
    [subject] = subjects(workspace, [], ["csm-01"])
    assert subject.names == ("Qowner77 Ada",)
    forget(workspace, [subject], NOW, "Ada", keeps_out=False)
    assert traces(workspace.state.root, ("Qowner77 Ada", '"csm-01"')) == {}
    owners = {row["owner_id"] for row in read_table(read_latest(workspace.state)).to_pylist()}
    assert subject.pseudonym in owners


def test_an_account_that_is_nowhere_has_no_findings(company):
    workspace = company.workspace
    [found] = preview(workspace, subjects(workspace, ["Z-unheard-of"], []))
    assert (found.findings, found.raw) == ((), {})
    with pytest.raises(DataError, match="no account and no person"):
        subjects(workspace, [], [])
