"""Small companies with misleading records: what is counted, labelled and reported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

import features.snapshots.grid
from features.labels import build_labels
from features.quality import check_quality, company_revenue
from features.snapshots.grid import ACCOUNT_STATUS, build_snapshots
from features.sources import load_sources

NOW = datetime(2026, 9, 30, tzinfo=UTC)
NAMES = [f"N{i:02d}" for i in range(12)]
FIRST, LEFT = date(2024, 2, 10), "2025-02-10"
Rows = list[dict[str, object]]


class Company:
    """A company of a few tables: its labels, its accounts today, its quality report."""

    def __init__(self, workspace) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(features.snapshots.grid, "FAMILIES", ())
            loaded = load_sources(workspace, NOW)
            snapshots = build_snapshots(workspace, loaded, NOW)
            self._labels = build_labels(workspace, loaded, snapshots, NOW)
            path = snapshots.sets[ACCOUNT_STATUS].path(snapshots.days[-1])
            self.today = pq.read_table(path).to_pandas().set_index("entity_id")
            self.quality = check_quality(workspace, loaded, NOW)
            self._read = (workspace, loaded, NOW)

    def revenue(self) -> pd.DataFrame:
        """Every movement of ARR, as finance checks it."""
        return company_revenue(*self._read)[1]

    def labels(self, target: str = "churn") -> pd.DataFrame:
        return self._labels[target].frame

    def events(self, target: str = "churn") -> dict[str, int]:
        """Event rows by account."""
        frame = self.labels(target)
        return frame[frame["label"] == 1].groupby("entity_id").size().to_dict()

    def used(self, target: str = "churn") -> int:
        return int(self.labels(target)["excluded"].isna().sum())

    def detail(self, code: str) -> str:
        [issue] = [item for item in self.quality.issues if item.code == code]
        return issue.detail

    def codes(self) -> set[str]:
        return {item.code for item in self.quality.issues}


@pytest.fixture
def company(company_of, tmp_path) -> Callable[..., Company]:
    def build(targets=("churn",), observed_in="subscriptions", created="2024-01-01", **files):
        config = files.pop("config", {})
        files = {
            "accounts": [{"account_id": name, "created_at": created} for name in NAMES],
            **files,
        }
        wanted = {name: {"outcome": name, "observed_in": observed_in} for name in targets}
        return Company(company_of(tmp_path, files, targets=wanted, **config))

    return build


def days(first: date, step: int, last: date = date(2026, 9, 29)) -> list[date]:
    return [first + timedelta(days=n) for n in range(0, (last - first).days + 1, step)]


def use(until: dict[str, str] | None = None, **more: object) -> Rows:
    """An event every two weeks, until the account's last day."""
    until = until or {}
    return [
        {"account_id": name, "user_id": f"{name}-u", "occurred_at": f"{on} 10:00"} | more
        for place, name in enumerate(NAMES)
        for on in days(date(2024, 1, 3 + place), 14)
        if str(on) <= until.get(name, "9999")
    ]


def term(name: str, year: int, *, sub: str = "", arr: object = 1000.0, **more: object):
    ends = f"{year + 1}-02-10"
    is_over = ends <= "2026-09-30"
    return {
        "account_id": name,
        "subscription_id": sub or f"S-{name}",
        "started_on": f"{year}-02-10",
        "renews_on": ends,
        "ended_on": ends if is_over else None,
        "end_reason": "renewed" if is_over else None,
        "arr": arr,
    } | more


def years(name: str, **more: object) -> Rows:
    return [term(name, year, **more) for year in (2024, 2025, 2026)]


ALL = ("churn", "expansion", "contraction")


def numbered(one_id: bool) -> Rows:
    """Yearly contracts; N10 and N11 grow by half in 2026, N00 leaves after a year."""
    rows = [term("N00", 2024, sub="" if one_id else "N00/2024", end_reason="churned")]
    for name in NAMES[1:]:
        grown = name in {"N10", "N11"}
        rows += [
            term(name, year, sub="" if one_id else f"{name}/{year}",
                 arr=1500.0 if grown and year == 2026 else 1000.0)
            for year in (2024, 2025, 2026)
        ]  # fmt: skip
    return rows


