"""From training frames to published models: folds, fitting, checks, gates, reports and releases."""
