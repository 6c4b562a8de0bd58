"""What then happened: one small ledger per rule, edges to the day, and a slow independent check."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

import features.snapshots.grid
from configs.runtime.errors import ConfigError, DataError
from configs.schema.company import Target
from features.labels import COLUMNS, build, build_labels, definition, labels_at, require_events
from features.snapshots.grid import build_snapshots
from features.sources import load_sources

NOW = datetime(2025, 12, 1, 9, tzinfo=UTC)
AS_OF = "2025-01-01"


def term(name: str, started: str = "2024-01-01", **others: object) -> dict[str, object]:
    blank = dict.fromkeys(
        ["renews_on", "ended_on", "end_reason", "notice_at", "notice_period_days", "escalator"]
    )
    plain = {
        "account_id": name,
        "subscription_id": f"{name}-1",
        "started_on": started,
        "arr": 100.0,
    }
    return plain | blank | {"currency": "EUR"} | others


def ends(name: str, on: str, reason: str | None = "churned", **others: object) -> dict[str, object]:
    return term(name, ended_on=on, end_reason=reason, **others)


def step(name: str, on: str, before: float, after: float, **old: object) -> list[dict[str, object]]:
    """Terms that change on a day."""
    first = {"end_reason": "changed"} | old
    return [
        term(name, arr=before, ended_on=on, **first),
        term(name, on, arr=after, currency=first.get("currency", "EUR")),
    ]


MONTH_TO_MONTH = [
    ends("e_0", "2024-12-31"),
    ends("e_1", "2025-01-01"),
    ends("e_30", "2025-01-30"),
    ends("e_31", "2025-01-31"),
    ends("e_91", "2025-04-01"),
    ends("e_92", "2025-04-02"),
    ends("e_121", "2025-05-01"),
    ends("e_122", "2025-05-02"),
    ends("noticed", "2025-06-30", notice_at="2025-02-10T09:00:00"),
    ends("notice_before", "2025-06-30", notice_at="2024-12-31T23:00:00"),
    term("announced", notice_at="2025-02-10T09:00:00", notice_period_days=400),
    term("withdrawn", notice_at="2025-02-10T09:00:00", notice_period_days=30),
    ends("already", "2025-03-01"),
    ends("already", "2025-03-01", subscription_id="al-2", arr=1, notice_at="2024-12-15T09:00:00"),
    ends("back_30", "2025-02-10"),
    term("back_30", "2025-03-12", subscription_id="b-2"),
    ends("back_31", "2025-02-10"),
    term("back_31", "2025-03-13", subscription_id="b-2"),
    ends("merged", "2025-02-10", "merged"),
    ends("awaiting", "2025-02-10", "renewed"),
    ends("changed", "2025-02-10", "changed"),
    term("changed", "2025-02-10"),
    ends("unpaid", "2025-02-10", "payment_failure"),
    ends("unstated", "2025-02-10", None),
    ends("one_of_two", "2025-02-10", arr=40.0),
    term("one_of_two", subscription_id="t-2", arr=60.0),
    term("stays"),
]


def contract(name: str, renews: str, **others: object) -> dict[str, object]:
    started = f"{int(renews[:4]) - 1}{renews[4:]}"
    return term(name, started, renews_on=renews, notice_period_days=60, **others)


CONTRACTS = [
    contract("r_lost", "2025-03-01", ended_on="2025-03-01", end_reason="churned"),
    contract("r_grace", "2025-03-01", ended_on="2025-04-14", end_reason="churned"),
    contract("r_after", "2025-03-01", ended_on="2025-04-15", end_reason="churned"),
    contract("r_kept", "2025-03-01", ended_on="2025-03-01", end_reason="renewed"),
    term("r_kept", "2025-03-01", renews_on="2026-03-01"),
    contract(
        "r_far",
        "2025-09-01",
        ended_on="2025-09-01",
        end_reason="churned",
        notice_at="2025-06-20T10:00:00",
    ),
    contract("r_seen", "2025-10-17"),
    contract("r_unseen", "2025-10-18"),
    contract("r_early", "2025-10-18", ended_on="2025-02-10", end_reason="churned"),
]
MOVEMENTS = [
    *step("x_10", "2025-02-01", 100, 110),
    *step("x_9", "2025-02-01", 100, 109.99),
    *step("x_70", "2025-02-01", 70, 77),
    *step("x_first_day", "2025-01-01", 100, 110),
    *step("x_before", "2024-12-31", 100, 110),
    *step("x_last_day", "2025-04-01", 100, 110),
    *step("x_too_late", "2025-04-02", 100, 110),
    *step("x_uplift", "2025-02-01", 100, 114.99, end_reason="renewed", escalator=0.05),
    *step("x_more", "2025-02-01", 100, 115, end_reason="renewed", escalator=0.05),
    *step("x_mid_term", "2025-02-01", 100, 110, escalator=0.05),  # no renewal: no uplift is due
    *step("x_rate", "2025-02-01", 100, 100, currency="USD"),
    *step("x_rate_up", "2025-02-01", 100, 120, currency="USD"),
    term("x_cross"),
    term("x_cross", "2025-02-01", subscription_id="xc-2", arr=15.0),
    *step("x_leaver", "2025-02-01", 100, 150),
    ends("x_back", "2025-02-01"),
    term("x_back", "2025-02-15"),
    ends("x_swap", "2025-02-01", arr=50.0),
    term("x_swap", subscription_id="xs-2"),
    term("x_swap", "2025-02-01", subscription_id="xs-3", arr=60.0),
    ends("x_merge", "2025-02-01", "merged", arr=60.0),
    term("x_merge", subscription_id="xm-2", ended_on="2025-02-01", end_reason="changed"),
    term("x_merge", "2025-02-01", subscription_id="xm-2", arr=160.0),
    *step("x_gap", "2025-01-15", 100, 130),
    *step("x_twice", "2025-01-15", 100, 101),
    term("x_twice", "2025-02-15", subscription_id="xt-2", arr=20.0),
    *step("c_90", "2025-02-01", 100, 90),
    *step("c_91", "2025-02-01", 100, 90.01),
    *step("c_unstated", "2025-02-01", 100, 90, end_reason=None),
]
MOVEMENTS[next(i for i, row in enumerate(MOVEMENTS) if row["account_id"] == "x_leaver") + 1] |= {
    "ended_on": "2025-03-01",
    "end_reason": "churned",
}
LOGGED = {
    "o_in": ("2025-02-10", "2025-03-01"),
    "o_gap": ("2025-01-10", "2025-03-01"),
    "o_already": ("2024-12-20", "2025-01-20"),
    "o_past": ("2024-06-01", "2024-06-30"),
    "o_undated": ("2025-02-10", None),
}
TERMS = [*MONTH_TO_MONTH, *CONTRACTS, *MOVEMENTS, *(term(name) for name in LOGGED)]
NAMES = sorted({str(row["account_id"]) for row in TERMS})
GIVEN = [
    ("stays", "2025-01-15", True, "2025-03-01"),
    ("e_92", "2025-01-15", False, None),
    ("x_10", "2025-01-15", True, "2025-12-01"),
    ("x_9", "2025-11-01", False, None),
    ("x_9", "2026-02-01", True, None),
]
TARGETS = {
    "renewal": {"outcome": "churn"},
    "horizon": {"outcome": "churn", "until_renewal": False},
    "unpaid": {"outcome": "churn", "until_renewal": False, "end_reasons": ["payment_failure"]},
    "lead": {"outcome": "churn", "until_renewal": False, "lead_time_days": 30},
    "expansion": {"outcome": "expansion"},
    "expansion_lead": {"outcome": "expansion", "lead_time_days": 30},
    "contraction": {"outcome": "contraction"},
    "logged": {"outcome": "churn", "observed_in": "outcomes", "lead_time_days": 30},
    "given": {"outcome": "churn", "observed_in": "labels"},
}


PAIR = {
    "accounts": [{"account_id": n, "created_at": "2023-01-01"} for n in "ab"],
    "usage_events": [{"account_id": n, "occurred_at": "2024-01-10T00:00"} for n in "ab"],
}


def made(workspace, now=NOW):
    """Labels of a company, its features left aside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.snapshots.grid, "FAMILIES", ())
        loaded = load_sources(workspace, now)
        snapshots = build_snapshots(workspace, loaded, now)
        return build_labels(workspace, loaded, snapshots, now)


