"""Data sufficiency checks S01 to S05, one per file."""
