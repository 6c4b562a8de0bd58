"""The small company of the tests of sources, for the tests of the table contract."""

from tests.features.sources.conftest import *  # noqa: F403
