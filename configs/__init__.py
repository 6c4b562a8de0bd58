"""Configuration of a company, and the runtime that every layer uses: errors, state, database."""
