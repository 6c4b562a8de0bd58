"""Companies of vendor exports."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.features.sources.proposal.vendor_exports import VendorCompany


@pytest.fixture(scope="session")
def vendor_company(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], VendorCompany]:
    """Return the company of a fixture folder, proposed once per session."""

    @cache
    def make(folder: str) -> VendorCompany:
        return VendorCompany(folder, tmp_path_factory.mktemp(folder))

    return make
