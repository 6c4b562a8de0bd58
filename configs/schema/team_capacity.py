"""Team capacity: the one definition behind every number of accounts to work.

``serving.capacity_per_month`` in company.yaml is the capacity of the whole team: the accounts it
can take on in a month of 30.4375 days. Lift and capture, alerts, band sizes, the report and the
weekly page all use it through this module. ``owners.capacity`` (accounts a CSM can take on in a
week) only decides the shares of the CSMs; `disagreement` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping

DAYS_PER_MONTH = 30.4375
DAYS_PER_WEEK = 7.0

TOLERANCE = 1.25
"""Largest accepted ratio between the team's capacity and the sum of its CSMs."""


def workable(per_month: float, days: float) -> float:
    """Return the number of accounts a team can work in a number of days.

    Parameters
    ----------
    per_month : float
        Accounts a month, from ``serving.capacity_per_month``.
    days : float
        Length of the period.

    Examples
    --------
    >>> round(workable(40, 91), 1), round(workable(40, 7), 1)
    (119.6, 9.2)
    """
    return per_month * days / DAYS_PER_MONTH


def weekly_slots(
    per_month: float, weights: Mapping[str, float], stakes: Mapping[str, float]
) -> dict[str, int]:
    """Return the number of accounts each CSM takes on this week; the sum is the team's capacity.

    Each CSM gets the whole accounts of their share. The remaining ones go, one each, to the CSMs
    with the most revenue at stake.

    Parameters
    ----------
    per_month : float
        Accounts a month, of the whole team.
    weights : mapping of str to float
        Owner to their ``owners.capacity``; only the proportions count.
    stakes : mapping of str to float
        Owner to the expected loss of their open risks; 0 where absent.

    Examples
    --------
    >>> weekly_slots(40, {"ann": 6, "ben": 2, "cyd": 2}, {"cyd": 9.0, "ben": 1.0})
    {'ann': 5, 'ben': 2, 'cyd': 2}
    >>> weekly_slots(4, dict.fromkeys("abc", 1), {"b": 5.0})
    {'a': 0, 'b': 1, 'c': 0}
    """
    working = {owner: weight for owner, weight in weights.items() if weight > 0}
    if not working:
        return dict.fromkeys(weights, 0)
    team, total = workable(per_month, DAYS_PER_WEEK), sum(working.values())
    slots = {owner: int(working.get(owner, 0.0) / total * team) for owner in weights}
    left = max(round(team), 1) - sum(slots.values())
    for owner in sorted(working, key=lambda name: (-stakes.get(name, 0.0), name))[: max(left, 0)]:
        slots[owner] += 1
    return slots


def disagreement(per_month: float, capacities: Mapping[str, float]) -> str:
    """Describe a disagreement between the team's capacity and its CSMs'; empty if there is none.

    >>> disagreement(40, {"ann": 5, "ben": 4})
    ''
    >>> disagreement(40, {"ann": 100, "ben": 172})
    'owners.capacity adds up to 272 accounts a week, 1,183 a month; the team works 40 a month'
    """
    weekly = sum(capacities.values())
    summed = weekly * DAYS_PER_MONTH / DAYS_PER_WEEK
    if not weekly or 1 / TOLERANCE <= summed / per_month <= TOLERANCE:
        return ""
    return (
        f"owners.capacity adds up to {weekly:,.4g} accounts a week, {summed:,.0f} a month; "
        f"the team works {per_month:,.0f} a month"
    )
