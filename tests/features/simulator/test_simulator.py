"""The simulated company: its tables keep the contracts, and its truth is true."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import configs
from configs.runtime.errors import ConfigError
from configs.runtime.hashing import file_digest
from configs.runtime.state_directory import State
from configs.schema.company import load_company
from configs.schema.workspace import Workspace
from features.simulator import Simulation, simulate, write_tables
from features.simulator.data_errors import GAP_DAYS, TEST_ACCOUNT, UNKNOWN_ACCOUNT, UNREADABLE
from features.simulator.export import EXPORTS, LOCAL_ZONE, TRUTH
from features.simulator.ground_truth import truth_table
from features.simulator.mechanism.accounts import ODD_NAMES
from features.simulator.mechanism.calendar import NEVER, calendar_until, seconds
from features.simulator.mechanism.context import SimulationContext
from features.simulator.mechanism.decisions import decisions_table
from features.simulator.mechanism.hazards import LEAVING, hazard_outlook, lagged_states, uncertainty
from features.simulator.mechanism.hidden_states import LEAD
from features.simulator.simulate import NOW, simulate_tables
from features.sources import load_sources
from features.tables.source_tables import TABLES
from features.text.score import score_texts

COMPANY = Path(configs.__file__).parent / "companies" / "simulated"
WINDOW = pd.Timedelta(days=91)
SMALL = {"n_accounts": 60, "months": 12}


@pytest.fixture(scope="module")
def world() -> Simulation:
    return simulate()


@pytest.fixture(scope="module")
def clean() -> Simulation:
    return simulate(with_errors=False)


@pytest.fixture(scope="module")
def crowd() -> SimulationContext:
    """Many accounts, without their signals."""
    return simulate_tables(11, 4000, calendar_until(NOW, 30))


@pytest.fixture(scope="module")
def judged(crowd):
    """True chances beside what then happened."""
    truth = truth_table(crowd.traits, crowd.hidden_states, crowd.decisions, crowd.calendar)
    events = decisions_table(crowd.decisions, crowd.calendar)
    days = {name: pd.to_datetime(events[name], unit="D") for name in ("decided", "effective")}
    events = events.assign(
        account_id=crowd.traits.account_id[events["account"]],
        decided_on=days["decided"].astype("datetime64[us]"),
        effective_on=days["effective"].astype("datetime64[us]"),
    )
    return judge(truth, events, NOW)


def judge(truth: pd.DataFrame, decisions: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """Return the truth with `churn`, `expansion`, and whether each was observed to its end."""
    end = pd.Timestamp(now).tz_localize(None)
    left = decisions[decisions["outcome"] == "churn"].set_index("account_id")
    rows = truth.copy()
    decided = rows["account_id"].map(left["decided_on"])
    reason = rows["account_id"].map(left["reason"])
    contract = rows["is_under_contract"]
    in_window = decided < rows["as_of_on"] + WINDOW
    rows["left"] = in_window
    rows["unpaid"] = in_window & (reason == "payment_failure")
    rows["churn"] = np.where(contract, decided <= rows["renews_on"], in_window & ~rows["unpaid"])
    rows["seen"] = rows["as_of_on"] + WINDOW <= end
    rows["churn_seen"] = np.where(contract, rows["renews_on"] < end, rows["seen"])
    grown = decisions[decisions["outcome"] == "expansion"]
    pairs = rows.reset_index()[["index", "account_id", "as_of_on"]].merge(
        grown[["account_id", "decided_on"]], on="account_id"
    )
    inside = (pairs["decided_on"] >= pairs["as_of_on"]) & (
        pairs["decided_on"] < pairs["as_of_on"] + WINDOW
    )
    rows["expansion"] = rows.index.isin(pairs.loc[inside, "index"])
    return rows


def assert_calibrated(chance: pd.Series, happened: pd.Series, buckets: int = 10) -> None:
    """In every bucket of the chance, the count lies within four binomial deviations."""
    bucket = pd.qcut(chance.rank(method="first"), buckets, labels=False)
    for _, place in chance.groupby(bucket).groups.items():
        p, y = chance.loc[place], happened.loc[place].astype(float)
        spread = np.sqrt((p * (1 - p)).sum())
        assert abs(y.sum() - p.sum()) <= 4 * spread + 1e-9, (p.mean(), y.mean(), len(p))


def one_row_per_renewal(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per renewal, at varying distance, so that rows are independent."""
    return rows.sample(frac=1, random_state=3).drop_duplicates(["account_id", "renews_on"])


