"""Training frame, its contract, and time-based splits."""