@pytest.fixture(scope="module")
def tables():
    return {
        "accounts": [{"account_id": name, "created_at": "2023-01-01"} for name in NAMES],
        "subscriptions": TERMS,
        "usage_events": [
            {"account_id": name, "occurred_at": "2024-01-01T10:00:00"} for name in NAMES
        ],
        "rates": [
            {"currency": "USD", "as_of_on": "2023-01-01", "rate": 1.0},
            {"currency": "USD", "as_of_on": "2025-01-20", "rate": 1.5},
        ],
        "outcomes": [
            {
                "account_id": n,
                "decided_on": at,
                "effective_on": on,
                "outcome": "churn",
                "reason": "r",
            }
            for n, (at, on) in LOGGED.items()
        ],
        "labels": [
            {
                "account_id": n,
                "as_of_on": on,
                "target": "given",
                "label": label,
                "label_known_on": known,
            }
            for n, on, label, known in GIVEN
        ],
    }


@pytest.fixture(scope="module")
def workspace(tables, company_of, tmp_path_factory):
    return company_of(
        tmp_path_factory.mktemp("labels"),
        tables,
        reporting_currency="EUR",
        grid={"every": "month", "start_on": "2024-12-01"},
        targets={
            name: {"observed_in": "subscriptions"} | target for name, target in TARGETS.items()
        },
    )


