"""What a person may say about the two files and the audit; everything has a default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, get_args

from configs.runtime.errors import SourceError
from configs.schema.ready_table import Written

Higher = Literal["healthier", "riskier"]


@dataclass(frozen=True)
class AuditOptions:
    """What was asked for on the command line.

    Attributes
    ----------
    now : datetime
        The clock, UTC: when the files were seen.
    columns : mapping of str to str
        ``scores.<role>`` or ``outcomes.<role>`` to the column that plays it.
    higher : str or None
        ``healthier`` or ``riskier``; None: told by names and bands.
    bands : tuple of tuple of str
        Band names from best to worst; several sets where they were renamed.
    kinds : mapping of str to str
        A word of the outcomes file to churn, contraction, expansion or kept.
    horizon_days : int
        How far ahead a score is asked to see.
    capacity_per_month : int or None
        Accounts the team can work in a month; None: one in twenty.
    through : date or None
        Until when outcomes are complete; None: guessed.
    currency : str or None
        Only amounts in this currency count.
    has_contracts : bool
        False: month to month, so there is no calendar to beat.
    is_probability : bool or None
        The score is a probability of the outcome; None: told by its name and range.
    day_first : bool or None
        3/4/2025 is the third of April; None: told by the column.
    proven : bool or None
        The order that slashed dates of either file prove, for columns that prove none.
    decimal : {"decimal_comma", "decimal_point"} or None
        What parts the decimals of 1,234; None: told by the column.
    draws, seed : int
        Of the cluster bootstrap.
    """

    now: datetime
    columns: Mapping[str, str] = field(default_factory=dict)
    higher: Higher | None = None
    bands: tuple[tuple[str, ...], ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    horizon_days: int = 91
    capacity_per_month: int | None = None
    through: date | None = None
    currency: str | None = None
    has_contracts: bool = True
    is_probability: bool | None = None
    day_first: bool | None = None
    proven: bool | None = None
    decimal: Written | None = None
    draws: int = 1000
    seed: int = 7


def column_options(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``TABLE.ROLE=COLUMN`` options as a mapping.

    Raises
    ------
    SourceError
        Not of that form.
    """
    found = {}
    for pair in pairs:
        part, _, column = pair.partition("=")
        if not column or "." not in part:
            raise SourceError(
                f"--column {pair!r} is not TABLE.PART=COLUMN",
                fix="for example --column scores.account=Id",
            )
        found[part.strip()] = column.strip()
    return found


def band_options(text: str) -> tuple[tuple[str, ...], ...]:
    """Return bands from best to worst; sets that replaced one another stand behind a semicolon.

    >>> band_options("green, yellow, red; good, poor")
    (('green', 'yellow', 'red'), ('good', 'poor'))
    """
    sets = [[name.strip() for name in part.split(",")] for part in text.split(";")]
    return tuple(tuple(name for name in part if name) for part in sets if any(part))


def day_option(text: str | None, name: str) -> date | None:
    """Return a day given as YYYY-MM-DD.

    Raises
    ------
    SourceError
        Not of that form.
    """
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise SourceError(f"{name} {text!r} is not YYYY-MM-DD") from error


def higher_option(text: str | None) -> Higher | None:
    """Return what a high score means, as told.

    Raises
    ------
    SourceError
        Neither healthier nor riskier.
    """
    for known in get_args(Higher):
        if text == known:
            return known
    if text is None:
        return None
    raise SourceError(f"--higher {text!r} is neither healthier nor riskier")


def decimal_option(is_comma: bool | None) -> Written | None:
    """Return what parts decimals, as told.

    >>> decimal_option(True), decimal_option(None)
    ('decimal_comma', None)
    """
    if is_comma is None:
        return None
    return "decimal_comma" if is_comma else "decimal_point"
