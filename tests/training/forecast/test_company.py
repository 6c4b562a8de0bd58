"""The whole forecast of small made-up companies: what is said, what adds up, what is refused."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from configs.schema.company import Company, parse_company
from features.days import day_index, index_day
from features.revenue.retention import TERM_COLUMNS
from training.forecast.charts import forecast_lines, past_chart, periods_chart
from training.forecast.company import company_forecast
from training.forecast.inputs import ForecastInputs
from training.report.content import plain_content

FIRST, TODAY = date(2024, 1, 1), date(2026, 1, 1)
N = 120


def company(**target) -> Company:
    churn = {"outcome": "churn", "observed_in": "subscriptions", "horizon_days": 91} | target
    return parse_company(
        {
            "name": "tiny", "reporting_currency": "EUR",
            "targets": {
                "churn": churn,
                "expansion": {"outcome": "expansion", "observed_in": "subscriptions"},
            },
        },
        where="test",
    )  # fmt: skip


def first_days() -> list[date]:
    months = pd.date_range(FIRST, TODAY, freq="MS")
    return [stamp.date() for stamp in months]


def life(seed: int = 5) -> pd.DataFrame:
    """Half of the accounts renew yearly, half are month to month; a tenth leave in a quarter."""
    rng = np.random.default_rng(seed)
    rows = []
    start, today = day_index(FIRST), day_index(TODAY)
    for i in range(N):
        day, arr = start - int(rng.integers(30, 300)), float(np.round(rng.lognormal(9, 0.8), 2))
        is_contract = i % 2 == 0
        while True:
            length = 365 if is_contract else int(rng.integers(60, 200))
            end = day + length
            leaves = rng.random() < (0.25 if is_contract else 0.12)
            over = end + 1 <= today
            rows.append(
                (f"a{i:03d}", "s", day + 1, day + 1, end + 1 if over else np.nan,
                 ("churned" if leaves else "renewed") if over else None,
                 end if is_contract else np.nan, np.nan, np.nan, 0.0, arr, None, None, 1.0)
            )  # fmt: skip
            if not over or leaves:
                break
            day, arr = end, round(arr * float(rng.choice([1.0, 1.0, 1.03, 1.25, 0.8])), 2)
    return pd.DataFrame(rows, columns=list(TERM_COLUMNS))


def standing_at(terms: pd.DataFrame, day: int) -> pd.DataFrame:
    live = terms[(terms["day"] <= day) & ~(terms["ended_day"] <= day)]
    live = live.drop_duplicates("entity_id", keep="last")
    return pd.DataFrame(
        {
            "entity_id": live["entity_id"], "status": "scored",
            "is_under_contract": live["renews_day"].notna(), "renews_day": live["renews_day"],
        }
    ).reset_index(drop=True)  # fmt: skip


def inputs(terms: pd.DataFrame | None = None, **changes) -> ForecastInputs:
    terms = life() if terms is None else terms
    names = pd.DataFrame(
        {
            "name": None,
            "segment": [("large", "small")[i % 2] for i in range(N)],
            "owner": [f"csm-{i % 3}" for i in range(N)],
        },
        index=pd.Index([f"a{i:03d}" for i in range(N)], name="entity_id"),
    )
    settings = {
        "terms": terms, "deals": None, "names": names,
        "standing": lambda day: standing_at(terms, day),
        "days": tuple(day_index(day) for day in first_days()),
    }  # fmt: skip
    return ForecastInputs(**settings | changes)


def predictions(made: ForecastInputs, *, seed: int = 2) -> dict[str, pd.DataFrame]:
    """Out-of-time rows at every first of a month of 2025; the chance is right on average."""
    rng = np.random.default_rng(seed)
    parts = []
    assert made.terms is not None
    for day in (d for d in made.days if index_day(d).year == 2025 and d + 91 + 45 <= made.today):
        here = made.standing(day)
        left = made.terms[made.terms["end_reason"] == "churned"].set_index("entity_id")["ended_day"]
        gone = here["entity_id"].map(left) - day
        until = (here["renews_day"] - day).where(here["is_under_contract"])
        label = np.where(until.notna(), gone <= until + 1, gone <= 91)
        known = np.where(until.notna(), day + until.fillna(0) + 45, day + 91)
        parts.append(
            pd.DataFrame(
                {
                    "entity_id": here["entity_id"], "as_of": index_day(day), "label": label,
                    "label_known_at": [index_day(int(k)) for k in known],
                    "is_under_contract": here["is_under_contract"], "days_to_renewal": until,
                    "p_model": np.clip(rng.normal(0.15, 0.03, len(here)), 0.01, 0.9),
                    "p_constant": 0.15, "arr": 1000.0,
                }
            )[known <= made.today]
        )  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    for name in ("as_of", "label_known_at"):
        rows[name] = pd.to_datetime(rows[name], utc=True).astype("datetime64[us, UTC]")
    return {"churn": rows}


def book(made: ForecastInputs) -> list[dict]:
    here = made.standing(made.today)
    return [
        {"account_id": name, "arr": 1000.0, "scores": {"churn": {"probability": 0.15}}}
        for name in here["entity_id"]
    ]


def release(**verdicts) -> dict:
    return {
        "bundles": {name: {"verdict": verdicts.get(name, "promotable")} for name in ("churn",)},
        "bands": {"churn": {"elevated": 0.1, "high": 0.3}},
    }


@pytest.fixture(scope="module")
def content() -> dict:
    made = inputs()
    return plain_content(
        company_forecast(company(), made, predictions(made), book(made), release(), draws=400)
    )


def test_bands_are_ordered_and_retention_never_exceeds_one(content):
    assert [period["name"] for period in content["periods"]] == ["2026 Q1"]
    for period in content["periods"]:
        for part in (period, *period["groups"]):
            assert part["grr"]["p10"] <= part["grr"]["p50"] <= part["grr"]["p90"] <= 1.0
            assert part["nrr"]["p50"] >= part["grr"]["p50"]


def test_groups_reconcile_with_the_total(content):
    (period,) = content["periods"]
    for kind in ("segment", "owner"):
        groups = [group for group in period["groups"] if group["kind"] == kind]
        assert sum(group["base"] for group in groups) == pytest.approx(period["base"])
        lost = sum(group["lost"]["mean"] for group in groups)
        assert lost == pytest.approx(period["lost"]["mean"])
    assert content["arr"] == pytest.approx(period["base"])


def test_history_reconciles_by_segment_owner_and_cohort(content):
    for quarter in content["history"]["quarters"]:
        for kind in ("segment", "owner", "cohort"):
            parts = [group for group in quarter["groups"] if group["kind"] == kind]
            for key in ("start", "churn", "expansion", "end"):
                assert sum(part[key] for part in parts) == pytest.approx(quarter[key], abs=0.02)


def test_two_amounts_at_risk_are_never_one(content):
    for due in content["renewals"]:
        assert {"at_risk_arr", "expected_lost"} <= set(due)
        assert due["expected_lost"] is None or due["expected_lost"] <= due["open_arr"]
    assert not any("ARR at risk" in line for line in forecast_lines(content))


def test_the_past_is_forecast_only_with_what_was_known_and_few_quarters_are_said_to_be_few(content):
    past = content["backtest"]
    told = [item["quarter"] for item in past["quarters"]]
    assert told
    assert set(told) <= {"2025 Q1", "2025 Q2", "2025 Q3", "2025 Q4"}
    assert past["summary"]["quarters"] == len(told)
    if len(told) < 4:
        assert "Fewer than 4 past quarters" in past["summary"]["words"][0]
    assert {item["quarter"] for item in past["left_out"]} >= {"2024 Q1", "2024 Q4"}
    for item in past["quarters"]:
        assert 0 < item["grr"]["actual"] <= 1
        assert item["grr"]["last_year"] is not None


def test_what_is_missing_is_said_in_words(content):
    words = " ".join(content["words"])
    assert "There are no opportunities" in words
    assert "No expansion target is trained" in words
    assert content["shock"]["expansion"]["quarters"] == 0
    assert "the assumption alone" in content["shock"]["expansion"]["words"]


def test_charts_say_their_numbers_in_words(content):
    ahead = periods_chart(content["periods"])
    assert ahead["desc"].startswith("GRR, 2026 Q1")
    chart = past_chart(content["backtest"]["quarters"], "grr")
    assert all(row["others"] for row in chart["rows"])


def test_the_same_inputs_give_the_same_forecast(content):
    made = inputs()
    again = company_forecast(company(), made, predictions(made), book(made), release(), draws=400)
    assert plain_content(again) == content


def test_without_contracts_the_share_of_spend_is_told_and_no_grr():
    made = inputs(terms=None)
    bare = ForecastInputs(
        None, None, made.names, made.standing, made.days, why_not="there are no terms"
    )
    target = company(observed_in="activity", until_renewal=False)
    found = company_forecast(target, bare, predictions(made), book(made), release(), draws=400)
    assert found["kind"] == "spend"
    assert "periods" not in found
    assert found["words"][0].startswith("GRR and NRR are not forecast: there are no terms")
    assert 0.8 < found["share"]["p50"] < 0.9
    assert found["usual_spend"] == pytest.approx(len(book(made)) * 1000 * 91 / 364)


def test_without_any_worth_nothing_is_forecast():
    made = inputs()
    bare = ForecastInputs(
        None, None, made.names, made.standing, made.days, why_not="there is no ARR"
    )
    rows = [row | {"arr": None} for row in book(made)]
    found = company_forecast(company(), bare, predictions(made), rows, release(), draws=50)
    assert found["kind"] == "none"
    assert "there is no ARR" in found["words"][0]


def test_outcomes_that_do_not_move_revenue_forecast_nothing():
    made = inputs()
    labels = pd.DataFrame(
        {
            "entity_id": [f"a{i:03d}" for i in range(10)], "label": 1,
            "as_of": pd.Timestamp("2025-01-01", tz="UTC"),
            "label_known_at": pd.Timestamp("2025-04-02", tz="UTC"),
            "decision_at": pd.Timestamp("2020-01-01", tz="UTC"),
            "effective_at": pd.Timestamp("2020-02-01", tz="UTC"),
        }
    )  # fmt: skip
    told = inputs(labels={"churn": labels})
    found = company_forecast(
        company(observed_in="outcomes"), told, predictions(made), book(made), release(), draws=50
    )
    assert found["kind"] == "none"
    assert "churn scores do not predict changes of ARR" in found["words"][0]


def test_a_lead_time_leaves_the_next_weeks_out_and_forecasts_nothing():
    made = inputs()
    found = company_forecast(
        company(lead_time_days=30), made, predictions(made), book(made), release(), draws=50
    )
    assert "leaves out the first 30 days" in found["words"][0]


def test_a_negative_arr_is_told_and_forecasts_nothing():
    made = inputs()
    assert made.terms is not None
    bad = made.terms.assign(arr=made.terms["arr"].where(made.terms.index != 0, -1.0))
    found = company_forecast(
        company(), inputs(terms=bad), predictions(made), book(made), release(), draws=50
    )
    assert "1 terms have a negative ARR (subscriptions.arr" in found["words"][0]
