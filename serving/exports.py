"""The canonical row: one account as a flat line, the same in Parquet, CSV and the book page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from serving.scoring import SHOWN_FACTS

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "rank": (pa.int64(), "place in the book by expected loss, 1 first; empty when not predicted"),
    "account_id": (pa.string(), "the account"),
    **{name: (pa.string(), "as the company knows it") for name in SHOWN_FACTS},
    "status": (pa.string(), "`scored`, or why there is no probability"),
    "status_text": (pa.string(), "the status in words"),
    "arr": (pa.float64(), "annual recurring revenue, or trailing spend, in `currency`"),
    "currency": (pa.string(), "ISO 4217"),
    "tenure_days": (pa.int64(), "days since the account began"),
    "renews_on": (pa.string(), "renewal ahead, ISO 8601 date; empty without contract"),
    "days_to_renewal": (pa.int64(), "counted from the day of scoring"),
    "notice_on": (pa.string(), "last day on which notice counts"),
    "days_to_notice": (pa.int64(), "counted from the day of scoring; negative once passed"),
    "churn_asks_about": (pa.string(), "`renewal` or `horizon`: never rank one with the other"),
    "churn_until": (pa.string(), "day up to which the risk looks"),
    "churn_risk": (pa.float64(), "probability, 0 to 1"),
    "churn_low": (pa.float64(), "lower end of the 90 % range"),
    "churn_high": (pa.float64(), "upper end of the 90 % range"),
    "churn_base": (pa.float64(), "what the model says before it looks at the account"),
    "churn_percentile": (pa.float64(), "share of the book with a lower risk, 0 to 100"),
    "risk_band": (pa.string(), "low, elevated or high: cuts frozen at release"),
    "churn_confidence": (pa.string(), "of the model in this account: high, medium or low"),
    "expected_arr_lost": (pa.float64(), "churn_risk × arr"),
    "churn_verdict": (pa.string(), "of the model: promotable, provisional or no_signal"),
    "contraction_risk": (pa.float64(), "probability, 0 to 1"),
    "expansion_propensity": (pa.float64(), "probability, 0 to 1"),
    "expansion_low": (pa.float64(), "lower end of the 90 % range"),
    "expansion_high": (pa.float64(), "upper end of the 90 % range"),
    "expansion_percentile": (pa.float64(), "share of the book with a lower chance, 0 to 100"),
    "expansion_band": (pa.string(), "low, elevated or high"),
    "expansion_confidence": (pa.string(), "high, medium or low"),
    "expansion_verdict": (pa.string(), "of the model: promotable, provisional or no_signal"),
    "top_reason": (pa.string(), "strongest fact associated with a higher risk"),
    "reasons": (pa.list_(pa.string()), "facts associated with a higher risk, strongest first"),
    "protections": (pa.list_(pa.string()), "facts associated with a lower risk"),
    "reason_codes": (pa.list_(pa.string()), "codes of the reasons, see the catalogue"),
    "data_confidence": (pa.string(), "of the data behind it: high, medium or low"),
    "is_stale": (pa.bool_(), "the data is older than the company allows"),
    "as_of": (pa.string(), "the prediction moment, ISO 8601, UTC"),
    "release_id": (pa.string(), "what answered"),
    "config_hash": (pa.string(), "of the company's configuration"),
}
"""Every column of an export: its type, and what it holds. Columns are added, never renamed."""

SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _) in COLUMNS.items()])

_FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")
"""Spreadsheets take a cell that begins like this for a formula."""

_PER_OUTCOME = ("low", "high", "percentile", "confidence", "verdict")


def flat_row(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return one answer (`serving.scoring.Scorer.score`) as the canonical row, `rank` left empty.

    The first target of each outcome fills the columns of that outcome.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: answer.get(name) for name in COLUMNS if name in answer}
    row |= {name: value for name, value in (answer.get("renewal") or {}).items() if name in row}
    data = answer.get("data") or {}
    row["data_confidence"], row["is_stale"] = data.get("confidence"), data.get("is_stale")
    firsts = first_per_outcome(answer)
    for outcome, part in firsts.items():
        row |= {
            f"{outcome}_{name}": part[name] for name in _PER_OUTCOME if f"{outcome}_{name}" in row
        }
    if "expansion" in firsts:
        row["expansion_band"] = firsts["expansion"]["band"]
    if "churn" in firsts:
        row |= _churn_columns(firsts["churn"])
    return row


def first_per_outcome(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the scores that stand for their outcome: the first target of each."""
    firsts: dict[str, Mapping[str, Any]] = {}
    for part in answer.get("scores", {}).values():
        firsts.setdefault(part["outcome"], part)
    return firsts


def _churn_columns(part: Mapping[str, Any]) -> dict[str, Any]:
    reasons = fact_texts(part["raises"])
    return {
        "churn_asks_about": part["asks_about"],
        "churn_until": part["until"],
        "churn_base": part["base"],
        "top_reason": reasons[0] if reasons else None,
        "reasons": reasons,
        "protections": fact_texts(part["lowers"]),
        "reason_codes": [reason["code"] for reason in part["raises"]],
    }


def fact_texts(reasons: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the strongest fact of each reason, in words; the reason itself when it has none."""
    return [reason["facts"][0]["text"] if reason["facts"] else reason["text"] for reason in reasons]


def compact_reasons(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the ledger keeps of the reasons shown: code, points of probability, facts."""
    return [
        {
            "code": reason["code"],
            "points": reason["points"],
            "facts": [fact["text"] for fact in reason["facts"]],
        }
        for reason in (*part["raises"], *part["lowers"])
    ]


def csv_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return the canonical rows as CSV, header first, safe to open in a spreadsheet."""
    yield _csv_line(list(COLUMNS))
    for row in rows:
        yield _csv_line([cell(row.get(name)) for name in COLUMNS])


def cell(value: Any) -> str:
    r"""Return one value as CSV text; text that looks like a formula gets an apostrophe in front.

    >>> cell('=HYPERLINK("x")'), cell(-4.5), cell(None), cell(["a", "b"])
    ('\'=HYPERLINK("x")', '-4.5', '', 'a | b')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = value if isinstance(value, str) else " | ".join(value)
    return f"'{text}" if text.lstrip(" ")[:1] in _FORMULA_STARTS else text


def _csv_line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()
