"""Types of the /v1 contract, one module per group of routes.

Request bodies are pydantic models, which validate them. Answers are TypedDicts: they are built as
plain dictionaries, checked by mypy, and described in OpenAPI without validation at run time.
"""
