"""The past before the test periods: models of those days, which know nothing later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from training.data.splits import count_events
from training.evaluation.metrics import Sample, auc
from training.forecast.backtest import scored_forecasts
from training.forecast.past_predictions import scored_earlier

BEFORE = pd.Timestamp("2025-03-01", tz="UTC")


@pytest.fixture(scope="module")
def company(small):
    return small.company(model_seeds=1)


@pytest.fixture(scope="module")
def found(frame, company) -> pd.DataFrame:
    return scored_earlier(frame, company, BEFORE)


def test_every_start_of_a_quarter_that_had_events_enough_is_scored(found, frame):
    starts = pd.to_datetime(["2024-07-01", "2024-10-01", "2025-01-01"], utc=True)
    known = {at: count_events(frame.rows[frame.rows["label_known_at"] <= at]) for at in starts}
    enough = [at for at, n in known.items() if n >= 40]
    assert len(enough) >= 2
    assert list(found["as_of"].unique()) == enough
    assert found["fold"].max() == 0
    assert len(found) == frame.rows["as_of"].isin(enough).sum()


def test_it_ranks_and_its_level_is_that_of_the_time(found, frame):
    nothing = np.zeros(len(found))
    sample = Sample(
        found["label"].to_numpy(dtype=float), found["p_model"].to_numpy(), nothing, nothing,
        np.arange(len(found)), found["fold"].to_numpy(),
    )  # fmt: skip
    assert auc(sample, np.ones((1, len(found))))[0] > 0.7
    for at, here in found.groupby("as_of"):
        then = frame.rows[frame.rows["label_known_at"] <= at]
        assert here["p_constant"].unique() == pytest.approx(then["label"].mean())


def test_what_came_later_changes_nothing(found, frame, company):
    later = (frame.rows["label_known_at"] > pd.Timestamp("2025-01-01", tz="UTC")).to_numpy()
    rows = frame.rows.assign(label=np.where(later, 1 - frame.rows["label"], frame.rows["label"]))
    other = scored_earlier(replace(frame, rows=rows), company, BEFORE)
    assert np.array_equal(other["raw"], found["raw"])
    assert not np.array_equal(other["label"], found["label"])


def test_it_is_read_like_other_predictions_and_may_be_empty(found, frame, company):
    rows = scored_forecasts(found, "p_model", until_renewal=True).rows
    assert rows["p"].between(0, 1).all()
    nothing = scored_earlier(frame, company, frame.rows["as_of"].min())
    assert nothing.empty
    assert list(nothing.columns) == list(found.columns)
    both = pd.concat([nothing, found], ignore_index=True)
    assert both["as_of"].dtype == found["as_of"].dtype
