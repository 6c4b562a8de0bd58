"""Raw tables to canonical Parquet: reading, mapping, validation and quarantine."""

from features.sources.load import load_sources
from features.sources.loaded_tables import Loaded, TableInfo, read_loaded

__all__ = ["Loaded", "TableInfo", "load_sources", "read_loaded"]