def every_third_month(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose windows barely overlap."""
    return rows[rows["as_of_on"].dt.month % 3 == 0]


def test_truth_of_renewals_holds_in_buckets(judged):
    rows = judged[judged["is_under_contract"] & judged["churn_seen"].astype(bool)]
    rows = one_row_per_renewal(rows)
    assert len(rows) > 2000
    assert_calibrated(rows["p_churn"], rows["churn"])


def test_the_calibration_check_notices_a_wrong_truth(judged):
    rows = every_third_month(judged[~judged["is_under_contract"] & judged["seen"]])
    chance = rows["p_churn"]
    shuffled = chance.sample(frac=1, random_state=1).set_axis(chance.index)
    for wrong in ((1.4 * chance).clip(0, 1), chance**0.8, shuffled):
        with pytest.raises(AssertionError):
            assert_calibrated(wrong, rows["churn"])


@pytest.mark.parametrize("days", [45, 120, 270])
def test_truth_of_renewals_holds_at_every_distance(judged, days):
    rows = judged[judged["is_under_contract"] & judged["churn_seen"].astype(bool)]
    ahead = (rows["renews_on"] - rows["as_of_on"]).dt.days
    rows = one_row_per_renewal(rows[(ahead - days).abs() <= 16])
    assert_calibrated(rows["p_churn"], rows["churn"], buckets=5)


def test_truth_of_month_to_month_holds_in_buckets(judged):
    rows = every_third_month(judged[~judged["is_under_contract"] & judged["seen"]])
    assert_calibrated(rows["p_churn"], rows["churn"])
    assert_calibrated(rows["p_payment_failure"], rows["unpaid"], buckets=4)


def test_truth_of_leaving_within_the_window_holds(judged):
    rows = every_third_month(judged[judged["seen"]])
    assert_calibrated(rows["p_leave_91d"], rows["left"])


def test_truth_of_expansion_holds_in_buckets(judged):
    rows = every_third_month(judged[judged["seen"]])
    assert_calibrated(rows["p_expansion"], rows["expansion"])


def test_a_settled_renewal_is_certain(judged):
    rows = judged[judged["is_under_contract"] & (judged["p_churn"] == 0)]
    assert len(rows) > 100
    assert not rows["churn"].any()


def test_chances_are_chances(judged):
    for name in ("p_churn", "p_payment_failure", "p_leave_91d", "p_expansion"):
        assert judged[name].between(0, 1).all()
    assert not judged.duplicated(["account_id", "as_of_on"]).any()


def test_forecast_of_states_has_the_stated_mean_and_variance(crowd):
    """Against the simulated states themselves, nine months on."""
    month, ahead = 12, 9
    mean = hazard_outlook(crowd.hidden_states, month, ahead)[:, ahead] @ LEAVING
    happened = lagged_states(crowd.hidden_states, month + ahead) @ LEAVING
    error = happened - mean
    variance = uncertainty(crowd.hidden_states.dynamics, LEAVING, ahead)[ahead]
    assert abs(error.mean()) < 4 * np.sqrt(variance / len(error))
    assert error.var() == pytest.approx(variance, rel=0.08)


def test_the_next_three_months_are_settled(crowd):
    assert (uncertainty(crowd.hidden_states.dynamics, LEAVING, 2) == 0).all()
    known = hazard_outlook(crowd.hidden_states, 9, 2)[:, 2]
    np.testing.assert_allclose(known, lagged_states(crowd.hidden_states, 11), atol=1e-12)


NOT_KEPT = {
    "accounts": {"is_test", "domain", "billing_id"},
    "invoices": {"status"},
    "subscriptions": {"max_seats"},
    **{
        name: kept
        for name, spec in TABLES.items()
        if (kept := {"event_id", "sentiment"} & set(spec.columns))
    },
}
"""What the simulated company does not write down, as most do not."""


def test_every_table_has_exactly_the_columns_of_its_contract(world):
    assert set(world.tables) == set(TABLES) - {"labels", "outcomes"}
    for name, table in world.tables.items():
        kept = set(TABLES[name].columns) - NOT_KEPT.get(name, set())
        assert set(table) - {"known_at"} == kept, name
    late = {name for name, table in world.tables.items() if "known_at" in table}
    assert late == {"usage_events", "support_tickets", "survey_responses"}


def test_clean_tables_keep_the_contracts(clean):
    for name, table in clean.tables.items():
        spec = TABLES[name]
        for column, rule in spec.columns.items():
            if column in NOT_KEPT.get(name, ()):
                continue
            values = table[column]
            assert not (rule.required and values.isna().any()), (name, column)
            if rule.values:
                assert set(values.dropna()) <= set(rule.values), (name, column)
            if rule.low is not None:
                assert (values.dropna() >= rule.low).all(), (name, column)
            if rule.high is not None:
                assert (values.dropna() <= rule.high).all(), (name, column)
        assert not (spec.key and table.duplicated(list(spec.key)).any()), name
        for earlier, later in spec.order:
            first, second = (_naive(table[column]) for column in (earlier, later))
            assert not (second.dt.floor("D") < first.dt.floor("D")).any(), (name, later)


def _naive(values: pd.Series) -> pd.Series:
    return values.dt.tz_localize(None) if values.dt.tz is not None else values


def test_nothing_shows_that_had_not_happened(clean):
    end = pd.Timestamp(clean.now).tz_localize(None)
    for name, table in clean.tables.items():
        spec = TABLES[name]
        moments = {spec.happened, *(c.visible_from for c in spec.columns.values())} & set(table)
        for column in moments | ({"known_at"} & set(table)):
            assert not (_naive(table[column]) >= end).any(), (name, column)


def test_size_and_shape(clean):
    accounts = clean.tables["accounts"]
    assert 500_000 < len(clean.tables["usage_events"]) < 2_000_000
    start = pd.Timestamp(2024, 1, 1, tz="UTC")
    assert (accounts["created_at"] < start).mean() > 1 / 3
    assert (accounts["created_at"] > start).mean() > 0.15
    assert accounts["name"].is_unique
    assert set(ODD_NAMES) <= set(accounts["name"])
    parents = accounts["parent_account_id"].dropna()
    assert len(parents) == pytest.approx(80, abs=5)
    assert set(parents) <= set(accounts["account_id"])
    assert set(accounts["owner_id"]) <= set(clean.tables["owners"]["owner_id"])
    rates = clean.tables["rates"]
    assert (rates.loc[rates["currency"] == "EUR", "rate"] == 1).all()
    assert set(clean.tables["subscriptions"]["currency"]) == set(rates["currency"])
    assert set(clean.tables["subscriptions"]["product"]) == {"core", "analytics", "automation"}


def test_enough_happens(world):
    counts = world.decisions["outcome"].value_counts()
    assert counts["churn"] >= 250
    assert counts["expansion"] >= 300
    assert counts["contraction"] >= 30
    assert (world.decisions["reason"] == "payment_failure").sum() >= 5


def test_base_rates_are_realistic(crowd, judged):
    rows = crowd.rows[(crowd.rows["product"] == 0) & crowd.rows["renews"].ne(NEVER)]
    rows = rows[rows["ended"] >= crowd.calendar.starts[0]]
    lost, kept = (rows["reason"] == "churned").sum(), (rows["reason"] == "renewed").sum()
    assert 0.11 < lost / (lost + kept) < 0.17
    free = judged[~judged["is_under_contract"] & judged["seen"]]
    assert 0.045 < free["churn"].mean() < 0.075
    assert 0.06 < judged.loc[judged["seen"], "expansion"].mean() < 0.10
    assert 0.35 < (~crowd.traits.has_contract).mean() < 0.43


def test_losses_gather_at_the_notice_deadline(crowd):
    lost = np.flatnonzero(
        (crowd.decisions.decided < crowd.calendar.now_day) & crowd.traits.has_contract
    )
    ahead = (
        crowd.decisions.ends[lost]
        - crowd.traits.notice_period[lost]
        - crowd.decisions.decided[lost]
    )
    lapsed = crowd.decisions.decided[lost] == crowd.decisions.ends[lost]
    assert lapsed.mean() < 0.15
    assert np.quantile(ahead[~lapsed], 0.05) > -16
    assert np.quantile(ahead[~lapsed], 0.95) < 46
    assert (crowd.decisions.notice[lost][lapsed] == NEVER).all()
    assert (crowd.decisions.notice[lost][~lapsed] != NEVER).all()


def test_an_oracle_ranks_as_well_as_it_should(world, judged):
    assert 0.80 < oracle_auc(judged) < 0.85
    assert 0.80 < oracle_auc(judge(world.truth, world.decisions, NOW)) < 0.85


def oracle_auc(rows: pd.DataFrame) -> float:
    rows = rows[rows["churn_seen"].astype(bool)]
    return float(roc_auc_score(rows["churn"].astype(bool), rows["p_churn"]))


def test_the_companys_own_score_is_weak_but_not_blind(clean):
    assert 0.55 < ranked_by(clean, last_health_score(clean)) < 0.70


def test_signals_lead_decisions(clean):
    """Use per seat in the three months before as_of already ranks those who will leave."""
    usage = clean.tables["usage_events"]
    month = usage["occurred_at"].dt.tz_localize(None).dt.to_period("M").dt.to_timestamp()
    rows = usage.groupby(["account_id", month], observed=True).size().unstack(fill_value=0)
    recent = rows.T.rolling(3).mean().T
    seats = clean.tables["subscriptions"].groupby("account_id")["seats"].first().astype(float)
    level = np.log((recent + 1).div(seats.reindex(recent.index.astype(str)).to_numpy(), axis=0))
    level.columns = level.columns + pd.DateOffset(months=1)
    score = level.stack().rename("score").reset_index()
    score.columns = ["account_id", "as_of_on", "score"]
    assert 0.56 < ranked_by(clean, score) < 0.75


def last_health_score(world: Simulation) -> pd.DataFrame:
    scores = world.tables["health_scores"]
    day = scores["scored_at"].dt.tz_localize(None).dt.floor("D") + pd.Timedelta(days=1)
    return pd.DataFrame(
        {"account_id": scores["account_id"], "as_of_on": day, "score": scores["score"]}
    )


def ranked_by(world: Simulation, score: pd.DataFrame) -> float:
    """Return how well a low score ranks those who will leave."""
    rows = judge(world.truth, world.decisions, NOW)
    score = score.assign(
        account_id=score["account_id"].astype(str),
        as_of_on=score["as_of_on"].astype("datetime64[us]"),
    )
    rows = rows[rows["churn_seen"].astype(bool)].merge(
        score.dropna(), on=["account_id", "as_of_on"]
    )
    return float(roc_auc_score(rows["churn"].astype(bool), -rows["score"]))


def test_usage_falls_after_notice_and_not_before(clean):
    usage = clean.tables["usage_events"]
    day = seconds(usage["occurred_at"]) // 86_400
    terms = clean.tables["subscriptions"].dropna(subset=["notice_at", "ended_on"])
    terms = terms.drop_duplicates("account_id").set_index("account_id")
    stays = (terms["ended_on"] - terms["notice_at"].dt.tz_localize(None)).dt.days >= 29
    notice = (seconds(terms["notice_at"]) // 86_400)[stays.to_numpy()]
    by_account = pd.Series(notice, index=terms.index[stays])
    since = day - usage["account_id"].astype(str).map(by_account).to_numpy(dtype=float)
    long_before, before, after = (
        ((since >= low) & (since < high)).sum() for low, high in ((-56, -28), (-28, 0), (1, 29))
    )
    assert len(by_account) > 50
    assert after < 0.5 * before
    assert 0.85 < before / long_before < 1.15


def test_the_leaks_are_there_only_after_notice(clean):
    notice = clean.tables["subscriptions"].dropna(subset=["notice_at"])
    first = notice.groupby("account_id")["notice_at"].min().dt.floor("D")
    tickets = clean.tables["support_tickets"]
    goodbye = tickets[tickets["category"] == "cancellation"]
    assert len(goodbye) > 50
    assert (goodbye["opened_at"] >= goodbye["account_id"].map(first)).all()


def test_some_rows_arrive_late(clean):
    usage = clean.tables["usage_events"]
    delay = usage["known_at"] - usage["occurred_at"]
    assert (delay >= pd.Timedelta(0)).all()
    assert 0.01 < (delay > pd.Timedelta(hours=1)).mean() < 0.03


def test_the_dirt_is_there(world, clean):
    tables = world.tables
    usage, tickets = tables["usage_events"], tables["support_tickets"]
    created = tables["accounts"].drop_duplicates("account_id").set_index("account_id")["created_at"]
    begun = usage["account_id"].astype(object).map(created)
    assert usage.duplicated().sum() > 100
    assert (usage["occurred_at"] < begun.dt.floor("D")).sum() > 100
    assert (tickets["resolved_at"] < tickets["opened_at"]).sum() > 5
    assert tickets["ticket_id"].isna().any()
    assert (tables["subscriptions"]["arr"] < 0).any()
    assert tables["subscriptions"]["account_id"].isna().any()
    assert (tables["accounts"]["account_id"] == TEST_ACCOUNT).any()
    for table in (usage, tickets, tables["subscriptions"]):
        assert (table["account_id"] == UNKNOWN_ACCOUNT).any()
    days = pd.date_range("2024-02-01", "2026-06-28", freq="D")
    silent = days.difference(usage["occurred_at"].dt.tz_localize(None).dt.floor("D").unique())
    assert len(silent) == GAP_DAYS
    assert (silent[-1] - silent[0]).days == GAP_DAYS - 1
    lost = days.difference(
        clean.tables["usage_events"]["occurred_at"].dt.tz_localize(None).dt.floor("D")
    )
    assert len(lost) == 0


def test_dirt_costs_no_truth(world, clean):
    pd.testing.assert_frame_equal(world.truth, clean.truth)
    pd.testing.assert_frame_equal(world.decisions, clean.decisions)


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        write_tables(simulate(seed=seed, **SMALL), tmp_path / name)
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    same = {file for file in one if one[file] == other[file]}
    assert same == {"owners.csv"}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path):
    write_tables(simulate(seed=5, **SMALL), tmp_path)
    first = digests(tmp_path)
    write_tables(simulate(seed=6, **SMALL), tmp_path)
    assert set(digests(tmp_path)) == set(first)
    assert set(first) == {
        *(export.file for _, export in EXPORTS),
        f"{TRUTH}/truth.parquet",
        f"{TRUTH}/decisions.parquet",
    }


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_tables(simulate(seed=5, **SMALL), tmp_path)
    first = digests(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tables(simulate(seed=6, **SMALL), tmp_path)
    assert digests(tmp_path) == first


def test_csv_files_carry_text_as_other_peoples_do(world, tmp_path):
    write_tables(world, tmp_path)
    tickets = pd.read_csv(tmp_path / "helpdesk_tickets.csv", dtype=str, keep_default_na=False)
    assert set(UNREADABLE) <= set(tickets["opened_at"])
    touches = pd.read_csv(tmp_path / "call_log.csv", dtype=str, keep_default_na=False)
    readable = touches[~touches["touched_at"].isin(UNREADABLE)]
    back = pd.to_datetime(readable["touched_at"]).dt.tz_localize(LOCAL_ZONE).dt.tz_convert("UTC")
    held = world.tables["touches"].loc[readable.index, "touched_at"]
    assert (back.astype("datetime64[us, UTC]") == held).all()


def test_too_small_a_world_is_refused():
    with pytest.raises(ConfigError, match="too few"):
        simulate(n_accounts=5)
    with pytest.raises(ConfigError, match="too few"):
        simulate(months=3)


def test_another_clock_is_honoured():
    now = datetime(2025, 3, 15, 12, tzinfo=UTC)
    world = simulate(seed=2, now=now, **SMALL)
    assert world.truth["as_of_on"].max() == pd.Timestamp(2025, 3, 1)
    assert (world.tables["usage_events"]["known_at"] < now).all()


def test_the_company_configuration_fits_the_files(tmp_path):
    company = load_company(COMPANY)
    write_tables(simulate(seed=5, **SMALL), tmp_path)
    assert company.clock() == NOW
    assert company.targets["churn"].until_renewal
    assert company.targets["churn"].horizon_days == company.targets["expansion"].horizon_days == 91
    files = {item.file for item in company.inputs.values()}
    assert files == {export.file for _, export in EXPORTS}
    assert not any(str(file).startswith(TRUTH) for file in files)
    for name, (mapping,) in company.tables.items():
        if mapping.sql is None:
            file = tmp_path / str(company.inputs[mapping.source or name].file)
            for text in mapping.columns.values():
                duckdb.connect().execute(f"SELECT {text} FROM '{file}' LIMIT 1").fetchall()


def test_the_sources_load_it_and_find_the_dirt(tmp_path):
    company = load_company(COMPANY)
    data = tmp_path / "data"
    write_tables(simulate(seed=5, n_accounts=120, months=12), data)
    workspace = Workspace(company, COMPANY, data, State(tmp_path / "state"))
    loaded = load_sources(workspace, company.clock())
    assert set(loaded.gaps) == {"outcomes", "labels"}
    found = {name: set(info.quarantined) | set(info.noted) for name, info in loaded.tables.items()}
    assert "out_of_bounds:arr" in found["subscriptions"]
    assert "unknown_account" in found["usage_events"]
    assert "before_account" in found["usage_events"]
    assert "time_order:resolved_at" in found["support_tickets"]
    assert "unparsable:opened_at" in found["support_tickets"]
    assert "unparsable:touched_at" in found["touches"]
    for name, info in loaded.tables.items():
        assert info.rows_after_now == 0
        assert info.rows >= 0.98 * info.rows_read - 3, name


def test_expansions_are_seen_in_the_subscriptions(clean):
    """Every expansion decided shows as a row with more ARR, and no other does by a tenth."""
    terms = clean.tables["subscriptions"].sort_values(["subscription_id", "started_on"])
    before = terms.groupby("subscription_id")["seats"].shift()
    grows = terms[(terms["seats"] > before)]
    seats = clean.decisions.query("outcome == 'expansion' and reason == 'seats'")
    shown = set(zip(grows["account_id"], grows["started_on"], strict=True))
    assert set(zip(seats["account_id"], seats["decided_on"], strict=True)) == shown


def test_states_begin_before_the_world(crowd):
    assert crowd.hidden_states.states.shape[1] == LEAD + crowd.calendar.n_months
    spread = crowd.hidden_states.states.std(axis=(0, 1))
    assert ((spread > 0.8) & (spread < 1.4)).all()


def test_unhappy_accounts_write_worse_and_a_single_text_says_little(clean):
    tickets = clean.tables["support_tickets"]
    tickets = tickets[tickets["category"] != "cancellation"]
    score = score_texts(tickets["text"])["sentiment"].to_pandas().to_numpy()
    first = tickets["opened_at"].dt.tz_localize(None).dt.to_period("M").dt.to_timestamp()
    written = tickets.assign(score=score, as_of_on=first.astype("datetime64[us]"))
    states = clean.truth.assign(as_of_on=clean.truth["as_of_on"].astype("datetime64[us]"))
    both = written.merge(states, on=["account_id", "as_of_on"]).dropna(subset=["score"])
    assert len(both) > 300
    rank = both["score"].corr(both["churn_sentiment"] + both["churn_support"], method="spearman")
    assert -0.45 < rank < -0.08
