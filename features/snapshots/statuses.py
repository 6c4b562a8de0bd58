"""Account statuses and their meaning. Light to import.

``no_room_to_grow`` concerns expansion only: churn is still predicted. It is the status of an
account only where expansion is the only target.
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
"""Statuses of accounts that are not counted as customers."""

STATUSES: dict[Status, str] = {
    "scored": "predicted",
    "too_new": "younger than the minimum tenure",
    "notice_given": "has already given notice",
    "pending_renewal": "renewal date passed, renewal not confirmed",
    "no_room_to_grow": "has every product and tier: no expansion predicted",
    "insufficient_data": "no data to predict from",
    "closed": "left, or inactive for too long",
}
