"""Accounts and persons on the forget list: set aside by every load, counted, and not copied."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from configs.runtime.state_directory import State, read_manifest
from configs.schema.company import parse_company
from configs.schema.workspace import Workspace
from features.sources import load_sources
from features.sources.cleaning.forget_list import KEY, LIST, keep_out, read_forget_list
from features.sources.raw_search import raw_rows_with

NOW = datetime(2026, 3, 2, tzinfo=UTC)

FILES = {
    "crm": (
        "Id,Since,Name,Site,Parent,Owner,Phone\n"
        "A1,2024-01-01,Mueller,mueller.example,,csm-1,+49 1\n"
        "A2,2024-01-02,Acme,acme.example,A1,csm-1,+49 2\n"
        "A3,2024-01-03,Labs,labs.example,,csm-2,A1\n"
    ),
    "desk": (
        "no,mail,opened,text\n"
        "1,ann@mueller.example,2024-03-01,hello\n"
        "2,bob@acme.example,2024-03-02,ask ann@mueller.example please\n"
        "3,joe@nowhere.example,2024-03-03,from ann@mueller.example\n"
        "4,kim@acme.example,2024-03-04,too,many,cells\n"
    ),
    "usage_events": (
        "account_id,user_id,occurred_at\n"
        "A1,u1,2024-03-01\nA2,Ann@Mueller.example,2024-03-02\nA2,u2,2024-03-03\nA3,u3,2024-03-04\n"
    ),
}
CONFIG = {
    "name": "acme",
    "inputs": {name: f"{name}.csv" for name in FILES},
    "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}},
    "tables": {
        "accounts": {
            "from": "crm",
            "columns": {
                "account_id": "Id", "created_at": "Since", "name": "Name",
                "parent_account_id": "Parent", "owner_id": "Owner",
            },
        },
        "support_tickets": {
            "from": "desk",
            "account": [{"column": "mail", "matches": "Site", "by": "domain"}],
            "columns": {"ticket_id": "no", "opened_at": "opened", "text": "text"},
        },
    },
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    for name, text in FILES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    company = parse_company(CONFIG, where="test")
    return Workspace(company, tmp_path, tmp_path, State(tmp_path / "state"))


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def texts(state: State) -> str:
    """Return every value and manifest of the canonical tables as one text."""
    found = [str(rows(path)) for path in state.sources.rglob("*.parquet")]
    return "\n".join([*found, *(path.read_text() for path in state.sources.rglob("*.json"))])


def test_an_account_is_set_aside_with_its_rows_also_those_found_by_a_link(workspace):
    state = workspace.state
    before = load_sources(workspace, NOW)
    assert before.tables["support_tickets"].rows == 2
    keep_out(state, "account", ["A1", "mueller.example"])
    loaded = load_sources(workspace, NOW)
    assert loaded.tables["accounts"].quarantined == {"forgotten": 1}
    assert loaded.tables["support_tickets"].quarantined["forgotten"] == 1
    assert loaded.tables["usage_events"].quarantined == {"forgotten": 1}
    for info in loaded.tables.values():
        told = info.rows + info.rows_quarantined + info.rows_duplicate
        assert told == info.rows_read, info.name
    [account, _] = rows(loaded.tables["accounts"].path)
    assert (account["account_id"], account["parent_account_id"]) == ("A2", None)
    assert "'A1'" not in texts(state)
    assert "'Mueller'" not in texts(state)


def test_of_forgotten_rows_only_number_and_reason_are_kept(workspace):
    keep_out(workspace.state, "account", ["A1"])
    loaded = load_sources(workspace, NOW)
    [aside] = rows(loaded.tables["accounts"].quarantine)
    assert {key: value for key, value in aside.items() if value is not None} == {
        "quarantine_row": 1,
        "quarantine_reasons": ["forgotten"],
    }


def test_a_person_is_set_aside_and_removed_from_texts_and_raw_copies(workspace):
    state = workspace.state
    load_sources(workspace, NOW)
    assert "ann@mueller.example" in texts(state)
    keep_out(state, "person", ["ANN@mueller.example "])
    loaded = load_sources(workspace, NOW)
    assert loaded.tables["usage_events"].quarantined == {"forgotten": 1}
    by_ticket = {
        row["ticket_id"]: row["text"] for row in rows(loaded.tables["support_tickets"].path)
    }
    assert by_ticket == {"1": "hello", "2": "ask [removed] please"}
    aside = {row["no"]: row for row in rows(loaded.tables["support_tickets"].quarantine)}
    assert aside["3"]["text"] is None, "the cell names the person"
    assert aside["3"]["mail"] == "joe@nowhere.example"
    assert "ann@mueller.example" not in texts(state).lower()


def test_the_owner_of_an_account_is_emptied_and_the_account_stays(workspace):
    keep_out(workspace.state, "person", ["csm-1"])
    loaded = load_sources(workspace, NOW)
    owners = {row["account_id"]: row["owner_id"] for row in rows(loaded.tables["accounts"].path)}
    assert owners == {"A1": None, "A2": None, "A3": "csm-2"}


def test_the_list_holds_no_ids_and_its_key_is_private(workspace):
    state = workspace.state
    assert not read_forget_list(state)
    keep_out(state, "account", ["A1"])
    listed = keep_out(state, "account", ["A3"])
    assert listed == read_forget_list(state)
    assert [listed.contains("account", name) for name in ("a1 ", "A2", "A3")] == [True, False, True]
    assert not listed.contains("person", "A1")
    assert "A1" not in (state.privacy / LIST).read_text()
    for name in (LIST, KEY):
        assert stat.S_IMODE((state.privacy / name).stat().st_mode) == 0o600


def test_two_state_directories_have_different_hashes(tmp_path):
    one, other = (keep_out(State(tmp_path / name), "account", ["A1"]) for name in "ab")
    assert one.hashes["account"] != other.hashes["account"]


def test_without_a_list_nothing_is_loaded_again(workspace):
    load_sources(workspace, NOW)
    said: list[str] = []
    load_sources(workspace, NOW, said.append)
    assert all("unchanged" in line for line in said)
    keep_out(workspace.state, "account", ["A3"])
    said.clear()
    load_sources(workspace, NOW, said.append)
    assert not any("unchanged" in line for line in said)


def test_only_columns_of_links_are_copied_next_to_the_accounts(workspace):
    load_sources(workspace, NOW)
    [first, *_] = rows(workspace.state.sources / "accounts" / "keys.parquet")
    assert first == {"_bw_account": "A1", "Id": None, "Since": None, "Name": None,
                     "Site": "mueller.example", "Parent": None, "Owner": None,
                     "Phone": None}  # fmt: skip


def test_raw_inputs_are_searched_by_whole_cells_and_by_words(workspace):
    assert raw_rows_with(workspace, ["a1"]) == {"crm": 3, "usage_events": 1}
    assert raw_rows_with(workspace, ["ann@mueller.example"], ["ann@mueller.example"]) == {
        "desk": 3,
        "usage_events": 1,
    }
    assert raw_rows_with(workspace, ["A9"]) == {}
    assert read_manifest(workspace.state.sources / "accounts") is None
