"""Routes of the API, one module per kind of request."""
