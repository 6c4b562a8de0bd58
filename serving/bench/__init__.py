"""The benchmarks of the house, beside their peers in one run: ``python -m serving.bench``."""