def test_contracts_under_new_numbers_are_labelled_as_under_one(company_of, tmp_path):
    found = []
    for one_id in (False, True):
        wanted = {name: {"outcome": name, "observed_in": "subscriptions"} for name in ALL}
        files = {
            "accounts": [{"account_id": name, "created_at": "2024-01-01"} for name in NAMES],
            "subscriptions": numbered(one_id),
            "usage_events": use(),
        }
        found.append(Company(company_of(tmp_path / str(one_id), files, targets=wanted)))
    for target in ALL:
        pd.testing.assert_frame_equal(found[0].labels(target), found[1].labels(target))
    company = found[0]
    assert set(company.events("expansion")) == {"N10", "N11"}
    assert set(company.events("churn")) == {"N00"}
    assert company.events("contraction") == {}
    seen = company.quality.understood
    assert seen.arr == 9 * 1000 + 2 * 1500
    told = {quarter.quarter: quarter for quarter in seen.quarters}
    assert (told["2025 Q1"].lost, told["2025 Q1"].lost_arr) == (1, -1000.0)
    assert (told["2026 Q1"].expanded, told["2026 Q1"].nrr) == (2, pytest.approx(12 / 11))
    assert all(q.grr == 1.0 for name, q in told.items() if name != "2025 Q1")


def overwritten(**more: object) -> Rows:
    """Half of the accounts with a row per term, half with one row whose period end moves on."""
    rows = []
    for place, name in enumerate(NAMES):
        stays = {0: 1, 1: 1, 2: 2}.get(place % 6, 3)
        if place < 6:
            rows += [term(name, 2024 + n) for n in range(stays)]
            if stays < 3:
                rows[-1]["end_reason"] = "churned"
        else:
            ends = f"{2024 + stays}-02-10"
            lost = {"ended_on": ends, "end_reason": "churned"} if stays < 3 else {}
            rows.append(
                term(name, 2024, **more) | {"ended_on": None, "end_reason": None, "renews_on": ends}
                | lost
            )  # fmt: skip
    return rows


@pytest.mark.parametrize("configured", [None, "year"])
def test_a_period_end_that_is_overwritten_is_unfolded_and_named(company, configured):
    mapping = {"subscriptions": {"unfold": configured}} if configured else {}
    found = company(subscriptions=overwritten(), usage_events=use(), config={"tables": mapping})
    frame = found.labels().assign(place=lambda t: t["entity_id"].str[1:].astype(int))
    halves = [
        part.assign(place=part["place"] % 6).set_index(["place", "as_of"]).sort_index()
        for part in (frame[frame["place"] < 6], frame[frame["place"] >= 6])
    ]
    columns = ["label", "excluded", "label_known_at"]
    pd.testing.assert_frame_equal(halves[0][columns], halves[1][columns])
    assert sum(found.events().values()) == 2 * halves[0]["label"].eq(1).sum() > 0
    if configured:
        assert "unfolded_terms" in found.codes()
    else:
        assert "span several billing periods" in found.detail("overwritten_terms")


def test_contracts_that_really_run_for_years_stay_as_they_are(company):
    """Three-year contracts begun in different years renew in different years."""
    rows = [
        term(name, 2024) | {"started_on": f"{2024 + place % 3}-02-10", "ended_on": None,
                            "end_reason": None, "renews_on": f"{2027 + place % 3}-02-10"}
        for place, name in enumerate(NAMES)
    ]  # fmt: skip
    found = company(subscriptions=rows, usage_events=use())
    assert not {"overwritten_terms", "unfolded_terms"} & found.codes()
    assert found.quality.understood.terms == 12


def test_monthly_rows_that_are_overwritten_are_recognised(company):
    """Begun in different months, every one renews next month."""
    rows = [
        {
            "account_id": name,
            "subscription_id": f"S-{name}",
            "started_on": f"{2024 + place % 2}-{1 + place % 9:02d}-15",
            "renews_on": "2026-10-15",
            "arr": 120.0,
        }
        for place, name in enumerate(NAMES)
    ]
    found = company(subscriptions=rows, usage_events=use())
    assert "of one month" in found.detail("overwritten_terms")


def test_terms_that_ended_as_renewed_and_nothing_follows_are_losses(company):
    rows = [term(name, 2024) for name in NAMES[:4]]
    rows += [row for name in NAMES[4:] for row in years(name)]
    found = company(subscriptions=rows, usage_events=use(dict.fromkeys(NAMES[:4], "2025-03-01")))
    frame = found.labels()
    lost = frame[frame["label"] == 1]
    assert set(lost["entity_id"]) == set(NAMES[:4])
    assert set(lost["effective_at"]) == {pd.Timestamp("2025-02-11", tz="UTC")}
    assert "without following terms: 4 of 20" in found.detail("renewed_into_nothing")


