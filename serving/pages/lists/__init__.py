"""Lists of accounts: my book, changes, the week, escalations."""
