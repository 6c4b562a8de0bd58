"""Bands are sized to what the team can work and frozen with what they were sized by."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema.company import parse_company
from configs.schema.team_capacity import workable
from training.model.bands import FLOORS, cut_for, frozen_bands, multiple_of
from training.model.bundle import Scores, logit_of
from training.registry.releases import new_release, release_from_dict


def company(per_month=40, **days):
    raw = {"name": "x", "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}}}
    serving = {"capacity_per_month": per_month} | ({"band_days": days} if days else {})
    return parse_company(raw | {"serving": serving}, where="here")


def scores(p, seed=0):
    spread = np.random.default_rng(seed).uniform(0.25, 0.75, len(p))
    return Scores(p, logit_of(p), spread)


def book(n=665, rate=0.09, seed=3):
    return np.random.default_rng(seed).beta(1.5, 1.5 / rate - 1.5, n)


def test_high_is_what_the_team_can_work_in_a_quarter():
    p = book()
    found = frozen_bands(scores(p), 0.08, company(), "book")
    n_high, n_raised = (int((p >= found.cuts[name]).sum()) for name in ("high", "elevated"))
    assert n_high == int(workable(40, 91)) == found.basis["accounts_at_least"]["high"]
    assert n_raised == int(workable(40, 182)) == found.basis["accounts_at_least"]["elevated"]
    assert (found.basis["capacity_per_month"], found.basis["accounts"]) == (40, 665)
    fewer = frozen_bands(scores(p), 0.08, company(10), "book")
    assert (p >= fewer.cuts["high"]).sum() == int(workable(10, 91))


def test_room_for_everybody_makes_nobody_of_the_usual_risk_a_high_one():
    found = frozen_bands(scores(book(60)), 0.09, company(), "book")
    assert found.cuts == pytest.approx(
        {name: multiple_of(0.09, floor) for name, floor in FLOORS.items()}
    )
    flat = frozen_bands(scores(np.full(50, 0.09)), 0.09, company(), "book")
    assert flat.basis["accounts_at_least"]["high"] == 0, "one rate for all puts nobody in high"


def test_an_empty_book_still_has_cuts():
    found = frozen_bands(scores(np.empty(0)), 0.1, company(), "book")
    assert 0 < found.cuts["elevated"] <= found.cuts["high"] <= 0.95


@given(
    p=st.lists(st.sampled_from([0.05, 0.1, 0.2, 0.4, 0.8]), min_size=1, max_size=60),
    wanted=st.floats(1, 80),
)
def test_a_band_holds_no_more_than_wanted_unless_equals_stay_together(p, wanted):
    array = np.array(p)
    cut = cut_for(array, wanted)
    held = (array >= cut).sum()
    assert held <= wanted or cut == array.max()
    below = array[array < cut]
    if len(below):
        assert (array >= below.max()).sum() > wanted, "one more level would be too many"


def test_confidence_tells_accounts_apart():
    made = scores(book())
    limits = frozen_bands(made, 0.08, company(), "book").basis["confidence_limits"]
    words = made.confidence_at(limits)
    shares = [words.count(word) / len(words) for word in ("high", "medium", "low")]
    assert all(0.25 < share < 0.42 for share in shares)
    wide = Scores(made.p, made.logit, made.spread + 2.0)
    limits = frozen_bands(wide, 0.08, company(), "book").basis["confidence_limits"]
    assert set(wide.confidence_at(limits)) == {"low"}, "all of it is in doubt"


def release(**frozen):
    return new_release(
        created_at=datetime(2026, 3, 2, tzinfo=UTC),
        bundles={"churn": {"sha": "a" * 64, "verdict": "promotable"}},
        feature_set={"hash": "f", "names": ["x"]},
        bands={"churn": {"elevated": 0.1, "high": 0.2}},
        reason_catalogue_version="1",
        label_contracts={"churn": {}},
        config_hash="c",
        **frozen,
    )


def test_a_release_of_before_keeps_its_identity_and_opens():
    old = release()
    body = {name: part for name, part in old.as_dict().items() if name != "frozen"}
    assert release_from_dict(body) == old
    new = release(frozen={"churn": {"accounts": 665}})
    assert new.release_id != old.release_id
    assert release_from_dict(new.as_dict()).frozen["churn"]["accounts"] == 665
