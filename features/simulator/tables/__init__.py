"""Source tables of the simulated company, one module per group of tables."""
