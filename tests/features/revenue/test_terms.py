"""Which terms continue which: golden cases by hand, and a slow independent reading."""

from __future__ import annotations

import random
from datetime import date

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.revenue.revenue_changes import revenue_changes
from features.revenue.terms import departures, one_state, read_with_hindsight, resolve_terms
from features.tables.daily_tables import daily_schema

SCHEMA = daily_schema("subscriptions")
BACK, EARLY = 30, 45
LOST, GOES_ON = ("churned", "payment_failure"), ("renewed", "changed")


@pytest.fixture(scope="module")
def engine():
    engine = ibis.duckdb.connect(threads=1)
    yield engine
    engine.disconnect()


@pytest.fixture(scope="module")
def queries():
    """The queries over a table ``terms``, compiled once; ``at`` is a parameter of the table."""
    table = ibis.table({**SCHEMA, "at": "int64"}, name="terms")
    at = table["at"].max().as_scalar()
    resolved = resolve_terms(one_state(table), at)
    found = {"resolved": resolved, "gone": departures(resolved), "moved": revenue_changes(resolved)}
    return {name: ibis.to_sql(query, dialect="duckdb") for name, query in found.items()}


@pytest.fixture(scope="module")
def read(engine, queries):
    def run(name, rows, at):
        types = ibis.schema(SCHEMA).to_pyarrow()
        columns = {name: [row.get(name) for row in rows] for name in SCHEMA}
        table = pa.table(columns, schema=types).append_column("at", pa.array([at] * len(rows)))
        engine.con.register("terms", table)
        return engine.con.sql(queries[name]).to_arrow_table().to_pylist()

    return run


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def term(sub, started, ended=None, reason=None, arr=100.0, account="a", **more):
    """Terms with dates as people write them; facts count from the next midnight."""
    return {
        "entity_id": account,
        "subscription_id": sub,
        "day": day(started) + 1,
        "ended_day": None if ended is None else day(ended) + 1,
        "end_reason": reason,
        "arr": arr,
        "currency_rate": 1.0,
        "product": more.pop("product", "core"),
        "renews_day": None if "renews" not in more else day(more.pop("renews")),
        **more,
    }


AT = day("2026-06-01")


def fates(read, *rows):
    found = read("resolved", rows, AT)
    return {(row["entity_id"], row["subscription_id"]): row["fate"] for row in found}


def changes(read, *rows, account="a"):
    """Changes of revenue by day, those of one day added up."""
    found: dict[int, float] = {}
    for row in read("moved", rows, AT):
        if row["entity_id"] == account and row["change"] is not None:
            found[row["day"]] = round(found.get(row["day"], 0.0) + row["change"], 6)
    return {at: change for at, change in sorted(found.items()) if change}


@pytest.mark.parametrize(
    ("late", "product", "reason"),
    [(0, "core", "renewed"), (29, "core", "renewed"), (-40, "core", None), (0, "plus", "changed"),
     (12, "plus", "renewed"), (0, "core", "churned")],
)  # fmt: skip
def test_a_renewal_under_another_number_continues_the_terms(read, late, product, reason):
    start = date.fromordinal(date(2025, 2, 10).toordinal() + late)
    rows = (
        term("2024", "2024-02-10", "2025-02-10", reason, 100.0),
        term("2025", str(start), arr=130.0, product=product),
    )
    assert fates(read, *rows) == {("a", "2024"): "continued", ("a", "2025"): "held"}
    assert changes(read, *rows) == {day(str(start)) + 1: 30.0}
    assert read("gone", rows, AT) == []


def test_flat_renewals_are_no_movement_whatever_they_are_called(read):
    rows = (
        term("1", "2023-02-10", "2024-02-10", "renewed"),
        term("2", "2024-02-10", "2025-02-10", "renewed"),
        term("3", "2025-02-10", "2026-02-10", "renewed"),
        term("4", "2026-02-10"),
    )
    assert changes(read, *rows) == {}


def test_what_ended_as_renewed_is_lost_once_nothing_followed_for_thirty_days(read):
    rows = [term("s", "2025-04-01", "2026-05-01", "renewed")]
    assert fates(read, *rows) == {("a", "s"): "awaits"}
    rows = [term("s", "2025-04-01", "2026-04-30", "renewed")]
    assert fates(read, *rows) == {("a", "s"): "lost"}
    [gone] = read("gone", rows, AT)
    assert (gone["effective_day"], gone["reason"]) == (day("2026-04-30") + 1, None)


