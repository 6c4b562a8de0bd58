"""Trains one candidate model per target, runs the checks on it, and decides if it may serve."""
