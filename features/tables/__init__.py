"""Source-table definitions, daily tables, point-in-time rules, catalogue and DuckDB engine."""
