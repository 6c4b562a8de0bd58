"""Ready-made tables: one row per account, or per account and as_of, with a label column."""
