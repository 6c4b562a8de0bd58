"""Error classes with a problem, a place and a fix; each has its own exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar


class BellwetherError(Exception):
    """Base class of errors that are shown to the user without a traceback.

    Parameters
    ----------
    what : str
        The problem, with its numbers.
    where : str, optional
        File, key, table, column or rows.
    fix : str, optional
        A command to run or a line to write.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return "\n".join(lines)


class ConfigError(BellwetherError):
    """The company folder or the environment is wrong."""

    exit_code = 2


class SourceError(BellwetherError):
    """A raw table cannot be read or mapped."""

    exit_code = 3


class DataError(BellwetherError):
    """The data is readable but insufficient or contradictory."""

    exit_code = 4


class StateError(BellwetherError):
    """The state directory lacks a step, is locked or is damaged."""

    exit_code = 5


class ModelError(BellwetherError):
    """A model cannot be trained, loaded, verified or published."""

    exit_code = 6


class UnavailableError(BellwetherError):
    """A dependency (a database, a store) does not answer."""

    exit_code = 7


class NotReadyError(BellwetherError):
    """Today's data is not ready: nothing is scored, and the earlier scores stay published."""

    exit_code = 8


def combined_error(errors: Sequence[BellwetherError]) -> BellwetherError:
    """Return one error that lists all of several, of the class of the first.

    >>> print(combined_error([ConfigError("a", fix="b"), ConfigError("c")]))
    2 mistakes:
    1. a
      to do: b
    2. c
    """
    messages = {str(error): error for error in errors}
    first = errors[0]
    if len(messages) == 1:
        return first
    lines = [f"{number}. {text}" for number, text in enumerate(messages, start=1)]
    return type(first)("\n".join([f"{len(messages)} mistakes:", *lines]))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint naming the closest known word, or an empty string.

    >>> did_you_mean("horizon_day", ["horizon_days", "margin"])
    'did you mean "horizon_days"?'
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""
