"""The validation report for leadership."""
