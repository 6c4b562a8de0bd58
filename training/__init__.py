"""Frames to a trusted model: splits, fits, calibration, judgement, bundles, releases."""
