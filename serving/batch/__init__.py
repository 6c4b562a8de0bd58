"""Score runs over all accounts: scoring, changes, band medians and filters."""
