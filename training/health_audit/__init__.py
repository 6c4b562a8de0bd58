"""The audit of a score a company already has, from two files and without any training."""
