"""What stands beside an estimate: the rows behind it, similar past accounts, plays, its life."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.errors import UnavailableError
from configs.runtime.state_directory import State
from serving.pages.context import AccountContext, Reader
from serving.workflow.driver_evidence import ROWS, WEEKS, DriverEvidence, Listing
from serving.workflow.risk_cases import Event
from serving.workflow.risk_store import RiskStore, new_event_id
from serving.workflow.similar_accounts import ENOUGH, PastCase, near
from serving.workflow.source_rows import SourceRows

AS_OF = date(2026, 3, 2)


@pytest.fixture(scope="module")
def evidence(world):
    rows = SourceRows(world.workspace.state)
    yield DriverEvidence(rows)
    rows.close()


def test_tickets_are_listed_newest_first_with_their_dates(world, evidence):
    rows = (
        duckdb.connect()
        .execute(
            "SELECT account_id, opened_at::DATE, ticket_id FROM"
            f" read_csv('{world.workspace.data}/support_tickets.csv')"
        )
        .fetchall()
    )
    since = AS_OF - timedelta(days=7 * WEEKS)
    recent = sorted(((when, name, who) for who, when, name in rows if when >= since), reverse=True)
    account = recent[0][2]
    (listing,) = evidence.listings(account, AS_OF, ["support"])
    expected = [(when.isoformat(), name) for when, name, who in recent if who == account]
    assert listing.n == len(expected) > 0
    assert sorted(row[:2] for row in listing.rows) == sorted(expected[:ROWS])
    assert [row[0] for row in listing.rows] == [when for when, _ in expected[:ROWS]]
    assert listing.columns[:2] == ("Opened", "Ticket")


@pytest.fixture
def small_state(tmp_path) -> State:
    """Two versions of one ticket, one resolved and one written after the moment of asking."""
    state = State(tmp_path)
    folder = state.sources / "support_tickets"
    folder.mkdir(parents=True)
    opened, asked = datetime(2026, 2, 1, 10), datetime(2026, 3, 2)
    rows = {
        "account_id": ["A", "A", "A", "A", "B"],
        "opened_at": [opened, opened, opened + timedelta(days=1), datetime(2025, 8, 1), opened],
        "known_at": [opened, datetime(2026, 2, 6), asked + timedelta(hours=1), opened, opened],
        "ticket_id": ["T1", "T1", "T2", "T3", "T4"],
        "priority": ["low", "high", "low", "low", "low"],
        "resolved_at": [None, asked + timedelta(days=3), None, None, None],
    }
    pq.write_table(pa.table(rows), folder / "data.parquet")
    return state


def test_only_what_was_known_then_is_listed(small_state):
    rows = SourceRows(small_state)
    reader = DriverEvidence(rows)
    (listing,) = reader.listings("A", AS_OF, ["support", "support", "sentiment"])
    assert listing.rows == (("2026-02-01", "T1", "high", ""),)
    assert listing.n == 1
    (later,) = reader.listings("A", AS_OF + timedelta(days=3), ["support"])
    assert ("2026-02-01", "T1", "high", "2026-03-05") in later.rows
    assert [row[1] for row in later.rows] == ["T2", "T1"]
    assert reader.listings("A-404", AS_OF, ["support"]) == []
    rows.close()


def test_texts_are_snippets_without_personal_data(small_state):
    path = small_state.sources / "support_tickets" / "data.parquet"
    table = pq.read_table(path)
    said = "Hi Mia, <script>x</script> it is slow. Call +49 30 1234567. " + "more " * 100
    pq.write_table(table.append_column("text", pa.array([said] * len(table))), path)
    rows = SourceRows(small_state)
    reader = DriverEvidence(rows)
    for themes in (["support"], ["sentiment"]):
        (listing,) = reader.listings("A", AS_OF, themes)
        assert listing.columns[-1] == "Text"
        text = listing.rows[0][-1]
        assert text.startswith("Hi [name], x it is slow. Call [phone]. more")
        assert len(text) <= 200
    assert len(reader.listings("A", AS_OF, ["sentiment", "support"])) == 1
    rows.close()


def test_a_damaged_table_is_told_and_costs_nothing_else(small_state):
    (small_state.sources / "support_tickets" / "data.parquet").write_bytes(b"not parquet at all")
    rows = SourceRows(small_state)
    reader = DriverEvidence(rows)
    with pytest.raises(UnavailableError, match="the evidence cannot be read") as told:
        reader.listings("A", AS_OF, ["support"])
    assert "bellwether features" in told.value.fix
    rows.close()


def past_table(n: int) -> pa.Table:
    rng = np.random.default_rng(3)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "entity_id": [f"A-{i % (n // 2)}" for i in range(n)],
            "as_of": [start + timedelta(days=91 * (i // (n // 2))) for i in range(n)],
            "label": rng.integers(0, 2, n).astype("int8"),
            "segment": [("smb", "large")[i % 2] for i in range(n)],
            "is_under_contract": [i % 3 != 0 for i in range(n)],
            "is_headline": [i % 7 != 0 for i in range(n)],
            "p_model": rng.uniform(0.2, 0.4, n),
        }
    )


def test_similar_accounts_are_counted_once_each_as_a_slow_reading_does():
    table = past_table(600)
    found = PastCase(table).like(0.3, "smb", is_renewal=True, entity_id="A-4")
    low, high = near(0.3)
    latest: dict[str, dict] = {}
    for row in table.to_pylist():
        fits = row["is_headline"] and row["segment"] == "smb" and row["is_under_contract"]
        if fits and low <= row["p_model"] <= high and row["entity_id"] != "A-4":
            known = latest.get(row["entity_id"])
            if known is None or known["as_of"] < row["as_of"]:
                latest[row["entity_id"]] = row
    assert found.n == len(latest) >= ENOUGH
    assert found.n_events == sum(row["label"] for row in latest.values())
    assert found.segment == "smb"
    assert len({one.entity_id for one in found.examples}) == 5


def test_too_few_are_widened_to_all_segments_then_not_told():
    past = PastCase(past_table(110))
    found = past.like(0.3, "smb", is_renewal=True)
    assert found is not None
    assert found.segment == ""
    assert past.like(0.9, "smb", is_renewal=True) is None
    assert past.like(1.0, "smb", is_renewal=True) is None


def test_tests_of_another_model_are_not_shown(tmp_path):
    state = State(tmp_path)
    assert PastCase.of(state, "churn", "abc") is None


def test_the_page_shows_them(client, monkeypatch):
    pages = [client.get(f"/accounts/A-{i:04d}").text for i in range(30, 60)]
    assert all("Active users per week" in page for page in pages)
    assert all("Work on this account" in page for page in pages if "Not predicted" not in page)
    listing = Listing("support", "Tickets", ("Opened", "Ticket"), (("2026-02-01", "T1"),), 3)
    monkeypatch.setattr(DriverEvidence, "listings", lambda *_: [listing])
    page = " ".join(client.get("/accounts/A-0030").text.split())
    assert ">Evidence</h2>" in page
    assert "<summary>Tickets (3)</summary>" in page
    assert "The latest 1 of 3." in page


def test_what_was_recorded_is_on_the_page(client, world):
    desk = AccountContext(world.workspace)
    now = world.now
    casebook = desk.risks
    casebook.record(Event(new_event_id(), "A-0040", now, "Ada", "opened", "open"))
    casebook.record(
        Event(
            new_event_id(),
            "A-0040",
            now,
            "Ada",
            "moved",
            "plan",
            on=now.date() + timedelta(days=3),
            play="check_in",
        )
    )
    note = "their champion <b>left</b>"
    casebook.record(Event(new_event_id(), "A-0040", now, "Ada", "fact", on=now.date(), text=note))
    page = client.get("/accounts/A-0040").text
    assert "Play planned" in page
    assert "Check in, due 5 Mar 2026" in " ".join(page.split())
    assert "their champion &lt;b&gt;left&lt;/b&gt;" in page
    casebook.close()


def test_who_sees_their_own_book_only_is_told_counts_not_names(world, live, monkeypatch):
    monkeypatch.setattr(PastCase, "of", classmethod(lambda cls, *_: PastCase(past_table(600))))
    desk = AccountContext(world.workspace)
    answer = live.score(["A-0030"], request_id="r").answers[0]
    answer["scores"]["churn"]["probability"] = 0.3
    everything = desk.account_context(answer, live, Reader("Ada"))["precedents"]
    own = desk.account_context(answer, live, Reader("Ada", sees_all=False))["precedents"]
    assert everything.examples
    assert own.examples == ()
    assert (own.n, own.n_events) == (everything.n, everything.n_events)


def test_a_broken_casebook_leaves_the_estimate_standing(world, live, monkeypatch):
    desk = AccountContext(world.workspace)

    def refuse(*_):
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(RiskStore, "events", refuse)
    answer = live.score(["A-0030"], request_id="r").answers[0]
    beside = desk.account_context(answer, live, Reader("Ada"))
    assert beside["case"] is None
    assert beside["call"] is not None
