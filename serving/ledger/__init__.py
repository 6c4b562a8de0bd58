"""Score ledger: every score served, with outcomes, feedback, replay and retention."""
