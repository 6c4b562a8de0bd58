"""Labels: versioned definitions of each outcome, and the label of every (entity, as_of).

The label window of a row is ``(as_of + lead_time, end]``. For an account under contract that is
asked about its renewal, ``end`` is the renewal plus grace; otherwise it is
``as_of + lead_time + horizon``. A row is used only when its window is completely observed, so
``label_known_at`` is the end of the window whatever happened in it. Where outcomes are read from
subscription terms without grace, `COMEBACK_DAYS` are added: an account that is gone at the end of
the window may still come back. A notice counts as a decision; it can be withdrawn until the terms
end.

Features read only what was known at ``as_of``; labels read everything known by ``now``.
"""

from features.labels.build import build_labels, label_moments, labels_at
from features.labels.contract import COLUMNS, Labels, definition, require_events

__all__ = [
    "COLUMNS",
    "Labels",
    "build_labels",
    "definition",
    "label_moments",
    "labels_at",
    "require_events",
]
