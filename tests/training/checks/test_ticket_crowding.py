"""Tickets that come with the decision are found by their timing, whatever they are called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.checks.source_evidence import decisions
from training.checks.ticket_crowding import EVERY, NONE, crowded_categories


@pytest.fixture
def decided() -> pd.DataFrame:
    days = np.arange(400, 600, 2)
    return pd.DataFrame({
        "entity_id": [f"a{i}" for i in range(100)], "decided_day": days, "since_day": days - 300,
    })  # fmt: skip


@pytest.fixture
def tickets(decided) -> pd.DataFrame:
    """One ticket in about six weeks, of three categories, at no special time."""
    rng = np.random.default_rng(0)
    rows = decided.loc[decided.index.repeat(7)]
    ahead = rng.integers(0, 300, len(rows))
    category = rng.choice(["how_to", "bug", "billing"], len(rows))
    return pd.DataFrame(
        {"entity_id": rows["entity_id"], "day": rows["decided_day"] - ahead, "category": category}
    )


def planted(tickets, decided, category, share, within=14) -> pd.DataFrame:
    chosen = decided.iloc[: int(share * len(decided))]
    day = chosen["decided_day"] - np.arange(len(chosen)) % within
    more = pd.DataFrame({"entity_id": chosen["entity_id"], "day": day, "category": category})
    return pd.concat([tickets, more], ignore_index=True)


def test_tickets_at_any_time_do_not_crowd(tickets, decided):
    assert crowded_categories(tickets, decided) == ()


def test_more_tickets_in_trouble_do_not_crowd(tickets, decided):
    again = tickets[(tickets["day"] > tickets["entity_id"].map(
        decided.set_index("entity_id")["decided_day"]) - 60)]  # fmt: skip
    assert (
        crowded_categories(pd.concat([tickets, again.assign(day=again["day"] - 5)]), decided) == ()
    )


@pytest.mark.parametrize("name", ["Account closure request", "Offboarding", "winback", "x-17"])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_category_of_any_name_is_found(tickets, decided, name, share):
    (found, *_) = crowded_categories(planted(tickets, decided, name, share), decided)
    assert found.startswith(f"{name.lower()} ({int(100 * share)} of 100 accounts")


def test_a_usual_category_that_crowds_is_found(tickets, decided):
    found = crowded_categories(planted(tickets, decided, "how_to", 1.0), decided)
    assert any(words.startswith("how_to") for words in found)


@pytest.mark.parametrize("name", [None, "", "  "])
def test_tickets_without_a_category_are_looked_at_too(tickets, decided, name):
    found = crowded_categories(planted(tickets, decided, name, 0.5), decided)
    assert any(words.startswith(NONE) for words in found)


def test_a_name_of_its_own_for_every_ticket_hides_nothing(tickets, decided):
    many = planted(tickets, decided, "x", 1.0)
    new = many["category"] == "x"
    many.loc[new, "category"] = [f"request {i}" for i in range(new.sum())]
    assert any(words.startswith(EVERY) for words in crowded_categories(many, decided))


def test_after_the_decision_is_no_sign_of_a_leak(tickets, decided):
    late = planted(tickets, decided, "closure", 1.0)
    late.loc[late["category"] == "closure", "day"] += 30
    assert crowded_categories(late, decided) == ()


def test_few_decisions_are_not_asked(tickets, decided):
    assert crowded_categories(planted(tickets, decided, "closure", 1.0), decided.head(5)) == ()


def test_each_account_has_its_first_decision():
    at = pd.to_datetime(["2024-01-01", "2024-02-01", "2024-02-01"], utc=True)
    when = pd.to_datetime([None, "2024-03-05", "2024-04-05"], utc=True)
    labels = pd.DataFrame({
        "entity_id": ["A", "A", "A"], "as_of": at, "label": [0, 1, 1], "decision_at": when,
    })  # fmt: skip
    (found,) = decisions(labels).to_dict("records")
    days = [(pd.Timestamp(day) - pd.Timestamp(0)).days for day in ("2024-03-05", "2024-01-01")]
    assert [found["decided_day"], found["since_day"]] == days
