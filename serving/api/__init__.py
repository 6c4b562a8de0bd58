"""HTTP API /v1, one module per group of operations, and the application that is mounted.

Answers are orjson bytes of plain dictionaries; the models of `serving.api.schemas` document them
and are not on the hot path.
"""

from serving.api.app import create_app

__all__ = ["create_app"]
