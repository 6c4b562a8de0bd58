"""How much a row counts: by what its label windows tell alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError
from training.data.training_frame import ROW_COLUMNS, TrainingFrame


def _frame(windows: list[tuple[str, str, str]]) -> TrainingFrame:
    rows = pd.DataFrame(windows, columns=["entity_id", "as_of", "label_known_at"])
    for name in ("as_of", "label_known_at"):
        rows[name] = pd.to_datetime(rows[name], utc=True).astype("datetime64[us, UTC]")
    for name in ROW_COLUMNS:
        if name not in rows:
            rows[name] = 0
    return TrainingFrame("churn", rows, pd.DataFrame(index=rows.index), ())


def test_rows_that_see_one_renewal_share_one_vote():
    months = ["2025-01-01", "2025-02-01", "2025-03-01", "2025-04-01"]
    frame = _frame(
        [("a", month, "2025-06-01") for month in months] + [("b", months[0], "2025-02-01")]
    )
    assert frame.weight[:4] == pytest.approx(frame.weight[4] / 4)
    assert frame.weight.mean() == pytest.approx(1.0)


def test_windows_that_only_touch_do_not_overlap_and_other_entities_do_not_count():
    frame = _frame(
        [
            ("a", "2025-01-01", "2025-02-01"),
            ("a", "2025-02-01", "2025-03-01"),
            ("b", "2025-01-01", "2025-03-01"),
        ]
    )
    assert frame.weight == pytest.approx([1.0, 1.0, 1.0])


def test_weights_equal_a_plain_count_of_overlaps():
    rng = np.random.default_rng(3)
    opens = rng.integers(0, 400, 60)
    closes = opens + rng.integers(1, 200, 60)
    start = pd.Timestamp("2024-01-01", tz="UTC")
    entity = rng.choice(list("xyz"), 60)
    frame = _frame(
        [
            (who, str(start + pd.Timedelta(days=int(a))), str(start + pd.Timedelta(days=int(b))))
            for who, a, b in zip(entity, opens, closes, strict=True)
        ]
    )
    overlaps = [
        sum(
            entity[j] == entity[i] and opens[j] < closes[i] and closes[j] > opens[i]
            for j in range(60)
        )
        for i in range(60)
    ]
    expected = 1.0 / np.array(overlaps)
    assert frame.weight == pytest.approx(expected / expected.mean())


def test_a_frame_that_misses_a_column_is_refused():
    frame = _frame([("a", "2025-01-01", "2025-02-01")])
    with pytest.raises(DataError, match="segment"):
        TrainingFrame("churn", frame.rows.drop(columns="segment"), frame.features, ())
