"""Rows that do not count and values that cannot be read: rules, remedies, forgotten persons."""
