"""The lower model tiers on simulated companies whose true hazard is known.

Higher tiers are compared with it in tests/test_line.py (400 accounts) and `make bench ONLY=ladder`
(1,000 and 10,000).
"""

from __future__ import annotations

from datetime import date

import pytest

from configs.schema.company import Company, Grid, Training, Tuning, load_company
from tests.benchmarks.training.company import COMPANY, simulated
from tests.benchmarks.training.model_tiers import learned, named

pytestmark = pytest.mark.slow

QUICK = Training(folds=3, bootstrap_draws=100, model_seeds=2, threads=1, tuning=Tuning(trials=0))


def quick_company() -> Company:
    company = load_company(COMPANY)
    return company.model_copy(
        update={
            "training": QUICK,
            "grid": Grid(every="month", start_on=date(2024, 11, 1)),
            "targets": {"churn": company.targets["churn"]},
        }
    )


@pytest.fixture(scope="module", params=[50, 200])
def sized(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    workspace, built = simulated(folder, request.param, 24, company=quick_company())
    return request.param, learned(workspace, built, "churn")


TIERS = {50: "rates", 200: "linear"}


def test_the_tier_and_what_is_missing_are_reported(sized):
    accounts, found = sized
    assert found["tier"] == TIERS[accounts]
    assert "events a month" in found["why"]
    assert ("rules of judgement" in found["why"]) == (accounts == 50)
    assert found["why"].startswith("not enough events") == (accounts == 50)


def test_the_level_is_near_the_true_one_and_ranges_hold(sized):
    _, found = sized
    latest = found["book"]
    assert latest["n"] > 50
    assert 0.4 < latest["mean_ratio"] < 2.0
    assert latest["mean_absolute_error"] < 0.15
    assert latest["alike_hold"] >= 0.5
    truth, model = (found["probability"]["models"][name] for name in ("truth", "model"))
    assert truth["log_loss"] < model["log_loss"]
    assert 0.4 < model["observed_to_expected"] < 2.5


def test_below_the_floor_rules_order_accounts_and_name_drivers_better_than_chance(sized):
    accounts, found = sized
    if found["tier"] != "rates":
        assert found["rules"] is None
        return
    assert accounts == 50
    assert found["reasons"] is None
    assert found["rules"]["correlation"] > 0.1
    share, by_chance = named(found)
    assert share > by_chance
