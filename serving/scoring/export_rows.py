"""Canonical row of an account for Parquet, CSV and pages, and spreadsheet-safe CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import chain
from typing import Any, Literal, TypedDict, cast

from serving.scoring.answer import Answer, Offer, Score, ScoreBody
from serving.scoring.expansion_offer import AMOUNTS, LedgerOffer, contact_text, ledger_offer
from serving.scoring.export_columns import COLUMNS, ExportRow
from training.model.expected_loss import Frames, part_by
from training.model.reasons import Reason

_VOLATILE = (
    "rank",
    "tenure_days",
    "days_to_renewal",
    "days_to_notice",
    *(
        f"{outcome}_{name}"
        for outcome in ("churn", "expansion")
        for name in (
            "percentile",
            "change",
            "change_is_clear",
            "change_since",
            "change_text",
        )
    ),
    "expansion_contact_last_active_on",
    "expansion_by_on",
    "expected_arr_lost_91d",
    "churn_until",
    "expansion_until",
    "as_of",
    "updated_at",
    "release_id",
    "config_hash",
)
"""Columns that change with the calendar, the release or other accounts."""

_SKIPPED = r"\s\x00-\x1f\u200b-\u200f\u2060\ufeff\""
"""Characters that spreadsheets skip at the start of a cell."""

_RUNS = r"[=+\-@＝＋－＠]"

_FORMULA_START = re.compile(rf"[\t\r\n]|[{_SKIPPED};|,]*{_RUNS}")
"""Start of a text that a spreadsheet may execute, after skipped or separating characters."""

_INNER_START = re.compile(rf"(?<=[;|\t\r\n])(?=[{_SKIPPED}]*{_RUNS})")
"""Start of a cell for spreadsheets that split lines at another separator."""

_PER_OUTCOME: tuple[Literal["low", "high", "percentile", "confidence", "verdict"], ...] = (
    "low",
    "high",
    "percentile",
    "confidence",
    "verdict",
)


def flat_row(answer: Answer) -> ExportRow:
    """Return one answer of `Scorer.score` as the canonical row, `rank` left empty.

    The first target of each outcome fills the columns of that outcome.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: value for name, value in answer.items() if name in COLUMNS}
    row |= {name: value for name, value in (answer.get("renewal") or {}).items() if name in row}
    held = answer.get("products") or []
    row["products"] = [item["product"] for item in held]
    row["product_shares"] = [item["share"] for item in held]
    if data := answer.get("data"):
        row["data_confidence"], row["is_stale"] = data["confidence"], data["is_stale"]
    firsts = first_per_outcome(answer)
    for outcome, part in firsts.items():
        columns = {f"{outcome}_{name}": part[name] for name in _PER_OUTCOME}
        row |= {name: value for name, value in columns.items() if name in row}
    if "expansion" in firsts:
        row["expansion_band"] = firsts["expansion"]["band"]
        row["expansion_until"] = firsts["expansion"]["until"]
    elif withheld := answer.get("withheld"):
        row["expansion_withheld"] = next(iter(withheld.values()))["status"]
    if "churn" in firsts:
        row |= _churn_columns(firsts["churn"])
        row["expected_arr_lost_91d"] = _near_loss(answer, firsts["churn"])
    if offer := answer.get("expansion"):
        row |= _offer_columns(offer)
    return cast("ExportRow", row)  # the keys are those of COLUMNS


def _near_loss(answer: Answer, part: ScoreBody) -> float | None:
    """Return the part of the expected loss that falls within `NEAR_DAYS` of as_of."""
    lost, as_of = answer.get("expected_arr_lost"), answer["as_of"]
    if lost is None or as_of is None:
        return None
    day, until = date.fromisoformat(as_of[:10]), date.fromisoformat(part["until"])
    return float(lost * part_by(Frames(day).near_on, day, until, part["asks_about"] == "renewal"))


