"""Kinds of expansion, and the account states that distinguish them. Light to import."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

KINDS = ("seats", "tier", "product", "usage")
UNKNOWN_KIND = "unknown"

FULLNESS = ("entitlement_fullest", "seat_use_28d")
"""Features of the used share of an allowance; the first known one counts."""

N_PRODUCTS = "products_subscribed"

FULL_EDGES = (0.7, 0.85, 1.0)
"""Boundaries of the fullness states; unknown is a state of its own."""

PRODUCT_EDGES = (1.5, 2.5)
"""Boundaries of: one product or unknown, two, three and more."""

N_FULL, N_HELD = len(FULL_EDGES) + 2, len(PRODUCT_EDGES) + 1
N_CELLS = N_FULL * N_HELD


def cells(columns: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Return the state of each row as a number from 0 to `N_CELLS` − 1.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        Values by feature, NaN unknown; absent features are unknown.
    n : int
        Rows.

    Examples
    --------
    >>> held = {"entitlement_fullest": np.array([0.94, np.nan]), "seat_use_28d": np.array([0, 0.2])}
    >>> cells(held | {"products_subscribed": np.array([1.0, 3.0])}, 2).tolist()
    [9, 5]
    """
    unknown = np.full(n, np.nan)
    known = [np.asarray(columns.get(name, unknown), dtype=np.float64) for name in FULLNESS]
    share = np.where(np.isnan(known[0]), known[1], known[0])
    full = np.where(np.isnan(share), 0, 1 + np.searchsorted(FULL_EDGES, share, side="right"))
    held = np.nan_to_num(np.asarray(columns.get(N_PRODUCTS, unknown), dtype=np.float64), nan=1.0)
    cell: np.ndarray = full * N_HELD + np.searchsorted(PRODUCT_EDGES, held, side="right")
    return cell
