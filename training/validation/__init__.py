"""Validation: does a health score predict, theirs and ours, and the report that says so."""
