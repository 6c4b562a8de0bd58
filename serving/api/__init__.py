"""The /v1 API, one module per group of routes, and the application that the service mounts.

Answers are orjson bytes of typed dictionaries; the types also describe them in OpenAPI.
"""

from serving.api.app import create_app

__all__ = ["create_app"]