@pytest.fixture(scope="module")
def labels(workspace):
    return made(workspace)


@pytest.fixture(scope="module")
def at(labels):
    """One row of a target's labels."""

    def row(target: str, name: str, as_of: str = AS_OF) -> pd.Series:
        frame = labels[target].frame
        chosen = frame[
            (frame["entity_id"] == name) & (frame["as_of"] == pd.Timestamp(as_of, tz="UTC"))
        ]
        assert len(chosen) == 1
        return chosen.iloc[0]

    return row


def told(row: pd.Series) -> object:
    """The label, or why there is none."""
    return row["excluded"] if pd.isna(row["label"]) else int(row["label"])


@pytest.mark.parametrize(
    ("name", "horizon", "lead"),
    [
        ("e_0", "closed", "closed"),
        ("e_1", 1, "decided inside the lead time"),
        ("e_30", 1, "decided inside the lead time"),
        ("e_31", 1, 1),
        ("e_91", 1, 1),
        ("e_92", 0, 1),
        ("e_121", 0, 1),
        ("e_122", 0, 0),
        ("noticed", 1, 1),
        ("notice_before", "notice_given", "notice_given"),
        ("announced", 1, 1),
        ("withdrawn", 0, 0),
        ("already", "already decided", "already decided"),
        ("back_30", 0, 0),
        ("back_31", 1, 1),
        ("merged", 0, 0),
        ("awaiting", 1, 1),  # ended as renewed, and nothing ever followed
        ("changed", 0, 0),
        ("unpaid", 1, 1),
        ("unstated", 1, 1),
        ("one_of_two", 0, 0),
        ("stays", 0, 0),
        ("r_far", 0, 0),
    ],
)
def test_leaving_within_the_horizon_to_the_day(at, name, horizon, lead):
    assert told(at("horizon", name)) == horizon
    assert told(at("lead", name)) == lead


def test_what_is_known_of_a_departure(at):
    row = at("horizon", "noticed")
    assert row["decision_at"] == pd.Timestamp("2025-02-11", tz="UTC")
    assert row["effective_at"] == pd.Timestamp("2025-07-01", tz="UTC")
    # the window closes on the 2nd of April, and for thirty days more it may come back
    assert row["label_known_at"] == pd.Timestamp("2025-05-02", tz="UTC")
    assert row["reason"] == "churned"
    assert at("horizon", "unpaid")["reason"] == "payment_failure"
    stays = at("horizon", "stays")
    assert pd.isna(stays["decision_at"])
    assert stays["reason"] is None
    assert at("lead", "e_31")["label_known_at"] == pd.Timestamp("2025-06-01", tz="UTC")


@pytest.mark.parametrize(
    ("name", "label", "known"),
    [
        ("r_lost", 1, "2025-04-15"),
        ("r_grace", 1, "2025-04-15"),
        ("r_after", 0, "2025-04-15"),
        ("r_kept", 0, "2025-04-15"),
        ("r_far", 1, "2025-10-16"),
        ("r_seen", 0, "2025-12-01"),
        ("r_unseen", "window not yet observed", "2025-12-02"),
        ("r_early", "window not yet observed", "2025-12-02"),  # early leavers wait like all others
        ("e_91", 1, "2025-05-02"),  # without contract: the horizon, and the days of coming back
    ],
)
def test_this_renewal_with_its_grace(at, name, label, known):
    row = at("renewal", name)
    assert told(row) == label
    assert row["label_known_at"] == pd.Timestamp(known, tz="UTC")


