"""Tables of the ledger: scores, outcomes, feedback, and the one writer."""
