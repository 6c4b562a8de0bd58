"""An opened company: each step of the product as a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from configs.runtime.errors import DataError, did_you_mean
from serving.company.data_results import QualityResult, RevenueResult
from serving.company.monitoring import MonitoringResult
from serving.company.scores import Explanation, Scores, explain_account, read_scores, scores_as_of
from serving.company.training import (
    TargetTraining,
    TrainingSummary,
    read_trainings,
    train_challenger,
)

if TYPE_CHECKING:
    import pandas as pd
    import shap

    from configs.schema.workspace import Workspace
    from features.labels import Labels
    from features.pipeline import FeatureBuild
    from training.fitting.fit import TrainingConfig
    from training.model.bundle import Bundle

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Company:
    """A company with its data and its state directory; open one with `bellwether.open`.

    Methods that build or write hold the state directory's lock, so that a second process fails at
    once instead of waiting. Steps that are up to date are not repeated.

    Attributes
    ----------
    workspace : Workspace
        Configuration, data, state and environment.
    progress : callable
        Called with one line per step.
    """

    workspace: Workspace
    progress: Progress = field(default=_silent, repr=False)

    @property
    def name(self) -> str:
        """Name of the company, as in company.yaml."""
        return self.workspace.company.name

    @property
    def title(self) -> str:
        """Name of the company for people."""
        return self.workspace.company.title or self.name

    @property
    def now(self) -> datetime:
        """The company's clock, UTC: pinned for examples, the present otherwise."""
        return self.workspace.company.clock()

    @property
    def feature_store(self) -> Path:
        """Folder of ``feature_store.yaml``: open it with ``feast.FeatureStore(repo_path=…)``."""
        return self.workspace.state.feast

    @property
    def tracking_uri(self) -> str:
        """Address of the MLflow store with the company's trainings and registered models."""
        from training.registry.tracking_store import tracking_uri

        return tracking_uri(self.workspace)

    def check(self) -> QualityResult:
        """Read the raw tables and grade their quality.

        Examples
        --------
        >>> quality = company.check()
        >>> quality.grade
        'D'
        >>> quality.issues[["severity", "table", "to_do"]].shape[1]
        3
        """
        from features.pipeline import refuse_ready_table
        from features.quality import check_and_keep
        from features.sources import load_sources

        refuse_ready_table(self.workspace.company)
        with self.workspace.state.lock("check"):
            loaded = load_sources(self.workspace, self.now, self.progress)
            return QualityResult(check_and_keep(self.workspace, loaded, self.now))

    def quality_history(self) -> pd.DataFrame:
        """Return the data quality of every load, oldest first; empty before the first check.

        One row per load, indexed by the clock (UTC): grade, number of errors and warnings, rows of
        all tables, issues as text, and the readiness of each target.

        Examples
        --------
        >>> history = company.quality_history()
        >>> history[["grade", "errors", "warnings"]].shape[1]
        3
        """
        from features.quality import read_history
        from serving.company.data_results import history_frame

        return history_frame(read_history(self.workspace.state))

    def revenue(self) -> RevenueResult:
        """Return ARR, losses and growth by quarter, and every movement of ARR.

        Examples
        --------
        >>> revenue = company.revenue()
        >>> revenue.quarters[["grr", "nrr"]].shape
        (8, 2)
        """
        from features.pipeline import refuse_ready_table
        from features.quality import company_revenue
        from features.sources import load_sources

        refuse_ready_table(self.workspace.company)
        with self.workspace.state.lock("revenue"):
            loaded = load_sources(self.workspace, self.now, self.progress)
            return RevenueResult(*company_revenue(self.workspace, loaded, self.now))

    def features(self, as_of: date | str | None = None) -> pd.DataFrame:
        """Return the features of every account.

        Parameters
        ----------
        as_of : date or str, optional
            Use what was known on this day: the last snapshot up to it. Default the latest.

        Returns
        -------
        pandas.DataFrame
            One row per account, indexed by account id; `attrs["as_of"]` is the snapshot's day.

        Raises
        ------
        DataError
            There is no snapshot that early.

        Examples
        --------
        >>> features = company.features()
        >>> int(features.loc["A-00139", "active_users_28d"])
        18
        >>> company.features("2026-03-15").attrs["as_of"]
        datetime.date(2026, 3, 1)
        """
        built = self._build("features")
        snapshots = built.snapshots
        day = _day(as_of) if as_of is not None else snapshots.book_on
        known = [snapshot for snapshot in snapshots.days if snapshot <= day]
        if not known:
            raise DataError(
                f"no features as of {day}: the first snapshot is of {snapshots.days[0]}",
                where="grid.start_on in company.yaml",
            )
        return _all_families(built, known[-1])

    def catalogue(self) -> pd.DataFrame:
        """Return every feature that was built: name, meaning, unit, window in days, theme."""
        import pandas as pd

        info = self._build("features").features.info
        return pd.DataFrame([item.as_dict() for item in info]).set_index("name")

    def labels(self, target: str = "churn") -> Labels:
        """Return the labels of a target with their definition.

        Examples
        --------
        >>> labels = company.labels("churn")
        >>> labels.frame.columns[:3].tolist()
        ['entity_id', 'as_of', 'label']
        """
        return self._build("labels").labels[target]

    def train(
        self,
        targets: Sequence[str] = (),
        *,
        trials: int | None = None,
        as_of: date | str | None = None,
    ) -> TrainingSummary:
        """Train the targets and register the models as challengers; nothing is published.

        Parameters
        ----------
        targets : sequence of str
            Names of targets; default all.
        trials : int, optional
            Trials of the hyperparameter search; default ``training.tuning.trials``.
        as_of : date or str, optional
            Train on what was known at 00:00 UTC of this day.

        Examples
        --------
        >>> summary = company.train()
        >>> summary["churn"].verdict
        'provisional'
        """
        from training.training_request import train_company

        with self.workspace.state.lock("train"):
            trained = train_company(
                self.workspace,
                targets=targets,
                trials=trials,
                as_of=None if as_of is None else _day(as_of),
                progress=self.progress,
            )
            return read_trainings(trained)

    def trained(self) -> TrainingSummary:
        """Return the latest training of every target.

        Examples
        --------
        >>> bool(company.trained()["churn"].auc > 0.6)
        True
        """
        from training.pipeline import candidates

        return read_trainings(candidates(self.workspace))

    def training_config(self, target: str = "churn") -> TrainingConfig:
        """Return the settings of the published model: rounds, seeds and hyperparameters.

        Raises
        ------
        DataError
            No model of the target is published.
        """
        from training.pipeline import champion_bundle, config_of

        found = config_of(champion_bundle(self.workspace, target), self.workspace.company)
        if found is None:
            raise DataError(f"no model is published for {target!r}", fix="promote one first")
        return found

    def challenge(self, target: str, config: TrainingConfig) -> TargetTraining:
        """Train a target with other settings, and compare it with the published model.

        The result is not kept and cannot be published; `train` does that.
        """
        built = self._build("challenge")
        return train_challenger(self.workspace, built, target, config)

    def promote(self, note: str = "", *, force: bool = False) -> str:
        """Publish the latest trained models as one release; return its id.

        Parameters
        ----------
        note : str
            Reason, for the record.
        force : bool
            Publish a model that misses a gate over one that met all.
        """
        from features.pipeline import build_features
        from training.pipeline import candidates
        from training.promote import promote

        with self.workspace.state.lock("promote"):
            trained = candidates(self.workspace)
            release = promote(
                self.workspace,
                build_features(self.workspace, self.now, self.progress).features,
                trained,
                created_at=self.now,
                note=note,
                is_forced=force,
                progress=self.progress,
            )
        return release.release_id

    def score(self) -> Scores:
        """Score every account with the published release, and publish the scores.

        Examples
        --------
        >>> scores = company.score()
        >>> scores.as_of
        datetime.date(2026, 6, 29)
        >>> sorted(scores.frame["risk_band"].dropna().unique())
        ['elevated', 'high', 'low']
        """
        from serving.run.score import score_company

        with self.workspace.state.lock("score"):
            return read_scores(score_company(self.workspace, self.now, self.progress))

    def scores(self, as_of: date | str | None = None) -> Scores:
        """Return the published scores.

        Parameters
        ----------
        as_of : date or str, optional
            The last scores as of this day; default the latest.

        Examples
        --------
        >>> bool(company.scores().frame["churn_risk"].max() < 1)
        True
        """
        return scores_as_of(self.workspace, None if as_of is None else _day(as_of))

    def explain(self, account_id: str, target: str = "churn") -> Explanation:
        """Return the score of one account and the parts it consists of.

        Examples
        --------
        >>> explanation = company.explain("A-00139")
        >>> bool(abs(explanation.parts.sum() - explanation.probability) < 1e-9)
        True
        """
        return explain_account(self.workspace, account_id, target)

    def model(self, target: str = "churn") -> Bundle:
        """Return the published model of a target.

        Examples
        --------
        >>> company.model("churn").outcome
        'churn'
        """
        from serving.run.release import published
        from training.model.bundle import load

        parts = published(self.workspace).bundles
        if target not in parts:
            raise DataError(
                f"no model is published for {target!r}", fix=did_you_mean(target, parts)
            )
        sha = parts[target]["sha"]
        return load(self.workspace.state.bundles / sha, sha)

    def shap_values(
        self,
        target: str = "churn",
        accounts: Sequence[str] | None = None,
        *,
        explainer: Literal["bellwether", "shap"] = "bellwether",
    ) -> shap.Explanation:
        """Return the exact contribution of each feature to the calibrated log-odds.

        Parameters
        ----------
        target : str
            The target.
        accounts : sequence of str, optional
            Account ids; default every scored account, in the order of `scores`.
        explainer : {"bellwether", "shap"}
            The explainer that serves, or `shap.TreeExplainer` to compare it with; the latter is
            slow and needs a model of trees.

        Returns
        -------
        shap.Explanation
            For the plots of the `shap` package.
        """
        import pandas as pd

        from training.registry.shap_values import explanation, tree_explainer

        bundle = self.model(target)
        if accounts is None:
            frame = self.scores().frame
            accounts = frame.loc[frame["status"] == "scored", "account_id"].tolist()
        built = self._build("shap values")
        rows = pd.DataFrame({"entity_id": list(accounts)})
        rows["as_of"] = pd.Timestamp(built.snapshots.book_on, tz="UTC")
        columns = built.store.historical(rows, target, list(bundle.info))
        explain = explanation if explainer == "bellwether" else tree_explainer
        return explain(bundle, columns)

    def report(self) -> Path:
        """Write the report about the validity of the scores; return the HTML file.

        Examples
        --------
        >>> company.report().suffix
        '.html'
        """
        from serving.run.report import report_company

        with self.workspace.state.lock("report"):
            return report_company(self.workspace, self.now, self.progress)

    def monitor(self) -> MonitoringResult:
        """Measure freshness, feature drift and performance of the published models.

        Examples
        --------
        >>> company.monitor().drift("churn").columns.tolist()[:1]
        ['name']
        """
        from serving.run.score import monitor_company

        with self.workspace.state.lock("monitor"):
            return MonitoringResult(monitor_company(self.workspace, self.now, self.progress))

    def _build(self, purpose: str) -> FeatureBuild:
        """Build the features that are out of date."""
        from features.pipeline import build_features

        with self.workspace.state.lock(purpose):
            return build_features(self.workspace, self.now, self.progress)


