"""Parsers of text columns: dates, numbers, flags and categories."""
