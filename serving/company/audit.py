"""Audit of a health score that a company already has, from its history and the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from serving.company.display import axes, html_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AuditSummary:
    """Verdicts about a health score.

    Attributes
    ----------
    content : mapping
        Everything the report says, as plain JSON values; while the history is too short, the
        dates on which a verdict becomes possible.
    lines : tuple of str
        Columns that were guessed, then the verdicts, as text.
    html : str
        The report as one HTML page; empty while there is no verdict.
    """

    content: Mapping[str, Any] = field(repr=False)
    lines: tuple[str, ...]
    html: str = field(default="", repr=False)

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row per outcome: the verdict in one word and in one sentence."""
        import pandas as pd

        targets = self.content.get("targets", {})
        rows = {name: part["verdict"] for name, part in targets.items()}
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["word", "sentence"])
        return frame.rename_axis("outcome")

    def save(self, path: str | Path) -> Path:
        """Write the report as an HTML file."""
        file = Path(path)
        file.write_text(self.html, encoding="utf-8")
        return file

    def _repr_html_(self) -> str:
        return html_table("Health-score audit", self.verdicts)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the AUC of the score and its rivals, with 95 % intervals; 0.5 is chance."""
        chart = axes(ax, 3.0)
        for outcome, part in self.content.get("targets", {}).items():
            for model in part["models"]:
                auc = model["auc"]
                if auc["value"] is not None:
                    ends = [[auc["value"] - auc["low"]], [auc["high"] - auc["value"]]]
                    label = f"{outcome}: {model['title']}"
                    chart.errorbar([auc["value"]], [label], xerr=ends, fmt="o")
        chart.axvline(0.5, color="grey", linestyle=":")
        chart.set(title="Ranking by the health score, with 95 % intervals", xlabel="AUC")
        return chart


def audit(
    scores: pd.DataFrame | str | Path,
    outcomes: pd.DataFrame | str | Path | None = None,
    *,
    folder: str | Path | None = None,
    now: datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> AuditSummary:
    """Audit a health score; `bellwether.audit` documents it."""
    from training.health_audit.options import AuditOptions
    from training.health_audit.run import audit as run_audit

    asked = AuditOptions(now=now or datetime.now(UTC).replace(microsecond=0), **options)
    with TemporaryDirectory() as aside:
        made = run_audit(
            _file(scores, Path(aside) / "scores.parquet"),
            None if outcomes is None else _file(outcomes, Path(aside) / "outcomes.parquet"),
            Path(folder) if folder is not None else Path(aside) / "audit",
            asked,
            progress,
        )
        html = made.html.read_text(encoding="utf-8") if made.html is not None else ""
    return AuditSummary(made.as_dict(), tuple(made.lines), html)


def _file(given: pd.DataFrame | str | Path, file: Path) -> Path:
    """Return the file of a table; a data frame is written to one."""
    if isinstance(given, (str, Path)):
        return Path(given)
    given.to_parquet(file, index=False)
    return file