def bills(step: dict[str, int] | int, amount: dict[int, float], first=date(2024, 1, 3)) -> Rows:
    rows = []
    for place, name in enumerate(NAMES):
        pause = step if isinstance(step, int) else step[name]
        rows += [
            {
                "invoice_id": f"{name}-{on}", "account_id": name, "issued_on": str(on),
                "amount": amount[pause], "currency": "USD", "is_failed_charge": False,
            }
            for on in days(first + timedelta(days=place), pause)
        ]  # fmt: skip
    return rows


def test_failed_charges_are_neither_activity_nor_spend(company):
    rows = bills(30, {30: 100.0})
    for row in rows:
        row["is_failed_charge"] = row["account_id"] < "N04" and row["issued_on"] > "2025-05-31"
    found = company(observed_in="activity", invoices=rows)
    assert set(found.events()) == set(NAMES[:4])
    assert (found.today["status"][:4] == "closed").all()
    assert (found.today["arr"][:4] == 0).all()
    assert (found.today["status"][4:] == "scored").all()
    assert "failed charges" in found.detail("not_counted")


@pytest.mark.parametrize("kind", ["credit", "nothing", "void", "refund"])
def test_what_asks_for_no_money_is_no_activity(company, kind):
    """The last real charge is in May 2025; what follows is booked each month all the same."""
    rows = bills(30, {30: 100.0})
    for row in rows:
        row["status"] = "paid"
        if row["account_id"] < "N04" and row["issued_on"] > "2025-05-31":
            row["amount"] = {"credit": -5.0, "nothing": 0.0, "void": 100.0, "refund": -100.0}[kind]
            row["status"] = "Void" if kind == "void" else "paid"
    found = company(observed_in="activity", invoices=rows)
    assert set(found.events()) == set(NAMES[:4])
    assert (found.today["status"][:4] == "closed").all()
    assert (found.today["arr"][:4] == 0).all()
    assert found.quality.understood.activity["active_91d"] == 8


def test_events_of_nothing_are_no_activity(company):
    rows = use(quantity=3)
    for row in rows:
        if row["account_id"] < "N04" and row["occurred_at"] > "2025-06-01":
            row["quantity"] = 0
    found = company(observed_in="activity", usage_events=rows)
    assert set(found.events()) == set(NAMES[:4])
    assert (found.today["last_active_days"][:4] > 480).all()
    assert "quantity of 0" in found.detail("not_counted")


def test_customers_billed_once_a_year_neither_leave_nor_grow(company):
    step = {name: 28 if place % 2 == 0 else 365 for place, name in enumerate(NAMES)}
    found = company(
        targets=ALL, observed_in="activity", created="2023-01-01",
        invoices=bills(step, {28: 100.0, 365: 1200.0}, date(2023, 1, 5)),
    )  # fmt: skip
    assert [found.events(target) for target in ALL] == [{}, {}, {}]
    assert (found.today["status"] == "scored").all()
    assert (found.today["arr"] == [1300.0, 1200.0] * 6).all()
    detail = found.detail("silent_by_habit")
    assert "6 of 12 accounts (50.0 %) have a longer usual gap (365 days)" in detail
    assert "horizon_days (91) and active_within_days (91)" in detail


def test_a_yearly_customer_who_does_not_renew_is_lost(company):
    step = dict.fromkeys(NAMES, 365)
    rows = bills(step, {365: 1200.0}, date(2023, 1, 5))
    rows = [row for row in rows if row["account_id"] != "N00" or row["issued_on"] < "2025-06-01"]
    found = company(observed_in="activity", created="2023-01-01", invoices=rows)
    assert set(found.events()) == {"N00"}
    assert found.today["status"]["N00"] == "closed"
    assert found.today["arr"]["N00"] == 0


