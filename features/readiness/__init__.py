"""Readiness of today's data for a refresh: what arrived, what changed, and the decision."""
