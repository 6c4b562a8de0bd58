"""The small company of the tests of sources, for the tests of its data quality."""

from tests.features.sources.conftest import *  # noqa: F403
