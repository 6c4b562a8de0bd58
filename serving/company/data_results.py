"""Results about the data of a company: quality of its tables, and its revenue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.company.display import RAISES, axes, html_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from features.quality import QualityReport, Understanding
    from features.quality.history.store import QualityLoad


@dataclass(frozen=True)
class QualityResult:
    """Graded data quality of the source tables.

    Attributes
    ----------
    report : QualityReport
        The report that `bellwether check` prints.
    """

    report: QualityReport = field(repr=False)

    def __str__(self) -> str:
        return f"data quality of {self.report.company}: grade {self.grade}"

    @property
    def grade(self) -> str:
        """Grade of the worst issue, A to F."""
        return self.report.grade

    @property
    def issues(self) -> pd.DataFrame:
        """Issues, worst first: one row per issue, with the share of rows (0 to 1) and the fix."""
        import pandas as pd

        columns = ["severity", "table", "title", "detail", "share", "rows", "to_do", "code"]
        return pd.DataFrame([item.as_dict() for item in self.report.issues], columns=columns)

    @property
    def tables(self) -> pd.DataFrame:
        """Source tables: rows read, kept, set aside and duplicate, first and last day."""
        import pandas as pd

        frame = pd.DataFrame.from_dict(dict(self.report.tables), orient="index")
        columns = ["rows_read", "rows", "rows_quarantined", "rows_duplicate"]
        return frame[[*columns, "first_happened", "last_happened"]].rename_axis("table")

    @property
    def readiness(self) -> pd.DataFrame:
        """Readiness of each target: ready, degraded or not ready, with reasons and remedies.

        One row per target and reason; a ready target has one row without a reason.
        """
        import pandas as pd

        from features.quality.readiness import readiness

        columns = ["target", "status", "stops", "table", "words", "to_do", "code"]
        rows = [
            {"target": item.target, "status": item.status, **(vars(reason) if reason else {})}
            for item in readiness(self.report)
            for reason in item.reasons or (None,)
        ]
        return pd.DataFrame(rows, columns=columns)

    def as_dict(self) -> dict[str, Any]:
        """Return the whole report as plain JSON values."""
        return self.report.as_dict()

    def _repr_html_(self) -> str:
        title = f"Data quality of {self.report.company}: grade {self.grade}"
        return html_table(title, self.issues.drop(columns=["code", "rows"]))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of rows that each issue concerns, for issues that have one."""
        known = self.issues.dropna(subset=["share"]).head(15)[::-1]
        chart = axes(ax, 1.5 + 0.35 * len(known))
        chart.barh(known["title"] + " (" + known["table"] + ")", 100 * known["share"], color=RAISES)
        chart.set(title=f"Data quality: grade {self.grade}", xlabel="rows concerned, %")
        return chart


def history_frame(history: Sequence[QualityLoad]) -> pd.DataFrame:
    """Return the data quality of every load, one row per load, indexed by the clock (UTC)."""
    import pandas as pd

    rows = [
        {
            "at": load.at,
            "grade": load.grade,
            "errors": load.count("error"),
            "warnings": load.count("warning"),
            "rows": sum(load.rows.values()),
            "issues": ", ".join(
                f"{item.table}: {item.code}" if item.table else item.code
                for item in load.issues
                if item.severity != "info"
            ),
            **{f"{target}_readiness": status for target, status in load.readiness.items()},
        }
        for load in history
    ]
    columns = ["at", "grade", "errors", "warnings", "rows", "issues"]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True)).set_index("at")


@dataclass(frozen=True)
class RevenueResult:
    """Annual recurring revenue (ARR) of a company, and its movements.

    Attributes
    ----------
    summary : Understanding
        ARR today and at year ends, in `summary.currency`.
    movements : pandas.DataFrame
        One row per movement of ARR: account, day, kind and amount.
    """

    summary: Understanding
    movements: pd.DataFrame = field(repr=False)

    @property
    def arr(self) -> float | None:
        """ARR today, in the reporting currency."""
        return self.summary.arr

    @property
    def quarters(self) -> pd.DataFrame:
        """Past quarters: ARR at both ends, losses and growth, GRR and NRR as shares."""
        import pandas as pd

        return pd.DataFrame([vars(item) for item in self.summary.quarters]).set_index("quarter")

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return self.summary.as_dict()

    def _repr_html_(self) -> str:
        arr = "not known" if self.arr is None else f"{self.arr:,.0f} {self.summary.currency}"
        columns = ["start_arr", "lost_arr", "contraction_arr", "expansion_arr", "new_arr"]
        return html_table(f"ARR today: {arr}", self.quarters[[*columns, "end_arr", "grr", "nrr"]])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw gross and net revenue retention by quarter, in percent."""
        chart = axes(ax)
        quarters = self.quarters
        for name, label in (("grr", "GRR"), ("nrr", "NRR")):
            chart.plot(quarters.index, 100 * quarters[name].astype(float), marker="o", label=label)
        chart.axhline(100, color="grey", linestyle=":")
        chart.tick_params(axis="x", rotation=45)
        chart.legend()
        chart.set(title="Revenue retention by quarter", ylabel="of ARR at the quarter's start, %")
        return chart
