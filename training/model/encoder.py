"""Encoder of named columns to a float64 matrix, shared by training and serving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypedDict

import numpy as np

from configs.runtime.errors import DataError


class Columns(Protocol):
    """Columns by name: a DataFrame or a mapping of arrays."""

    def __getitem__(self, name: str, /) -> Any:
        """Return one column."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Input matrix of a model.

    Attributes
    ----------
    matrix : numpy.ndarray
        (rows, features) float64 in feature order; no infinities, NaN for unknown values.
    n_infinite : numpy.ndarray
        Number of infinite values per feature that became NaN.
    """

    matrix: np.ndarray
    n_infinite: np.ndarray


class EncoderJson(TypedDict):
    """JSON content of an `Encoder`."""

    names: list[str]
    levels: dict[str, list[str]]


@dataclass(frozen=True)
class Encoder:
    """Feature order and category levels, stored in the bundle.

    Attributes
    ----------
    names : tuple of str
        Features in matrix order.
    levels : mapping of str to tuple of str
        Per category feature, its levels; a level's code is its position. Rare levels, unseen levels
        and missing values become NaN, in training as in serving.
    """

    names: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]

    @cached_property
    def category_positions(self) -> tuple[int, ...]:
        """Positions of the category features in the matrix."""
        return tuple(i for i, name in enumerate(self.names) if name in self.levels)

    @cached_property
    def _codes(self) -> dict[str, dict[str, float]]:
        return {
            name: {level: float(code) for code, level in enumerate(levels)}
            for name, levels in self.levels.items()
        }

    def encode(self, columns: Columns) -> Encoded:
        """Return the matrix of named columns: a frame, or a mapping of equally long arrays.

        Examples
        --------
        >>> encoder = Encoder(("users", "plan"), {"plan": ("basic", "pro")})
        >>> rows = {"users": [3.0, float("inf")], "plan": ["pro", "new plan"]}
        >>> encoder.encode(rows).matrix.tolist()
        [[3.0, 1.0], [nan, nan]]
        """
        return finite(np.column_stack([self._column(columns, name) for name in self.names]))

    def encode_numbers(self, values: np.ndarray) -> Encoded:
        """Return the matrix of served numbers in the encoder's order.

        Numbers are not category levels, so categories are unknown.

        Examples
        --------
        >>> encoder = Encoder(("users", "plan"), {"plan": ("basic", "pro")})
        >>> encoder.encode_numbers(np.array([[3.0, 1.0], [float("inf"), 0.0]])).matrix.tolist()
        [[3.0, nan], [nan, nan]]
        """
        encoded = finite(values)
        encoded.matrix[:, list(self.category_positions)] = np.nan
        return encoded

    def _column(self, columns: Columns, name: str) -> np.ndarray:
        try:
            values = columns[name]
        except KeyError as error:
            raise DataError(
                f"the feature {name} is missing",
                fix="build features with this bundle's feature set",
            ) from error
        if name in self.levels:
            codes = self._codes[name]
            return np.array([codes.get(value, np.nan) for value in values], dtype=np.float64)
        return np.asarray(values, dtype=np.float64)

    def as_dict(self) -> EncoderJson:
        """Return plain JSON content."""
        return {
            "names": list(self.names),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
        }

    @classmethod
    def from_dict(cls, plain: EncoderJson) -> Encoder:
        """Read what `as_dict` returned."""
        levels = {name: tuple(values) for name, values in plain["levels"].items()}
        return cls(tuple(plain["names"]), levels)


def finite(matrix: np.ndarray) -> Encoded:
    """Return a copy of `matrix` with infinities as NaN, and their count per column."""
    clean = np.array(matrix, dtype=np.float64)
    infinite = np.isinf(clean)
    clean[infinite] = np.nan
    return Encoded(clean, infinite.sum(axis=0))


def fit_levels(
    values: Iterable[Any], *, min_rows: int = 20, max_levels: int = 30
) -> tuple[str, ...]:
    """Return the frequent levels of one category column, in sorted order.

    Examples
    --------
    >>> fit_levels(["pro"] * 30 + ["basic"] * 25 + ["odd", None])
    ('basic', 'pro')
    """
    counts: dict[str, int] = {}
    for value in values:
        if isinstance(value, str):
            counts[value] = counts.get(value, 0) + 1
    frequent = sorted(counts, key=lambda level: (-counts[level], level))[:max_levels]
    return tuple(sorted(level for level in frequent if counts[level] >= min_rows))
