"""One kind of data-quality issue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Code:
    """One kind of issue.

    Attributes
    ----------
    title : str
        The problem, without numbers.
    severity : {"error", "warning", "info"}
        error: predictions are wrong where it occurs; warning: they are weaker; info: no effect.
    to_do : str
        Remedy.
    """

    title: str
    severity: Severity
    to_do: str
