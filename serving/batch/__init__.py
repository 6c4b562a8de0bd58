"""Scores a whole portfolio of accounts, as a run or as a job over the API."""