def test_failed_payments_and_cancellations_can_be_outcomes_of_their_own(at, labels):
    assert told(at("unpaid", "unpaid")) == 1
    assert told(at("unpaid", "e_31")) == "left for another reason"
    assert told(at("unpaid", "unstated")) == "left for another reason"
    assert told(at("unpaid", "stays")) == 0
    reasons = labels["horizon"].contract["reasons"]
    assert reasons["payment_failure"] == 1
    assert reasons["churned"] > 5
    assert labels["unpaid"].contract["reasons"] == {"payment_failure": 1}


def test_windows_that_are_not_over_are_dropped_with_the_early_leavers_in_them(at):
    assert told(at("horizon", "stays", "2025-08-01")) == 0
    # it closes on the day of now, and who is gone then may still come back
    assert told(at("horizon", "stays", "2025-09-01")) == "window not yet observed"
    assert told(at("horizon", "e_121", "2025-05-01")) == 1
    assert told(at("horizon", "stays", "2025-12-01")) == "window not yet observed"


@pytest.mark.parametrize(
    ("name", "expansion"),
    [
        ("x_10", 1),
        ("x_9", 0),
        ("x_70", 1),
        ("x_first_day", 1),
        ("x_before", 0),
        ("x_last_day", 1),
        ("x_too_late", 0),
        ("x_uplift", 0),
        ("x_more", 1),
        ("x_mid_term", 1),
        ("x_rate", 0),
        ("x_rate_up", 1),
        ("x_cross", 1),
        ("x_leaver", 0),
        ("x_back", 0),
        ("x_swap", 0),
        ("x_merge", 0),
        ("x_gap", 1),
        ("x_twice", 1),
        ("c_90", 0),
        ("stays", 0),
        ("unpaid", 0),
    ],
)
def test_expansion(at, name, expansion):
    assert told(at("expansion", name)) == expansion


@pytest.mark.parametrize(
    ("name", "contraction"),
    [
        ("c_90", 1),
        ("c_91", 0),
        ("c_unstated", 1),
        ("one_of_two", 1),
        ("x_rate", 0),
        ("x_leaver", 0),  # a loss of all is churn
        ("unpaid", 0),
        ("back_30", 0),
        ("x_back", 0),
        ("x_swap", 0),
        ("x_merge", 0),
        ("merged", 0),
    ],
)
def test_contraction(at, name, contraction):
    assert told(at("contraction", name)) == contraction


def test_expansion_inside_the_lead_time_is_left_out(at):
    assert told(at("expansion_lead", "x_gap")) == "decided inside the lead time"
    assert told(at("expansion_lead", "x_twice")) == 1  # the little step before it decides nothing
    assert told(at("expansion_lead", "x_10")) == 1
    assert at("expansion_lead", "x_twice")["decision_at"] == pd.Timestamp("2025-02-16", tz="UTC")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("o_in", 1),
        ("o_undated", 1),
        ("o_gap", "decided inside the lead time"),
        ("o_already", "already decided"),
        ("o_past", 0),
        ("stays", 0),
    ],
)
def test_outcomes_the_company_logs_itself(at, name, label):
    assert told(at("logged", name)) == label


def test_dates_of_a_logged_outcome(at):
    row = at("logged", "o_in")
    assert row["decision_at"] == pd.Timestamp("2025-02-11", tz="UTC")
    assert row["effective_at"] == pd.Timestamp("2025-03-01", tz="UTC")
    assert row["reason"] == "r"
    undated = at("logged", "o_undated")
    assert undated["effective_at"] == undated["decision_at"]


def test_given_labels_bring_their_own_moments(at, labels):
    first = at("given", "stays", "2025-01-15")
    assert told(first) == 1
    assert first["label_known_at"] == pd.Timestamp("2025-03-02", tz="UTC")
    second = at("given", "e_92", "2025-01-15")
    assert told(second) == 0
    assert second["label_known_at"] == pd.Timestamp("2025-04-16", tz="UTC")
    assert told(at("given", "x_10", "2025-01-15")) == "window not yet observed"  # known tomorrow
    assert told(at("given", "x_9", "2025-11-01")) == 0
    assert told(at("given", "stays")) == "no label given"
    assert labels["given"].frame["as_of"].max() == pd.Timestamp("2025-12-01", tz="UTC")


