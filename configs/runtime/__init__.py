"""Shared by every package: errors, hashing, state directory, database, telemetry switches."""
