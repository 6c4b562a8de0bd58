"""The /v1 API, one module per group of routes, and the application that the service mounts.

Answers are orjson bytes of plain dictionaries; the models of `serving.api.schemas` document them
and are not on the hot path.
"""

from serving.api.app import create_app

__all__ = ["create_app"]
