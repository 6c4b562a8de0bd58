"""Results of a training: metrics, gates, checks and predictions of each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from configs.runtime.errors import ConfigError, did_you_mean
from serving.company.display import axes, html_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from configs.schema.workspace import Workspace
    from features.pipeline import FeatureBuild
    from training.fitting.fit import TrainingConfig
    from training.pipeline import TrainedCandidate


@dataclass(frozen=True)
class TargetTraining:
    """Training of one target, measured on later periods than it was trained on.

    Attributes
    ----------
    target : str
        Name of the target.
    verdict : str
        ``promotable``, ``provisional`` or ``no_signal``.
    evaluation : mapping
        All measures as plain JSON values.
    gates, checks : pandas.DataFrame
        One row per gate, and per methodological check.
    predictions : pandas.DataFrame
        Out-of-time predictions: one row per account and test period.
    card : str
        The model card in Markdown; empty for a challenger, which is not kept.
    sha : str
        Digest of the model; empty for a challenger.
    """

    target: str
    verdict: str
    evaluation: Mapping[str, Any] = field(repr=False)
    gates: pd.DataFrame = field(repr=False)
    checks: pd.DataFrame = field(repr=False)
    predictions: pd.DataFrame = field(repr=False)
    card: str = field(default="", repr=False)
    sha: str = ""

    @property
    def auc(self) -> float:
        """Area under the ROC curve of the model, out of time; 0.5 is chance."""
        return float(self.evaluation["models"]["model"]["auc"]["value"])

    @property
    def metrics(self) -> pd.DataFrame:
        """Measures of the model and of its rivals: one row per measure, one column per model."""
        import pandas as pd

        models = self.evaluation["models"]
        values = {
            name: {measure: found["value"] for measure, found in part.items()}
            for name, part in models.items()
        }
        return pd.DataFrame(values)

    @property
    def differences(self) -> pd.DataFrame:
        """Model minus each rival, with 95 % intervals: one row per rival and measure."""
        import pandas as pd

        rows = {
            (rival, measure): found
            for rival, part in self.evaluation["differences"].items()
            for measure, found in part.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["rival", "measure"])

    @property
    def lead_times(self) -> pd.DataFrame:
        """AUC when only events later than some days count: one row per lead time and model."""
        import pandas as pd

        rows = [
            {
                "counted from": item["counted_from"],
                "days": item["days"],
                "events": item["events"],
                "model": name,
                **auc,
            }
            for item in self.evaluation["lead_times"]
            for name, auc in item.get("auc", {}).items()
        ]
        return pd.DataFrame(rows)

    @property
    def calibration(self) -> pd.DataFrame:
        """Mean predicted and observed rate (0 to 1) in groups of equal size, with intervals."""
        import pandas as pd

        return pd.DataFrame(self.evaluation["reliability"])

    def _repr_html_(self) -> str:
        return html_table(f"{self.target}: {self.verdict}", self.metrics.round(3))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the AUC of the model and of each rival, with 95 % intervals."""
        import pandas as pd

        models = self.evaluation["models"]
        auc = pd.DataFrame({name: part["auc"] for name, part in models.items()}).T[::-1]
        return _intervals(auc, 0.5, f"{self.target}: AUC, with 95 % intervals", "AUC", ax)

    def plot_differences(self, ax: Axes | None = None) -> Axes:
        """Draw the AUC of the model minus that of each rival, with 95 % intervals."""
        import pandas as pd

        rivals = self.evaluation["differences"]
        auc = pd.DataFrame({name: part["auc"] for name, part in rivals.items() if "auc" in part}).T
        title = f"{self.target}: AUC minus that of each rival, with 95 % intervals"
        return _intervals(auc[::-1], 0.0, title, "difference in AUC", ax)

    def plot_calibration(self, ax: Axes | None = None) -> Axes:
        """Draw predicted against observed rates, in percent; equal on the diagonal."""
        groups = 100 * self.calibration[["expected", "observed", "low", "high"]]
        chart = axes(ax)
        error = abs(groups[["low", "high"]].to_numpy().T - groups["observed"].to_numpy())
        chart.errorbar(groups["expected"], groups["observed"], yerr=error, fmt="o-", label="model")
        most = float(groups[["expected", "high"]].max().max())
        chart.plot([0, most], [0, most], color="grey", linestyle=":", label="perfect")
        chart.legend(loc="upper left")
        chart.set(
            title=f"Calibration of {self.target}", xlabel="predicted, %", ylabel="observed, %"
        )
        return chart


