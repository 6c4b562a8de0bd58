"""Every score served, with outcomes, feedback, replay and retention."""
