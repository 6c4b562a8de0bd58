"""The training frame, its contract, and time-based splits."""
