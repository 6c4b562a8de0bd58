"""Benchmarks of training, explanation and the audit against their peers."""
