"""The kinds of growth, and the states of an account that tell them apart. Light to import."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

KINDS = ("seats", "tier", "product", "usage")
UNKNOWN_KIND = "unknown"

FULLNESS = ("entitlement_fullest", "seat_use_28d")
"""Features that say how full an allowance is; the first that is known counts."""

N_PRODUCTS = "products_subscribed"

FULL_EDGES = (0.7, 0.85, 1.0)
"""Where one state of fullness ends and the next begins; not known is a state of its own."""

PRODUCT_EDGES = (1.5, 2.5)
"""One product or none told, two, three and more."""

N_FULL, N_HELD = len(FULL_EDGES) + 2, len(PRODUCT_EDGES) + 1
N_CELLS = N_FULL * N_HELD


def cells(columns: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Return the state of each row as a number from 0 to `N_CELLS` − 1.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        Values by feature, NaN unknown; features that are absent are not known.
    n : int
        Rows.

    Examples
    --------
    >>> held = {"entitlement_fullest": np.array([0.94, np.nan]), "seat_use_28d": np.array([0, 0.2])}
    >>> cells(held | {"products_subscribed": np.array([1.0, 3.0])}, 2).tolist()
    [9, 5]
    """
    nothing = np.full(n, np.nan)
    known = [np.asarray(columns.get(name, nothing), dtype=np.float64) for name in FULLNESS]
    share = np.where(np.isnan(known[0]), known[1], known[0])
    full = np.where(np.isnan(share), 0, 1 + np.searchsorted(FULL_EDGES, share, side="right"))
    held = np.nan_to_num(np.asarray(columns.get(N_PRODUCTS, nothing), dtype=np.float64), nan=1.0)
    place: np.ndarray = full * N_HELD + np.searchsorted(PRODUCT_EDGES, held, side="right")
    return place
