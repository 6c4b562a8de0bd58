"""Errors, hashing, state directory, database and telemetry switches, used by every layer."""
