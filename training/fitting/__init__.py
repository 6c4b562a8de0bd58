"""Fits models: baselines, LightGBM, tuning, calibration, nested cross-validation."""