def test_the_first_yearly_bill_is_enough_where_others_are_billed_yearly(company):
    step = {name: 365 if place % 4 == 0 else 28 for place, name in enumerate(NAMES)}
    rows = bills(step, {28: 100.0, 365: 1200.0}, date(2023, 1, 5))
    once = {"N01": "2026-01-20", "N02": "2024-06-20"}  # eight months ago; the second never came
    rows = [row for row in rows if row["account_id"] not in once]
    for name, day in once.items():
        rows.append(next(row for row in rows if row["account_id"] == "N00") | {
            "invoice_id": f"{name}-1", "account_id": name, "issued_on": day,
        })  # fmt: skip
    found = company(observed_in="activity", created="2023-01-01", invoices=rows)
    assert set(found.events()) == {"N02"}
    assert found.today["status"][["N01", "N02"]].tolist() == ["scored", "closed"]
    assert found.today["arr"][["N01", "N02"]].tolist() == [1200.0, 0.0]


def test_a_flat_amount_every_thirty_days_never_grows(company):
    found = company(
        targets=("expansion", "contraction"), observed_in="activity",
        invoices=bills(30, {30: 100.0}),
    )  # fmt: skip
    assert found.events("expansion") == found.events("contraction") == {}
    assert found.used("expansion") > 100


def test_a_rise_of_the_bill_is_growth(company):
    rows = bills(30, {30: 100.0})
    for row in rows:
        if row["account_id"] == "N05" and row["issued_on"] >= "2025-08-01":
            row["amount"] = 150.0
    found = company(targets=("expansion",), observed_in="activity", invoices=rows)
    assert set(found.events("expansion")) == {"N05"}


def test_prospects_have_no_usual_spend_before_their_first_bill(company_of, tmp_path):
    found = []
    for created in ("2022-06-01", "2024-01-05"):
        files = {
            "accounts": [{"account_id": name, "created_at": created} for name in NAMES],
            "invoices": [
                {"invoice_id": f"{name}-{on:%Y-%m}", "account_id": name,
                 "issued_on": f"{on:%Y-%m}-05", "amount": 100.0, "currency": "USD"}
                for name in NAMES
                for on in pd.date_range("2024-01-01", "2026-09-01", freq="MS")
            ],
        }  # fmt: skip
        target = {"expansion": {"outcome": "expansion", "observed_in": "activity"}}
        found.append(Company(company_of(tmp_path / created, files, targets=target)))
    assert [company.events("expansion") for company in found] == [{}, {}]
    assert found[0].used("expansion") == found[1].used("expansion") > 0


def test_active_accounts_in_no_subscription_are_counted(company):
    rows = [row for name in NAMES[4:] for row in years(name)]
    found = company(subscriptions=rows, usage_events=use(dict.fromkeys(NAMES[:4], "2025-06-01")))
    detail = found.detail("activity_without_terms")
    assert "accounts with activity and without any term: 4 of 12" in detail


def test_one_amount_that_is_missing_makes_the_revenue_of_an_account_unknown(company):
    rows = [row for name in NAMES for row in years(name)]
    rows += [term(name, 2026, sub=f"T-{name}", arr=None) for name in NAMES[:4]]
    found = company(subscriptions=rows, usage_events=use())
    assert found.today["arr"][:4].isna().all()
    assert (found.today["arr"][4:] == 1000.0).all()
    assert "live terms without arr: 4 of 16" in found.detail("live_terms_without_arr")
    seen = found.quality.understood
    assert (seen.arr, seen.unpriced, seen.paying) == (8000.0, 4, 8)


def test_trials_that_never_paid_are_no_losses(company):
    rows = [row for name in NAMES[4:] for row in years(name)]
    rows += [
        term(name, 2025, arr=0.0) | {"ended_on": "2025-04-15", "renews_on": None,
                                     "end_reason": "churned"}
        for name in NAMES[:4]
    ]  # fmt: skip
    found = company(subscriptions=rows, usage_events=use())
    assert found.events() == {}
    assert set(found.labels().dropna(subset="label")["entity_id"]) == set(NAMES[4:])
    detail = found.detail("unpaid_accounts")
    assert "accounts whose only terms have arr 0: 4 of 12" in detail


def test_a_gap_between_two_billing_systems_is_named(company):
    """The old system ends every term in March, the new one begins in May."""
    rows = []
    for name in NAMES:
        rows.append(term(name, 2024) | {"ended_on": "2025-03-31", "end_reason": None})
        rows.append(term(name, 2025, sub=f"new-{name}") | {"started_on": "2025-05-15",
                                                            "ended_on": None,
                                                            "end_reason": None})  # fmt: skip
    found = company(subscriptions=rows, usage_events=use())
    detail = found.detail("lost_on_one_day")
    assert "12 of 12 accounts with revenue (100.0 %) are lost on 2025-03-31" in detail
    assert "12 of them return later" in detail