def test_every_target_labels_the_same_rows_and_counts_add_up(labels):
    keys = None
    for name, item in labels.items():
        frame, contract = item.frame, item.contract
        assert list(frame.columns) == list(COLUMNS)
        key = frame[["entity_id", "as_of"]]
        assert not key.duplicated().any()
        assert keys is None or key.equals(keys)
        keys = key
        assert contract["rows"] == len(frame)
        assert contract["used_rows"] + sum(contract["excluded"].values()) == len(frame)
        used = frame[frame["excluded"].isna()]
        assert contract["used_rows"] == len(used) == used["label"].notna().sum()
        assert contract["event_rows"] == (used["label"] == 1).sum()
        assert contract["event_entities"] == used.loc[used["label"] == 1, "entity_id"].nunique()
        assert frame.loc[frame["excluded"].notna(), "label"].isna().all()
        assert contract["target"] == name
        assert (used["label_known_at"] > used["as_of"]).all()
        assert (used["label_known_at"] <= pd.Timestamp("2025-12-01", tz="UTC")).all()


def test_labels_are_made_once_a_day(company_of, tmp_path):
    workspace = company_of(tmp_path, PAIR, grid={"start_on": "2025-09-01"})
    made(workspace)
    [folder] = (workspace.state.labels / "churn").iterdir()
    before = (folder / "labels.parquet").stat().st_mtime_ns
    made(workspace, NOW + timedelta(hours=9))
    assert (folder / "labels.parquet").stat().st_mtime_ns == before
    made(workspace, NOW + timedelta(days=1))
    assert len(list((workspace.state.labels / "churn").iterdir())) == 2


ACTIVE = {
    "regular": ["2024-12-20", "2025-02-01"],
    "silent": ["2024-12-20"],
    "last_day": ["2024-12-20", "2025-04-01"],  # known 2025-04-02: inside (…, 2025-04-02]
    "day_after": ["2024-12-20", "2025-04-02"],
    "as_of_day": ["2024-12-31"],  # known 2025-01-01: the past, not the window
}


@pytest.fixture(scope="module")
def spending(company_of, tmp_path_factory):
    """A company without contracts: 364 days with 400 before, then what `after` says."""
    after = {
        "flat": 100,
        "up": 110,
        "nearly": 109.99,
        "down": 90,
        "less": 90.01,
        "none": 0,
        "new": 60,
    }
    bills = [
        {"account_id": name, "invoice_id": f"{name}{k}", "issued_on": on, "amount": 100}
        for name in after
        if name != "new"
        for k, on in enumerate(["2024-01-10", "2024-04-10", "2024-07-10", "2024-10-10"])
    ]
    bills.append({"account_id": "new", "invoice_id": "n", "issued_on": "2024-10-10", "amount": 100})
    bills += [
        {
            "account_id": name,
            "invoice_id": f"{name}-after",
            "issued_on": "2025-02-10",
            "amount": paid,
        }
        for name, paid in after.items()
        if paid
    ]
    names = [*after, *ACTIVE]
    events = [
        {"account_id": n, "occurred_at": f"{on}T12:00:00"} for n in ACTIVE for on in ACTIVE[n]
    ]
    events += [{"account_id": name, "occurred_at": "2024-12-30T12:00:00"} for name in after]
    workspace = company_of(
        tmp_path_factory.mktemp("spending"),
        {
            "accounts": [
                {"account_id": n, "created_at": "2024-07-03" if n == "new" else "2023-01-01"}
                for n in names
            ],
            "usage_events": events,
            "invoices": bills,
        },
        reporting_currency="EUR",
        grid={"every": "month", "start_on": "2025-01-01"},
        targets={
            "silence": {"outcome": "churn", "observed_in": "activity"},
            "growth": {"outcome": "expansion", "observed_in": "activity"},
            "decline": {"outcome": "contraction", "observed_in": "activity"},
        },
    )
    frames = made(workspace, datetime(2025, 5, 1, tzinfo=UTC))
    return {
        name: item.frame[item.frame["as_of"] == pd.Timestamp(AS_OF, tz="UTC")].set_index(
            "entity_id"
        )
        for name, item in frames.items()
    }


def test_silence(spending):
    label = spending["silence"]["label"]
    expected = {"regular": 0, "silent": 1, "last_day": 0, "day_after": 1, "as_of_day": 1}
    assert label[list(expected)].astype(int).to_dict() == expected
    assert spending["silence"]["decision_at"].isna().all()


