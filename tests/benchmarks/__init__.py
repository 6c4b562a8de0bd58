"""Benchmarks against peers; not shipped."""
