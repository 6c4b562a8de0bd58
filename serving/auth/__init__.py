"""API keys, sign-in, roles, permissions and rate limits."""
