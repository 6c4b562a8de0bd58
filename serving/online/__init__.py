"""State of the running service, single-account scores and what-if."""
