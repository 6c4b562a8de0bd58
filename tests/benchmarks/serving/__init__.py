"""Benchmarks of the service against its peers."""
