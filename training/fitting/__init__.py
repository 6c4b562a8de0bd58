"""Fits models: baselines, LightGBM, tuning, calibration and nested cross-validation."""
