"""Whether an entity is predicted, and if not, why: the words of its status. Light to import.

``no_room_to_grow`` concerns one outcome: expansion is withheld with it, churn is predicted still.
It is an account's whole status only where nothing but expansion is asked.
"""

from __future__ import annotations

from typing import Literal

Status = Literal[
    "scored",
    "too_new",
    "notice_given",
    "pending_renewal",
    "no_room_to_grow",
    "insufficient_data",
    "closed",
]

NOT_CUSTOMERS = ("closed",)
"""Statuses of accounts that are in no count of customers; they are counted apart."""

STATUSES: dict[Status, str] = {
    "scored": "predicted",
    "too_new": "younger than the minimum tenure",
    "notice_given": "has already given notice",
    "pending_renewal": "the renewal date has passed, the answer is awaited",
    "no_room_to_grow": "holds all there is to sell: not asked about growth",
    "insufficient_data": "nothing known to predict from",
    "closed": "has left, or has been silent too long",
}
