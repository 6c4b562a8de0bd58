"""Database inputs: one module per kind of connection, all read-only."""
