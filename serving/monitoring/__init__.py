"""Monitoring of the published models: drift, performance and disagreeing totals."""
