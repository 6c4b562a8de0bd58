"""Authentication and permissions: API keys, OIDC and proxy sign-in, roles and rate limits."""
