"""The model to people and systems: answers, the book, pages, the ledger of every score."""
