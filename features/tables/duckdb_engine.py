"""DuckDB engine that runs feature declarations out of core with bounded memory."""

from __future__ import annotations

from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend


def connect(scratch: Path, *, threads: int = 2, memory: str = "8GB") -> Backend:
    """Return an in-memory DuckDB engine that spills to `scratch` and uses UTC."""
    scratch.mkdir(parents=True, exist_ok=True)
    engine = ibis.duckdb.connect(
        threads=threads,
        memory_limit=memory,
        temp_directory=str(scratch),
        extension_directory=None,
        autoinstall_known_extensions=False,
        autoload_known_extensions=False,
    )
    engine.raw_sql("SET TimeZone = 'UTC'")
    engine.raw_sql("SET preserve_insertion_order = false")
    return engine
