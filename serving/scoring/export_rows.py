"""The canonical row: one account as a flat line, the same in Parquet, CSV and the book page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import chain
from typing import Any

import pyarrow as pa

from serving.scoring.expansion_offer import AMOUNTS, contact_words, kept_candidate
from serving.scoring.scorer import SHOWN_FACTS
from training.model.expected_loss import Frames, part_by

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "rank": (
        pa.int64(),
        "place in the book by expected loss, 1 first, where rules stand in for reasons by how many "
        "hold and then by expected loss; empty when not predicted",
    ),
    "account_id": (pa.string(), "the account"),
    **{name: (pa.string(), "as the company knows it") for name in SHOWN_FACTS},
    "products": (pa.list_(pa.string()), "held now, by terms; the largest share first"),
    "product_shares": (pa.list_(pa.float64()), "of `arr`, in that order, 0 to 1"),
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
    "churn_percentile": (
        pa.float64(),
        "share of the accounts asked the same kind of question (`churn_asks_about`) with a lower "
        "risk, 0 to 100",
    ),
    "risk_band": (pa.string(), "low, elevated or high: cuts frozen at release"),
    "churn_confidence": (pa.string(), "of the model in this account: high, medium or low"),
    "churn_change": (
        pa.float64(),
        "churn_risk less that of the book before, -1 to 1; empty where that answered another "
        "question, such as the renewal before",
    ),
    "churn_change_is_clear": (pa.bool_(), "the change is larger than its uncertainty"),
    "churn_change_since": (pa.string(), "day of the book before, ISO 8601"),
    "churn_change_text": (
        pa.string(),
        "the change in words, and what moved it most; across a renewal, what is asked now",
    ),
    "expected_arr_lost": (pa.float64(), "churn_risk × arr, a year; by `churn_until`"),
    "expected_arr_lost_91d": (
        pa.float64(),
        "what of it falls within 91 days of as_of: a renewal counts on its day, a longer horizon "
        "by its days",
    ),
    "churn_verdict": (pa.string(), "of the model: promotable, provisional or no_signal"),
    "contraction_risk": (pa.float64(), "probability, 0 to 1"),
    "expansion_propensity": (pa.float64(), "probability, 0 to 1"),
    "expansion_low": (pa.float64(), "lower end of the 90 % range"),
    "expansion_high": (pa.float64(), "upper end of the 90 % range"),
    "expansion_percentile": (pa.float64(), "share of the book with a lower chance, 0 to 100"),
    "expansion_until": (pa.string(), "day up to which the chance of growth looks"),
    "expansion_band": (pa.string(), "low, elevated or high"),
    "expansion_confidence": (pa.string(), "high, medium or low"),
    "expansion_verdict": (pa.string(), "of the model: promotable, provisional or no_signal"),
    "expansion_change": (pa.float64(), "expansion_propensity less that of the book before"),
    "expansion_change_is_clear": (pa.bool_(), "the change is larger than its uncertainty"),
    "expansion_change_since": (pa.string(), "day of the book before, ISO 8601"),
    "expansion_change_text": (pa.string(), "the change in words, and what moved it most"),
    "expansion_withheld": (pa.string(), "`no_room_to_grow` where growth is not asked about"),
    "expansion_kind": (pa.string(), "what could be sold: seats, tier, product or usage"),
    "expansion_product": (pa.string(), "of which product"),
    "expansion_basis": (pa.string(), "`measured`, or `rules` where past growths are too few"),
    "expansion_kind_probability": (
        pa.float64(),
        "of a growth of this kind, 0 to 1; empty by rules",
    ),
    "expansion_arr_p10": (pa.float64(), "ARR it would add if it happens: 10th percentile"),
    "expansion_arr_p50": (pa.float64(), "the same: median"),
    "expansion_arr_p90": (pa.float64(), "the same: 90th hundredth"),
    "expansion_arr_expected": (pa.float64(), "expansion_kind_probability × mean amount"),
    "expansion_evidence": (pa.string(), "what speaks for the kind"),
    "expansion_contact": (pa.string(), "whom to ask: id, role, advocate"),
    "expansion_contact_last_active_on": (pa.string(), "day last seen, ISO 8601"),
    "expansion_by_on": (pa.string(), "day by which to ask, ISO 8601"),
    "expansion_timing": (pa.string(), "why by then"),
    "expansion_is_eligible": (pa.bool_(), "nothing stands in the way; empty without a candidate"),
    "expansion_blockers": (pa.list_(pa.string()), "what stands in the way, as codes"),
    "top_reason": (pa.string(), "strongest fact associated with a higher risk"),
    "reasons": (pa.list_(pa.string()), "facts associated with a higher risk, strongest first"),
    "protections": (pa.list_(pa.string()), "facts associated with a lower risk"),
    "reason_codes": (pa.list_(pa.string()), "codes of the reasons, see the catalogue"),
    "churn_rung": (pa.string(), "of the ladder by events: rates, linear, trees, tuned trees"),
    "churn_rules": (
        pa.list_(pa.string()),
        "on the rung `rates`: plain rules that hold, judgement and not measured",
    ),
    "data_confidence": (pa.string(), "of the data behind it: high, medium or low"),
    "is_stale": (pa.bool_(), "the data is older than the company allows"),
    "as_of": (pa.string(), "the prediction moment, ISO 8601, UTC"),
    "updated_at": (pa.string(), "when this row last came to say something else, ISO 8601, UTC"),
    "release_id": (pa.string(), "what answered"),
    "config_hash": (pa.string(), "of the company's configuration"),
}
"""Every column of an export: its type, and what it holds. Columns are added, never renamed."""

_TICKING = (
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
"""Columns that move with the calendar, the version or other accounts: no news of this one."""

SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _) in COLUMNS.items()])

_SKIPPED = r"\s\x00-\x1f\u200b-\u200f\u2060\ufeff\""
"""What spreadsheets read over at the beginning of a cell."""

_RUNS = r"[=+\-@＝＋－＠]"

_FORMULA_START = re.compile(rf"[\t\r\n]|[{_SKIPPED};|,]*{_RUNS}")
"""How a text begins that a spreadsheet may run; what it skips, or splits at, comes before."""

_INNER_START = re.compile(rf"(?<=[;|\t\r\n])(?=[{_SKIPPED}]*{_RUNS})")
"""Where a cell begins for a spreadsheet that splits lines at another character than we do."""

_PER_OUTCOME = ("low", "high", "percentile", "confidence", "verdict")


def flat_row(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return one answer of `Scorer.score` as the canonical row, `rank` left empty.

    The first target of each outcome fills the columns of that outcome.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: answer.get(name) for name in COLUMNS if name in answer}
    row |= {name: value for name, value in (answer.get("renewal") or {}).items() if name in row}
    held = answer.get("products") or []
    row["products"] = [item["product"] for item in held]
    row["product_shares"] = [item["share"] for item in held]
    data = answer.get("data") or {}
    row["data_confidence"], row["is_stale"] = data.get("confidence"), data.get("is_stale")
    firsts = first_per_outcome(answer)
    for outcome, part in firsts.items():
        row |= {
            f"{outcome}_{name}": part[name] for name in _PER_OUTCOME if f"{outcome}_{name}" in row
        }
    if "expansion" in firsts:
        row["expansion_band"] = firsts["expansion"]["band"]
        row["expansion_until"] = firsts["expansion"]["until"]
    elif answer.get("withheld"):
        row["expansion_withheld"] = next(iter(answer["withheld"].values()))["status"]
    if "churn" in firsts:
        row |= _churn_columns(firsts["churn"])
        row["expected_arr_lost_91d"] = _lost_near(row)
    if candidate := answer.get("expansion"):
        row |= _candidate_columns(candidate)
    return row


def _lost_near(row: Mapping[str, Any]) -> float | None:
    """Return the part of a row's expected loss that falls within `NEAR_DAYS` of its as_of."""
    if row["expected_arr_lost"] is None:
        return None
    as_of = date.fromisoformat(row["as_of"][:10])
    until, is_renewal = date.fromisoformat(row["churn_until"]), row["churn_asks_about"] == "renewal"
    part = part_by(Frames(as_of).near_on, as_of, until, is_renewal)
    return float(row["expected_arr_lost"] * part)


