"""Snapshots per account and as_of: the grid, point-in-time aggregation and account status."""