def test_a_merger_whose_new_account_is_not_known_is_named(company):
    rows = [row for name in NAMES[1:] for row in years(name)]
    rows.append(term("N00", 2024, end_reason="merged"))
    found = company(subscriptions=rows, usage_events=use({"N00": LEFT}))
    assert found.events() == {}
    detail = found.detail("merged_into_unknown")
    assert detail == "1 of 1 merged terms (100.0 %), 1,000 USD a year"


def test_test_accounts_are_left_out(company):
    accounts = [
        {"account_id": name, "created_at": "2024-01-01", "is_test": name == "N00"} for name in NAMES
    ]
    rows = [row for name in NAMES for row in years(name)]
    found = company(accounts=accounts, subscriptions=rows, usage_events=use())
    assert "N00" not in found.today.index
    assert found.quality.understood.accounts == 11
    assert found.quality.understood.arr == found.today["arr"].sum() == 11_000
    assert "test accounts" in found.detail("not_counted")


def test_three_currencies_add_up_at_the_rate_of_each_contract(company):
    money = ["USD", "EUR", "GBP"]
    rows = []
    for place, name in enumerate(NAMES):
        own = money[place % 3]
        rows += [term(name, year, currency=own) for year in (2024, 2025, 2026)]
    rates = [
        {"currency": code, "as_of_on": on, "rate": rate}
        for code, steps in {"EUR": (1.0, 1.1, 1.2), "GBP": (1.3, 1.25, 1.4)}.items()
        for on, rate in zip(("2024-01-01", "2025-01-01", "2026-01-01"), steps, strict=True)
    ]
    found = company(
        targets=ALL, subscriptions=rows, usage_events=use(), rates=rates,
        config={"reporting_currency": "USD"},
    )  # fmt: skip
    assert found.today["arr"].sum() == pytest.approx(4 * (1000 + 1200 + 1400))
    seen = found.quality.understood
    assert seen.arr == pytest.approx(found.today["arr"].sum())
    assert [found.events(target) for target in ALL] == [{}, {}, {}]
    assert all((q.grr, q.nrr) == (1.0, 1.0) for q in seen.quarters)


def test_movements_add_up_to_the_revenue_of_each_account_and_product(company):
    """N00 swaps a product at the same price, N01 adds one, N02 loses one, N03 leaves."""
    rows = [row for name in NAMES[4:] for row in years(name, product="basic")]
    rows += [
        term("N00", 2024, product="basic", end_reason="changed"),
        term("N00", 2025, sub="plus-00", product="plus") | {"ended_on": None, "end_reason": None},
        *years("N01", product="basic"),
        term("N01", 2026, sub="extra-01", product="extra", arr=250.0),
        *years("N02", product="basic"),
        term("N02", 2024, sub="extra-02", product="extra", arr=400.0, end_reason="churned"),
        term("N03", 2024, product="basic", end_reason="churned"),
    ]
    found = company(subscriptions=rows, usage_events=use())
    moved = found.revenue()
    by_account = moved.groupby("account_id")["change"].sum()
    pd.testing.assert_series_equal(
        by_account, found.today["arr"].fillna(0.0), check_names=False, check_index=False
    )
    later = moved[moved["on"] > "2024-02-10"].set_index(["account_id", "product"])
    told = later[["kind", "product_kind", "change"]].fillna("none").T.to_dict("list")
    assert told == {
        ("N00", "basic"): ["none", "churn", -1000.0],
        ("N00", "plus"): ["none", "new", 1000.0],
        ("N01", "extra"): ["expansion", "new", 250.0],
        ("N02", "extra"): ["contraction", "churn", -400.0],
        ("N03", "basic"): ["churn", "churn", -1000.0],
    }


def test_a_currency_without_a_rate_is_an_error_and_no_zero(company):
    rows = [row for name in NAMES for row in years(name, currency="USD")]
    for row in rows:
        if row["account_id"] == "N00":
            row["currency"] = "JPY"
    found = company(subscriptions=rows, usage_events=use(), config={"reporting_currency": "USD"})
    assert "currency_without_rate" in found.codes()
    assert pd.isna(found.today["arr"]["N00"])
    assert found.quality.understood.arr is None
    assert "JPY has no rate to USD" in found.quality.understood.why_not
