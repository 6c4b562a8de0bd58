"""Billing rows of any shape as contract terms: periods, months, amounts."""
