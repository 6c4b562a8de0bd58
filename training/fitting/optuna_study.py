"""Optuna study of a search: storage, sampler, and trials shared by several processes.

All state of a trial is in the storage, so a process can be killed at any time: finished trials
remain, and unfinished ones are detected by their missing heartbeat and repeated.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from configs.runtime.errors import ConfigError, UnavailableError

TRIAL_COLUMNS = ("number", "state", "value", "rounds", "began_at", "seconds", "worker")
"""Columns of the table of trials, besides the settings."""

HEARTBEAT_SECONDS, GRACE_SECONDS = 5, 15
OPEN_ATTEMPTS, OPEN_PAUSE_SECONDS = 4, 0.5


class NumberedSampler(BaseSampler):  # type: ignore[misc]  # Optuna is read as untyped
    """Tree-structured Parzen estimators, each trial drawn from a seed of its own number.

    A sampler with one random stream restarts in every process: processes that share a study would
    try the same settings, and a resumed search would repeat itself. The storage assigns each trial
    number once, so the n-th trial is the same in any process, given the same earlier trials.

    Parameters
    ----------
    seed : int
        Of the search.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sampler = TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Set the seed of this trial."""
        self._sampler = TPESampler(seed=(self._seed * 1_000_003 + trial.number) % 2**32)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the space that is sampled jointly."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the jointly sampled settings."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one independent setting."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


@contextmanager
def open_study(url: str, name: str, *, seed: int) -> Iterator[optuna.Study]:
    """Open a study by name, creating it if needed; any number of processes can share it.

    Parameters
    ----------
    url : str
        SQLAlchemy URL: SQLite, or PostgreSQL for many processes.
    name : str
        Identity of the search (`training.fitting.tune.study_name`).
    seed : int
        Of the sampler.

    Raises
    ------
    ConfigError
        The URL cannot be read.
    UnavailableError
        The storage does not answer.
    """
    with _quiet(), _storage(url) as storage:
        yield optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction="minimize",
            sampler=NumberedSampler(seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return one row per trial, by number: the columns of `TRIAL_COLUMNS`, then the settings.

    A pruned trial has no value: Optuna's is its loss on the first folds only.
    """
    return pd.DataFrame([_row(trial) for trial in study.get_trials(deepcopy=False)])


def _row(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state is TrialState.COMPLETE else None,
        "rounds": trial.user_attrs.get("rounds"),
        "began_at": _instant(trial.datetime_start),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "worker": trial.user_attrs.get("worker"),
        **trial.params,
    }


def _instant(local: datetime | None) -> str | None:
    """Return Optuna's local time without a zone as ISO text in UTC."""
    return None if local is None else local.astimezone(UTC).isoformat()


@contextmanager
def _storage(url: str) -> Iterator[RDBStorage]:
    storage = _opened(_parsed(url))
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "invalid database URL",
            where="BELLWETHER_OPTUNA_URL",
            fix="postgresql://user:password@host:5432/database",
        ) from error
    is_server = parsed.get_backend_name() == "postgresql"
    return parsed.set(drivername="postgresql+psycopg") if is_server else parsed


def _opened(url: URL) -> RDBStorage:
    """Open the storage, with retries: simultaneous first connections can fail."""
    connect = {"timeout": 30} if url.get_backend_name() == "sqlite" else {}
    for attempt in range(1, OPEN_ATTEMPTS + 1):
        try:
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": connect},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
            )
        except DBAPIError as error:
            if attempt == OPEN_ATTEMPTS:
                raise UnavailableError(
                    f"the storage of the search is unavailable: {_first_line(error)}",
                    where=url.render_as_string(hide_password=True),
                    fix="start it, or correct BELLWETHER_OPTUNA_URL; finished trials are kept",
                ) from error
            time.sleep(OPEN_PAUSE_SECONDS * attempt)
    raise AssertionError("unreachable")


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Optuna's log lines per trial and its warning on experimental heartbeats.

    Without heartbeats, a trial of a killed process would count as running forever.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
