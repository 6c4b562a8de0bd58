"""BW-T02: the book looks like the training rows."""

from __future__ import annotations

import numpy as np
import pytest

from training.checks.stability.t02_drift import beyond_chance, psi

CODE = "BW-T02"


def test_quiet_on_a_later_book_of_the_same_accounts(find, with_evidence):
    assert find(CODE, with_evidence()).outcome == "passed"


def test_a_source_that_stopped_is_a_tip(find, with_evidence, evidence):
    found = find(CODE, with_evidence(book=evidence.book.assign(users_28d=0.0)))
    assert found.outcome == "tip"
    assert "1 of 8 features" in found.words
    assert "users_28d (PSI" in found.words


def test_a_value_that_went_missing_is_noticed(find, with_evidence, evidence):
    assert find(CODE, with_evidence(book=evidence.book.assign(noise_3=np.nan))).outcome == "tip"


def test_a_book_of_other_accounts_is_an_issue(find, with_evidence, evidence):
    shifted = evidence.book.copy()
    for name in ("users_28d", "tickets_28d", "noise_3"):
        shifted[name] = shifted[name] * 5 + 10
    assert find(CODE, with_evidence(book=shifted)).outcome == "issue"


def test_few_accounts_or_no_book(find, with_evidence, evidence, clean):
    few = with_evidence(book=evidence.book.head(29))
    assert find(CODE, few).outcome == "not applicable"
    assert find(CODE, clean).outcome == "skipped"


@pytest.mark.parametrize("m", [50, 400])
def test_two_samples_of_one_thing_exceed_the_limit_as_often_as_said(m):
    rng = np.random.default_rng(3)
    over = [
        psi(rng.normal(size=500), rng.normal(size=m))[0] > beyond_chance(500, m, 10, 0.05)
        for _ in range(1_000)
    ]
    assert np.mean(over) < 0.08


def test_psi_is_that_of_its_formula():
    """Shares 0.5, 0.5 against 0.8, 0.2: 0.3·ln 1.6 + 0.3·ln 2.5 = 0.4159."""
    before, now = np.repeat([0.0, 1.0], 5_000), np.repeat([0.0, 1.0], [8_000, 2_000])
    assert psi(before, now)[0] == pytest.approx(0.4159, abs=2e-4)
