"""Scores all accounts in one run, and filters the published scores."""
