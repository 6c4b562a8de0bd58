"""Missing events, and the month they are expected in."""

from dataclasses import replace

import pandas as pd
import pytest
from scipy.stats import poisson

from configs.runtime.errors import DataError
from training.candidates.train import folds_of
from training.fitting.fit import choose_tier
from training.fitting.sufficiency import evidence_words, poisson_interval, sufficiency


def with_events(frame, months: list[str]):
    """Rows of which these alone have the event: one account each, known in the month named."""
    never = pd.Series(pd.NaT, index=frame.rows.index, dtype="datetime64[us, UTC]")
    rows = frame.rows.assign(label=0, decision_at=never)
    for number, month in enumerate(months):
        as_of = pd.Timestamp(month, tz="UTC")
        entity = rows.loc[rows["as_of"] == as_of, "entity_id"].iloc[number]
        here = (rows["entity_id"] == entity) & (rows["as_of"] == as_of)
        rows.loc[here, "label"] = 1
        rows.loc[here, "decision_at"] = as_of + pd.Timedelta(days=30)
    return replace(frame, rows=rows)


@pytest.fixture(scope="module")
def rows(small):
    return small.make_frame(accounts=60, months=13, rate=-3.0)


def test_the_date_follows_from_the_companys_own_rate(rows, small):
    some = with_events(rows, [f"2024-{month:02d}-01" for month in range(1, 13)])
    found = sufficiency(some, small.company())
    months = (some.rows["label_known_at"].max() - some.rows["label_known_at"].min()).days / 30.4375
    assert found.n_events == 12
    assert found.events_per_month == pytest.approx(12 / months)
    nearest = found.due[0]
    assert (nearest.needed, nearest.missing) == (40, 28)
    last = some.rows["label_known_at"].max()
    about = last + pd.Timedelta(days=30.4375 * 28 / (12 / months))
    assert (
        abs(
            pd.Period(nearest.about_on, "M").ordinal
            - about.tz_localize(None).to_period("M").ordinal
        )
        <= 1
    )
    assert nearest.early_on < nearest.about_on < nearest.late_on
    assert [item.needed for item in found.due] == sorted(item.needed for item in found.due)
    assert "28 more that a fitted model needs (40 in all) are expected about" in found.words


def test_the_interval_covers_what_it_says():
    """Against the definition: the tails of a Poisson count at the two bounds hold a tenth each."""
    for n in (1, 7, 30):
        low, high = poisson_interval(n)
        assert poisson.sf(n - 1, low) == pytest.approx(0.1, abs=1e-9)
        assert poisson.cdf(n, high) == pytest.approx(0.1, abs=1e-9)


def test_the_same_decision_seen_from_many_months_is_one_event(rows, small):
    one = with_events(rows, ["2024-03-01"])
    seen = one.rows["entity_id"] == one.rows.loc[one.label == 1, "entity_id"].iloc[0]
    before = seen & (one.rows["as_of"] < pd.Timestamp("2024-03-01", tz="UTC"))
    decided = one.rows.loc[one.label == 1, "decision_at"].iloc[0]
    twice = one.rows.assign(
        label=one.rows["label"].where(~before, 1),
        decision_at=one.rows["decision_at"].where(~before, decided),
    )
    assert before.any()
    assert sufficiency(replace(one, rows=twice), small.company()).n_events == 1


def test_without_an_event_there_is_no_date(rows, small):
    found = sufficiency(with_events(rows, []), small.company())
    assert found.events_per_month == 0.0
    assert found.high > 0
    assert all(item.about_on is None for item in found.due)
    assert "cannot be estimated" in found.words


def test_a_test_too_short_for_the_rate_is_told(rows, small):
    some = with_events(rows, [f"2024-{month:02d}-01" for month in range(1, 13)])
    found = sufficiency(some, small.company())
    assert found.tested_events < small.company().gates.min_events
    assert "(gates.min_events), so it needs" in found.words
    few = sufficiency(with_events(rows, ["2024-02-01"] * 3), small.company())
    assert "so at this rate the model stays provisional" in few.words


def test_plenty_of_events_leave_nothing_to_wait_for(frame, small):
    found = sufficiency(frame, small.company())
    assert found.n_events >= 150
    assert [item.needed for item in found.due] == [1000]
    assert evidence_words(choose_tier(found.n_events), found) == choose_tier(found.n_events).reason


def test_below_trees_every_score_says_what_is_missing(rows, small):
    found = sufficiency(with_events(rows, ["2024-02-01"] * 9), small.company())
    words = evidence_words(choose_tier(9), found)
    assert words.startswith("not enough events for a fitted model; 9 events, below 40: ")
    assert "are expected" in words
    assert "not enough" not in evidence_words(choose_tier(60), found)


def test_a_refusal_says_when_there_will_be_enough(rows, small):
    few = with_events(rows, ["2024-02-01"] * 4)
    with pytest.raises(DataError, match="no cut-off.*the 36 more that a fitted model needs"):
        folds_of(few, small.company())
