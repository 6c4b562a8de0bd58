"""Escalations as a page: for each role what it should hear of, the reader's own first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.online.server_state import CurrentBook
from serving.workflow.escalations import Escalation


def view(book: CurrentBook, told: Sequence[Escalation], *, to: str, role: str) -> dict[str, Any]:
    """Return what the template of the escalations takes.

    Parameters
    ----------
    book : Book
        What the reader sees.
    told : sequence of Escalation
        All of it.
    to : str
        Only for this role; empty for every role.
    role : str
        The reader's; what is for them comes first.
    """
    roles = sorted({item.to for item in told}, key=lambda name: (name != role, not name, name))
    items = [item for item in told if not to or item.to == to]
    return {
        "run": book.run,
        "items": items,
        "roles": [(name, [item for item in items if item.to == name]) for name in roles],
        "n_accounts": len({item.account_id for item in items}),
        "to": to,
        "role": role,
    }
