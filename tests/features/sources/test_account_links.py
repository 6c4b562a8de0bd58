"""Accounts found by another value, several sources of a table, and rows that are left out."""

from __future__ import annotations

import duckdb
import pytest

from configs.runtime.errors import ConfigError, SourceError
from features.sources.account_links import normalised

CRM = (
    "Id,Since,Name,Site,Billing,Gone\n"
    "A1,2024-01-01,Müller GmbH,https://www.mueller.example,cus_1,false\n"
    "A2,2024-01-02,Acme Inc.,acme.example/about,cus_2,false\n"
    "A3,2024-01-03,Acme Labs,www.labs.example,cus_3,false\n"
    "A4,2024-01-04,Twin,www.labs.example,cus_4,false\n"
    "A5,2024-01-05,Old Ltd,old.example,cus_5,true\n"
)
ACCOUNTS = {
    "from": "crm",
    "columns": {"account_id": "Id", "created_at": "Since", "name": "Name"},
    "leave_out": "Gone = 'true'",
}


def load(small, mapping, files, table="support_tickets"):
    texts = {"accounts": None, "crm": CRM, **files}
    return small.load(texts, tables={"accounts": ACCOUNTS, table: mapping}).tables[table]


def test_rows_find_their_account_by_domain_then_by_name(small, rows):
    tickets = (
        "no,mail,company,opened\n"
        "1,ann@mueller.example,,2024-03-01\n"
        "2,bob@team.acme.example,,2024-03-02\n"  # a sub-domain
        "3,eve@gmail.com,ACME,2024-03-03\n"  # a mail service says nothing; the name does
        "4,joe@labs.example,,2024-03-04\n"  # two accounts share the domain
        "5,kim@elsewhere.example,Nowhere,2024-03-05\n"
    )
    mapping = {
        "from": "desk",
        "account": [
            {"column": "mail", "matches": "Site", "by": "domain"},
            {"column": "company", "matches": "Name", "by": "name"},
        ],
        "columns": {"ticket_id": "no", "opened_at": "opened"},
    }
    info = load(small, mapping, {"desk": tickets})
    assert {row["ticket_id"]: row["account_id"] for row in rows(info.path)} == {
        "1": "A1", "2": "A2", "3": "A2",
    }  # fmt: skip
    assert info.quarantined == {"unknown_account": 2}
    assert info.rows_read == info.rows + info.rows_quarantined
    aside = rows(info.quarantine)
    assert {row["mail"] for row in aside} == {"joe@labs.example", "kim@elsewhere.example"}


def test_left_out_accounts_are_counted_and_their_rows_are_not_linked(small):
    tickets = "no,cust,opened\n1,cus_1,2024-03-01\n2,cus_5,2024-03-02\n"
    mapping = {
        "from": "desk",
        "account": {"column": "cust", "matches": "billing"},
        "columns": {"ticket_id": "no", "opened_at": "opened"},
    }
    texts = {"accounts": None, "crm": CRM, "desk": tickets}
    loaded = small.load(texts, tables={"accounts": ACCOUNTS, "support_tickets": mapping})
    assert loaded.tables["accounts"].quarantined == {"left_out": 1}
    assert loaded.tables["support_tickets"].quarantined == {"unknown_account": 1}


def test_children_that_share_a_value_belong_to_the_parent_they_roll_up_to(small, rows):
    crm = (
        "Id,Since,Parent,Site\nP,2024-01-01,,corp.example\nK,2024-01-01,P,corp.example\n"
        "Q,2024-01-01,,other.example\n"
    )
    accounts = {
        "from": "crm",
        "columns": {"account_id": "Id", "created_at": "Since", "parent_account_id": "Parent"},
        "roll_up": True,
    }
    tickets = {
        "from": "desk",
        "account": {"column": "mail", "matches": "Site", "by": "domain"},
        "columns": {"ticket_id": "no", "opened_at": "opened"},
    }
    texts = {
        "accounts": None,
        "crm": crm,
        "usage_events": "account_id,occurred_at\nP,2024-03-01\n",
        "desk": "no,mail,opened\n1,a@corp.example,2024-03-01\n",
    }
    loaded = small.load(texts, tables={"accounts": accounts, "support_tickets": tickets})
    assert [row["account_id"] for row in rows(loaded.tables["support_tickets"].path)] == ["P"]


def test_an_unknown_column_of_the_accounts_names_the_closest(small):
    mapping = {
        "from": "desk",
        "account": {"column": "mail", "matches": "Sitte", "by": "domain"},
        "columns": {"ticket_id": "no", "opened_at": "opened"},
    }
    with pytest.raises(SourceError, match="did you mean"):
        load(small, mapping, {"desk": "no,mail,opened\n1,a@b.example,2024-03-01\n"})


def test_account_and_account_id_together_are_refused(small):
    mapping = {
        "account": {"column": "mail", "matches": "Site"},
        "columns": {"account_id": "mail", "ticket_id": "no", "opened_at": "opened"},
    }
    with pytest.raises(ConfigError, match="remove one"):
        load(small, mapping, {"support_tickets": "no,mail,opened\n1,a,2024-03-01\n"})


def test_two_help_desks_fill_one_table(small, rows):
    first = "id,acct,opened\n1,A1,2024-03-01\n2,A2,2024-03-02\n"
    second = "nr,acct,at,prio\n2,A2,02.03.2024,high\n3,A3,03.03.2024,low\n4,A9,04.03.2024,low\n"
    parts = [
        {
            "from": "one",
            "columns": {"account_id": "acct", "ticket_id": "id", "opened_at": "opened"},
        },
        {
            "from": "two",
            "columns": {
                "account_id": "acct",
                "ticket_id": "nr",
                "opened_at": "at",
                "priority": "prio",
            },
            "written": {"opened_at": "day_first"},
        },
    ]
    info = small.load({"one": first, "two": second}, tables={"support_tickets": parts}).tables[
        "support_tickets"
    ]
    found = {row["ticket_id"]: (row["account_id"], row["priority"]) for row in rows(info.path)}
    assert found == {"1": ("A1", None), "2": ("A2", None), "3": ("A3", "low")}
    assert info.quarantined == {"unknown_account": 1, "in_another_source": 1}
    assert (info.rows_read, info.rows, info.rows_quarantined) == (5, 3, 2)
    assert {(row["quarantine_source"], tuple(row["quarantine_reasons"])) for row in
            rows(info.quarantine)} == {("two", ("unknown_account",)),
                                       ("two", ("in_another_source",))}  # fmt: skip


def test_an_empty_list_of_sources_is_refused(small):
    with pytest.raises(ConfigError, match="tables.support_tickets: an empty list"):
        small.load(tables={"support_tickets": []})


@pytest.mark.parametrize(
    ("text", "by", "expected"),
    [
        ("https://www.Acme.example/x?y", "domain", "acme.example"),
        ("Ann <ann@acme.example>", "domain", "acme.example"),
        ("ann@acme.example", "domain", "acme.example"),
        ("ann@gmail.com", "domain", None),
        ("Acme, Inc.", "name", "acme"),
        ("ACME  Holding GmbH & Co. KG", "name", "acme holding"),
        ("Société Générale SA", "name", "societe generale"),
        ("AG", "name", "ag"),
        (" cus_1 ", "value", "cus_1"),
        ("", "value", None),
    ],
)
def test_values_are_compared_in_one_form(text, by, expected):
    query = f"SELECT {normalised('t', by)} FROM (SELECT ? AS t)"
    assert duckdb.connect().execute(query, [text]).fetchall() == [(expected,)]
