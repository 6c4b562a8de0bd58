"""Accounts split by product: the same revenue, each row with the product it belongs to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from configs.runtime.errors import DataError
from features.quality import check_quality, company_revenue

NOW = datetime(2026, 7, 1, tzinfo=UTC)
ACCOUNTS = "account_id,created_at,name\nA,2024-01-01,Acme\nB,2024-01-01,Bolt\n"
TERMS = (
    "account_id,subscription_id,product,started_on,renews_on,ended_on,end_reason,arr\n"
    "A,s1,core,2024-01-01,2027-01-01,,,1000\n"
    "A,s2,plus,2025-01-01,2026-01-01,2026-01-01,churned,500\n"
    "B,s3,core,2024-01-01,2027-01-01,,,700\n"
)
USAGE = (
    "account_id,occurred_at,product\nA,2026-06-01,core\nA,2025-06-01,plus\nA,2026-06-02,\n"
    "B,2026-06-01,core\nB,2026-06-03,plus\n"  # B has no terms of plus
)
INVOICES = "account_id,invoice_id,issued_on,amount\nA,i1,2025-02-01,1500\nB,i2,2025-02-01,700\n"
FILES = {
    "accounts": ACCOUNTS,
    "subscriptions": TERMS,
    "usage_events": USAGE,
    "invoices": INVOICES,
}


def test_every_product_is_an_entity_and_revenue_stays_the_same(small, rows):
    both = {}
    for grain in ("account", "product"):
        options = {"grain": grain, "reporting_currency": "EUR"}
        loaded = small.load(FILES, now=NOW, **options)
        workspace = small.workspace(FILES, **options)
        both[grain] = company_revenue(workspace, loaded, NOW)
    assert both["account"][0].arr == both["product"][0].arr == 1700
    assert both["account"][0].arr_at == both["product"][0].arr_at
    moves = [(m.account_id, m.on, m.kind, m.change) for m in both["product"][1].itertuples()]
    # Dropping one product is a loss of that product, and a contraction of the account.
    assert ("A · plus", "2026-01-01", "churn", -500) in moves
    kinds = {(m.account_id, m.on): m.kind for m in both["account"][1].itertuples()}
    assert kinds["A", "2026-01-01"] == "contraction"

    found = small.load(FILES, now=NOW, grain="product").tables
    accounts = {row["account_id"]: row for row in rows(found["accounts"].path)}
    assert set(accounts) == {"A · core", "A · plus", "B · core"}
    assert accounts["A · plus"]["parent_account_id"] == "A"
    assert str(accounts["A · plus"]["created_at"])[:10] == "2025-01-01"
    assert accounts["A · plus"]["name"] == "Acme · plus"
    used = sorted((r["account_id"], r["product"] or "") for r in rows(found["usage_events"].path))
    assert used == [
        ("A · core", ""), ("A · core", "core"), ("A · plus", ""), ("A · plus", "plus"),
        ("B · core", "core"),
    ]  # fmt: skip
    assert found["usage_events"].noted == {"no_contract_product": 1}


def test_amounts_of_a_whole_account_are_not_repeated(small, rows):
    found = small.load(FILES, now=NOW, grain="product").tables["invoices"]
    amounts = {row["account_id"]: row["amount"] for row in rows(found.path)}
    # The invoice of A covers two products; repeating it would double what was spent.
    assert amounts == {"A · core": None, "A · plus": None, "B · core": 700}


def test_rows_without_a_contract_are_reported_and_parents_are_known(small):
    options = {"grain": "product", "reporting_currency": "EUR"}
    loaded = small.load(FILES, now=NOW, **options)
    report = check_quality(small.workspace(FILES, **options), loaded, NOW)
    codes = {issue.code: issue for issue in report.issues}
    assert codes["no_contract_product"].rows == 1
    assert "unknown_parents" not in codes


def test_a_second_load_reuses_the_split(small):
    first = small.load(FILES, now=NOW, grain="product").tables["usage_events"]
    written = first.path.stat().st_mtime_ns
    again = small.load(FILES, now=NOW, grain="product").tables["usage_events"]
    assert again.path.stat().st_mtime_ns == written
    files = {**FILES, "subscriptions": TERMS + "B,s4,plus,2026-01-01,2027-01-01,,,90\n"}
    changed = small.load(files, now=NOW, grain="product").tables["usage_events"]
    assert changed.identity != again.identity
    assert changed.noted == {}


@pytest.mark.parametrize(
    "terms", [None, TERMS.replace("core", "").replace("plus", "")], ids=["none", "no product"]
)
def test_without_products_there_is_a_clear_error(small, terms):
    files = {**FILES, "subscriptions": terms}
    with pytest.raises(DataError, match="product"):
        small.load(files, now=NOW, grain="product")
