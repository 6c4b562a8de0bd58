"""Persons by role: who sees them, and what is shown in their place."""

from __future__ import annotations

import json
import logging

import orjson
import pyarrow as pa
import pytest

from configs.schema.company import parse_company
from serving.auth.permissions import LOCAL, Caller, sees_people
from serving.batch.score_book import ScoreRun
from serving.http.logs import JsonLines
from serving.http.personal_data import mask_text
from serving.online.masked_answers import masked_answers, masked_book
from serving.online.score_request import EncodedAnswer
from serving.online.server_state import CurrentBook
from serving.pages.context import _without_people
from serving.scoring.export_columns import SCHEMA
from serving.workflow.driver_evidence import Listing

ANSWER = {
    "account_id": "A-1",
    "status": "scored",
    "expansion": {"contact": {"contact_id": "jo.doe@acme.example", "role": "sponsor"}},
}


def company(**people: str):
    raw = {"name": "acme", "targets": {}, "privacy": {"people": people}}
    return parse_company(raw, where="an example")


@pytest.mark.parametrize(
    ("role", "is_shown"),
    [("csm", True), ("manager", True), ("leader", False), ("admin", False), ("", True)],
)
def test_default_visibility_by_role(role, is_shown):
    assert sees_people(company(), Caller("x", frozenset(), role)) is is_shown


def test_visibility_is_configured_by_role_and_never_changes_a_model():
    chosen = company(csm="masked", leader="shown", systems="masked")
    assert not sees_people(chosen, Caller("ada", frozenset(), "csm"))
    assert sees_people(chosen, Caller("bo", frozenset(), "leader"))
    assert not sees_people(chosen, Caller("crm", frozenset()))
    assert sees_people(chosen, LOCAL)
    assert chosen.config_hash == company().config_hash


def test_an_answer_is_masked_as_value_and_as_bytes_and_its_source_stays():
    stored = EncodedAnswer(body=orjson.dumps(ANSWER), status="scored")
    plain = EncodedAnswer({"account_id": "A-2", "status": "too_new"})
    masked = masked_answers([stored, plain])
    assert json.loads(masked[0].body)["expansion"]["contact"]["contact_id"] == "j…@acme.example"
    assert masked[0].status == "scored"
    assert masked[1].value == plain.value
    assert b"jo.doe" in stored.body


def test_published_scores_are_masked():
    rows = [
        {"account_id": "A-1", "expansion_contact": "U-77 (sponsor, advocate)"},
        {"account_id": "A-2", "expansion_contact": None},
    ]
    run = ScoreRun("r", None, "", "", "", {})
    book = CurrentBook(run, pa.Table.from_pylist(rows, SCHEMA), {})
    shown = masked_book(book).table
    assert shown["expansion_contact"].to_pylist() == ["U… (sponsor, advocate)", None]
    assert shown.schema == SCHEMA


def test_contacts_in_the_evidence_are_masked():
    listing = Listing("relationship", "Contacts", ("Left", "Contact"), (("2026-01-01", "U-77"),), 1)
    assert _without_people(listing).rows == (("2026-01-01", "U…"),)


def test_notes_are_masked():
    assert mask_text("Hi Mia, write to jo@acme.example") == "Hi [name], write to [e-mail]"


def test_e_mail_addresses_in_logs_are_masked():
    record = logging.LogRecord("x", 30, "", 0, "%s is refused", ("jo.doe@acme.example",), None)
    assert json.loads(JsonLines().format(record))["message"] == "j…@acme.example is refused"
