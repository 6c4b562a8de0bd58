"""Leakage checks BW-L01 to BW-L15, one file each."""