@dataclass(frozen=True)
class TrainingSummary:
    """Trainings by target.

    Attributes
    ----------
    targets : mapping of str to TargetTraining
        The trained targets.
    """

    targets: Mapping[str, TargetTraining]

    def __getitem__(self, target: str) -> TargetTraining:
        """Return the training of a target."""
        if target not in self.targets:
            raise ConfigError(
                f"no trained target {target!r}",
                fix=did_you_mean(target, self.targets) or f"trained: {', '.join(self.targets)}",
            )
        return self.targets[target]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per target: verdict, AUC with its 95 % interval, gates passed."""
        import pandas as pd

        rows = {name: _row(item) for name, item in self.targets.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("target")

    def _repr_html_(self) -> str:
        return html_table("Trained targets", self.frame.round(3))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the AUC of each target, with 95 % intervals."""
        auc = self.frame[["auc", "low", "high"]].rename(columns={"auc": "value"})
        return _intervals(auc[::-1], 0.5, "AUC by target, with 95 % intervals", "AUC", ax)


def _row(item: TargetTraining) -> dict[str, Any]:
    auc = item.evaluation["models"]["model"]["auc"]
    passed = f"{int(item.gates['passed'].sum())} of {len(item.gates)}"
    return {
        "verdict": item.verdict,
        "auc": auc["value"],
        "low": auc["low"],
        "high": auc["high"],
        "gates passed": passed,
    }


def _intervals(found: pd.DataFrame, chance: float, title: str, label: str, ax: Axes | None) -> Axes:
    """Draw one value with its interval per row: columns `value`, `low` and `high`."""
    chart = axes(ax, 1.5 + 0.3 * len(found))
    values = found.astype(float)
    ends = abs(values[["low", "high"]].to_numpy().T - values["value"].to_numpy())
    chart.errorbar(values["value"].to_numpy(), values.index.astype(str), xerr=ends, fmt="o")
    chart.axvline(chance, color="grey", linestyle=":")
    chart.set(title=title, xlabel=label)
    return chart


def read_training(candidate: TrainedCandidate) -> TargetTraining:
    """Return the kept training of a target."""
    import pandas as pd

    return TargetTraining(
        target=candidate.target,
        verdict=candidate.verdict,
        evaluation=candidate.evaluation,
        gates=pd.DataFrame(candidate.gate_result["gates"]),
        checks=pd.DataFrame(candidate.checks),
        predictions=candidate.predictions,
        card=(candidate.folder / "card.md").read_text(encoding="utf-8"),
        sha=candidate.sha,
    )


def read_trainings(candidates: Mapping[str, TrainedCandidate]) -> TrainingSummary:
    """Return the kept trainings by target."""
    return TrainingSummary({name: read_training(item) for name, item in candidates.items()})


def train_challenger(
    workspace: Workspace, built: FeatureBuild, target: str, config: TrainingConfig
) -> TargetTraining:
    """Train a target with other settings and compare it with the published model; keep nothing."""
    import pandas as pd

    from training.candidates.train import TrainingPlan, train
    from training.pipeline import champion_bundle, config_of, frame_of

    published = champion_bundle(workspace, target)
    found = train(
        frame_of(workspace.company, built, target),
        workspace.company,
        storage_url="",
        champion=config_of(published, workspace.company),
        plan=TrainingPlan(config, config, None, pd.DataFrame()),
        published=published,
    )
    return TargetTraining(
        target=target,
        verdict=found.gate_result.verdict,
        evaluation=found.evaluation.as_dict(),
        gates=pd.DataFrame(found.gate_result.as_dict()["gates"]),
        checks=pd.DataFrame([item.as_dict() for item in found.checks]),
        predictions=found.predictions,
    )
