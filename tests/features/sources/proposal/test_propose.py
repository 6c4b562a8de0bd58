"""Proposals from exports: which file is what, which column, which account, which time."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest
import yaml

from configs.runtime.errors import ConfigError, SourceError
from configs.runtime.state_directory import State
from configs.schema.company import load_company, parse_company
from configs.schema.workspace import Environment, Workspace
from features.quality import check_quality
from features.sources import load_sources
from features.sources.proposal import company_yaml, propose
from features.sources.proposal.company_file import confirm_guesses, write_company
from features.sources.proposal.raw_tables import database_tables

NOW = datetime(2026, 6, 2, tzinfo=UTC)
START = date(2024, 1, 1)


def csv(header: str, rows) -> str:
    return header + "\n" + "".join(",".join(str(cell) for cell in row) + "\n" for row in rows)


def day(n: int, form: str = "%Y-%m-%d") -> str:
    return (START + timedelta(days=n)).strftime(form)


def clients(n: int = 40) -> str:
    rows = [
        (f"C-{100 + i}", f"Client {i} Ltd", f"www.client{i}.example", day(3 * i), f"csm{i % 3}")
        for i in range(n)
    ]
    return csv("Client Ref,Client Name,Web Site,Customer Since,CSM", rows)


def events(n: int = 40, times: int = 12) -> str:
    chance = random.Random(4)
    rows = [
        (f"u{u}@client{i}.example", f"{day(200 + 50 * k + i)} 1{u}:30:00", chance.choice("ab"))
        for i in range(n)
        for k in range(times)
        for u in range(2)
    ]
    return csv("user,event_time,action", rows)


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes exports and returns their folder."""

    def write(**texts: str | bytes):
        place = tmp_path / "exports"
        place.mkdir(exist_ok=True)
        for name, text in texts.items():
            file = place / (name.replace("__", ".") if "__" in name else f"{name}.csv")
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return place

    return write


def draft_of(proposal, table):
    return next(draft for draft in proposal.drafts if draft.table == table)


def mapped(proposal, table):
    return {name: choice.value for name, choice in draft_of(proposal, table).columns.items()}


def loaded(proposal, place, tmp_path):
    """Load the proposed company as it would be after `bellwether init`."""
    company = parse_company(yaml.safe_load(company_yaml(proposal)), where="proposal")
    workspace = Workspace(company, place, place, State(tmp_path / "state"), Environment())
    return workspace, load_sources(workspace, company.clock())


def test_exports_of_no_known_tool_are_recognised_and_linked(folder, tmp_path):
    place = folder(
        clients=clients(),
        usage_log=events(),
        helpdesk=csv(
            "Ticket No,Organisation,Opened,Closed,Severity,Summary",
            [
                (i, f"CLIENT {i % 40}", day(300 + i, "%d.%m.%Y"), day(302 + i, "%d.%m.%Y"),
                 ("Low", "Critical")[i % 2], f"Subject {i}")
                for i in range(80)
            ],
        ),
    )  # fmt: skip
    proposal = propose(place, NOW)
    assert mapped(proposal, "accounts") == {
        "account_id": "Client Ref",
        "name": "Client Name",
        "created_at": "Customer Since",
        "owner_id": "CSM",
    }
    use = draft_of(proposal, "usage_events")
    assert [(link.value, key, by) for link, key, by in use.links] == [
        ("user", "Web Site", "domain")
    ]
    assert mapped(proposal, "usage_events")["occurred_at"] == "event_time"
    desk = draft_of(proposal, "support_tickets")
    assert [(link.value, key, by) for link, key, by in desk.links] == [
        ("Organisation", "Client Name", "name")
    ]
    assert mapped(proposal, "support_tickets")["resolved_at"] == "Closed"
    assert proposal.targets["churn"]["observed_in"] == "activity"
    _, found = loaded(proposal, place, tmp_path)
    assert {name: info.rows for name, info in found.tables.items()} == {
        "accounts": 40, "usage_events": 960, "support_tickets": 80,
    }  # fmt: skip
    assert all(not info.quarantined for info in found.tables.values())


def test_contracts_on_the_list_of_accounts_become_terms(folder, tmp_path):
    rows = [
        (f"C{i}", f"Client {i}", day(0), day(0), day(365 if i % 4 else 1200), 1000 + i, "GBP")
        for i in range(40)
    ]
    header = "Account ID,Account Name,Created Date,Contract Start,Contract End,ARR,Currency"
    use = csv("account_id,occurred_at", [(f"C{i}", day(850 + i % 9)) for i in range(40)])
    place = folder(accounts=csv(header, rows), usage=use)
    proposal = propose(place, NOW)
    assert mapped(proposal, "subscriptions") == {
        "account_id": "Account ID",
        "subscription_id": "Account ID",
        "started_on": "Contract Start",
        "renews_on": "Contract End",
        "currency": "Currency",
    }
    assert proposal.settings["reporting_currency"].value == "GBP"
    workspace, found = loaded(proposal, place, tmp_path)
    summary = check_quality(workspace, found, NOW).understood
    # Contracts that ended and were not renewed are losses; the others still pay.
    assert summary.paying == 10
    assert summary.arr == sum(1000 + i for i in range(0, 40, 4))


