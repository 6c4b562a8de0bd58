"""Freshness, drift and performance of the published models, and totals that disagree."""
