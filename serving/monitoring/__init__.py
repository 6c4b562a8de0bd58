"""Drift and performance of the published model, and totals that disagree."""