def priced(per_seat: bool) -> str:
    chance = random.Random(2)
    rows = []
    for i in range(40):
        seats = chance.randint(2, 90)
        price = (20, 45)[i % 2]
        amount = price if per_seat else price * seats
        rows.append(
            (f"S{i}", f"C-{100 + i}", day(3 * i), day(3 * i + 365), amount, "annual", seats)
        )
    return csv("Contract No,Client Ref,Start Date,End Date,Amount,Billing Frequency,Seats", rows)


def test_prices_per_seat_are_told_from_totals_by_the_data(folder):
    place = folder(clients=clients(), usage_log=events(), contracts=priced(per_seat=True))
    billing = draft_of(propose(place, NOW), "subscriptions").billing
    assert {name: choice.value for name, choice in billing.items()} == {
        "rows": "term",
        "amount": "Amount",
        "amount_is": "interval",
        "interval": "Billing Frequency",
        "quantity": "Seats",
    }
    place = folder(contracts=priced(per_seat=False))
    assert "quantity" not in draft_of(propose(place, NOW), "subscriptions").billing


def stamped(known) -> str:
    rows = [
        (f"E{i}-{k}", f"C-{100 + i}", day(300 + 30 * k), known(300 + 30 * k, i))
        for i in range(40)
        for k in range(6)
    ]
    return csv("Event Id,Client Ref,Event Date,{}", rows)


@pytest.mark.parametrize(
    ("header", "known", "accepted"),
    [
        ("Received At", lambda n, i: day(n + i % 2), True),
        ("Updated At", lambda n, i: day(n + i % 2), False),  # changes in place
        ("Loaded At", lambda n, i: day(800), False),  # one bulk load
        ("Received At", lambda n, i: day(n - 5), False),  # before the event
        ("Recorded At", lambda n, i: day(n + 200 + i), False),  # long after it
    ],
)
def test_a_known_time_is_proposed_only_where_the_data_supports_it(folder, header, known, accepted):
    log = stamped(known).replace("{}", header)
    proposal = propose(folder(clients=clients(), events=log), NOW)
    chosen = draft_of(proposal, "usage_events").known_at
    assert (chosen is not None) == accepted
    if accepted:
        assert chosen.value == header
        assert "tables.usage_events.known_at" in proposal.guesses()


def test_numbered_files_are_one_input_and_other_tools_a_second_source(folder, tmp_path):
    log = events().splitlines(keepends=True)
    place = folder(
        clients=clients(),
        events_2024=log[0] + "".join(log[1:200]),
        events_2025=log[0] + "".join(log[200:]),
        clicks=csv("Client Ref,timestamp,event", [(f"C-{100 + i}", day(400 + i), "x")
                                                  for i in range(40)]),
    )  # fmt: skip
    proposal = propose(place, NOW)
    assert proposal.inputs["events"] == "events_*.csv"
    assert [draft.file.name for draft in proposal.drafts if draft.table == "usage_events"] == [
        "clicks",
        "events",
    ]
    _, found = loaded(proposal, place, tmp_path)
    assert found.tables["usage_events"].rows == 960 + 40


def test_what_is_not_used_is_listed_with_the_reason(folder):
    place = folder(
        clients=clients(),
        usage_log=events(),
        broken__csv=b"\x00\x01\x02nothing\x00",
        empty__csv="",
        weather=csv("station,temperature", [("x", 20), ("y", 21)]),
        foreign_events=csv(
            "account,timestamp,event", [("Z1", day(400), "a"), ("Z2", day(401), "b")]
        ),
    )
    proposal = propose(place, NOW)
    assert set(proposal.unused) == {"broken.csv", "empty.csv", "weather.csv", "foreign_events.csv"}
    assert "NUL bytes" in proposal.unused["broken.csv"]
    assert "no column matches the accounts" in proposal.unused["foreign_events.csv"]
    assert "# not used: weather.csv: not recognised" in company_yaml(proposal)


def test_without_accounts_nothing_is_proposed(folder):
    with pytest.raises(SourceError, match="no file looks like the list of accounts"):
        propose(folder(usage_log=events()), NOW)
    empty = folder().parent / "nothing"
    empty.mkdir()
    with pytest.raises(SourceError, match="no file to read"):
        propose(empty, NOW)


