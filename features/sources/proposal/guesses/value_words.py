"""Words of tools for values that have a fixed form here: satisfaction, priority, end reasons."""

from __future__ import annotations

from collections.abc import Mapping

from features.sources.files.sql import ident, literal
from features.sources.parsing.text_values import MISSING
from features.sources.proposal.file_profile import ColumnProfile

WORDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("support_tickets", "csat"): {
        "good": "5", "great": "5", "amazing": "5", "very satisfied": "5", "satisfied": "4",
        "positive": "5", "happy": "5", "ok": "3", "okay": "3", "neutral": "3", "bad": "1",
        "terrible": "1", "very dissatisfied": "1", "dissatisfied": "2", "negative": "1",
        "unhappy": "1",
    },
    ("support_tickets", "priority"): {
        "low": "low", "minor": "low", "p4": "low", "4": "low", "normal": "normal",
        "medium": "normal", "p3": "normal", "3": "normal", "standard": "normal", "high": "high",
        "major": "high", "p2": "high", "2": "high", "urgent": "urgent", "critical": "urgent",
        "blocker": "urgent", "p1": "urgent", "1": "urgent", "emergency": "urgent",
    },
    ("subscriptions", "end_reason"): {
        "renewed": "renewed", "renewal": "renewed", "changed": "changed", "upgrade": "changed",
        "upgraded": "changed", "downgrade": "changed", "replaced": "changed", "churned": "churned",
        "churn": "churned", "cancelled": "churned", "canceled": "churned", "lost": "churned",
        "payment_failure": "payment_failure", "payment failure": "payment_failure",
        "non_payment": "payment_failure", "non-payment": "payment_failure",
        "not_paid": "payment_failure", "payment_failed": "payment_failure", "merged": "merged",
    },
    ("touches", "initiated_by"): {
        "account": "account", "customer": "account", "inbound": "account", "incoming": "account",
        "us": "us", "outbound": "us", "outgoing": "us", "csm": "us",
    },
    ("outcomes", "outcome"): {
        "churn": "churn", "churned": "churn", "cancelled": "churn", "canceled": "churn",
        "lost": "churn", "cancellation": "churn", "contraction": "contraction",
        "downgrade": "contraction", "downsell": "contraction", "expansion": "expansion",
        "upgrade": "expansion", "upsell": "expansion", "cross-sell": "expansion",
    },
    ("opportunities", "kind"): {
        "renewal": "renewal", "expansion": "expansion", "upsell": "expansion",
        "upgrade": "expansion", "existing customer - upgrade": "expansion",
        "existing business": "expansion", "add-on": "expansion", "new": "new",
        "new business": "new", "new customer": "new", "newbusiness": "new",
        "existingbusiness": "expansion", "new logo": "new",
    },
}  # fmt: skip
"""(table, column) → word in lower case → value of the contract."""

NO_VALUE = frozenset(
    {*MISSING, "offered", "not offered", "unoffered", "not rated", "other", "none"}
)


def translated(table: str, name: str, column: ColumnProfile) -> str | None:
    """Return SQL that turns the words of a column into values of the contract.

    None where no translation is needed or known: each value must be a known word, a missing value,
    or already valid, and at least one must be known.
    """
    words = WORDS.get((table, name))
    if words is None or not column.values:
        return None
    lower = {text.lower() for text in column.values}
    known = lower & words.keys()
    if not known or (lower - words.keys() - NO_VALUE):
        return None
    if all(words[word] == word for word in known) and lower == {*column.values} == known:
        return None
    cases = " ".join(f"WHEN {literal(word)} THEN {literal(words[word])}" for word in sorted(known))
    return f"CASE lower({ident(column.name)}) {cases} END"