def test_spend_against_the_usual(spending):
    growth, decline = (spending[name]["label"] for name in ("growth", "decline"))
    assert set(growth[growth == 1].index) == {"up"}
    # no spend at all is silence, not a contraction
    assert set(decline[decline == 1].index) == {"down"}
    excluded = spending["growth"]["excluded"].dropna()
    # billed for 83 days: there is no usual spend of 91 days yet
    assert excluded["new"] == "billed for too short a time"
    assert not set(growth.dropna().index) - {"flat", "up", "nearly", "down", "less", "none"}


def test_too_little_to_tell_apart_is_an_error_that_counts(spending, company_of, tmp_path):
    tables = PAIR | {"subscriptions": [term("a"), term("b")]}
    workspace = company_of(
        tmp_path,
        tables,
        grid={"start_on": "2025-01-01"},
        targets={
            "churn": {"outcome": "churn", "observed_in": "subscriptions"},
            "silence": {"outcome": "churn", "observed_in": "activity"},
        },
    )
    found = made(workspace)
    with pytest.raises(DataError, match="0 events in"):
        require_events(found["churn"])
    with pytest.raises(DataError, match="a model needs both outcomes") as all_left:
        require_events(found["silence"])
    contract = found["silence"].contract
    assert contract["event_rows"] == contract["used_rows"] > 0
    assert "horizon_days" in all_left.value.fix


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"outcome": "churn", "observed_in": "outcomes"}, "outcomes"),
        ({"outcome": "churn", "observed_in": "labels"}, "labels"),
        ({"outcome": "expansion", "observed_in": "activity"}, "invoices"),
        ({"outcome": "expansion", "observed_in": "subscriptions"}, "arr"),
    ],
)
def test_a_target_without_its_table_says_what_to_map(target, words, company_of, tmp_path):
    bare = {"account_id": "a", "subscription_id": "s", "started_on": "2024-01-01"}
    tables = PAIR | {"subscriptions": [bare]}
    workspace = company_of(
        tmp_path, tables, grid={"start_on": "2025-01-01"}, targets={"it": target}
    )
    with pytest.raises(ConfigError, match=words) as error:
        made(workspace)
    assert error.value.where == "targets.it.observed_in"
    assert error.value.fix.startswith("map ")


def test_labels_see_only_what_is_known_by_now_and_the_last_version_of_it(company_of, tmp_path):
    first = term("a", known_at="2024-01-01T10:00:00")
    gone = first | {
        "ended_on": "2025-02-10",
        "end_reason": "churned",
        "known_at": "2025-02-11T00:00",
    }
    later = first | {"account_id": "b", "subscription_id": "b-1"}
    gone_later = gone | {
        "account_id": "b",
        "subscription_id": "b-1",
        "known_at": "2025-06-01T00:00",
    }
    tables = PAIR | {"subscriptions": [first, gone, later, gone_later]}
    workspace = company_of(
        tmp_path,
        tables,
        tables={"subscriptions": {"history": True}},
        grid={"start_on": "2025-01-01"},
        targets={"churn": {"outcome": "churn", "observed_in": "subscriptions"}},
    )
    by_now = {}
    for now in (datetime(2025, 5, 10, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)):
        frame = made(workspace, now)["churn"].frame
        rows = frame[frame["as_of"] == pd.Timestamp(AS_OF, tz="UTC")].set_index("entity_id")
        by_now[now.month] = rows["label"].astype(int).to_dict()
    assert by_now == {5: {"a": 1, "b": 0}, 7: {"a": 1, "b": 1}}


def targets_of(*outcomes: str) -> dict[str, object]:
    return {name: {"outcome": name, "observed_in": "subscriptions"} for name in outcomes}


