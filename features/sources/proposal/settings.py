"""Proposed settings of the whole company: currency, clock and outcomes to predict."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import duckdb

from features.sources.files.sql import ident, one_row
from features.sources.parsing import type_parsing
from features.sources.proposal.draft import Choice, TableDraft
from features.sources.proposal.proposal import Proposal
from features.tables.source_tables import TABLES, SourceColumn

STALE_DAYS = 7
"""Days without activity from which the data counts as ended and the clock is pinned."""


def set_currency(connection: duckdb.DuckDBPyConnection, proposal: Proposal) -> None:
    """Set the currency of most amounts; several need a rates table."""
    counts: dict[str, int] = {}
    for draft in proposal.drafts:
        header = draft.columns.get("currency")
        if draft.table not in ("subscriptions", "invoices") or header is None:
            continue
        if header.value not in draft.file.columns:
            continue
        code_text = f"upper(trim({ident(header.value)}))"
        rows = connection.execute(
            f"SELECT {code_text}, count(*) FROM {draft.file.source.relation} "
            f"WHERE {code_text} <> '' GROUP BY 1"
        ).fetchall()
        for code, n in rows:
            counts[str(code)] = counts.get(str(code), 0) + int(n)
    valid = {code: n for code, n in counts.items() if re.fullmatch(r"[A-Z]{3}", code)}
    if not valid:
        has_money = any(d.table in ("subscriptions", "invoices") for d in proposal.drafts)
        proposal.settings["reporting_currency"] = Choice(
            "USD", "no column has the currency", "low" if has_money else "medium", ("EUR", "GBP")
        )
        return
    ordered = sorted(valid, key=lambda code: -valid[code])
    whole = sum(valid.values())
    proposal.settings["reporting_currency"] = Choice(
        ordered[0],
        f"{valid[ordered[0]]:,} of {whole:,} amounts",
        "high" if len(ordered) == 1 else "medium",
        tuple(ordered[1:]),
    )
    if len(ordered) > 1 and not any(draft.table == "rates" for draft in proposal.drafts):
        terms = next(d for d in proposal.drafts if d.table in ("subscriptions", "invoices"))
        terms.notes.append(
            f"amounts in {', '.join(ordered[1:])} need a rates table (currency, as_of_on, rate) to "
            f"be added up in {ordered[0]}"
        )


def set_clock(connection: duckdb.DuckDBPyConnection, proposal: Proposal, now: datetime) -> None:
    """Pin the clock after the last activity where the data has ended."""
    lasts = []
    for draft in proposal.drafts:
        spec = TABLES[draft.table]
        header = draft.happened_column(spec.happened)
        if spec.activity and header is not None:
            text, kind = type_parsing.prepared(
                SourceColumn("instant", ""), ident(header), draft.file.source.columns[header]
            )
            moment = type_parsing.value(SourceColumn("instant", ""), text, kind, "UTC")
            found = one_row(
                connection, f"SELECT max({moment}) AS last FROM {draft.file.source.relation}"
            )
            if found["last"] is not None:
                lasts.append(found["last"].replace(tzinfo=UTC))
    past = [last for last in lasts if last <= now]
    if not past or (now - max(past)).days <= STALE_DAYS:
        return
    last = max(past)
    midnight = last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    proposal.settings["now"] = Choice(
        f"{midnight:%Y-%m-%dT%H:%M:%SZ}",
        f"the last activity is of {last:%Y-%m-%d}; remove the line once new data arrives",
        "medium",
    )


def set_targets(connection: duckdb.DuckDBPyConnection, proposal: Proposal) -> None:
    """Set the outcomes that the mapped tables can show."""
    tables = {draft.table: draft for draft in proposal.drafts}
    terms = tables.get("subscriptions")
    if (
        terms is not None
        and {"renews_on", "ended_on"} & terms.columns.keys()
        or (terms is not None and terms.billing)
    ):
        proposal.targets["churn"] = {"outcome": "churn", "observed_in": "subscriptions"}
        if _may_expand(connection, terms):
            proposal.targets["expansion"] = {
                "outcome": "expansion",
                "observed_in": "subscriptions",
            }
    elif "outcomes" in tables:
        proposal.targets["churn"] = {"outcome": "churn", "observed_in": "outcomes"}
    else:
        proposal.targets["churn"] = {
            "outcome": "churn",
            "observed_in": "activity",
            "until_renewal": "false",
        }


def _may_expand(connection: duckdb.DuckDBPyConnection, terms: TableDraft) -> bool:
    """Whether the amounts of earlier terms are kept, so that growth can be seen."""
    rows = terms.billing.get("rows")
    if rows is not None and rows.value == "subscription":
        return False
    key = terms.columns["subscription_id"].value
    if rows is not None and rows.value in ("change", "period", "invoice_line"):
        return True
    holder = terms.links[0][0].value if terms.links else terms.columns["account_id"].value
    value = ident(holder) if holder in terms.file.columns else holder
    found = one_row(
        connection,
        f"SELECT count(*) / greatest(count(DISTINCT {value}), 1) AS per_account "
        f"FROM {terms.file.source.relation}",
    )
    return bool(found["per_account"] > 1.2) and key is not None