def news_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says of its account, apart from what moves on its own."""
    return {name: row.get(name) for name in COLUMNS if name not in _TICKING}


def first_per_outcome(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the scores that stand for their outcome: the first target of each."""
    firsts: dict[str, Mapping[str, Any]] = {}
    for part in answer.get("scores", {}).values():
        firsts.setdefault(part["outcome"], part)
    return firsts


def _candidate_columns(candidate: Mapping[str, Any]) -> dict[str, Any]:
    added, contact = candidate["added_arr"] or {}, candidate["contact"] or {}
    timing = candidate["timing"] or {}
    return {
        **{f"expansion_{name}": candidate[name] for name in ("kind", "product", "basis")},
        **{f"expansion_arr_{name}": added.get(name) for name in AMOUNTS},
        "expansion_kind_probability": candidate["probability"],
        "expansion_arr_expected": candidate["expected_added_arr"],
        "expansion_evidence": next(iter(candidate["evidence"]), None),
        "expansion_contact": contact_words(candidate["contact"]),
        "expansion_contact_last_active_on": contact.get("last_active_on"),
        "expansion_by_on": timing.get("by_on"),
        "expansion_timing": timing.get("text"),
        "expansion_is_eligible": candidate["is_eligible"],
        "expansion_blockers": [item["code"] for item in candidate["blockers"]],
    }


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
        "churn_rung": part["rung"],
        "churn_rules": [rule["text"] for rule in part["rules"]],
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


def kept_beside(answer: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger keeps of one score beside its reasons: rules, and what was to sell."""
    kept: dict[str, Any] = {}
    if part["rules"]:
        kept["rules"] = [rule["rule"] for rule in part["rules"]]
    if part["outcome"] == "expansion" and answer.get("expansion"):
        kept["candidate"] = kept_candidate(answer["expansion"])
    return kept


def csv_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return the canonical rows as CSV, header first, safe to open in a spreadsheet."""
    header = list(COLUMNS)
    return csv_text(chain([header], ([cell(row.get(name)) for name in header] for row in rows)))


def csv_text(lines: Iterable[Iterable[str]]) -> Iterator[str]:
    """Return lines of cells as CSV, quoted where they must be."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for cells in lines:
        writer.writerow(cells)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def cell(value: Any) -> str:
    r"""Return one value as CSV text; what a spreadsheet may run gets an apostrophe in front.

    That holds within the text too: where lines are split at semicolons, quotes around a cell that
    is not the first are no quotes, and a new cell or line begins at each of its separators.

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
        text = " | ".join(item if isinstance(item, str) else repr(item) for item in value)
    return harmless(text)


def harmless(text: str) -> str:
    """Return a text of a CSV cell with an apostrophe wherever a formula could begin."""
    is_formula = _FORMULA_START.match(text) is not None
    text = _INNER_START.sub("'", text)
    return f"'{text}" if is_formula else text