def test_a_co_term_folds_several_terms_into_one(read):
    rows = (
        term("base", "2024-03-01", "2025-03-01", "renewed", 100.0),
        term("addon", "2024-09-01", "2025-03-01", "renewed", 40.0),
        term("both", "2025-03-01", arr=150.0),
    )
    assert changes(read, *rows) == {day("2024-09-01") + 1: 40.0, day("2025-03-01") + 1: 10.0}


def test_an_addon_shortly_before_the_renewal_is_growth_and_no_successor(read):
    rows = (
        term("base", "2024-03-01", "2025-03-01", "renewed", 100.0),
        term("addon", "2025-02-10", arr=40.0),
        term("next", "2025-03-01", arr=100.0),
    )
    assert changes(read, *rows) == {day("2025-02-10") + 1: 40.0}


def test_a_pause_of_more_than_thirty_days_is_a_loss_and_a_return(read):
    rows = (
        term("s", "2024-03-01", "2025-03-01", "changed", 100.0),
        term("s", "2025-03-01", "2025-04-15", "changed", 0.0),
        term("s", "2025-04-15", arr=100.0),
    )
    assert changes(read, *rows) == {day("2025-03-01") + 1: -100.0, day("2025-04-15") + 1: 100.0}
    assert [row["effective_day"] for row in read("gone", rows, AT)] == [day("2025-03-01") + 1]
    rows[1]["ended_day"] = rows[2]["day"] = day("2025-03-31") + 1
    assert changes(read, *rows) == {}
    assert read("gone", rows, AT) == []


def test_a_downgrade_to_a_free_plan_is_a_loss(read):
    rows = (
        term("s", "2024-03-01", "2025-03-01", "changed", 100.0),
        term("s", "2025-03-01", arr=0.0),
    )
    assert changes(read, *rows) == {day("2025-03-01") + 1: -100.0}
    assert len(read("gone", rows, AT)) == 1


def test_trials_are_never_lost_and_their_start_is_no_growth(read):
    rows = (
        term("trial", "2024-03-01", "2024-04-01", "changed", 0.0),
        term("paid", "2024-04-01", arr=100.0),
    )
    assert changes(read, *rows) == {}
    assert read("gone", [term("trial", "2024-03-01", "2024-04-01", "churned", 0.0)], AT) == []


def test_a_subscription_that_moves_to_another_account_is_no_loss(read):
    rows = (
        term("s1", "2024-01-01", "2025-02-10", "changed", 300.0, account="sold"),
        term("own", "2024-01-01", arr=500.0, account="buyer"),
        term("s1", "2025-02-15", arr=330.0, account="buyer"),
    )
    assert fates(read, *rows)[("sold", "s1")] == "moved"
    assert changes(read, *rows, account="sold") == {}
    assert changes(read, *rows, account="buyer") == {day("2025-02-15") + 1: 30.0}
    assert read("gone", rows, AT) == []


def test_ids_that_many_accounts_share_are_no_move(read):
    rows = (
        term("core", "2024-01-01", "2025-02-10", "churned", account="x"),
        term("core", "2025-02-15", account="y"),
        term("core", "2024-05-01", account="z"),
    )
    assert fates(read, *rows)[("x", "core")] == "lost"


def test_a_merged_account_without_a_trace_is_no_loss(read):
    rows = [term("z", "2024-01-01", "2025-02-10", "merged", 50.0)]
    assert fates(read, *rows) == {("a", "z"): "moved"}
    assert read("gone", rows, AT) == []


def test_two_products_of_which_one_ends_is_a_contraction(read):
    rows = (
        term("c", "2024-01-01", product="core", arr=80.0),
        term("x", "2024-01-01", "2025-05-05", "churned", 20.0, product="extra"),
    )
    assert changes(read, *rows) == {day("2025-05-05") + 1: -20.0}
    assert read("gone", rows, AT) == []


def test_swapping_one_product_for_another_on_one_day_is_the_difference(read):
    rows = (
        term("c", "2024-01-01", "2025-05-05", "churned", 80.0, product="basic"),
        term("x", "2025-05-05", arr=120.0, product="plus"),
    )
    assert changes(read, *rows) == {day("2025-05-05") + 1: 40.0}


def test_a_later_row_of_a_subscription_closes_the_earlier_one(read):
    rows = (term("s", "2024-01-01", arr=100.0), term("s", "2025-01-01", arr=110.0))
    assert changes(read, *rows) == {day("2025-01-01") + 1: 10.0}
    found = read("resolved", rows, AT)
    assert sorted((row["fate"], row["stops_day"]) for row in found) == [
        ("continued", day("2025-01-01") + 1),
        ("held", None),
    ]


