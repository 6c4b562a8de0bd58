"""Every issue the quality report can raise, in one table: the documentation derives from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Code:
    """One kind of issue.

    Attributes
    ----------
    title : str
        What is wrong, without numbers.
    severity : {"error", "warning", "info"}
        error: predictions are wrong where it occurs; warning: they are weaker; info: to know.
    to_do : str
        What to do about it.
    """

    title: str
    severity: Severity
    to_do: str


CODES: dict[str, Code] = {
    "malformed_lines": Code(
        "lines that do not fit the header",
        "error",
        "export the file again with every text in double quotes",
    ),
    "lines_lost": Code(
        "lines of a file that are neither kept nor set aside",
        "error",
        "please report this; until then, export the file again with every text in double quotes",
    ),
    "other_encoding": Code(
        "files that are not UTF-8",
        "info",
        "check a name with special letters; to be sure, save as UTF-8: "
        "iconv -f cp1252 -t utf-8 OLD > NEW (from UTF-16: -f utf-16)",
    ),
    "written_otherwise": Code(
        "columns that are not written as computers do, and how they are read",
        "info",
        "check an example; `written:` in the mapping says it otherwise",
    ),
    "other_currency": Code(
        "amounts that carry the mark of another currency than they are taken for",
        "error",
        "map `currency`, or correct reporting_currency",
    ),
    "sql_loses_rows": Code(
        "rows that a join in `sql` loses",
        "error",
        "use LEFT JOIN, so that rows without a partner are counted; then correct what they are "
        "joined by",
    ),
    "sql_doubles_rows": Code(
        "rows that a join in `sql` yields more than once",
        "error",
        "join by a column that is unique on the other side",
    ),
    "sql_rows": Code(
        "`sql` yields another number of rows than its input has",
        "info",
        "nothing, when WHERE or GROUP BY is meant to do so",
    ),
    "repeated_events": Code(
        "events delivered more than once, each time counted",
        "error",
        "map event_id, so that each event counts once",
    ),
    "delivered_again": Code(
        "events delivered again, counted once by their event_id",
        "info",
        "nothing",
    ),
    "other_event": Code(
        "rows with the event_id of an event at another time, counted as that event",
        "warning",
        "map as event_id a column that is different for every event",
    ),
    "rolled_up": Code(
        "accounts that count as part of their topmost parent",
        "info",
        "nothing: roll_up asks for it",
    ),
    "missing_values": Code(
        "rows without a value they must have",
        "error",
        "fill the column at the source, or map another one",
    ),
    "unparsable_values": Code(
        "values that are not of their kind",
        "error",
        "correct them at the source, or convert them in the mapping",
    ),
    "out_of_bounds": Code(
        "values outside their possible range",
        "error",
        "correct them at the source, or map the right unit",
    ),
    "not_allowed": Code(
        "words that are not among the allowed ones",
        "error",
        "translate them in the mapping with CASE WHEN … THEN … END",
    ),
    "unknown_accounts": Code(
        "rows of accounts that do not exist",
        "error",
        "load all accounts, those that left too, and map account_id to the same ids",
    ),
    "missing_accounts": Code(
        "accounts with activity, terms or outcomes that the accounts table lacks",
        "error",
        "load all accounts, those that left too: a model of those that remain is wrong, so "
        "training stops",
    ),
    "duplicate_accounts": Code(
        "accounts that are there twice, under two ids",
        "error",
        "map both ids to one account: each of its events counts twice, and a model is tested on "
        "what it has learned",
    ),
    "known_at_no_clock": Code(
        "known_at lies before what it should make known: it is no time of knowing",
        "error",
        "map known_at to the time the row was loaded or last changed, or leave it out and set "
        "known_delay_days",
    ),
    "time_order": Code(
        "rows that end before they begin",
        "error",
        "check that the two columns are not swapped and lie in the same time zone",
    ),
    "duplicate_keys": Code(
        "rows replaced by a later version of the same key",
        "warning",
        "if these are versions over time, give each its known_at and set history: true",
    ),
    "exact_copies": Code(
        "rows that repeat another in every column, counted once",
        "warning",
        "if they are separate events, add their own id to the source table",
    ),
    "before_account": Code(
        "facts from before their account began",
        "error",
        "map created_at to the true beginning; what lies before it cannot be trusted in time",
    ),
    "labels_before_account": Code(
        "labels of days before their account began",
        "info",
        "nothing: there is no prediction on such a day; otherwise check created_at",
    ),
    "labels_extend_grid": Code(
        "days of labels that are no moments of the grid",
        "info",
        "nothing: each such day is added to the moments for which features are built",
    ),
    "before_first_term": Code(
        "usage from before the account's first term",
        "warning",
        "trials are fine; otherwise check started_on, or how usage is joined to accounts",
    ),
    "order_tolerated": Code(
        "pairs of times in an unusual order, kept",
        "info",
        "nothing, when prepayment, notice under earlier terms or late entry explains them",
    ),
    "sentinel_dates": Code(
        "dates that stand for never (1970-01-01, 9999-12-31 …), read as empty",
        "info",
        "leave such dates empty at the source",
    ),
    "after_now": Code(
        "rows known only after the clock, ignored",
        "info",
        "nothing, when the clock is pinned; otherwise check the year and the time zone",
    ),
    "no_known_at": Code(
        "tables that do not say when a row became visible",
        "info",
        "map known_at (load time, created or updated time), or known_delay_days for a usual delay",
    ),
    "edits_unseen": Code(
        "tables edited after the fact without saying when",
        "warning",
        "keep history with known_at: a term or outcome entered late looks as if it was known early",
    ),
    "known_at_missing": Code(
        "rows without known_at in a table that has it",
        "warning",
        "fill it at the source; until then these rows count as known when they happened",
    ),
    "known_before_happened": Code(
        "rows known before they happened",
        "info",
        "right for what is agreed ahead; otherwise check the two columns",
    ),
    "zone_shift": Code(
        "events known a few hours before they happened: two time zones",
        "warning",
        "set the table's timezone to the one its times are written in",
    ),
    "late_arrivals": Code(
        "rows that became visible more than a week after they happened",
        "warning",
        "recent days look quieter than they were: load later, or set known_delay_days",
    ),
    "midnight_instants": Code(
        "times that all lie at midnight, read as dates",
        "info",
        "map the time of day, or leave it: a date counts from the next midnight on",
    ),
    "mixed_zones": Code(
        "one column with and without time zones",
        "warning",
        "write every time with its zone, or none with one",
    ),
    "mixed_precision": Code(
        "one column with dates and with times of day",
        "info",
        "nothing: a date counts from the next midnight on",
    ),
    "stale_table": Code(
        "nothing new for much longer than usual",
        "error",
        "check the export: silence here looks like accounts going quiet",
    ),
    "quiet_table": Code(
        "nothing new for much longer than usual, in a table that may simply be quiet",
        "warning",
        "check that the export still runs",
    ),
    "telemetry_gaps": Code(
        "days on which company-wide usage nearly stops",
        "warning",
        "check the tracking on these days; an outage looks like every account leaving",
    ),
    "partial_outage": Code(
        "many accounts fall silent at one time while the others go on",
        "error",
        "check the tracking of these accounts (a region, a version, a tenant): an outage looks "
        "like leaving",
    ),
    "activity_on_children": Code(
        "accounts with terms whose activity lies on accounts below them",
        "error",
        "set roll_up: true under tables.accounts, so that an account counts as part of its "
        "topmost parent",
    ),
    "currency_without_rate": Code(
        "amounts in a currency without a rate, left unknown",
        "error",
        "add the currency to the rates table, convert in the mapping, or, when it is the only one, "
        "make it the reporting_currency",
    ),
    "currency_missing": Code(
        "amounts without a currency, taken for the reporting one",
        "info",
        "fill the currency column",
    ),
    "overlapping_terms": Code(
        "terms of one subscription that overlap",
        "warning",
        "end a row on the day the next one starts, or revenue counts twice",
    ),
    "idle_accounts": Code(
        "accounts without a single activity",
        "warning",
        "check how activity is joined to accounts; otherwise they are insufficient data",
    ),
    "test_accounts": Code(
        "accounts that look like tests or demos",
        "warning",
        "map tables.accounts.columns.is_test, for example: name ILIKE '%test%'",
    ),
    "contradicting_churn": Code(
        "accounts whose terms and outcomes disagree about leaving",
        "error",
        "decide which table is right and observe the target there",
    ),
    "activity_after_end": Code(
        "accounts still active a month after their last term ended",
        "warning",
        "check ended_on: leaving may be recorded for accounts that stayed",
    ),
    "unknown_parents": Code(
        "parents that are no accounts, or accounts their own parent",
        "info",
        "load the parents as accounts, or leave parent_account_id empty",
    ),
    "unknown_owners": Code(
        "owners that the owners table does not have",
        "info",
        "load every CSM into owners",
    ),
    "renewed_into_nothing": Code(
        "terms that ended as renewed or changed, and nothing follows",
        "error",
        "export the terms that followed, or set end_reason to churned where the account left",
    ),
    "lost_on_one_day": Code(
        "many accounts lost on one day",
        "error",
        "if billing moved to another system that day, map both under one set of account ids and "
        "close the gap between their terms",
    ),
    "merged_into_unknown": Code(
        "merged terms whose new account is not known: its rise counts as growth",
        "warning",
        "keep the subscription_id of a subscription that moves to another account",
    ),
    "live_terms_without_arr": Code(
        "terms that hold and have no amount",
        "error",
        "fill arr at the source, or map it from the price and the quantity",
    ),
    "unpaid_accounts": Code(
        "accounts that never paid: their trials and free plans are no losses when they end",
        "info",
        "nothing, when these are trials or free plans; otherwise map their arr",
    ),
    "activity_without_terms": Code(
        "accounts with activity that are in no subscription",
        "error",
        "export ended subscriptions too: billing systems often delete them",
    ),
    "overwritten_terms": Code(
        "renewal dates that are overwritten in place at each renewal",
        "error",
        "confirm with tables.subscriptions.unfold: year (quarter, month), or, if these are "
        "contracts that really run so long, set it to off",
    ),
    "unfolded_terms": Code(
        "subscriptions read as one row per billing period, as configured",
        "info",
        "nothing",
    ),
    "silent_by_habit": Code(
        "accounts that are usually silent for longer than silence is waited for",
        "warning",
        "raise horizon_days and cohort.active_within_days above their usual pause, or observe the "
        "outcome in subscriptions",
    ),
    "not_counted": Code(
        "rows that are neither activity nor revenue",
        "info",
        "nothing: they are left out of both",
    ),
    "totals_disagree": Code(
        "totals that must agree and do not",
        "error",
        "please report this, and trust none of the totals named until it is explained",
    ),
    "capacity_disagrees": Code(
        "the CSMs' capacities do not add up to the team's",
        "warning",
        "set serving.capacity_per_month in company.yaml to what the team can work in a month, or "
        "correct owners.capacity, the accounts a CSM can take on in a week",
    ),
    "empty_table": Code(
        "tables that are there without rows",
        "warning",
        "check the export, or remove the table from company.yaml",
    ),
    "absent_tables": Code(
        "tables the company does not bring",
        "info",
        "map them when they exist: each adds signals",
    ),
    "unused_inputs": Code(
        "inputs that no table reads",
        "info",
        "map them, or remove them from company.yaml",
    ),
}
