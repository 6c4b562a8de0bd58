"""Drift and performance of the published models, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.company.display import LOWERS, axes, html_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class MonitoringResult:
    """Freshness, feature drift and realised performance of the published models.

    Attributes
    ----------
    report : mapping
        Everything that was measured, as plain JSON values.
    """

    report: Mapping[str, Any] = field(repr=False)

    @property
    def findings(self) -> pd.DataFrame:
        """Findings in words: one row per target and finding."""
        import pandas as pd

        rows = [(name, text) for name, part in self._targets.items() for text in part["words"]]
        return pd.DataFrame(rows, columns=["target", "finding"])

    @property
    def _targets(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.report["targets"]
        return found

    def drift(self, target: str = "churn") -> pd.DataFrame:
        """Return the drift of each feature since training, largest first.

        `psi` is the population stability index between the training data and the latest scores;
        `usual` is what chance alone gives for this number of accounts.
        """
        import pandas as pd

        features = pd.DataFrame(self._targets[target]["inputs"]["features"])
        return features.sort_values("psi", ascending=False, ignore_index=True)

    def _repr_html_(self) -> str:
        return html_table(f"Features as of {self.report['freshness']['as_of'][:10]}", self.findings)

    def plot(self, target: str = "churn", n: int = 12, ax: Axes | None = None) -> Axes:
        """Draw the `n` features that drifted most, next to what chance alone gives."""
        moved = self.drift(target).dropna(subset=["psi"]).head(n)[::-1]
        chart = axes(ax, 1.5 + 0.3 * len(moved))
        chart.barh(moved["name"], moved["psi"], color=LOWERS, height=0.6, label="measured")
        chart.barh(moved["name"], moved["usual"], color="#bbbbbb", height=0.25, label="usual")
        chart.legend()
        chart.set(title="Drift of the features since training", xlabel="stability index (PSI)")
        return chart
