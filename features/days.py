"""Day indices (whole days since 1970-01-01) and the key of every table of the grid."""

from __future__ import annotations

from datetime import date, timedelta

EPOCH = date(1970, 1, 1)

KEY = ["entity_id", "as_of_day"]
"""Key of grid tables: account and day index of as_of."""


def day_index(day: date) -> int:
    """Return days since 1970-01-01.

    >>> day_index(date(1970, 1, 2))
    1
    """
    return (day - EPOCH).days


def index_day(index: int) -> date:
    """Return the date of a day index."""
    return EPOCH + timedelta(days=index)
