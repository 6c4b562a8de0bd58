"""Stability checks T01 and T02, one per file."""
