"""Training: frames, splits, fits, calibration, evaluation, gates, bundles, releases."""