def open_company(
    company: str | Path,
    *,
    data: str | Path | None = None,
    state: str | Path | None = None,
    progress: Progress = _silent,
) -> Company:
    """Open a company; `bellwether.open` documents it."""
    from configs.schema.workspace import open_workspace

    return Company(open_workspace(company, data=data, state=state), progress)


def simulate(folder: str | Path, *, accounts: int = 1000, months: int = 30, seed: int = 7) -> Path:
    """Write the raw tables of a simulated company; `bellwether.simulate` documents it."""
    from features.simulator import simulate as make
    from features.simulator import write_tables

    write_tables(make(seed=seed, n_accounts=accounts, months=months), Path(folder))
    return Path(folder)


def _day(given: date | str) -> date:
    return date.fromisoformat(given) if isinstance(given, str) else given


def _all_families(built: FeatureBuild, day: date) -> pd.DataFrame:
    """Return the features of all families at one snapshot, side by side."""
    import pandas as pd

    from features.snapshots.grid import read_snapshot

    parts = []
    for family, kept in sorted(built.snapshots.sets.items()):
        names = [item.name for item in kept.info]
        if names:
            table = read_snapshot(built.snapshots, family, day).to_pandas()
            parts.append(table.set_index("entity_id")[names])
    frame = pd.concat(parts, axis=1).rename_axis("account_id")
    frame.attrs["as_of"] = day
    return frame
