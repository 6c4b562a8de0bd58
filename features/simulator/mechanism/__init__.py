"""Accounts, hidden states, hazards and decisions of the simulated company."""
