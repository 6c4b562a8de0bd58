"""Catalogue of quality issues; the documentation is generated from it."""

from __future__ import annotations

from features.quality.changes.codes import CHANGE_CODES
from features.quality.code import Code, Severity
from features.quality.history.codes import DRIFT_CODES

__all__ = ["CODES", "Code", "Severity"]

CODES: dict[str, Code] = {
    "malformed_lines": Code(
        "lines that do not fit the header",
        "error",
        "export the file again with all text in double quotes",
    ),
    "lines_lost": Code(
        "lines of a file that are neither kept nor set aside",
        "error",
        "please report this as a bug; meanwhile, export the file again with all text in double "
        "quotes",
    ),
    "other_encoding": Code(
        "files that are not UTF-8",
        "info",
        "check a name with special letters; to be sure, save as UTF-8: "
        "iconv -f cp1252 -t utf-8 OLD > NEW (from UTF-16: -f utf-16)",
    ),
    "written_otherwise": Code(
        "columns in a non-standard format, and how they are read",
        "info",
        "check an example; `written:` in the mapping overrides the format",
    ),
    "other_currency": Code(
        "amounts with the mark of another currency than the assumed one",
        "error",
        "map `currency`, or correct reporting_currency",
    ),
    "sql_loses_rows": Code(
        "rows that a join in `sql` drops",
        "error",
        "use LEFT JOIN, so rows without a match are counted; then correct the join condition",
    ),
    "sql_doubles_rows": Code(
        "rows that a join in `sql` repeats",
        "error",
        "join by a column that is unique on the other side",
    ),
    "sql_rows": Code(
        "`sql` returns a different number of rows than its input",
        "info",
        "nothing, if WHERE or GROUP BY is intended",
    ),
    "repeated_events": Code(
        "events delivered and counted more than once",
        "error",
        "map event_id, so that each event counts once",
    ),
    "delivered_again": Code(
        "redelivered events, counted once by their event_id",
        "info",
        "nothing",
    ),
    "other_event": Code(
        "rows that share an event_id at different times, counted as one event",
        "warning",
        "map a column that is unique per event as event_id",
    ),
    "rolled_up": Code(
        "accounts merged into their topmost parent",
        "info",
        "nothing: configured with roll_up",
    ),
    "no_contract_product": Code(
        "rows of a product that the account has no terms of, left out of `grain: product`",
        "warning",
        "check that products have the same names in all tables; usage of a trial is normal",
    ),
    "forgotten": Code(
        "rows of accounts or persons on the forget list",
        "info",
        "nothing; remove them from the exports as well (docs/concepts/privacy.md)",
    ),
    "left_out": Code(
        "rows that the mapping leaves out",
        "info",
        "nothing, if `leave_out` in the mapping names the right rows",
    ),
    "in_another_source": Code(
        "rows with a key that an earlier source of the table has",
        "info",
        "nothing, if both sources mean the same; the first one in company.yaml counts",
    ),
    "missing_values": Code(
        "rows without a required value",
        "error",
        "fill the column at the source, or map another one",
    ),
    "unparsable_values": Code(
        "values that cannot be read",
        "error",
        "correct them at the source, or convert them in the mapping",
    ),
    "out_of_bounds": Code(
        "values outside their possible range",
        "error",
        "correct them at the source, or map the right unit",
    ),
    "not_allowed": Code(
        "values that are not allowed",
        "error",
        "convert them in the mapping with CASE WHEN … THEN … END",
    ),
    "unknown_accounts": Code(
        "rows of accounts that do not exist",
        "error",
        "load all accounts, including former ones, and map account_id to the same ids",
    ),
    "missing_accounts": Code(
        "accounts with activity, terms or outcomes that the accounts table lacks",
        "error",
        "load all accounts, including former ones: a model of the remaining ones is wrong, so "
        "training stops",
    ),
    "duplicate_accounts": Code(
        "duplicate accounts with two ids",
        "error",
        "map both ids to one account: its events count twice, and a model is tested on its "
        "training data",
    ),
    "known_at_no_clock": Code(
        "known_at lies before the events: it is not the time a row became known",
        "error",
        "map known_at to the time the row was loaded or last changed, or leave it out and set "
        "known_delay_days",
    ),
    "time_order": Code(
        "rows that end before they begin",
        "error",
        "check that the two columns are not swapped and are in the same time zone",
    ),
    "duplicate_keys": Code(
        "rows replaced by a later version of the same key",
        "warning",
        "if these are versions over time, map known_at and set history: true",
    ),
    "exact_copies": Code(
        "exact duplicates of another row, counted once",
        "warning",
        "if they are separate events, add an event id to the source table",
    ),
    "before_account": Code(
        "rows before the start of their account",
        "error",
        "map created_at to the true start; earlier rows are not reliable in time",
    ),
    "labels_before_account": Code(
        "labels before the start of their account",
        "info",
        "nothing, as there is no prediction on such a day; otherwise check created_at",
    ),
    "labels_extend_grid": Code(
        "label days outside the grid",
        "info",
        "nothing: each such day is added to the grid",
    ),
    "before_first_term": Code(
        "usage before the first term of the account",
        "warning",
        "valid for trials; otherwise check started_on, or the join of usage to accounts",
    ),
    "order_tolerated": Code(
        "times in an unusual order, kept",
        "info",
        "nothing, if prepayment, notice under earlier terms or late entry explains them",
    ),
    "sentinel_dates": Code(
        "sentinel dates (1970-01-01, 9999-12-31 …), read as empty",
        "info",
        "leave such dates empty at the source",
    ),
    "after_now": Code(
        "rows known only after the clock, ignored",
        "info",
        "nothing, if the clock is pinned; otherwise check the year and the time zone",
    ),
    "no_known_at": Code(
        "tables without the time a row became visible",
        "info",
        "map known_at (load time, created or updated time), or known_delay_days for a usual delay",
    ),
    "edits_unseen": Code(
        "tables edited later without the time of the edit",
        "warning",
        "keep history with known_at: a term or outcome entered late appears as known early",
    ),
    "known_at_missing": Code(
        "rows without known_at in a table with known_at",
        "warning",
        "fill it at the source; until then these rows count as known at their event time",
    ),
    "known_before_happened": Code(
        "rows known before they happened",
        "info",
        "valid for agreements made in advance; otherwise check the two columns",
    ),
    "zone_shift": Code(
        "events known a few hours before they happened: two time zones",
        "warning",
        "set the table's timezone to that of its times",
    ),
    "late_arrivals": Code(
        "rows that became visible more than a week after they happened",
        "warning",
        "recent days have too few rows: load later, or set known_delay_days",
    ),
    "midnight_instants": Code(
        "times that are all midnight, read as dates",
        "info",
        "map the time of day, or ignore it: a date counts from the next midnight",
    ),
    "mixed_zones": Code(
        "columns with and without time zones",
        "warning",
        "write every time with a zone, or none",
    ),
    "mixed_precision": Code(
        "columns with dates and with times of day",
        "info",
        "nothing: a date counts from the next midnight",
    ),
    "stale_table": Code(
        "no new rows for much longer than usual",
        "error",
        "check the export: missing rows look like inactive accounts",
    ),
    "quiet_table": Code(
        "no new rows for much longer than usual, in a table with rare updates",
        "warning",
        "check that the export still runs",
    ),
    "telemetry_gaps": Code(
        "days on which company-wide usage nearly stops",
        "warning",
        "check the tracking on these days; an outage looks like churn of all accounts",
    ),
    "partial_outage": Code(
        "many accounts become inactive at the same time while others continue",
        "error",
        "check the tracking of these accounts (a region, a version, a tenant): an outage looks "
        "like churn",
    ),
    "activity_on_children": Code(
        "accounts with terms whose activity is recorded on child accounts",
        "error",
        "set roll_up: true under tables.accounts to merge accounts into their topmost parent",
    ),
    "currency_without_rate": Code(
        "amounts in a currency without a rate, treated as unknown",
        "error",
        "add the currency to the rates table, convert in the mapping, or, if it is the only one, "
        "set it as reporting_currency",
    ),
    "currency_missing": Code(
        "amounts without a currency, treated as reporting currency",
        "info",
        "fill the currency column",
    ),
    "overlapping_terms": Code(
        "terms of one subscription that overlap",
        "warning",
        "end a row on the day the next one starts; otherwise revenue counts twice",
    ),
    "idle_accounts": Code(
        "accounts without a single activity",
        "warning",
        "check the join of activity to accounts; otherwise they have insufficient data",
    ),
    "test_accounts": Code(
        "accounts that look like test or demo accounts",
        "warning",
        "map tables.accounts.columns.is_test, for example: name ILIKE '%test%'",
    ),
    "contradicting_churn": Code(
        "accounts with contradicting terms and churn outcomes",
        "error",
        "decide which table is correct and observe the target there",
    ),
    "activity_after_end": Code(
        "accounts still active a month after their last term ended",
        "warning",
        "check ended_on: the end may be recorded for accounts that stayed",
    ),
    "unknown_parents": Code(
        "parents that are unknown, or accounts that are their own parent",
        "info",
        "load the parents as accounts, or leave parent_account_id empty",
    ),
    "unknown_owners": Code(
        "owners missing from the owners table",
        "info",
        "load every CSM into owners",
    ),
    "renewed_into_nothing": Code(
        "terms that ended as renewed or changed without following terms",
        "error",
        "export the terms that followed, or set end_reason to churned where the account left",
    ),
    "lost_on_one_day": Code(
        "many accounts lost on one day",
        "error",
        "if billing moved to another system that day, map both with the same account ids and close "
        "the gap between their terms",
    ),
    "merged_into_unknown": Code(
        "merged terms with an unknown new account: its rise counts as expansion",
        "warning",
        "keep the subscription_id of a subscription that moves to another account",
    ),
    "live_terms_without_arr": Code(
        "active terms without an amount",
        "error",
        "fill arr at the source, or map it from the price and the quantity",
    ),
    "unpaid_accounts": Code(
        "accounts that never paid: the end of their trial or free plan is no loss",
        "info",
        "nothing, if these are trials or free plans; otherwise map their arr",
    ),
    "activity_without_terms": Code(
        "accounts with activity and without subscription",
        "error",
        "export ended subscriptions too: billing systems often delete them",
    ),
    "overwritten_terms": Code(
        "renewal dates that are overwritten in place at each renewal",
        "error",
        "confirm with tables.subscriptions.unfold: year (quarter, month), or set it to off if "
        "these are multi-year contracts",
    ),
    "unfolded_terms": Code(
        "subscriptions split into one row per billing period, as configured",
        "info",
        "nothing",
    ),
    "billing_rows": Code(
        "billing rows read as terms, as configured",
        "info",
        "compare ARR and losses per quarter with finance",
    ),
    "prices_overwritten": Code(
        "subscriptions with the price of today for all their past",
        "warning",
        "export changes of the amount or invoices as well: earlier expansions and contractions "
        "cannot be seen",
    ),
    "unconfirmed_guesses": Code(
        "values of company.yaml that were guessed and not confirmed",
        "warning",
        "correct what is wrong, then run  bellwether confirm FOLDER  or remove the lines",
    ),
    "silent_by_habit": Code(
        "accounts whose usual gap between activity exceeds the horizon",
        "warning",
        "raise horizon_days and cohort.active_within_days above their usual gap, or observe the "
        "outcome in subscriptions",
    ),
    "not_counted": Code(
        "rows that count neither as activity nor as revenue",
        "info",
        "nothing: they are left out",
    ),
    "totals_disagree": Code(
        "totals that do not agree",
        "error",
        "please report this as a bug, and do not use these totals until it is resolved",
    ),
    "capacity_disagrees": Code(
        "the capacities of the CSMs do not add up to that of the team",
        "warning",
        "set serving.capacity_per_month in company.yaml to the accounts the team can work in a "
        "month, or correct owners.capacity, the accounts a CSM can take on in a week",
    ),
    "empty_table": Code(
        "tables without rows",
        "warning",
        "check the export, or remove the table from company.yaml",
    ),
    "absent_tables": Code(
        "tables that are not mapped",
        "info",
        "map them if they exist: each adds signals",
    ),
    "unused_inputs": Code(
        "inputs that no table uses",
        "info",
        "map them, or remove them from company.yaml",
    ),
    **CHANGE_CODES,
    **DRIFT_CODES,
}
