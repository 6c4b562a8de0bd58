"""The audits of other scores that were written into the state directory: ``reports/audits/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.runtime.state_directory import State, read_json

FOLDER, HTML, JSON = "audits", "audit.html", "audit.json"


@dataclass(frozen=True)
class AuditPage:
    """One audit.

    Attributes
    ----------
    name : str
        Its folder.
    as_of : str
        Day on which it was made.
    accounts : int
        Accounts with a score.
    verdicts : sequence of (str, str)
        Outcome and verdict.
    """

    name: str
    as_of: str
    accounts: int
    verdicts: Sequence[tuple[str, str]]


def audits(state: State) -> list[AuditPage]:
    """Return the audits there are, by name.

    Raises
    ------
    StateError
        One of them is damaged.
    """
    folder = state.reports / FOLDER
    found = sorted(folder.glob(f"*/{JSON}")) if folder.is_dir() else []
    return [_read(path) for path in found]


def _read(path: Path) -> AuditPage:
    content = read_json(path)
    targets = content["targets"]
    return AuditPage(
        path.parent.name,
        content["as_of"],
        content["reading"]["accounts"],
        [(name, targets[name]["verdict"]["word"]) for name in content["order"]],
    )


def audit_page(state: State, name: str) -> Path | None:
    """Return the page of an audit; None where there is no such audit."""
    folder = state.reports / FOLDER
    named = {path.name: path / HTML for path in folder.iterdir()} if folder.is_dir() else {}
    path = named.get(name)
    return path if path is not None and path.is_file() else None
