"""How the risk of an account went: books, renewals, models, outcomes, on its page."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from serving.ledger.comparability import ScoreQuestion
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookScores, RecordedOutcome
from serving.online.server_state import ServerState
from serving.pages.history.risk_history import HEIGHT, WIDTH, history_of

AS_OF = datetime(2025, 12, 1, tzinfo=UTC)
ACCOUNT = "A-0030"


def append(ledger, as_of, p, sha, *, renews_on, target="churn") -> None:
    """Keep a book of one account."""
    ledger.append_book(
        BookScores(
            book_id=f"{as_of:%Y%m%d}-{sha[0]}", target=target, as_of=as_of,
            served_at=as_of + timedelta(hours=6), release_id=f"release-{sha[0]}", bundle_sha=sha,
            verdict="promotable", feature_set="f", entity_ids=[ACCOUNT],
            probability=np.array([p]), logit=np.zeros(1), band=["low"],
            features=np.zeros((1, 1)),
            facts=[{"status": "scored", "renews_on": renews_on, "is_under_contract": True}],
        )
    )  # fmt: skip


def outcome(target, as_of, label, decision_at=None) -> RecordedOutcome:
    return RecordedOutcome(
        ACCOUNT, target, as_of, label, as_of + timedelta(days=91), decision_at, "c"
    )


@pytest.fixture
def written(fresh):
    """Three earlier books of one account: a renewal between them, then another model."""
    days = [AS_OF, AS_OF + timedelta(days=31), AS_OF + timedelta(days=62)]
    with Ledger.open(fresh) as ledger:
        append(ledger, days[0], 0.1, "a" * 64, renews_on="2025-12-20")
        append(ledger, days[1], 0.3, "a" * 64, renews_on="2026-12-20")
        append(ledger, days[2], 0.2, "b" * 64, renews_on="2026-12-20")
        grew = outcome("expansion", days[0], 1, days[0] + timedelta(days=40))
        found = [outcome("churn", days[0], 0), grew]
        ledger.outcomes.record(found, recorded_at=AS_OF + timedelta(days=100))
        yield fresh, ledger


def asked(row) -> ScoreQuestion:
    """What a row written here was asked: its renewal."""
    return ScoreQuestion("renewal", date.fromisoformat(row.facts["renews_on"]))


def read(ledger, today=date(2026, 3, 2)):
    rows = ledger.scores.history(ACCOUNT, "churn", channel="book")
    kinds = {
        kind: (kind, ledger.outcomes.known(kind, entity_id=ACCOUNT))
        for kind in ("churn", "expansion")
    }
    return history_of(rows, kinds, today, asked)


def test_renewals_models_and_outcomes_are_marked_where_they_fell(written):
    found = read(written[1])
    assert [point.probability for point in found.points] == [0.1, 0.3, 0.2]
    assert [point.then for point in found.points] == ["stayed", "", ""]
    assert [(str(mark.day), mark.kind, mark.text) for mark in found.marks] == [
        ("2025-12-20", "renewal", "renewed"),
        ("2026-01-10", "outcome", "grew"),
        ("2026-02-01", "model", "new model, release release-b"),
    ]
    assert (found.points[0].x, found.points[-1].x, found.top) == (0.0, WIDTH, 50)
    assert found.points[0].y == round(HEIGHT * (1 - 10 / 50), 1)
    assert [line.count(",") for line in found.lines] == [1, 2], "broken at the renewal"
    assert [point.asked for point in found.points] == [
        "renewal 20 Dec 2025",
        "renewal 20 Dec 2026",
        "renewal 20 Dec 2026",
    ]


def test_a_renewal_ahead_is_no_mark_and_one_that_came_is_due(written):
    rows = written[1].scores.history(ACCOUNT, "churn", channel="book")
    assert history_of([], {}, AS_OF.date(), asked) is None
    assert history_of(rows[-1:], {}, date(2025, 12, 19), asked).marks == ()
    (mark,) = history_of(rows[-1:], {}, date(2025, 12, 20), asked).marks
    assert mark.text == "renewal due"


def test_the_last_score_of_a_day_counts(written):
    rows = written[1].scores.history(ACCOUNT, "churn", channel="book")
    again = rows[0]._replace(probability=0.9, served_at=rows[0].served_at + timedelta(hours=1))
    assert history_of([*rows, again], {}, date(2026, 3, 2), asked).points[-1].probability == 0.9


def test_the_page_shows_it_with_a_table_behind(written, world, client_for):
    workspace, _ = written
    serving = ServerState(workspace, clock=lambda: world.now)
    serving.refresh()
    try:
        page = " ".join(client_for(serving).get(f"/accounts/{ACCOUNT}").text.split())
    finally:
        serving.close()
    assert "Risk over time" in page
    assert "20 Dec 2025: renewed" in page
    assert "10 Jan 2026: grew" in page
    assert 'class="history-line"' in page
    assert "1 Dec 2025: 10 %, renewal 20 Dec 2025" in page, (
        "the ends of a broken line say what they are the risk of"
    )
    assert page.count("<td>open</td>") == 2
    # The earlier scores were asked about another renewal.
    assert re.search(r"Next renewal \d+ \w+ \d{4}: \d+ %", page)
