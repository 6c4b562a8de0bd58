"""Reads raw tables: mapping, type parsing, row rules, quarantine and canonical Parquet."""

from features.sources.load import Loaded, TableInfo, load_sources, read_loaded

__all__ = ["Loaded", "TableInfo", "load_sources", "read_loaded"]
