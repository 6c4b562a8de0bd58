"""The /v1 contract over HTTP, and the application the service mounts: one file per group.

Answers are orjson bytes of plain dictionaries; the models of `serving.api.schemas` document them
and are not on the hot path.
"""

from serving.api.app import create_app

__all__ = ["create_app"]
