"""Data sufficiency checks BW-S01 to BW-S05, one file each."""
