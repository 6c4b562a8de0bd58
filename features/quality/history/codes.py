"""Codes of changes between two loads."""

from __future__ import annotations

from features.quality.code import Code

DRIFT_CODES: dict[str, Code] = {
    "table_gone": Code(
        "tables of the load before that are missing",
        "error",
        "check the export of the table; if it was removed on purpose, nothing",
    ),
    "column_gone": Code(
        "columns of the load before that are missing",
        "error",
        "check whether the column was renamed, and map it under tables.<table>.columns, for "
        "example: quantity: minutes_used",
    ),
    "column_new": Code("columns that the load before did not have", "info", "nothing"),
    "type_changed": Code(
        "columns whose type in the source changed since the load before",
        "warning",
        "check some values; convert them in the mapping, for example: quantity: CAST(quantity AS "
        "DOUBLE)",
    ),
    "more_missing": Code(
        "columns with many more missing values than at the load before",
        "error",
        "check the export of the column, and load the table again",
    ),
    "values_moved": Code(
        "numbers whose median changed by a factor since the load before, past rows included",
        "error",
        "check the unit of the export; convert it in the mapping, for example: quantity: quantity "
        "/ 60",
    ),
    "values_replaced": Code(
        "common values of the load before that no row has any more",
        "error",
        "map the new names to the old ones with CASE WHEN … THEN … END, or check the export",
    ),
    "table_shrank": Code(
        "tables with fewer rows than at the load before",
        "error",
        "load the whole table, including former and deleted rows; a partial export looks like "
        "losses",
    ),
    "history_rewritten": Code(
        "past months with another number of rows than at the load before",
        "warning",
        "check whether the source deletes or reloads old rows; features of the past change with "
        "them",
    ),
    "accounts_renamed": Code(
        "accounts with another name than at the load before", "info", "nothing: the id counts"
    ),
    "ids_replaced": Code(
        "accounts of the load before that now have another id",
        "error",
        "map the new ids to the old ones in every table; otherwise all of them count as lost and "
        "as new",
    ),
    "accounts_gone": Code(
        "accounts of the load before that are missing",
        "error",
        "export all accounts, including former ones: a model of the remaining ones is wrong",
    ),
}
