"""Shapes of billing exports: the right ARR and the right movements from each, without SQL."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from configs.runtime.errors import ConfigError, SourceError
from features.quality import company_revenue

NOW = datetime(2026, 7, 1, tzinfo=UTC)
ACCOUNTS = "account_id,created_at\nA,2024-01-01\nB,2024-01-01\nC,2024-01-01\n"
USAGE = "account_id,occurred_at\n" + "".join(f"{n},2026-06-2{d}\n" for n in "ABC" for d in "1234")


@pytest.fixture
def revenue(small):
    """Return the data summary and the movements of a company with one billing export."""

    def of(lines: str, columns: dict, billing: dict, **mapping):
        tables = {"subscriptions": {"columns": columns, "billing": billing, **mapping}}
        files = {"accounts": ACCOUNTS, "usage_events": USAGE, "subscriptions": lines}
        workspace = small.workspace(files, tables=tables, reporting_currency="EUR")
        loaded = small.load(files, tables=tables, now=NOW, reporting_currency="EUR")
        summary, moves = company_revenue(workspace, loaded, NOW)
        return summary, [
            (row.account_id, row.on, row.kind, row.change) for row in moves.itertuples()
        ]

    return of


IDS = {"account_id": "customer", "subscription_id": "sub"}


def test_one_row_per_term_with_a_price_per_seat_and_month(revenue):
    lines = (
        "customer,sub,start,end,price,seats\n"
        "A,s1,2024-03-01,2025-03-01,10,5\n"  # 10 x 5 x 12 = 600
        "A,s2,2025-03-01,2026-03-01,10,8\n"  # 960
        "A,s3,2026-03-01,2027-03-01,10,8\n"
        "B,s4,2024-03-01,2025-03-01,20,1\n"  # 240, then gone
    )
    summary, moves = revenue(
        lines,
        {**IDS, "started_on": "start", "renews_on": "end", "seats": "seats"},
        {"rows": "term", "amount": "price", "quantity": "seats", "interval": "'month'"},
    )
    assert (summary.arr, summary.paying) == (960, 1)
    assert moves == [
        ("A", "2024-03-01", "new", 600),
        ("B", "2024-03-01", "new", 240),
        ("A", "2025-03-01", "expansion", 360),
        ("B", "2025-03-01", "churn", -240),
    ]


def test_one_row_per_billing_period(revenue):
    months = [f"2026-{n:02d}-01" for n in range(1, 8)]
    lines = "customer,sub,from,to,mrr\n" + "".join(
        f"A,s1,{first},{last},{100 if first < '2026-04' else 150}\n"
        for first, last in zip(months, months[1:], strict=False)
    )
    lines += "B,s2,2026-01-01,2026-02-01,50\nB,s2,2026-02-01,2026-03-01,50\n"
    summary, moves = revenue(
        lines,
        {**IDS, "started_on": '"from"', "renews_on": '"to"'},
        {"rows": "period", "amount": "mrr", "amount_is": "mrr"},
    )
    assert moves == [
        ("A", "2026-01-01", "new", 1200),
        ("B", "2026-01-01", "new", 600),
        ("B", "2026-03-01", "churn", -600),
        ("A", "2026-04-01", "expansion", 600),
    ]
    assert summary.arr == 1800


def test_one_row_per_subscription_whose_period_is_overwritten(revenue):
    lines = (
        "customer,sub,start,period_end,unit,interval,count,qty,canceled,ended\n"
        "A,s1,2024-05-15,2026-07-15,20,month,1,3,,\n"  # 20 x 3 x 12 = 720
        "B,s2,2024-02-10,2027-02-10,500,year,1,1,,\n"
        "C,s3,2024-01-31,2025-04-30,90,month,3,2,2025-02-03,2025-04-30\n"  # 90 x 2 x 4 = 720
    )
    summary, moves = revenue(
        lines,
        {
            **IDS,
            "started_on": "start",
            "renews_on": "period_end",
            "notice_at": "canceled",
            "ended_on": "ended",
        },
        {
            "rows": "subscription",
            "amount": "unit",
            "quantity": "qty",
            "interval": "interval",
            "interval_count": "count",
        },
    )
    assert (summary.arr, summary.paying) == (1220, 2)
    assert moves == [
        ("C", "2024-01-31", "new", 720),
        ("B", "2024-02-10", "new", 500),
        ("A", "2024-05-15", "new", 720),
        ("C", "2025-04-30", "churn", -720),
    ]


def test_an_overwritten_subscription_is_known_period_by_period(small, rows):
    lines = (
        "customer,sub,start,end,canceled,ended\n"
        "A,s1,2025-01-31,2026-07-31,2026-05-20,\nB,s2,2026-01-31,2026-04-30,,2026-04-12\n"
    )
    tables = {
        "subscriptions": {
            "columns": {
                **IDS,
                "started_on": "start",
                "renews_on": '"end"',
                "notice_at": "canceled",
                "ended_on": "ended",
            },
            "billing": {"rows": "subscription", "amount": "'5'", "interval": "'month'"},
        }
    }
    files = {"accounts": ACCOUNTS, "usage_events": USAGE, "subscriptions": lines}
    info = small.load(files, tables=tables, now=NOW).tables["subscriptions"]
    found = rows(info.path)
    of_a = [row for row in found if row["account_id"] == "A"]
    # 31 January plus months: the last day of shorter months, and 31 again where there is one.
    assert [str(row["started_on"]) for row in of_a][:4] == [
        "2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30",
    ]  # fmt: skip
    assert all(str(row["known_at"])[:10] >= str(row["started_on"]) for row in found)
    assert [row["notice_at"] is not None for row in of_a] == [False] * (len(of_a) - 1) + [True]
    assert of_a[-1]["ended_on"] is None
    assert str(of_a[-1]["renews_on"]) == "2026-07-31"
    of_b = [row for row in found if row["account_id"] == "B"]
    assert [str(row["ended_on"]) for row in of_b] == ["2026-02-28", "2026-03-31", "2026-04-12"]
    assert [row["end_reason"] for row in of_b] == ["renewed", "renewed", "churned"]


def test_one_row_per_change_as_level_and_as_difference(revenue):
    levels = (
        "customer,sub,day,mrr\nA,s1,2025-01-10,100\nA,s1,2025-06-10,150\nA,s1,2026-02-10,120\n"
        "B,s2,2025-01-10,80\nB,s2,2025-09-10,0\n"
    )
    differences = (
        "customer,sub,day,mrr\nA,s1,2025-01-10,100\nA,s1,2025-06-10,50\nA,s1,2026-02-10,-30\n"
        "B,s2,2025-01-10,80\nB,s2,2025-09-10,-80\n"
    )
    columns = {**IDS, "started_on": "day"}
    expected = [
        ("A", "2025-01-10", "new", 1200),
        ("B", "2025-01-10", "new", 960),
        ("A", "2025-06-10", "expansion", 600),
        ("B", "2025-09-10", "churn", -960),
        ("A", "2026-02-10", "contraction", -360),
    ]
    for lines, amount_is in ((levels, "mrr"), (differences, "change_in_mrr")):
        billing = {"rows": "change", "amount": "mrr", "amount_is": amount_is}
        summary, moves = revenue(lines, columns, billing)
        assert (summary.arr, moves) == (1440, expected), amount_is


def test_invoice_lines_with_a_proration_add_up(revenue):
    lines = (
        "line,customer,sub,from,to,amount\n"
        "1,A,s1,2026-01-01,2026-02-01,100\n"
        # On 11 February half of the plan's price comes on top: credit for the rest, new charge.
        "2,A,s1,2026-02-01,2026-03-01,100\n"
        "3,A,s1,2026-02-11,2026-03-01,-64.29\n"
        "4,A,s1,2026-02-11,2026-03-01,96.43\n"
        "5,A,s1,2026-03-01,2026-04-01,150\n"
        "6,A,s1,2026-04-01,2026-05-01,150\n"
        "7,A,s1,2026-05-01,2026-06-01,150\n"
        "8,A,s1,2026-06-01,2026-07-01,150\n"
        "9,B,s2,2025-03-01,2026-03-01,1200\n"
        "10,C,s3,2026-02-15,2026-05-15,300\n"
        "11,C,s3,2026-05-15,2026-08-15,300\n"
    )
    summary, moves = revenue(
        lines,
        {**IDS, "started_on": '"from"', "renews_on": '"to"'},
        {"rows": "invoice_line", "amount": "amount", "amount_is": "total"},
    )
    rounded = [(who, on, kind, round(change)) for who, on, kind, change in moves]
    assert rounded == [
        ("B", "2025-03-01", "new", 1200),
        ("A", "2026-01-01", "new", 1200),
        ("A", "2026-02-11", "expansion", 600),
        ("C", "2026-02-15", "new", 1200),
        ("B", "2026-03-01", "churn", -1200),
    ]
    assert summary.arr == 3000


def test_amounts_in_cents_except_where_a_currency_has_none(small, rows):
    lines = (
        "customer,sub,start,price,currency\nA,s1,2026-01-01,12000,eur\nB,s2,2026-01-01,12000,jpy\n"
    )
    tables = {
        "subscriptions": {
            "columns": {**IDS, "started_on": "start", "currency": "currency"},
            "billing": {
                "rows": "term",
                "amount": "price",
                "interval": "'year'",
                "minor_units": True,
            },
        }
    }
    files = {"accounts": ACCOUNTS, "usage_events": USAGE, "subscriptions": lines}
    info = small.load(files, tables=tables, now=NOW).tables["subscriptions"]
    assert {row["currency"]: row["arr"] for row in rows(info.path)} == {"EUR": 120, "JPY": 12000}


def test_invoice_lines_in_cents_except_where_a_currency_has_none(small, rows):
    lines = (
        "line,customer,sub,first,last,price,currency\n"
        "1,A,s1,2026-06-01,2026-07-01,12000,eur\n2,B,s2,2026-06-01,2026-07-01,12000,jpy\n"
    )
    tables = {
        "subscriptions": {
            "columns": {
                **IDS,
                "started_on": "first",
                "renews_on": "last",
                "currency": "currency",
            },
            "billing": {
                "rows": "invoice_line",
                "amount": "price",
                "amount_is": "total",
                "minor_units": True,
            },
        }
    }
    files = {"accounts": ACCOUNTS, "usage_events": USAGE, "subscriptions": lines}
    info = small.load(files, tables=tables, now=NOW).tables["subscriptions"]
    arr = {row["currency"]: row["arr"] for row in rows(info.path)}
    assert arr == {"EUR": 120 * 12, "JPY": 12_000 * 12}


@pytest.mark.parametrize(
    "billing",
    [
        {"rows": "period", "amount": "price", "amount_is": "mrr"},
        {"rows": "invoice_line", "amount": "price", "amount_is": "total"},
        {"rows": "term", "amount": "price", "amount_is": "mrr"},
    ],
    ids=lambda billing: billing["rows"],
)
@pytest.mark.parametrize("has_products", [True, False])
def test_a_lapsed_subscription_ends_although_another_one_is_billed_on(
    revenue, billing, has_products
):
    months = [f"2026-{n:02d}-01" for n in range(1, 8)]
    pairs = list(zip(months, months[1:], strict=False))
    lines = "line,customer,sub,product,first,last,price\n"
    lines += "".join(f"k{n},A,s1,core,{a},{b},100\n" for n, (a, b) in enumerate(pairs))
    lines += "".join(f"p{n},A,s2,plus,{a},{b},50\n" for n, (a, b) in enumerate(pairs[:2]))
    # The next contract of a product has a number of its own: a renewal, not a loss.
    lines += "".join(f"b{n},B,s3,core,{a},{b},20\n" for n, (a, b) in enumerate(pairs[:3]))
    lines += "".join(f"c{n},B,s4,core,{a},{b},20\n" for n, (a, b) in enumerate(pairs[3:]))
    columns = {**IDS, "started_on": "first", "renews_on": "last"}
    if not has_products:
        columns["product"] = "'one'"
    summary, moves = revenue(lines, columns, billing)
    assert changes(moves) == {
        ("A", "2026-01-01"): 1800,
        ("B", "2026-01-01"): 240,
        ("A", "2026-03-01"): -600,
    }
    assert summary.arr == 1440


def changes(moves):
    """Return the change of each account and day, over its products."""
    found: dict = {}
    for account, on, _, change in moves:
        found[account, on] = found.get((account, on), 0) + change
    return found


@pytest.mark.parametrize("has_products", [True, False])
def test_a_contract_that_is_not_renewed_ends_although_another_began_meanwhile(
    revenue, has_products
):
    lines = (
        "customer,sub,product,start,end,arr\n"
        "A,s1,core,2024-03-01,2025-03-01,600\n"
        "A,s2,plus,2024-09-01,2027-09-01,200\n"
    )
    columns = {**IDS, "started_on": "start", "renews_on": '"end"'}
    if not has_products:
        columns["product"] = "'one'"
    billing = {"rows": "term", "amount": "arr", "amount_is": "arr"}
    summary, moves = revenue(lines, columns, billing)
    assert changes(moves) == {
        ("A", "2024-03-01"): 600,
        ("A", "2024-09-01"): 200,
        ("A", "2025-03-01"): -600,
    }
    assert summary.arr == 200


@pytest.mark.parametrize(
    ("word", "yearly"),
    [
        ("month", 12), ("Monthly", 12), ("quarterly", 4), ("Annual", 1), ("year", 1), ("3", 4),
        ("12", 1), ("3 months", 4), ("every 2 years", 0.5), ("P1M", 12), ("semi-annual", 2),
        ("week", 52),
    ],
)  # fmt: skip
def test_words_for_an_interval(small, rows, word, yearly):
    lines = f"customer,sub,start,price,cycle\nA,s1,2026-01-01,60,{word}\n"
    tables = {
        "subscriptions": {
            "columns": {**IDS, "started_on": "start"},
            "billing": {"rows": "term", "amount": "price", "interval": "cycle"},
        }
    }
    files = {"accounts": ACCOUNTS, "usage_events": USAGE, "subscriptions": lines}
    info = small.load(files, tables=tables, now=NOW).tables["subscriptions"]
    assert rows(info.path)[0]["arr"] == pytest.approx(60 * yearly)


def refused(small, error, billing, lines=None, columns=None):
    text = lines or "customer,sub,start,price,cycle\nA,s1,2026-01-01,60,fortnite\n"
    tables = {
        "subscriptions": {
            "columns": columns or {**IDS, "started_on": "start"},
            "billing": billing,
        }
    }
    files = {"accounts": ACCOUNTS, "usage_events": USAGE, "subscriptions": text}
    with pytest.raises(error) as caught:
        small.load(files, tables=tables, now=NOW)
    return str(caught.value)


def test_an_unknown_interval_is_named_and_nothing_is_guessed(small):
    said = refused(small, SourceError, {"rows": "term", "amount": "price", "interval": "cycle"})
    assert "'fortnite' (1 rows)" in said
    assert "billing.interval" in said


def test_a_price_without_an_interval_is_refused(small):
    said = refused(small, ConfigError, {"rows": "term", "amount": "price"})
    assert "billing needs `interval`" in said


def test_periods_without_an_end_are_refused(small):
    billing = {"rows": "period", "amount": "price", "amount_is": "mrr"}
    assert "1 rows have no end of their period" in refused(small, SourceError, billing)


def test_arr_and_billing_together_are_refused(small):
    billing = {"rows": "term", "amount": "price", "amount_is": "arr"}
    columns = {**IDS, "started_on": "start", "arr": "price"}
    assert "remove them" in refused(small, ConfigError, billing, columns=columns)
