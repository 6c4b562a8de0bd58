"""Definitions of the source tables, daily tables, point-in-time rules and the DuckDB engine."""
