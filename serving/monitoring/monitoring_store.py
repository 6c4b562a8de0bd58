"""Input of the monitoring, and storage of its report. Light to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from configs.runtime.state_directory import read_json
from serving.monitoring.report import Monitoring
from serving.scoring.scorer import ScoringModel

LATEST = "latest.json"


@dataclass(frozen=True)
class MonitoringInput:
    """Latest scored vectors as input of the monitoring.

    Attributes
    ----------
    models : sequence of ScoringModel
        Current models, one per target.
    values : numpy.ndarray
        (scored accounts, features) served vectors.
    as_of : datetime
        The prediction moment.
    release_id : str
        The published release.
    n_accounts : int
        All current customers, without closed accounts.
    until : mapping of str to str
        Last day of the prediction windows by target, ISO 8601.
    """

    models: Sequence[ScoringModel]
    values: np.ndarray
    as_of: datetime
    release_id: str
    n_accounts: int
    until: Mapping[str, str] = field(default_factory=dict)


def read_monitoring(folder: Path) -> Monitoring | None:
    """Return the latest monitoring report, or None."""
    try:
        found: Monitoring = read_json(folder / LATEST)
    except FileNotFoundError:
        return None
    return found
