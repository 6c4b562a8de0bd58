"""Options of the audit; every option has a default."""

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
    """Options from the command line.

    Attributes
    ----------
    now : datetime
        The clock, UTC: the time of reading the files.
    columns : mapping of str to str
        ``scores.<role>`` or ``outcomes.<role>`` to its column.
    higher : str or None
        ``healthier`` or ``riskier``; None: inferred from names and bands.
    bands : tuple of tuple of str
        Band names from best to worst; several sets if bands were renamed.
    kinds : mapping of str to str
        Word of the outcomes file to churn, contraction, expansion or kept.
    horizon_days : int
        Horizon of the prediction.
    capacity_per_month : int or None
        Accounts the team can work in a month; None: 5 % of accounts.
    through : date or None
        End of complete outcomes; None: inferred.
    currency : str or None
        Only amounts in this currency count.
    has_contracts : bool
        False: month-to-month contracts, so there is no comparison with the calendar.
    is_probability : bool or None
        Whether the score is a probability of the outcome; None: inferred from name and range.
    day_first : bool or None
        True: 3/4/2025 is 3 April; None: inferred from the column.
    proven : bool or None
        Date order that other columns prove, for ambiguous columns.
    decimal : {"decimal_comma", "decimal_point"} or None
        Decimal separator of 1,234; None: inferred from the column.
    draws, seed : int
        Number of cluster-bootstrap draws, and seed.
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
        Wrong form.
    """
    found = {}
    for pair in pairs:
        part, _, column = pair.partition("=")
        if not column or "." not in part:
            raise SourceError(
                f"--column {pair!r} is not TABLE.ROLE=COLUMN",
                fix="for example --column scores.account=Id",
            )
        found[part.strip()] = column.strip()
    return found


def band_options(text: str) -> tuple[tuple[str, ...], ...]:
    """Return bands from best to worst; a semicolon separates renamed sets.

    >>> band_options("green, yellow, red; good, poor")
    (('green', 'yellow', 'red'), ('good', 'poor'))
    """
    sets = [[name.strip() for name in part.split(",")] for part in text.split(";")]
    return tuple(tuple(name for name in part if name) for part in sets if any(part))


def day_option(text: str | None, name: str) -> date | None:
    """Return a date given as YYYY-MM-DD.

    Raises
    ------
    SourceError
        Wrong form.
    """
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise SourceError(f"{name} {text!r} is not YYYY-MM-DD") from error


def higher_option(text: str | None) -> Higher | None:
    """Return the meaning of a high score.

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
    """Return the decimal separator.

    >>> decimal_option(True), decimal_option(None)
    ('decimal_comma', None)
    """
    if is_comma is None:
        return None
    return "decimal_comma" if is_comma else "decimal_point"
