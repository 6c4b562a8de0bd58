"""The only readers of raw data: mapping, validation, quarantine, canonical Parquet."""

from features.sources.load import Loaded, TableInfo, load_sources, read_loaded

__all__ = ["Loaded", "TableInfo", "load_sources", "read_loaded"]
