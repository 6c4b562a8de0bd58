"""Typed rows of the ledger: a score, a run of the whole book, an outcome; and their checks."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from configs.runtime.errors import DataError

SHADOW = "shadow"
CHANNELS = ("api", "batch", "book", SHADOW)


class Json(str):
    """A value that is written as JSON already."""

    __slots__ = ()


class ScoreRow(NamedTuple):
    """One score as it was served. One row per score_id.

    A tuple, because a batch makes a thousand of them.

    Attributes
    ----------
    score_id : str
        Unique (`new_score_ids`). Appending the same row again is harmless.
    request_id : str
        Of the request, the batch or the book.
    served_at, as_of : datetime
        With a zone: when it was answered, and the prediction moment.
    entity_id, target : str
        Who was asked about what.
    release_id, bundle_sha : str
        What answered.
    probability, logit : float
        Calibrated; probability in [0, 1], both finite.
    band, verdict : str
        As shown.
    features : bytes
        The vector, little-endian float64 (`pack_features`); empty in an old score whose vector is
        not kept any more (`configs.schema.company.Retention`).
    feature_set : str
        Hash that names the order of the vector.
    reasons : list
        As shown, plain JSON values; `Json` in a row that is written once more.
    channel : str
        One of `CHANNELS`; ``shadow`` was never shown to anybody.
    facts : mapping
        What decided which question was asked and what was at stake: status, contract dates,
        revenue, segment; with the rules that held and the expansion candidate that was shown;
        plain JSON values.
    clock : datetime or None
        With a zone: the moment days were counted from. The company's clock may be pinned, so it
        is not always when it was answered.
    """

    score_id: str
    request_id: str
    served_at: datetime
    entity_id: str
    as_of: datetime
    target: str
    release_id: str
    bundle_sha: str
    probability: float
    logit: float
    band: str
    verdict: str
    features: bytes
    feature_set: str
    reasons: Sequence[Any]
    channel: str
    facts: Mapping[str, Any] = {}
    clock: datetime | None = None


@dataclass(frozen=True)
class BookScores:
    """The whole book scored at once, for one target: columns of equal length.

    Attributes
    ----------
    book_id : str
        Names the run; appending the same book again completes it.
    target : str
        What was asked.
    as_of, served_at : datetime
        With a zone, the same for every row.
    release_id, bundle_sha, verdict, feature_set : str
        What answered.
    entity_ids : sequence of str
        One per row, without repeats.
    probability, logit : array of float64
        Calibrated.
    band : sequence of str
        As shown.
    features : array of float64, (n, k)
        One vector per row.
    reasons : sequence, optional
        Per row a list of plain JSON values.
    facts : sequence, optional
        Per row a mapping of plain JSON values, see `ScoreRow`.
    channel : str
        ``book``, or ``shadow`` for a book that is never shown.
    """

    book_id: str
    target: str
    as_of: datetime
    served_at: datetime
    release_id: str
    bundle_sha: str
    verdict: str
    feature_set: str
    entity_ids: Sequence[str]
    probability: NDArray[np.float64]
    logit: NDArray[np.float64]
    band: Sequence[str]
    features: NDArray[np.float64]
    reasons: Sequence[Sequence[Any]] | None = None
    facts: Sequence[Mapping[str, Any]] | None = None
    channel: str = "book"


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """Outcome at one prediction moment.

    One row per (entity, target, as_of, contract, known_at).

    Attributes
    ----------
    entity_id, target : str
        The entity and the target it belongs to.
    as_of : datetime
        The prediction moment it answers.
    label : int
        1 it happened, 0 it did not.
    known_at : datetime
        When that became known. A correction is a further row, known later.
    decision_at : datetime or None
        When it was decided, where it was.
    contract : str
        Identity of the label contract that was asked (`serving.ledger.outcomes.contract_id`).
    """

    entity_id: str
    target: str
    as_of: datetime
    label: int
    known_at: datetime
    decision_at: datetime | None = None
    contract: str = ""


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One complete book of one target, shown or shadow.

    Attributes
    ----------
    book_id, target, release_id : str
        Which run asked what of which release.
    as_of, served_at : datetime
        UTC.
    n_scores : int
        Rows.
    channel : str
        ``book`` or ``shadow``.
    """

    book_id: str
    target: str
    release_id: str
    as_of: datetime
    served_at: datetime
    n_scores: int
    channel: str


@dataclass(frozen=True)
class JudgedScore:
    """Scores of books with their outcomes: columns of equal length.

    One row per entity, moment and bundle: where a moment was scored twice, the last counts.

    Attributes
    ----------
    entity_id, bundle_sha : sequence of str
        Whose score, and of which model.
    as_of : sequence of datetime
        The prediction moments, UTC.
    p, label : numpy.ndarray
        Probability as served; 1.0 it happened, 0.0 it did not.
    """

    entity_id: Sequence[str]
    bundle_sha: Sequence[str]
    as_of: Sequence[datetime]
    p: NDArray[np.float64]
    label: NDArray[np.float64]


ROW_NAMES = ScoreRow._fields
REFS = ("vector_ref", "reasons_ref", "facts_ref")
"""Columns that name the shared contents of a compacted score."""

_BOOK_CONSTANTS = (
    "served_at",
    "as_of",
    "target",
    "release_id",
    "bundle_sha",
    "verdict",
    "feature_set",
)