def test_who_has_no_room_is_no_example_of_growth_but_of_leaving(company_of, tmp_path):
    terms = [
        *step("a", "2025-02-01", 100, 150),
        *step("b", "2025-02-01", 100, 150),
    ]
    sizes = [{"seats": 10, "max_seats": most} for most in (10, 40, 20, 20)]
    tables = PAIR | {"subscriptions": [t | s for t, s in zip(terms, sizes, strict=True)]}
    found = made(
        company_of(
            tmp_path,
            tables,
            reporting_currency="EUR",
            grid={"start_on": "2025-01-01"},
            targets=targets_of("churn", "expansion"),
        )
    )
    rows = {
        name: item.frame[item.frame["as_of"] == pd.Timestamp(AS_OF, tz="UTC")]
        .set_index("entity_id")
        .apply(told, axis=1)
        .to_dict()
        for name, item in found.items()
    }
    assert rows == {"churn": {"a": 0, "b": 0}, "expansion": {"a": "no_room_to_grow", "b": 1}}
    assert found["expansion"].contract["excluded"]["no_room_to_grow"] == 2  # until it was raised


def test_revenue_that_is_not_known_is_no_example_of_no_growth(company_of, tmp_path):
    yen = [*step("a", "2025-02-01", 100, 150, currency="JPY"), term("b")]
    found = made(
        company_of(
            tmp_path,
            PAIR | {"subscriptions": yen},
            reporting_currency="EUR",
            grid={"start_on": "2025-01-01"},
            targets=targets_of("churn", "expansion"),
        )
    )
    assert set(found["churn"].frame["excluded"].dropna()) == {"window not yet observed"}
    growth = found["expansion"].frame.set_index("entity_id")["excluded"]
    assert set(growth["a"]) == {"recurring revenue not known"}


def test_a_label_that_is_used_never_changes_when_an_account_comes_back(company_of, tmp_path):
    """Gone on the last day of the window, back thirty days later."""
    gone = ends("a", "2025-03-31")
    back = term("a", "2025-04-30", subscription_id="a-2")
    workspace = company_of(
        tmp_path,
        PAIR | {"subscriptions": [gone, back, term("b")]},
        grid={"start_on": "2025-01-01"},
        targets=targets_of("churn"),
    )
    told_by = {}
    for now in (datetime(2025, 4, 3, tzinfo=UTC), datetime(2025, 5, 3, tzinfo=UTC)):
        frame = made(workspace, now)["churn"].frame.set_index(["entity_id", "as_of"])
        told_by[now.month] = told(frame.loc[("a", pd.Timestamp(AS_OF, tz="UTC"))])
    assert told_by == {4: "window not yet observed", 5: 0}


def test_books_of_earlier_runs_are_not_on_the_grid(company_of, tmp_path):
    workspace = company_of(tmp_path, PAIR, grid={"start_on": "2025-01-01"})
    made(workspace, datetime(2025, 1, 17, tzinfo=UTC))
    later = made(workspace, datetime(2025, 2, 3, tzinfo=UTC))["churn"].frame
    assert [str(day.date()) for day in later["as_of"].unique()] == [
        "2025-01-01",
        "2025-02-01",
        "2025-02-03",
    ]


@pytest.mark.parametrize("name", ["logged", "horizon"])
def test_many_days_labelled_in_parts_are_labelled_as_in_one(workspace, monkeypatch, name):
    """In the last part nothing happened, so that not one reason is known in it."""
    target, loaded = workspace.company.targets[name], load_sources(workspace, NOW)
    days = [date(2025, 1, 1), date(2025, 2, 1), date(2025, 8, 1)]
    whole = labels_at(workspace, loaded, name, target, days, NOW)
    last = whole["as_of"].dt.date == days[-1]
    assert whole["reason"][~last].notna().any()
    assert whole["reason"][last].isna().all()
    monkeypatch.setattr(build, "DAYS_PER_QUERY", 1)
    parts = labels_at(workspace, loaded, name, target, days, NOW)
    pd.testing.assert_frame_equal(parts, whole)


def test_the_definition_says_what_is_asked(labels):
    assert "renewal date plus 45 days of grace" in labels["renewal"].contract["words"]
    assert "counted from 30 days after the prediction" in labels["lead"].contract["words"]
    assert "10%" in labels["expansion"].contract["words"]
    assert labels["logged"].contract["words"] == (
        "churn: a churn is recorded within 91 days, counted from 30 days after the prediction"
    )
    assert labels["given"].contract["words"] == "churn: as given in the labels table"


BACK = 30


def test_the_words_of_a_target_are_those_of_its_kind(company_of, tmp_path):
    tables = {"accounts": [{"account_id": "a", "created_at": "2023-01-01"}]}
    company = company_of(tmp_path, tables).company
    silence = Target(outcome="churn", observed_in="activity", horizon_days=28)
    assert definition(silence, company) == "churn: no activity at all within 28 days"
