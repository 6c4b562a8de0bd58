"""Training frame, its contract, the join with labels, and folds in time."""
