"""Raw tables to canonical Parquet: reading, mapping, validation and quarantine."""

from features.sources.load import Loaded, TableInfo, load_sources, read_loaded

__all__ = ["Loaded", "TableInfo", "load_sources", "read_loaded"]