@pytest.mark.parametrize(
    ("begins", "renews", "is_replaced"),
    [
        ("2025-01-20", "2026-02-10", True),  # signed three weeks early
        ("2025-01-20", "2025-02-10", False),  # an add-on that ends with the contract
        ("2024-11-01", "2026-02-10", False),  # too early to be its renewal
        ("2025-02-15", "2026-02-15", True),  # the end of the old contract was never recorded
        ("2025-02-25", "2026-02-25", False),  # it went on for two weeks: another contract
    ],
)
def test_a_new_contract_replaces_one_whose_end_is_not_recorded(read, begins, renews, is_replaced):
    rows = (
        term("old", "2024-02-10", arr=100.0, renews="2025-02-10"),
        term("new", begins, arr=100.0, renews=renews),
    )
    assert (fates(read, *rows)[("a", "old")] == "continued") == is_replaced


def test_with_fewer_renewals_than_contracts_none_is_closed(read):
    rows = (
        term("one", "2024-02-10", renews="2025-02-10"),
        term("two", "2024-02-10", renews="2025-02-10"),
        term("new", "2025-02-01", renews="2026-02-10"),
    )
    assert set(fates(read, *rows).values()) == {"held"}


def test_amounts_that_are_not_known_make_no_movement(read):
    rows = (
        term("s", "2024-01-01", "2025-01-01", "renewed", None),
        term("s", "2025-01-01", arr=100.0),
    )
    assert changes(read, *rows) == {}


def test_an_announced_end_counts_until_it_is_overdue(engine):
    def ends(notice, period, today):
        rows = [term("s", "2024-01-01", notice_day=day(notice), notice_period_days=float(period))]
        types = ibis.schema(SCHEMA).to_pyarrow()
        columns = {name: [row.get(name) for row in rows] for name in SCHEMA}
        resolved = read_with_hindsight(pa.table(columns, schema=types), day(today))
        found = engine.execute(departures(ibis.memtable(resolved)))
        return found["effective_day"].tolist()

    assert ends("2025-05-01", 60, "2025-06-01") == [day("2025-05-01") + 60]
    assert ends("2025-05-01", 60, "2025-09-01") == []


# An independent reading of the rules, one row at a time.


def ledger(seed: int) -> list[dict[str, object]]:
    """Terms of one account under some ids and products, that overlap, pause, end and return."""
    draw = random.Random(seed)
    rows: dict[tuple[str, int], dict[str, object]] = {}
    for place in range(draw.randint(1, 7)):
        sub, start = f"{draw.choice('stuv')}{seed}", 10 * draw.randint(0, 40)
        length = draw.choice([None, 10, 60, 90, 100, 120, 180, 365])
        rows[sub, start] = {
            "entity_id": f"a{seed:09d}",
            "subscription_id": sub,
            "day": start,
            "product": draw.choice(["core", "core", "plus", None]),
            "arr": draw.choice([0.0, 25.0, 50.0, 75.0 + place]),
            "ended_day": None if length is None else start + length,
            "end_reason": None if length is None else draw.choice([None, *LOST, *GOES_ON]),
            "renews_day": draw.choice([None, start + 89, start + 179]),
            "notice_day": draw.choice([None, start + draw.randint(0, 90)]),
            "currency_rate": 1.0,
        }
    return list(rows.values())


def slow_state(rows):  # noqa: C901
    """Close rows that later ones replace."""
    out = [dict(row) for row in rows]
    for row in out:
        row["line"] = row["product"] or ""
    for row in out:
        later = [
            r["day"] for r in out
            if (r["subscription_id"], r["line"]) == (row["subscription_id"], row["line"])
            and r["day"] > row["day"]
        ]  # fmt: skip
        if later and (row["ended_day"] is None or row["ended_day"] > min(later)):
            if row["ended_day"] is None:
                row["end_reason"] = "changed"
            row["ended_day"] = min(later)
    found = {}
    for place, row in enumerate(out):
        if row["ended_day"] is None and row["renews_day"] is not None:
            nexts = {
                r["subscription_id"]: min(
                    s["day"] for s in out
                    if s["subscription_id"] == r["subscription_id"] and _renews(row, s)
                )
                for r in out if _renews(row, r)
            }  # fmt: skip
            if nexts:
                found[place] = (min(nexts.values()), len(nexts))
    for place, (by, n) in found.items():
        rivals = [
            p for p, (other, _) in found.items()
            if other == by and out[p]["line"] == out[place]["line"]
        ]  # fmt: skip
        if len(rivals) <= n:
            out[place] |= {"ended_day": by, "end_reason": "renewed"}
    return out