def pack_features(values: ArrayLike) -> bytes:
    """Return a vector as little-endian float64 bytes; missing values keep their bits.

    >>> unpack_features(pack_features([1.5, float("nan")]))
    array([1.5, nan])
    """
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack_features(packed: bytes) -> NDArray[np.float64]:
    """Return the vector of `pack_features`, bit for bit."""
    return np.frombuffer(packed, dtype="<f8").astype(np.float64)


def new_score_ids(served_at: datetime, n: int) -> list[str]:
    """Return `n` unique ids that sort by time, which keeps inserts at the end of the index.

    >>> from datetime import UTC
    >>> len(set(new_score_ids(datetime(2026, 1, 1, tzinfo=UTC), 3)))
    3
    """
    prefix = _time_prefix(served_at)
    noise = secrets.token_hex(10 * n)
    return [prefix + noise[20 * i : 20 * i + 20] for i in range(n)]


def as_json(value: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return a value as the ledger writes it."""
    if isinstance(value, Json):
        return value
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def check_score(row: ScoreRow) -> None:
    """Check one score.

    Raises
    ------
    DataError
        A value out of range, an instant without zone, an unknown channel.
    """
    mistake = ""
    if not 0.0 <= row.probability <= 1.0:  # false for NaN too
        mistake = f"probability {row.probability} is not in [0, 1]"
    elif not math.isfinite(row.logit):
        mistake = f"logit {row.logit} is not finite"
    elif any(moment and moment.tzinfo is None for moment in (row.served_at, row.as_of, row.clock)):
        mistake = "served_at, as_of and clock need a zone"
    elif row.channel not in CHANNELS:
        mistake = f"channel {row.channel!r} is none of {', '.join(CHANNELS)}"
    elif len(row.features) % 8:
        mistake = f"features are {len(row.features)} bytes, not float64 values"
    if mistake:
        raise DataError(mistake, where=f"score {row.score_id} of {row.entity_id}")


def check_book(book: BookScores) -> int:
    """Check a whole book and return how many rows it has.

    Raises
    ------
    DataError
        Columns of different length, or a score out of range.
    """
    n_rows = len(book.entity_ids)
    columns = {
        "probability": book.probability,
        "logit": book.logit,
        "band": book.band,
        "features": book.features,
        "reasons": book.reasons if book.reasons is not None else book.entity_ids,
        "facts": book.facts if book.facts is not None else book.entity_ids,
    }
    wrong = {name: len(values) for name, values in columns.items() if len(values) != n_rows}
    if wrong:
        raise DataError(
            f"the columns of a book differ in length: {n_rows} entities, {wrong}",
            where=f"book {book.book_id}",
        )
    inside = (book.probability >= 0) & (book.probability <= 1) & np.isfinite(book.logit)
    if not inside.all():
        first = book.entity_ids[int(np.argmin(inside))]
        raise DataError(
            f"{int((~inside).sum())} scores are not probabilities with finite logits",
            where=f"book {book.book_id}, first at entity {first}",
        )
    return n_rows


def book_records(book: BookScores, part: slice, company: str) -> list[dict[str, Any]]:
    """Return some rows of a book as they are written to the table of scores."""
    same = {
        "company": company,
        "request_id": book.book_id,
        "channel": book.channel,
        "clock": book.served_at,
        **{name: getattr(book, name) for name in _BOOK_CONSTANTS},
    }
    vectors = np.ascontiguousarray(book.features[part], dtype="<f8")
    ids = book.entity_ids[part]
    return [
        same
        | {
            "score_id": _book_score_id(book, company, entity_id),
            "entity_id": entity_id,
            "probability": probability,
            "logit": logit,
            "band": band,
            "features": vector.tobytes(),
            "reasons": as_json(reasons),
            "facts": as_json(facts),
        }
        for entity_id, probability, logit, band, vector, reasons, facts in zip(
            ids,
            book.probability[part].tolist(),
            book.logit[part].tolist(),
            book.band[part],
            vectors,
            book.reasons[part] if book.reasons is not None else [()] * len(ids),
            book.facts[part] if book.facts is not None else [{}] * len(ids),
            strict=True,
        )
    ]


def _book_score_id(book: BookScores, company: str, entity_id: str) -> str:
    """Return the same id for the same row of the same book, so that a repeat completes it."""
    key = "\x1f".join((company, book.book_id, book.target, entity_id))
    return _time_prefix(book.served_at) + hashlib.sha256(key.encode()).hexdigest()[:20]


def book_entry(book: BookScores, company: str, n_rows: int) -> dict[str, Any]:
    """Return the row of a book in the table of books, not complete yet."""
    return {
        "company": company,
        "book_id": book.book_id,
        "target": book.target,
        "as_of": book.as_of,
        "served_at": book.served_at,
        "release_id": book.release_id,
        "n_scores": n_rows,
        "is_complete": 0,
        "channel": book.channel,
    }


def row_of(values: Sequence[Any], shared: Mapping[str, bytes]) -> ScoreRow:
    """Return the score of a table row: `ROW_NAMES`, then `REFS` into shared contents."""
    record = dict(zip((*ROW_NAMES, *REFS), values, strict=True))
    vector, reasons, facts = (shared.get(record.pop(name) or "") for name in REFS)
    reasons, facts = reasons or record["reasons"], facts or record["facts"]
    plain = {
        "features": vector or record["features"],
        "reasons": orjson.loads(reasons) if reasons else [],
        # rows of an earlier version have none
        "facts": orjson.loads(facts) if facts else {},
    }
    return ScoreRow(**record | plain)


def _time_prefix(moment: datetime) -> str:
    return f"{int(moment.timestamp() * 1000):012x}"
