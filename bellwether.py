"""Churn and expansion prediction for customer success: the Python API and the command line.

Open a company, then check its data, train models, score its accounts and explain a score:

>>> import bellwether
>>> company = bellwether.open("simulated", data=data, state=state)
>>> company.check().grade
'D'
>>> scores = company.scores()
>>> scores.top(3)["rank"].tolist()
[1.0, 2.0, 3.0]
>>> explanation = company.explain("A-00139")
>>> bool(0 < explanation.low < explanation.probability < explanation.high < 1)
True

`bellwether.audit` judges a health score that a company already has, without any training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

# The packages have plain names. Packages of other projects with the same names, found first, are
# reported before anything is imported from them.
if _others := [
    f"{name}: {(spec and spec.origin) or 'not found'}"
    for name in ("configs", "features", "training", "serving")
    if (spec := find_spec(name)) is None
    or Path(spec.origin or "").resolve().parent != Path(__file__).resolve().with_name(name)
]:
    sys.stderr.write(
        "error: packages of other projects hide Bellwether's own\n"
        f"  where: {', '.join(_others)}; expected in {Path(__file__).resolve().parent}\n"
        "  to do: install Bellwether into an environment of its own, and start it from another"
        " folder, without PYTHONPATH\n"
    )
    sys.exit(2)

from configs.runtime.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    import pandas as pd

    from serving.company import (
        AuditSummary,
        Company,
        Explanation,
        MonitoringResult,
        QualityResult,
        RevenueResult,
        Scores,
        TargetTraining,
        TrainingSummary,
    )

switch_off_telemetry()

__all__ = [
    "AuditSummary",
    "Company",
    "Explanation",
    "MonitoringResult",
    "QualityResult",
    "RevenueResult",
    "Scores",
    "TargetTraining",
    "TrainingSummary",
    "audit",
    "open",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Import the classes of results when they are asked for.

    `bentoml serve bellwether:latest` imports this module before the packed code, so it must not
    import ``serving`` by itself.
    """
    if name in __all__:
        return getattr(import_module("serving.company"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open(  # noqa: A001  `bellwether.open`, as `PIL.Image.open` and `netCDF4` have it
    company: str | Path,
    *,
    data: str | Path | None = None,
    state: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Company:
    """Open a company.

    Parameters
    ----------
    company : str or Path
        A company folder, or the name of a shipped example.
    data : str or Path, optional
        Folder of the raw files; default ``BELLWETHER_DATA``, then ``data`` in company.yaml.
    state : str or Path, optional
        State directory, for everything derived from the data; default ``BELLWETHER_STATE``, then
        ``./state/<company>``.
    progress : callable, optional
        Called with one line per step, for example ``print``; silent by default.

    Raises
    ------
    ConfigError
        The company, its configuration or its data folder cannot be found or read.

    Examples
    --------
    >>> company = bellwether.open("simulated", data=data, state=state)
    >>> company.name
    'simulated'
    >>> bellwether.open("simulatet")
    Traceback (most recent call last):
    configs.runtime.errors.ConfigError: there is no company folder 'simulatet'
      where: ...
      to do: did you mean "simulated"?
    """
    from serving.company import open_company

    if progress is None:
        return open_company(company, data=data, state=state)
    return open_company(company, data=data, state=state, progress=progress)


def simulate(folder: str | Path, *, accounts: int = 1000, months: int = 30, seed: int = 7) -> Path:
    """Write the raw tables of a simulated SaaS company, whose true probabilities are known.

    Parameters
    ----------
    folder : str or Path
        Folder to write into.
    accounts, months : int
        Number of accounts, and length of the history.
    seed : int
        The same seed gives the same files.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> folder = bellwether.simulate(new_folder, accounts=20, months=6)
    >>> (folder / "crm_accounts.csv").is_file()
    True
    """
    from serving.company import simulate as simulate_company

    return simulate_company(folder, accounts=accounts, months=months, seed=seed)


def audit(
    scores: pd.DataFrame | str | Path,
    outcomes: pd.DataFrame | str | Path | None = None,
    *,
    folder: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    higher: Literal["healthier", "riskier"] | None = None,
    bands: tuple[str, ...] = (),
    kinds: Mapping[str, str] | None = None,
    horizon_days: int = 91,
    capacity_per_month: int | None = None,
    through: date | None = None,
    currency: str | None = None,
    has_contracts: bool = True,
    is_probability: bool | None = None,
    day_first: bool | None = None,
    draws: int = 1000,
    now: datetime | None = None,
    progress: Callable[[str], None] | None = None,
) -> AuditSummary:
    """Audit a health score that a company already has, against the outcomes that followed.

    Parameters
    ----------
    scores : pandas.DataFrame, str or Path
        History of the score: one row per account and day. A frame, or a CSV, Excel, JSON or Parquet
        file.
    outcomes : pandas.DataFrame, str or Path, optional
        What was decided: one row per account and decision. Without it, scores are recorded only.
    folder : str or Path, optional
        Folder of the report and of the recorded scores, so that a later audit can detect scores
        that were changed since. By default the report is kept in the result alone.
    columns : mapping of str to str, optional
        Columns that are not guessed right, such as ``{"scores.account": "Id"}``.
    higher : {"healthier", "riskier"}, optional
        Meaning of a high score; default guessed.
    bands : tuple of str
        Bands of the score, from best to worst; default guessed.
    kinds : mapping of str to str, optional
        A word of the outcomes to churn, contraction, expansion or kept.
    horizon_days : int
        How far ahead the score should predict.
    capacity_per_month : int, optional
        Accounts the team can work on in a month; default 5 % of them.
    through : date, optional
        Last day with complete outcomes; default guessed.
    currency : str, optional
        Only amounts in this currency count.
    has_contracts : bool
        False for accounts that pay month to month.
    is_probability : bool, optional
        The score is a probability; default guessed.
    day_first : bool, optional
        Read 3/4/2025 as 3 April; default guessed.
    draws : int
        Draws of the bootstrap that gives the intervals.
    now : datetime, optional
        Day of the audit, UTC; default the present.
    progress : callable, optional
        Called with one line per step.

    Raises
    ------
    SourceError
        A file or column cannot be read.
    DataError
        There is nothing that can be judged.

    Examples
    --------
    >>> summary = bellwether.audit(health_scores, outcomes, draws=100)
    >>> summary.verdicts.loc["churn", "word"]
    'NOT PROVEN'
    """
    from serving.company import audit as audit_scores

    return audit_scores(
        scores,
        outcomes,
        folder=folder,
        now=now,
        progress=progress or (lambda _: None),
        columns=columns or {},
        higher=higher,
        bands=(bands,) if bands else (),
        kinds=kinds or {},
        horizon_days=horizon_days,
        capacity_per_month=capacity_per_month,
        through=through,
        currency=currency,
        has_contracts=has_contracts,
        is_probability=is_probability,
        day_first=day_first,
        draws=draws,
    )


def main() -> None:
    """Run the command line."""
    from serving.commands.app import main as run

    run()


if __name__ == "__main__":
    main()
