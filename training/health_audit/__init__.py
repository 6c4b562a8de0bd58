"""Audit of an existing health score from two files, without training a model."""
