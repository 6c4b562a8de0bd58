"""BW-S05: movement is more than the size it is measured against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

CODE = "BW-S05"


def growth(context, *, arr=None):
    """The same training, asked about growth; its revenue replaced where given."""
    predictions = context.predictions
    if arr is not None:
        predictions = predictions.assign(arr=arr(predictions))
    recipe = replace(context.config, outcome="expansion")
    return replace(context, config=recipe, predictions=predictions)


def test_quiet_where_size_tells_nothing(find, clean):
    rng = np.random.default_rng(4)
    found = find(CODE, growth(clean, arr=lambda rows: rng.lognormal(10, 1, len(rows))))
    assert found.outcome == "passed"
    assert "revenue alone ranks with AUC within test periods 0." in found.words


def test_growth_that_is_the_size_of_the_base_is_caught(find, clean):
    rng = np.random.default_rng(4)

    def small_where_it_grew(rows):
        return rng.lognormal(10, 0.5, len(rows)) * np.exp(-2.0 * rows["label"])

    found = find(CODE, growth(clean, arr=small_where_it_grew))
    assert found.outcome == "issue"
    assert "smaller first" in found.words


def test_leaving_is_not_asked(find, clean):
    assert find(CODE, clean).outcome == "not applicable"


def test_unknown_revenue_is_not_judged(find, clean):
    assert find(CODE, growth(clean, arr=lambda rows: np.nan)).outcome == "not applicable"
