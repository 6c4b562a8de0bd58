from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.runtime.errors import DataError
from training.data.splits import count_events, describe, make_folds
from training.data.training_frame import TrainingFrame


def plain_frame(as_of_days, entities, labels, waits) -> TrainingFrame:
    """Rows given by days since 2024-01-01, entity numbers, labels, and days until known."""
    start = pd.Timestamp("2024-01-01", tz="UTC")
    as_of = start + pd.to_timedelta(as_of_days, unit="D")
    rows = pd.DataFrame(
        {
            "entity_id": [f"a{i}" for i in entities],
            "as_of": as_of,
            "label": labels,
            "label_known_at": as_of + pd.to_timedelta(waits, unit="D"),
            "decision_at": pd.NaT,
            "arr": 1.0,
            "segment": "s",
            "is_under_contract": False,
            "days_to_renewal": np.nan,
            "health_score": np.nan,
        }
    )
    rows = rows.sort_values(["as_of", "entity_id"], ignore_index=True)
    return TrainingFrame("churn", rows, pd.DataFrame(index=rows.index), ())


@st.composite
def frames(draw):
    n_months = draw(st.integers(8, 20))
    n = draw(st.integers(15, 30))
    wait = draw(st.integers(0, 120))
    jitter = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    months, entities = (part.ravel() for part in np.meshgrid(np.arange(n_months), np.arange(n)))
    kept = rng.random(len(months)) < draw(st.floats(0.5, 1.0))
    months, entities = months[kept], entities[kept]
    labels = (rng.random(len(months)) < 0.4).astype(int)
    waits = wait + rng.integers(0, jitter + 1, len(months))
    return plain_frame(30 * months, entities, labels, waits)


@settings(max_examples=60, deadline=None)
@given(frames(), st.integers(1, 6), st.integers(28, 200))
def test_no_fold_looks_ahead(frame, n_folds, fold_days):
    try:
        folds = make_folds(frame, folds=n_folds, fold_days=fold_days)
    except DataError:
        return
    rows = frame.rows
    assert 1 <= len(folds) <= n_folds
    assert bool(folds.notes) == (len(folds) < n_folds)
    tested = np.concatenate([fold.test for fold in folds.folds])
    assert len(tested) == len(set(tested.tolist()))
    for fold in folds.folds:
        train, test = rows.iloc[fold.train], rows.iloc[fold.test]
        assert (train["label_known_at"] <= fold.cutoff).all()
        assert (test["as_of"] >= fold.cutoff).all()
        assert (test["as_of"] < fold.until).all()
        # a training row's label window ends by label_known_at, a test row's begins at its as_of
        assert train["label_known_at"].max() <= test["as_of"].min()
        assert set(fold.headline) <= set(fold.test)
        headline = rows.iloc[fold.headline]
        assert set(headline["entity_id"]) == set(test["entity_id"])
        assert headline["entity_id"].is_unique
        first = test.groupby("entity_id")["as_of"].min()
        assert (headline.set_index("entity_id")["as_of"] == first[headline["entity_id"]]).all()


def test_the_last_as_of_is_tested_and_cutoffs_lie_on_the_grid(frame):
    folds = make_folds(frame, folds=3, fold_days=91)
    moments = set(frame.rows["as_of"])
    assert all(fold.cutoff in moments for fold in folds.folds)
    assert frame.rows["as_of"].iloc[folds.folds[-1].test].max() == frame.rows["as_of"].max()
    assert [fold.number for fold in folds.folds] == [1, 2, 3]
    assert folds.over == "time"


def test_fewer_folds_than_asked_is_said(frame):
    folds = make_folds(frame, folds=20, fold_days=91)
    assert len(folds) < 20
    assert f"{len(folds)} of 20 folds" in folds.notes[0]


def test_one_account_is_refused():
    frame = plain_frame([0, 30, 60], [1, 1, 1], [0, 1, 0], [1, 1, 1])
    with pytest.raises(DataError, match="1 account"):
        make_folds(frame, folds=2, fold_days=30)


@pytest.mark.parametrize(("label", "words"), [(0, "none of 20 rows"), (1, "all 20 rows")])
def test_one_class_is_refused(label, words):
    frame = plain_frame(np.repeat([0, 30], 10), [*range(10)] * 2, [label] * 20, [1] * 20)
    with pytest.raises(DataError, match=words):
        make_folds(frame, folds=2, fold_days=30)


def test_no_rows_are_refused(frame):
    with pytest.raises(DataError, match="0 account"):
        make_folds(frame.take(np.zeros(len(frame), dtype=bool)), folds=2, fold_days=30)


def test_too_short_a_history_is_refused_with_the_wait():
    labels = np.tile([0, 1], 30)
    frame = plain_frame(np.repeat([0, 30, 60], 20), [*range(20)] * 3, labels, [200] * 60)
    with pytest.raises(DataError, match="labels take 200 days") as error:
        make_folds(frame, folds=2, fold_days=30)
    assert "fold_days" in error.value.fix


def test_a_single_as_of_holds_out_accounts_and_says_so():
    frame = plain_frame([0] * 100, range(100), [1] * 20 + [0] * 80, [91] * 100)
    folds = make_folds(frame, folds=4, fold_days=91)
    assert folds.over == "accounts"
    assert "hold out accounts" in folds.notes[0]
    assert sorted(np.concatenate([fold.test for fold in folds.folds])) == list(range(100))
    for fold in folds.folds:
        assert not set(fold.train) & set(fold.test)
        assert frame.label[fold.test].sum() == 5


def test_an_event_seen_coming_by_many_snapshots_counts_once():
    frame = plain_frame([0, 30, 60, 60], [1, 1, 1, 2], [1, 1, 1, 1], [1] * 4)
    assert count_events(frame.rows) == 2
    decided = frame.rows.assign(
        decision_at=pd.to_datetime(["2024-02-01", "2024-02-01", "2024-09-01", None], utc=True)
    )
    assert count_events(decided) == 3


def test_description_names_each_fold(frame):
    folds = make_folds(frame, folds=3, fold_days=91)
    table = describe(frame, folds)
    assert table["fold"].tolist() == [1, 2, 3]
    assert (table["known_to"] <= table["cutoff"]).all()
    assert (table["n_headline"] <= table["n_test"]).all()
    assert table["n_train"].is_monotonic_increasing


def test_folds_do_not_depend_on_the_order_of_rows_within_a_moment(frame):
    order = frame.rows.sort_values(["as_of", "entity_id"], ascending=[True, False]).index
    turned = replace(
        frame,
        rows=frame.rows.loc[order].reset_index(drop=True),
        features=frame.features.loc[order].reset_index(drop=True),
    )

    def keys(of):
        folds = make_folds(of, folds=3, fold_days=91).folds
        return [set(of.rows.iloc[fold.headline]["entity_id"]) for fold in folds]

    assert keys(turned) == keys(frame)
