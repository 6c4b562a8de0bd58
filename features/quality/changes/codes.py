"""Codes of changes within the history of a table."""

from __future__ import annotations

from features.quality.code import Code

CHANGE_CODES: dict[str, Code] = {
    "missing_partition": Code(
        "days or months without rows in a table with regular rows",
        "warning",
        "load these days again, for example by exporting them once more; missing rows look like "
        "inactive accounts",
    ),
    "late_partition": Code(
        "the last days or months of a table are missing or incomplete",
        "error",
        "wait for the export, or run it again, before scoring: the newest activity is missing",
    ),
    "value_renamed": Code(
        "a value that is renamed overnight",
        "error",
        "map both names to one value with CASE WHEN … THEN … END; otherwise the use of one seems "
        "to stop and that of another to start",
    ),
    "value_vanished": Code(
        "a common value without rows from one day on",
        "warning",
        "check whether it was retired, or its tracking is broken",
    ),
    "new_value": Code(
        "a new value in many rows from one day on",
        "info",
        "check its meaning: it counts as any other value",
    ),
    "unit_change": Code(
        "numbers whose unit changes overnight",
        "error",
        "convert the new values to the old unit in the mapping with CASE WHEN … THEN … END",
    ),
    "scale_change": Code(
        "values outside their range from one day on: another scale",
        "error",
        "convert the new values to the old scale in the mapping with CASE WHEN … THEN … END",
    ),
    "zone_change": Code(
        "times whose time zone changes overnight",
        "error",
        "convert the new times in the mapping, or export all times with a zone",
    ),
    "bulk_reload": Code(
        "old rows that became known on one day: a bulk reload moved known_at",
        "error",
        "map known_at to the time the row first became known, for example min(loaded_at) per row; "
        "until then these rows are invisible before that day",
    ),
    "column_stops": Code(
        "a column without values from one day on",
        "error",
        "correct the export or the mapping of the column, and load these days again",
    ),
    "column_starts": Code(
        "a column without values before one day",
        "info",
        "nothing, if it was introduced then: its features are missing before",
    ),
    "delivered_twice": Code(
        "rows delivered twice at different times, counted twice",
        "error",
        "map event_id so that each event counts once, or load each row once: SELECT DISTINCT "
        "without known_at",
    ),
    "same_identity": Code(
        "accounts with the same name, domain or billing id under two ids",
        "warning",
        "if they are one account, map both ids to one; if one belongs to the other, map "
        "parent_account_id",
    ),
    "account_id_changed": Code(
        "accounts that continue under another id",
        "error",
        "map the old id to the new one in every table, or end its terms with end_reason merged; "
        "otherwise it counts as lost and the other one as new",
    ),
}
