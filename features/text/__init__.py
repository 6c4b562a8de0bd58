"""Text of tickets, survey comments and notes: language, sentiment, themes, masked snippets."""
