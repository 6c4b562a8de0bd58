"""Leakage checks L01 to L15, one per file."""
