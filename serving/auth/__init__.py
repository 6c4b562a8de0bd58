"""Who may call: API keys, OIDC sign-in, roles and permissions."""
