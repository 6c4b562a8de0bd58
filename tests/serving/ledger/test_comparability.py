"""Scores of two questions, such as two renewals, are compared nowhere: neither shown nor sent."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.errors import DataError
from configs.runtime.state_directory import new_folder
from serving.batch.score_book import SCORES, read_table, score_book
from serving.integrations.webhooks import BAND_CHANGED, news_of
from serving.ledger.comparability import ScoreQuestion, move_of, question_of_row, refuse_mixed
from serving.ledger.score_changes import asked_of, compare, present_of
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookScores, new_score_ids, unpack_features
from serving.pages.history.charts import HistoryCharts
from serving.workflow.updates import MOVES, Update, news
from serving.workflow.updates import _check as check_news

MONTH_EARLIER = datetime(2026, 2, 2, tzinfo=UTC)
PAST_RENEWAL = "2026-02-20"


def renewals(table: pa.Table) -> list[dict]:
    return [row for row in table.to_pylist() if row["churn_asks_about"] == "renewal"]


@pytest.fixture
def before_the_renewal(serving, live):
    """An account under contract, and its score of a month ago: of the renewal that is past now."""
    entity = renewals(live.book.table)[0]["account_id"]
    rows = serving.score([entity], request_id="now").rows
    churn = next(row for row in rows if row.target == "churn")
    before = churn._replace(
        score_id=new_score_ids(MONTH_EARLIER, 1)[0],
        served_at=MONTH_EARLIER + timedelta(hours=9),
        as_of=MONTH_EARLIER,
        probability=0.01,
        logit=-4.595,
        facts=churn.facts | {"renews_on": PAST_RENEWAL},
    )
    serving.ledger.append([before, *rows])
    return before, churn


def test_a_renewed_account_is_told_its_next_renewal_and_no_change(
    serving, client_for, before_the_renewal
):
    before, now = before_the_renewal
    client = client_for(serving)
    change = client.get(f"/v1/accounts/{now.entity_id}/changes").json()["changes"]["churn"]
    assert change["is_comparable"] is False
    assert change["before"] is None
    assert change.get("difference") is None
    day = date.fromisoformat(now.facts["renews_on"])
    assert re.fullmatch(
        rf"Renewed on 20 Feb 2026\. Next renewal {day.day} {day:%b %Y}: [\d.]+\s%", change["text"]
    )
    page = client.get(f"/accounts/{now.entity_id}").text
    assert "Renewed on 20 Feb 2026." in page
    assert "Up from" not in page


def test_what_compares_refuses_two_questions(serving, before_the_renewal):
    before, now = before_the_renewal
    with pytest.raises(DataError, match="another question"):
        next(
            compare(
                serving.archive,
                present_of(serving.archive, [now]),
                [before],
            )
        )


def test_a_book_holds_no_change_across_a_renewal(fresh, world):
    with Ledger.open(fresh) as ledger:
        score_book(fresh, world.release, ledger, world.now)
        rows = ledger.runs.last("churn")
        is_renewed = [
            bool(row.facts.get("is_under_contract")) and i % 2 for i, row in enumerate(rows)
        ]
        ledger.append_book(
            BookScores(
                book_id="last month", target="churn", as_of=MONTH_EARLIER, served_at=MONTH_EARLIER,
                release_id=world.release.release_id, bundle_sha=rows[0].bundle_sha,
                verdict="promotable", feature_set=world.feature_hash,
                entity_ids=[row.entity_id for row in rows],
                probability=np.array([row.probability / 4 for row in rows]),
                logit=np.array([row.logit - 2 for row in rows]), band=["low"] * len(rows),
                features=np.stack([unpack_features(row.features) for row in rows]),
                facts=[row.facts | ({"renews_on": PAST_RENEWAL} if moved else {})
                       for row, moved in zip(rows, is_renewed, strict=True)],
            )
        )  # fmt: skip
        run = score_book(fresh, world.release, ledger, world.now + timedelta(minutes=1))
    told = {row["account_id"]: row for row in read_table(run).to_pylist()}
    renewed = [told[row.entity_id] for row, moved in zip(rows, is_renewed, strict=True) if moved]
    others = [told[row.entity_id] for row, moved in zip(rows, is_renewed, strict=True) if not moved]
    assert len(renewed) > 20
    for row in renewed:
        assert row["churn_change"] is None
        assert row["churn_change_is_clear"] is None
        assert row["churn_change_text"].startswith("Renewed on 20 Feb 2026. Next renewal ")
    assert all(row["churn_change"] is not None for row in others)


def earlier_rows(table: pa.Table, **of_renewals) -> pa.Table:
    """The book as it was when every account under contract was asked about another renewal."""
    calm = {"churn_risk": 0.001, "churn_low": 0.0005, "churn_high": 0.002, "risk_band": "low"}
    rows = [
        row | calm | (of_renewals if row["churn_asks_about"] == "renewal" else {})
        if row["status"] == "scored"
        else row
        for row in table.to_pylist()
    ]
    return pa.Table.from_pylist(rows, table.schema)


def test_no_news_and_no_webhook_compare_two_renewals(live):
    table = live.book.table
    before = earlier_rows(table, churn_until=PAST_RENEWAL)
    under_contract = {row["account_id"] for row in renewals(table)}
    told = news(before, table)
    assert {item.kind for item in told if item.account_id in under_contract} == {"asked_anew"}
    assert any(item.kind in MOVES for item in told)
    sent = [data for event, data in news_of(before.to_pylist(), table.to_pylist(), "x")
            if event == BAND_CHANGED]  # fmt: skip
    assert sent
    assert not under_contract & {data["account_id"] for data in sent}
    assert all(data["churn_until"] for data in sent)
    for data in sent:
        assert data["churn_risk"] != data["churn_risk_before"]


def test_a_contract_that_began_is_no_change_either(live):
    table = live.book.table
    ends = {"churn_asks_about": "horizon", "churn_until": "2026-06-01"}
    told = news(earlier_rows(table, **ends), table)
    of_contracts = {row["account_id"] for row in renewals(table)}
    texts = [item.text for item in told if item.account_id in of_contracts]
    assert texts
    assert all(text.startswith("Under contract now. Next renewal ") for text in texts)


def test_the_check_of_news_fires(live):
    table = live.book.table
    before = earlier_rows(table, churn_until=PAST_RENEWAL)
    one = renewals(table)[0]["account_id"]
    rows = [{row["account_id"]: row for row in part.to_pylist()} for part in (before, table)]
    with pytest.raises(DataError, match=one):
        check_news([Update(one, one, "risk from 1 % to 9 %", "worse", 1.0)], *rows)


def test_lines_begin_again_with_the_next_renewal(fresh, live):
    table = live.book.table
    last = datetime.fromisoformat(live.book.run.as_of)
    for weeks, until in ((3, PAST_RENEWAL), (2, PAST_RENEWAL), (1, None)):
        as_of = (last - timedelta(days=7 * weeks)).isoformat()
        manifest = {name: value for name, value in vars(live.book.run).items() if name != "folder"}
        manifest |= {"run_id": f"{weeks}-weeks", "as_of": as_of, "served_at": as_of}
        moved = {"churn_until": until} if until else {}
        with new_folder(fresh.state.scores / f"{weeks}-weeks", manifest) as aside:
            pq.write_table(_as_of(earlier_rows(table, **moved), as_of), aside / SCORES)
    found = HistoryCharts(fresh.state).of(live.book.run)
    by_question = {"renewal": 2, "horizon": 4}
    for row in table.to_pylist():
        if row["status"] == "scored":
            points = found[row["account_id"]]
            assert len(points) == by_question[row["churn_asks_about"]]


def _as_of(table: pa.Table, as_of: str) -> pa.Table:
    """Return the rows as of an earlier day, horizons that end 91 days later."""
    ends = (datetime.fromisoformat(as_of) + timedelta(days=91)).date().isoformat()
    rows = [
        row | {"as_of": as_of}
        | ({"churn_until": ends} if row["churn_asks_about"] == "horizon" else {})
        for row in table.to_pylist()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, table.schema)


def test_a_score_remembers_what_it_was_asked(serving, live, before_the_renewal):
    before, now = before_the_renewal
    contract = serving.current().scorer.models[0].contract
    assert asked_of(serving.archive, before, contract) == ScoreQuestion(
        "renewal", date.fromisoformat(PAST_RENEWAL)
    )
    row = next(row for row in live.book.table.to_pylist() if row["account_id"] == now.entity_id)
    assert asked_of(serving.archive, now, contract).is_same(question_of_row(row))
    assert move_of(row, row) == 0.0
    forgotten = asked_of(serving.archive, now._replace(facts={}), contract)
    assert not forgotten.is_same(forgotten), "kept by a version that did not say"


def test_refusing_names_the_accounts():
    quarter, half = (ScoreQuestion("horizon", date(2026, 6, 1), days) for days in (91, 182))
    refuse_mixed([("A-1", quarter, quarter)])
    with pytest.raises(DataError, match="A-2"):
        refuse_mixed([("A-1", quarter, quarter), ("A-2", quarter, half)])
    with pytest.raises(DataError, match="A-3"):
        refuse_mixed([("A-3", None, quarter)])
