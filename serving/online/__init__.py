"""State of a running service process: single scores, batches, score jobs and what-if."""
