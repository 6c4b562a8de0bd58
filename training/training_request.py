"""Training request: targets, number of trials, and day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time

from configs.runtime.errors import ConfigError, did_you_mean
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.pipeline import build_features
from training.pipeline import TrainedCandidate, train_targets
from training.train_table import train_table

Progress = Callable[[str], None]

MAX_TRIALS = 10_000


def train_company(
    workspace: Workspace,
    *,
    targets: Sequence[str] = (),
    trials: int | None = None,
    as_of: date | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, TrainedCandidate]:
    """Train the targets of a company and register the challengers.

    The caller holds the state directory's lock. Other targets keep their latest training, and
    published releases do not change.

    Parameters
    ----------
    workspace : Workspace
        The company.
    targets : sequence of str
        Names of targets; all of them by default.
    trials : int, optional
        Trials of the search, instead of ``training.tuning.trials``; finished trials of the same
        search count. Part of the configuration's hash, like the setting.
    as_of : date, optional
        Train as of 00:00 UTC of this day, without data that became known later. The online store
        does not change.
    progress : callable
        Called with one line per step.

    Returns
    -------
    dict
        Candidate by target.

    Raises
    ------
    ConfigError
        An unknown target, a number of trials out of range, a day in the future, or a day for a
        table without as_of.
    """
    company = workspace.company
    refuse_unknown_targets(company, targets)
    now = as_of_of_request(company, as_of)
    requested = replace(workspace, company=with_trials(company, trials))
    if company.table is not None:
        return train_table(requested, now, progress)
    built = build_features(requested, now, progress, is_served=as_of is None)
    return train_targets(requested, built, progress, targets=tuple(dict.fromkeys(targets)))


def refuse_unknown_targets(company: Company, targets: Sequence[str]) -> None:
    """Raise for names that are not targets of the company."""
    for name in targets:
        if name not in company.targets:
            raise ConfigError(
                f"{company.name} has no target {name!r}",
                where="--target",
                fix=did_you_mean(name, company.targets)
                or "its targets are: " + ", ".join(company.targets),
            )


def with_trials(company: Company, trials: int | None) -> Company:
    """Return the company with another number of trials in its search."""
    if trials is None:
        return company
    if not 0 <= trials <= MAX_TRIALS:
        raise ConfigError(
            f"{trials} trials are out of range",
            where="--trials",
            fix=f"use a number from 0 (starting settings) to {MAX_TRIALS:,}",
        )
    tuning = company.training.tuning.model_copy(update={"trials": trials})
    training = company.training.model_copy(update={"tuning": tuning})
    return company.model_copy(update={"training": training})


def as_of_of_request(company: Company, as_of: date | None) -> datetime:
    """Return the clock of a training: the company's, or the beginning of an earlier day, UTC."""
    now = company.clock()
    if as_of is None:
        return now
    if company.table is not None and company.table.as_of is None:
        raise ConfigError(
            "the rows of this table have no as_of, so there is no earlier day to train as of",
            where="--as-of",
            fix="set table.as_of in company.yaml to their column, or omit the option",
        )
    instant = datetime.combine(as_of, time(), UTC)
    if instant > now:
        raise ConfigError(
            f"{as_of} is after the company's present day, {now:%Y-%m-%d}",
            where="--as-of",
            fix=f"use a day up to {now:%Y-%m-%d}"
            + (", the pinned clock of company.yaml" if company.now else ""),
        )
    return instant
