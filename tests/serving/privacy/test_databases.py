"""Deletion in the ledger's databases, embedded and on a PostgreSQL server."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from configs.runtime.database import reading, writing
from configs.runtime.migrate import open_engine
from configs.runtime.state_directory import State
from configs.runtime.tables import (
    contents_table,
    events_table,
    feedback_table,
    labels_table,
    looks_table,
    metadata,
    outbox_table,
    outcomes_table,
    scores_table,
)
from configs.schema.company import parse_company
from configs.schema.workspace import Environment, Workspace
from serving.privacy.databases import GROUPS, scrub_databases
from serving.privacy.subject import Subject

NOW = datetime(2026, 7, 1, tzinfo=UTC)
ACCOUNT, OTHER, PERSON = "MZ-QACCT-77", "A-00001", "q.person77@marker.example"


@pytest.fixture
def workspace(tmp_path, url) -> Iterator[Workspace]:
    company = parse_company({"name": "acme", "targets": {}}, where="an example")
    places = Environment(ledger_url=url or None)
    made = Workspace(company, tmp_path, tmp_path, State(tmp_path / "state"), places)
    for engine, names in databases(made):
        fill(engine, names, "acme")
        fill(engine, names, "another")
        engine.dispose()
    return made


def databases(workspace: Workspace) -> Iterator[tuple[Engine, set[str]]]:
    url = workspace.places.ledger_url
    if url:
        tables = metadata.sorted_tables
        yield open_engine(url, Path("unused"), tables), {table.name for table in tables}
        return
    for name, group in GROUPS.items():
        yield (
            open_engine(None, workspace.state.root / name, group),
            {table.name for table in group},
        )


def fill(engine: Engine, names: set[str], company: str) -> None:
    rows = [
        (contents_table, content("f-own", {"name": ACCOUNT})),
        (contents_table, content("f-all", {"owner_id": PERSON, "arr": 5})),
        (scores_table, score(ACCOUNT, "s-judged", "churn", facts_ref="f-own")),
        (scores_table, score(ACCOUNT, "s-open", "expansion", facts_ref="f-all")),
        (scores_table, score(OTHER, "s-other", "churn", facts_ref="f-all")),
        *((labels_table, label(account)) for account in (ACCOUNT, OTHER)),
        *((outcomes_table, outcome(account)) for account in (ACCOUNT, OTHER)),
        *((feedback_table, feedback(account)) for account in (ACCOUNT, OTHER)),
        *((events_table, event(account)) for account in (ACCOUNT, OTHER)),
        *((outbox_table, message(account)) for account in (ACCOUNT, OTHER)),
        (looks_table, {"who": PERSON, "book_id": "b", "book_before": ""}),
    ]
    with writing(engine) as connection:
        for table, values in rows:
            if table.name in names:
                own = {"company": company, **values}
                if "score_id" in own and table is scores_table:
                    own["score_id"] = f"{company}-{own['score_id']}"
                connection.execute(insert(table).values(**own))


def content(ref: str, facts: dict) -> dict:
    body = zlib.compress(json.dumps(facts).encode())
    return {"ref": ref, "kind": "facts", "body": body, "last_served_at": NOW}


def score(account: str, score_id: str, target: str, **more: str) -> dict:
    return {
        "score_id": score_id, "request_id": "book-1", "served_at": NOW, "entity_id": account,
        "as_of": NOW, "target": target, "release_id": "r", "bundle_sha": "b", "probability": 0.25,
        "logit": -1.0, "band": "high", "verdict": "promotable", "features": b"12345678",
        "feature_set": "f", "reasons": "[]", "channel": "book", **more,
    }  # fmt: skip


def label(account: str) -> dict:
    return {"entity_id": account, "target": "churn", "as_of": NOW, "contract": "c",
            "known_at": NOW, "label": 1, "recorded_at": NOW}  # fmt: skip


def outcome(account: str) -> dict:
    return {"account_id": account, "outcome": "churned", "decided_on": "2026-06-01",
            "reason": f"{ACCOUNT} closed", "reported_by": PERSON, "known_at": NOW}  # fmt: skip


def feedback(account: str) -> dict:
    return {"score_id": f"s-{account[0]}", "reason_code": "churn.usage", "verdict": "wrong",
            "given_by": PERSON, "account_id": account, "note": f"ask {PERSON}",
            "given_at": NOW}  # fmt: skip


def event(account: str) -> dict:
    return {"event_id": f"e-{account[0]}", "entity_id": account, "at": NOW, "who": PERSON,
            "kind": "touch", "play": "", "text": f"{PERSON} of {ACCOUNT}",
            "trigger": ""}  # fmt: skip


def message(account: str) -> dict:
    return {"message_id": f"m-{account[0]}", "endpoint": "crm", "event": "account.escalated",
            "body": json.dumps({"account_id": account, "owner": PERSON}), "state": "waiting",
            "attempts": 0, "created_at": NOW, "due_at": NOW}  # fmt: skip


def rows(workspace: Workspace, company: str = "acme") -> dict[str, list[dict]]:
    """Return every row of a company by table, compressed contents unpacked."""
    found: dict[str, list[dict]] = {}
    for engine, names in databases(workspace):
        with reading(engine) as connection:
            for name in sorted(names):
                table = metadata.tables[name]
                query = select(table).where(table.c.company == company)
                read = [dict(row) for row in connection.execute(query).mappings()]
                found[name] = sorted((plain(row) for row in read), key=str)
        engine.dispose()
    return found


def plain(row: dict) -> dict:
    return (
        {**row, "body": zlib.decompress(row["body"])} if isinstance(row.get("body"), bytes) else row
    )


def mentions(workspace: Workspace, word: str, company: str = "acme") -> set[str]:
    return {name for name, found in rows(workspace, company).items() if word in str(found)}


def test_an_account_is_deleted_and_what_is_evidence_gets_a_random_name(workspace):
    subject = Subject("account", ACCOUNT)
    assert mentions(workspace, ACCOUNT) >= {"scores", "score_labels", "risk_events"}
    before = rows(workspace, "another")
    found = {item.place: item for item in scrub_databases(workspace, subject, is_trial=False)}
    assert mentions(workspace, ACCOUNT) == set()
    assert rows(workspace, "another") == before, "another company shares the database"

    left = rows(workspace)
    kept = {row["score_id"]: row for row in left["scores"]}
    assert set(kept) == {"acme-s-judged", "acme-s-other"}
    judged = kept["acme-s-judged"]
    assert judged["entity_id"] == subject.pseudonym
    assert (judged["features"], judged["reasons"], judged["facts_ref"]) == (b"", "[]", None)
    assert judged["probability"] == 0.25
    assert kept["acme-s-other"]["features"] == b"12345678"
    assert {row["entity_id"] for row in left["score_labels"]} == {OTHER, subject.pseudonym}
    assert [row["ref"] for row in left["score_contents"]] == ["f-all"]
    assert [row["entity_id"] for row in left["risk_events"]] == [OTHER]
    assert left["risk_events"][0]["text"] == f"{PERSON} of [removed]"
    assert [row["account_id"] for row in left["reported_outcomes"]] == [OTHER]
    notes = {row["account_id"]: row["note"] for row in left["reason_feedback"]}
    assert notes == {OTHER: f"ask {PERSON}", subject.pseudonym: None}
    assert len(left["webhook_outbox"]) == 1
    assert found["table scores"].deleted == 1
    assert found["table scores"].changed == 1


def test_a_person_is_replaced_where_they_wrote_and_removed_where_they_are_mentioned(workspace):
    subject = Subject("person", PERSON)
    scrub_databases(workspace, subject, is_trial=False)
    assert mentions(workspace, PERSON) == set()
    left = rows(workspace)
    assert len(left["scores"]) == 3
    assert {row["who"] for row in left["risk_events"]} == {subject.pseudonym}
    assert {row["given_by"] for row in left["reason_feedback"]} == {subject.pseudonym}
    assert {row["note"] for row in left["reason_feedback"]} == {"ask [removed]"}
    [shared] = [row for row in left["score_contents"] if row["ref"] == "f-all"]
    assert json.loads(shared["body"]) == {"owner_id": subject.pseudonym, "arr": 5}


def test_a_trial_counts_and_changes_nothing(workspace):
    before = rows(workspace)
    found = scrub_databases(workspace, Subject("account", ACCOUNT), is_trial=True)
    assert rows(workspace) == before
    assert {item.place for item in found} >= {"table scores", "table risk_events"}


def test_an_account_id_that_begins_another_is_not_that_one(workspace):
    scrub_databases(workspace, Subject("account", "MZ-QACCT"), is_trial=False)
    assert len(rows(workspace)["scores"]) == 3
    assert "webhook_outbox" in mentions(workspace, ACCOUNT)