def _renews(row, other):
    if other["subscription_id"] == row["subscription_id"] or other["line"] != row["line"]:
        return False
    if row["renews_day"] is None:
        return False
    first, due = other["day"] - 1, row["renews_day"]
    if other["day"] <= row["day"] or first > due + 7:
        return False
    is_longer = other["renews_day"] is not None and other["renews_day"] > due
    return (first > due - EARLY and is_longer) or first >= due


def slow_next(row, rows, at):  # noqa: C901
    """Return the row that continues one, or its fate."""
    if row["ended_day"] is None:
        return "held"
    end, others = row["ended_day"], [r for r in rows if r is not row]

    def covers(r):
        return r["day"] <= end and (r["ended_day"] is None or r["ended_day"] > end)

    def after(r):
        return end <= r["day"] <= end + BACK

    def is_first(r):
        same = [s["day"] for s in rows if s["subscription_id"] == r["subscription_id"]]
        return r["day"] == min(same)

    def starts(r):
        overlaps = end - EARLY < r["day"] < end and r["day"] > row["day"] and covers(r)
        return is_first(r) and (after(r) or overlaps)

    def same(r):
        return r["subscription_id"] == row["subscription_id"]

    is_alone = not any(covers(r) for r in others)
    steps = [
        lambda r: same(r) and r["line"] == row["line"] and after(r),
        lambda r: same(r) and after(r),
        lambda r: r["line"] == row["line"] and starts(r),
        lambda r: row["end_reason"] in GOES_ON and starts(r),
        lambda r: is_alone and after(r),
    ]
    for step in steps:
        fit = [r for r in others if step(r)]
        if fit:
            return min(
                fit,
                key=lambda r: (abs(r["day"] - end), -r["arr"], r["subscription_id"], r["day"]),
            )
    if row["end_reason"] in GOES_ON and end + BACK >= at:
        return "awaits"
    return "lost"


def slow_reading(rows, at):
    """Return departures and changes of revenue by day of one account."""
    paid = [row for row in slow_state(rows) if row["arr"] > 0]
    fate = {id(row): slow_next(row, paid, at) for row in paid}
    stop = {}
    for row in paid:
        follows = fate[id(row)]
        if isinstance(follows, dict):
            stop[id(row)] = follows["day"]
        elif follows == "lost":
            stop[id(row)] = row["ended_day"]
    moved: dict[int, float] = {}
    first = min((row["day"] for row in paid), default=0)
    for row in paid:
        before = [r for r in paid if fate[id(r)] is row]
        if before or row["day"] > first:
            change = row["arr"] - sum(r["arr"] for r in before)
            moved[row["day"]] = moved.get(row["day"], 0.0) + change
        if fate[id(row)] == "lost":
            moved[stop[id(row)]] = moved.get(stop[id(row)], 0.0) - row["arr"]
    gone = []
    for end in sorted({stop[id(row)] for row in paid if fate[id(row)] == "lost"}):
        stays = any(
            row["day"] <= end and (id(row) not in stop or stop[id(row)] > end) for row in paid
        )
        if not stays:
            gone.append(end)
    return gone, {at: change for at, change in sorted(moved.items()) if change}


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**8))
def test_the_ledger_agrees_with_a_slow_reading(read, seed):
    ledgers = [ledger(seed + place) for place in range(250)]
    rows, at = [row for item in ledgers for row in item], 500
    gone: dict[str, list[int]] = {}
    for row in read("gone", rows, at):
        gone.setdefault(row["entity_id"], []).append(row["effective_day"])
    moved: dict[str, dict[int, float]] = {}
    for row in read("moved", rows, at):
        own = moved.setdefault(row["entity_id"], {})
        own[row["day"]] = own.get(row["day"], 0.0) + row["change"]
    for item in ledgers:
        name = item[0]["entity_id"]
        told = {k: v for k, v in sorted(moved.get(name, {}).items()) if v}
        assert (sorted(gone.get(name, [])), told) == slow_reading(item, at), item


def test_the_random_ledgers_hold_what_the_rules_are_about():
    """The check above can fail: its ledgers contain departures, losses and every fate."""
    seen: set[object] = set()
    for seed in range(300):
        rows = ledger(seed)
        paid = [row for row in slow_state(rows) if row["arr"] > 0]
        kinds = [slow_next(row, paid, 500) for row in paid]
        seen.update("continued" if isinstance(kind, dict) else kind for kind in kinds)
        gone, moved = slow_reading(rows, 500)
        seen.update(["left"] if gone else [])
        seen.update("loss" if change < 0 else "gain" for change in moved.values())
    assert seen >= {"continued", "held", "awaits", "lost", "left", "loss", "gain"}
