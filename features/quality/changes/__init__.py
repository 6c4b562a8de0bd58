"""Changes within the history of a table that are faults of the data, not of the accounts."""
