"""Stability checks BW-T01 and BW-T02, one file each."""
