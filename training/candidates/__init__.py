"""Trains one candidate model per target, runs the checks on it and applies the gates."""
