"""A company with markers, run once per test session."""

from __future__ import annotations

import pytest
import yaml

import bellwether
from configs.schema.company import SHIPPED
from tests.serving.privacy.marked_company import QUICK, MarkedCompany, call, mark


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> MarkedCompany:
    """160 simulated accounts: simulated, marked, and run from raw files to the report."""
    root = tmp_path_factory.mktemp("marked")
    bellwether.simulate(root / "data", accounts=160, months=24)
    mark(root / "data")
    config = yaml.safe_load((SHIPPED / "simulated" / "company.yaml").read_text())
    config |= {"grid": {"every": "month", "start_on": "2025-07-01"}, "training": QUICK}
    (root / "company.yaml").write_text(yaml.safe_dump(config))
    company = MarkedCompany(root)
    code, printed = call("run", *company.options)
    assert code == 0, printed
    return company