def stable_content(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that change only when its account changes."""
    return {name: row.get(name) for name in COLUMNS if name not in _VOLATILE}


def first_per_outcome(answer: Answer) -> dict[str, Score]:
    """Return the first target of each outcome: the score that represents it."""
    firsts: dict[str, Score] = {}
    for part in answer.get("scores", {}).values():
        firsts.setdefault(part["outcome"], part)
    return firsts


def _offer_columns(offer: Offer) -> dict[str, Any]:
    added, contact, timing = offer["added_arr"], offer["contact"], offer["timing"]
    return {
        "expansion_kind": offer["kind"],
        "expansion_product": offer["product"],
        "expansion_basis": offer["basis"],
        **{f"expansion_arr_{name}": added[name] if added else None for name in AMOUNTS},
        "expansion_kind_probability": offer["probability"],
        "expansion_arr_expected": offer["expected_added_arr"],
        "expansion_evidence": next(iter(offer["evidence"]), None),
        "expansion_contact": contact_text(contact),
        "expansion_contact_last_active_on": contact["last_active_on"] if contact else None,
        "expansion_by_on": timing["by_on"] if timing else None,
        "expansion_timing": timing["text"] if timing else None,
        "expansion_is_eligible": offer["is_eligible"],
        "expansion_blockers": [item["code"] for item in offer["blockers"]],
    }


def _churn_columns(part: ScoreBody) -> dict[str, Any]:
    reasons = fact_texts(part["raises"])
    return {
        "churn_asks_about": part["asks_about"],
        "churn_until": part["until"],
        "churn_base": part["base"],
        "top_reason": reasons[0] if reasons else None,
        "reasons": reasons,
        "protections": fact_texts(part["lowers"]),
        "reason_codes": [reason["code"] for reason in part["raises"]],
        "reason_points": [reason["points"] for reason in part["raises"]],
        "reason_features": [
            reason["facts"][0]["feature"] if reason["facts"] else "" for reason in part["raises"]
        ],
        "churn_rung": part["rung"],
        "churn_rules": [rule["text"] for rule in part["rules"]],
    }


def fact_texts(reasons: Iterable[Reason]) -> list[str]:
    """Return the text of the strongest fact of each reason; of the reason if it has no facts."""
    return [reason["facts"][0]["text"] if reason["facts"] else reason["text"] for reason in reasons]


class LedgerReason(TypedDict):
    """Reason of a score as the ledger stores it."""

    code: str
    points: float
    facts: list[str]


class LedgerExtras(TypedDict, total=False):
    """Rules and expansion offer of a score as the ledger stores them with its facts."""

    rules: list[str]
    candidate: LedgerOffer


def compact_reasons(part: ScoreBody) -> list[LedgerReason]:
    """Return the reasons of a score as the ledger stores them."""
    return [
        {
            "code": reason["code"],
            "points": reason["points"],
            "facts": [fact["text"] for fact in reason["facts"]],
        }
        for reason in (*part["raises"], *part["lowers"])
    ]


def ledger_extras(answer: Answer, part: ScoreBody) -> LedgerExtras:
    """Return the rules and the expansion offer of a score as the ledger stores them."""
    kept: LedgerExtras = {}
    if part["rules"]:
        kept["rules"] = [rule["rule"] for rule in part["rules"]]
    if part["outcome"] == "expansion" and (offer := answer.get("expansion")):
        kept["candidate"] = ledger_offer(offer)
    return kept


def csv_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return the canonical rows as CSV, header first, safe to open in a spreadsheet."""
    header = list(COLUMNS)
    return csv_text(chain([header], ([cell(row.get(name)) for name in header] for row in rows)))


def csv_text(lines: Iterable[Iterable[str]]) -> Iterator[str]:
    """Return lines of cells as CSV, quoted where necessary."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for cells in lines:
        writer.writerow(cells)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def list_text(values: Iterable[Any]) -> str:
    """Return a list as the text of one cell."""
    return " | ".join(item if isinstance(item, str) else repr(item) for item in values)


def cell(value: Any) -> str:
    r"""Return one value as CSV text, with an apostrophe before anything a spreadsheet may execute.

    This includes separators inside the text: a spreadsheet that splits lines at semicolons starts a
    new cell at each of them.

    >>> cell('=HYPERLINK("x")'), cell(-4.5), cell(None), cell(["a", "b"]), cell([0.75, 0.25])
    ('\'=HYPERLINK("x")', '-4.5', '', 'a | b', '0.75 | 0.25')
    >>> cell(";=1+1"), cell("  @x"), cell("Aa;=1+1"), cell("a; b-c = d")
    ("';'=1+1", "'  @x", "Aa;'=1+1", 'a; b-c = d')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        return "true" if value else "false"
    elif isinstance(value, int | float):
        return repr(value)
    else:
        text = list_text(value)
    return harmless(text)


def harmless(text: str) -> str:
    """Return the text of a CSV cell with an apostrophe wherever a formula could start."""
    is_formula = _FORMULA_START.match(text) is not None
    text = _INNER_START.sub("'", text)
    return f"'{text}" if is_formula else text
