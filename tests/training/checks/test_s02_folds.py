"""BW-S02: enough later periods were tested."""

from __future__ import annotations

from dataclasses import replace

CODE = "BW-S02"


def changed(context, **values):
    return replace(context, evaluation=replace(context.evaluation, **values))


def test_quiet_with_three_periods(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_too_few_periods_are_an_issue(find, clean):
    assert find(CODE, changed(clean, folds=clean.evaluation.folds[:2])).outcome == "issue"


def test_folds_over_accounts_are_no_later_period(find, clean):
    assert find(CODE, changed(clean, over="accounts")).outcome == "issue"


def test_a_period_with_few_events_is_a_tip(find, clean):
    thin = [{**fold, "n_headline_events": 9} for fold in clean.evaluation.folds]
    found = find(CODE, changed(clean, folds=thin))
    assert found.outcome == "tip"
    assert "1 (9 events)" in found.words
