"""The portfolio: sums that add up, groups that hold everybody, families counted once."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest

from serving.pages.portfolio import page as portfolio
from serving.pages.portfolio.sums import READ, families, groups, summary


@pytest.fixture(scope="module")
def rows(live):
    return live.book.table.to_pylist()


@pytest.fixture(scope="module")
def shown(live):
    return portfolio.view(live.book, summary(live.book.table.select(READ)))


def scored(rows):
    return [row for row in rows if row["status"] == "scored"]


def test_the_total_is_the_book(rows, shown):
    total = shown["total"]
    customers = [row for row in rows if row["status"] != "closed"]
    assert total.n == len(customers) < len(rows)
    assert total.n_closed == len(rows) - len(customers)
    assert total.n_scored == len(scored(rows))
    assert total.arr == pytest.approx(sum(row["arr"] or 0.0 for row in customers))
    assert total.arr_scored == pytest.approx(sum(row["arr"] or 0.0 for row in scored(rows)))
    assert total.lost == pytest.approx(
        sum((row["churn_risk"] or 0.0) * max(row["arr"] or 0.0, 0.0) for row in scored(rows))
    )
    high = [row for row in scored(rows) if row["risk_band"] == "high"]
    assert (total.n_high, total.arr_high) == (len(high), sum(row["arr"] for row in high))
    assert total.rate == total.lost / total.arr_scored
    within = [row for row in scored(rows) if row["churn_until"] <= "2026-06-01"]
    assert total.lost_91d == pytest.approx(sum(row["expected_arr_lost"] for row in within))
    assert 0 < total.lost_91d < total.lost_year == pytest.approx(total.lost)
    assert (total.lost_91d_on, total.lost_year_on) == ("2026-06-01", "2026-12-31")
    assert total.lost_until == max(row["churn_until"] for row in scored(rows))


def test_a_risk_that_names_no_day_is_added_up_all_the_same(live, rows):
    """A pooled rate is served without a day it looks to."""
    table = live.book.table
    place = table.schema.get_field_index("churn_until")
    field = table.schema.field(place)
    days = [None if i % 2 else day for i, day in enumerate(table["churn_until"].to_pylist())]
    table = table.set_column(place, field, pa.array(days, field.type))
    assert summary(table).total.n_scored == len(scored(rows))


def test_every_division_holds_every_account_once(rows, shown):
    assert set(shown["groups"]) == {"segment", "owner_id", "product", "renewal_quarter"}
    for name, parts in shown["groups"].items():
        assert sum(part.n for part in parts) == shown["total"].n, name
        assert sum(part.n_closed for part in parts) == shown["total"].n_closed, name
        assert sum(part.lost_91d for part in parts) == pytest.approx(shown["total"].lost_91d), name
        assert sum(part.n_scored for part in parts) == shown["total"].n_scored, name
        assert sum(part.lost for part in parts) == pytest.approx(shown["total"].lost), name
        assert sum(part.arr for part in parts) == pytest.approx(shown["total"].arr), name


def test_quarters_are_in_order_and_those_without_renewal_come_last(shown):
    keys = [part.key for part in shown["groups"]["renewal_quarter"]]
    assert keys[-1] == ""
    assert keys[:-1] == sorted(keys[:-1])
    assert shown["groups"]["owner_id"][0].name in {"Ada", "Ben", "Chloé", "Dev"}


def with_products(table, held):
    """Return the rows with other products: account to its products and shares."""
    for name, part in (("products", 0), ("product_shares", 1)):
        place = table.schema.get_field_index(name)
        old = zip(table["account_id"].to_pylist(), table[name].to_pylist(), strict=True)
        new = [held[entity][part] if entity in held else value for entity, value in old]
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(new, field.type))
    return table


def test_money_of_an_account_with_several_products_is_shared_and_adds_up(live, rows):
    by_id = {row["account_id"]: row for row in scored(rows)}
    both, part, none = list(by_id)[:3]
    held = {both: (["core", "more"], [0.75, 0.25]), part: (["more"], [0.4]), none: (None, None)}
    table = with_products(live.book.table, held)
    found = {group.key: group for group in groups(table, "product")}
    total = summary(table).total
    for name in ("arr", "lost", "arr_high"):
        added = sum(getattr(group, name) for group in found.values())
        assert added == pytest.approx(getattr(total, name)), name
    assert found["more"].n == found["more"].n_scored == 2
    assert found["more"].arr == pytest.approx(0.25 * by_id[both]["arr"] + 0.4 * by_id[part]["arr"])
    # What no named product takes, and what holds none, is of an unknown one, last.
    assert list(found)[-1] == ""
    assert {by_id[none]["status"], by_id[part]["status"]} == {"scored"}
    assert found[""].arr == pytest.approx(by_id[none]["arr"] + 0.6 * by_id[part]["arr"])


def test_a_group_leads_to_the_book_of_its_accounts(client, shown):
    page = client.get("/portfolio").text
    for dimension in ("segment", "product"):
        key = shown["groups"][dimension][0].key
        assert f'href="/?{dimension}={key}"' in page
        body = client.get("/book.json", params={dimension: key}).json()
        group = shown["groups"][dimension][0]
        assert len(body["rows"]) == group.n
    first = shown["groups"]["renewal_quarter"][0]
    start, end = portfolio.days_of_quarter(first.key)
    assert f"renews_from={start}&amp;renews_until={end}" in page
    wanted = {"renews_from": start, "renews_until": end}
    assert client.get("/book.json", params=wanted).json()["totals"]["n"] == first.n


def test_families_are_sums_over_parent_and_children(live):
    book = live.book.table
    parents = book["parent_account_id"].to_pylist()
    ids = book["account_id"].to_pylist()
    parents[ids.index("A-0031")] = parents[ids.index("A-0032")] = "A-0030"
    place = book.schema.get_field_index("parent_account_id")
    table = book.set_column(place, "parent_account_id", [parents])
    (family,) = families(table)
    members = [row for row in table.to_pylist() if row["account_id"] in family_ids()]
    assert family["n"] == 3
    assert family["key"] == "A-0030"
    own = [row["arr"] or 0.0 for row in members if row["status"] != "closed"]
    assert family["arr"] == pytest.approx(sum(own))
    assert family["lost"] == pytest.approx(sum(row["expected_arr_lost"] for row in scored(members)))
    risks = [row["churn_risk"] for row in scored(members)]
    assert family["riskiest"]["churn_risk"] == max(risks)


def family_ids():
    return {"A-0030", "A-0031", "A-0032"}


def test_the_map_and_the_table_behind_it_hold_the_same_accounts(rows, shown):
    known = [row for row in scored(rows) if row["churn_risk"] is not None and row["arr"] > 0]
    assert shown["map"]["n_known"] == len(known) == len(shown["map"]["points"])
    cells = [cell for line in shown["cells"] for cell in line["cells"]]
    assert sum(cell["n"] for cell in cells) == len(known)
    assert sum(cell["arr"] for cell in cells) == pytest.approx(sum(row["arr"] for row in known))
    for point in shown["map"]["points"]:
        assert portfolio.MAP_LEFT <= point["x"] <= portfolio.MAP_WIDTH
        assert 0 <= point["y"] <= shown["map"]["floor"]


def test_the_page_and_its_twin_say_the_same(client, shown):
    page = client.get("/portfolio").text
    body = client.get("/portfolio.json").json()
    assert body["total"]["lost"] == pytest.approx(shown["total"].lost)
    assert "An account counts in each of its products." in page
    lines = list(csv.DictReader(io.StringIO(client.get("/portfolio.csv").text)))
    told = [line for line in lines if line["dimension"] == "segment"]
    assert [line["name"] for line in told] == [item["name"] for item in body["groups"]["segment"]]
    assert [float(line["lost"]) for line in told] == [
        item["lost"] for item in body["groups"]["segment"]
    ]
    assert lines[0]["dimension"] == "total"
    for group in body["groups"]["segment"]:
        assert f"{group['lost']:,.0f}" in page
        assert f"{group['arr']:,.0f}" in page


def test_an_empty_book_is_a_portfolio_of_nothing(live):
    empty = live.book.table.slice(0, 0)
    assert groups(empty, "segment") == groups(empty, "product") == []
    assert families(empty) == []
    assert portfolio.risk_map(empty)["points"] == []
    assert portfolio.map_cells(empty) == []
