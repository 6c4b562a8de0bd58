"""Validation report for leadership: verdict, evidence and limits, as page and JSON."""
