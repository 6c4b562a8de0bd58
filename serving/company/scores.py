"""Published scores of all accounts, and the explanation of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from configs.runtime.errors import DataError, StateError, did_you_mean
from serving.company.display import LOWERS, RAISES, axes, html_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from configs.schema.workspace import Workspace
    from serving.batch.score_book import ScoreRun

SHOWN = ["rank", "account_id", "name", "churn_risk", "churn_low", "churn_high", "risk_band",
         "expected_arr_lost", "status"]  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """Scores of all accounts, published at one time.

    Attributes
    ----------
    run : ScoreRun
        Identity, folder and release of the scores.
    frame : pandas.DataFrame
        One row per account, largest expected loss of ARR first. `churn_risk` is a probability
        (0 to 1) with the ends of its 90 % range; it is missing where `status` says why.
    """

    run: ScoreRun
    frame: pd.DataFrame = field(repr=False)

    @property
    def as_of(self) -> date:
        """Day up to which data was used."""
        return datetime.fromisoformat(self.run.as_of).date()

    @property
    def release_id(self) -> str:
        """Release of the models that scored."""
        return self.run.release_id

    def __len__(self) -> int:
        return len(self.frame)

    def top(self, n: int = 10) -> pd.DataFrame:
        """Return the `n` accounts with the largest expected loss of ARR."""
        return self.frame[SHOWN].head(n)

    def _repr_html_(self) -> str:
        title = f"{len(self):,} accounts as of {self.as_of}, release {self.release_id}"
        return html_table(title, self.frame[SHOWN])

    def plot(self, n: int = 15, ax: Axes | None = None) -> Axes:
        """Draw the churn risk of the first `n` accounts with its 90 % range, in percent."""
        shown = self.frame[self.frame["churn_risk"].notna()].head(n)[::-1]
        risk = 100 * shown["churn_risk"].to_numpy()
        chart = axes(ax, 1.5 + 0.25 * len(shown))
        ends = abs(100 * shown[["churn_low", "churn_high"]].to_numpy().T - risk)
        labels = shown["name"].fillna(shown["account_id"])
        chart.errorbar(risk, labels, xerr=ends, fmt="o")
        chart.set_xlim(left=0)
        chart.set(title="Churn risk, largest expected loss first", xlabel="risk, %")
        return chart


@dataclass(frozen=True)
class Explanation:
    """Score of one account for one target, and the parts it consists of.

    Reasons name what the estimate is associated with; they are not causes.

    Attributes
    ----------
    account_id, target : str
        The account and the target.
    answer : mapping
        The account's whole answer, as the API returns it.
    """

    account_id: str
    target: str
    answer: Mapping[str, Any] = field(repr=False)

    @property
    def score(self) -> Mapping[str, Any]:
        """The answer's part about this target."""
        found: Mapping[str, Any] = self.answer["scores"][self.target]
        return found

    @property
    def probability(self) -> float:
        """Probability of the target, 0 to 1."""
        return float(self.score["probability"])

    @property
    def low(self) -> float:
        """Lower end of the 90 % range."""
        return float(self.score["low"])

    @property
    def high(self) -> float:
        """Upper end of the 90 % range."""
        return float(self.score["high"])

    @property
    def text(self) -> str:
        """The score in words."""
        return str(self.score["text"])

    @property
    def confidence(self) -> pd.Series:
        """Confidence of the model in this account and of the data behind it, with notes."""
        import pandas as pd

        data = self.answer["data"]
        found = {"model": self.score["confidence"], "data": data["confidence"]}
        return pd.Series({**found, "notes": data["notes"]}, name="confidence")

    @property
    def parts(self) -> pd.Series:
        """Parts of the probability; they add up to it: base, themes, circumstances, unknown."""
        import pandas as pd

        score = self.score
        ends = {"circumstances": score["context"], "not known": score["unknown"]}
        return pd.Series({"base": score["base"], **score["themes"], **ends}, name="points")

    @property
    def reasons(self) -> pd.DataFrame:
        """Reasons, those that raise the risk first: one row per fact behind a reason."""
        import pandas as pd

        rows = [
            (reason["text"], reason["direction"], reason["points"], fact["text"])
            for reason in (*self.score["raises"], *self.score["lowers"])
            for fact in reason["facts"]
        ]
        return pd.DataFrame(rows, columns=["reason", "direction", "points", "fact"])

    def _repr_html_(self) -> str:
        return html_table(f"{self.account_id}: {self.text}", self.reasons)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the parts of the probability, in points of percent."""
        parts = 100 * self.parts[::-1]
        chart = axes(ax)
        colours = [RAISES if value > 0 else LOWERS for value in parts]
        chart.barh(parts.index, parts, color=colours)
        chart.axvline(0, color="black", linewidth=0.8)
        title = f"{self.account_id}: parts of the {self.target} probability"
        chart.set(title=title, xlabel="points of probability, %")
        return chart


def read_scores(run: ScoreRun) -> Scores:
    """Return the scores of a run."""
    from serving.batch.score_book import read_table

    return Scores(run, read_table(run).to_pandas())


def scores_as_of(workspace: Workspace, as_of: date | None) -> Scores:
    """Return the scores published last, or the last ones as of a day.

    Raises
    ------
    StateError
        There are none.
    """
    from serving.batch.score_book import read_latest

    run = read_latest(workspace.state) if as_of is None else _last_until(workspace, as_of)
    if run is None:
        raise StateError(
            "no scores are published yet" + (f" as of {as_of} or earlier" if as_of else ""),
            where=str(workspace.state.scores),
            fix=f"bellwether score {workspace.folder}",
        )
    return read_scores(run)


def _last_until(workspace: Workspace, as_of: date) -> ScoreRun | None:
    from configs.runtime.state_directory import read_manifest
    from serving.batch.score_book import ScoreRun

    kept = {path: read_manifest(path) for path in workspace.state.scores.glob("*-*")}
    runs = [ScoreRun(folder=path, **found) for path, found in kept.items() if found]
    known = [run for run in runs if datetime.fromisoformat(run.as_of).date() <= as_of]
    return max(known, key=lambda run: (run.as_of, run.served_at), default=None)


def explain_account(workspace: Workspace, account_id: str, target: str) -> Explanation:
    """Score one account with the published release, and return the score with its reasons.

    Raises
    ------
    DataError
        The account is not among those that are scored, or the target is not predicted for it.
    """
    from serving.batch.score_book import answers_of
    from serving.run.release import published

    known = []
    for answer in answers_of(workspace, published(workspace), workspace.company.clock()):
        known.append(str(answer["account_id"]))
        if known[-1] != account_id:
            continue
        scores = answer.get("scores", {})
        if target in scores:
            return Explanation(account_id, target, answer)
        raise DataError(
            f"{account_id} has no score for {target!r}: {answer.get('status_text', '')}",
            fix=did_you_mean(target, scores) or f"targets with a score: {', '.join(scores) or '-'}",
        )
    raise DataError(f"no account {account_id!r}", fix=did_you_mean(account_id, known))
