"""Source tables of the simulated company, one module per table family."""