def test_answers_replace_guesses(folder):
    place = folder(clients=clients(), usage_log=events())
    answers = {
        "reporting_currency": "CHF",
        "tables.accounts.columns.owner_id": "",
        "tables.usage_events.timezone": "Europe/Zurich",
        "tables.usage_events.columns.feature": "lower(action)",
    }
    proposal = propose(place, NOW, answers)
    text = yaml.safe_load(company_yaml(proposal))
    assert text["reporting_currency"] == "CHF"
    assert "owner_id" not in text["tables"]["accounts"]["columns"]
    assert text["tables"]["usage_events"]["timezone"] == "Europe/Zurich"
    assert text["tables"]["usage_events"]["columns"]["feature"] == "lower(action)"
    assert not set(answers) & set(text.get("guesses", {}))
    left_out = propose(place, NOW, {"files.usage_log": ""})
    assert left_out.unused == {"usage_log.csv": "left out"}


def test_data_that_has_ended_pins_the_clock_and_live_data_does_not(folder):
    place = folder(clients=clients(), usage_log=events())
    ended = propose(place, datetime(2026, 12, 1, tzinfo=UTC))
    assert ended.settings["now"].value == "2026-03-01T00:00:00Z"
    assert "now" not in propose(place, datetime(2026, 3, 2, tzinfo=UTC)).settings


def test_guesses_stay_open_until_they_are_confirmed(folder, tmp_path):
    place = folder(clients=clients(), usage_log=events())
    home = tmp_path / "company"
    path = write_company(home, place, propose(place, datetime(2026, 12, 1, tzinfo=UTC)))
    company = load_company(home)
    assert set(company.guesses) == {"now", "reporting_currency", "tables.usage_events.timezone"}
    workspace = Workspace(company, home, place, State(tmp_path / "state"), Environment())
    report = check_quality(workspace, load_sources(workspace, company.clock()), company.clock())
    issue = next(item for item in report.issues if item.code == "unconfirmed_guesses")
    assert issue.rows == 3
    assert "tables.usage_events.timezone: event_time has no" in issue.detail

    before = path.read_text()
    with pytest.raises(ConfigError, match='did you mean "reporting_currency"'):
        confirm_guesses(home, ["reporting_currenci"])
    assert path.read_text() == before
    assert confirm_guesses(home, ["now"]) == ["now"]
    assert set(load_company(home).guesses) == {"reporting_currency", "tables.usage_events.timezone"}
    assert confirm_guesses(home) == ["reporting_currency", "tables.usage_events.timezone"]
    after = load_company(home)
    assert after.guesses == {}
    assert after.config_hash == company.config_hash
    assert "\nguesses:" not in path.read_text()
    assert path.read_text().startswith(before[:900])


def test_a_company_is_never_overwritten(folder):
    place = folder(clients=clients(), usage_log=events())
    proposal = propose(place, NOW)
    write_company(place, place, proposal)
    text = (place / "company.yaml").read_text()
    with pytest.raises(ConfigError, match="already exists"):
        write_company(place, place, proposal)
    assert (place / "company.yaml").read_text() == text


def test_tables_of_a_database_are_proposed_like_files(tmp_path, monkeypatch):
    file = tmp_path / "crm.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA sales")
        for name, text in (("clients", clients()), ("usage_log", events())):
            source = tmp_path / f"{name}.csv"
            source.write_text(text)
            connection.execute(f"CREATE TABLE sales.{name} AS FROM read_csv('{source}')")
        connection.execute("CREATE TABLE main.other AS SELECT 1 AS x")
    monkeypatch.setenv("BELLWETHER_CONNECTION_CRM", f"duckdb:///{file}")
    proposal = propose(database_tables("crm", "sales", tmp_path), NOW)
    text = yaml.safe_load(company_yaml(proposal))
    assert text["inputs"] == {
        "clients": {"connection": "crm", "table": "sales.clients"},
        "usage_log": {"connection": "crm", "table": "sales.usage_log"},
    }
    company = parse_company(text, where="proposal")
    places = Environment.from_environment()
    workspace = Workspace(company, tmp_path, tmp_path, State(tmp_path / "state"), places)
    found = load_sources(workspace, NOW)
    assert {name: info.rows for name, info in found.tables.items()} == {
        "accounts": 40, "usage_events": 960,
    }  # fmt: skip
    with pytest.raises(SourceError, match="no tables in the schema nothing"):
        database_tables("crm", "nothing", tmp_path)
    with pytest.raises(ConfigError, match="has no URL"):
        database_tables("erp")
