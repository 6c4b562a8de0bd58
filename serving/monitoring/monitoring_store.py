"""What is looked at, and where what was seen lies. Light to import: the service reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from configs.runtime.state_directory import read_json
from serving.scoring.scorer import ScoringModel

LATEST = "latest.json"


@dataclass(frozen=True)
class MonitoringInput:
    """The newest book as it was scored.

    Attributes
    ----------
    models : sequence of Model
        What answered, one per target.
    values : numpy.ndarray
        (scored accounts, vector).
    as_of : datetime
        The prediction moment.
    release_id : str
        What is published.
    n_accounts : int
        All customers of the book; closed accounts are none.
    until : mapping of str to str
        Target to the last day that its estimates look to, ISO 8601.
    """

    models: Sequence[ScoringModel]
    values: np.ndarray
    as_of: datetime
    release_id: str
    n_accounts: int
    until: Mapping[str, str] = field(default_factory=dict)


def read_monitoring(folder: Path) -> dict[str, Any] | None:
    """Return what was seen last, None when nothing was."""
    try:
        found: dict[str, Any] = read_json(folder / LATEST)
    except FileNotFoundError:
        return None
    return found
