"""File formats: CSV, Excel, JSON, ZIP."""
