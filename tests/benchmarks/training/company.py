"""The simulated company that benchmarks share: made once per size, kept in their folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from configs.runtime.state_directory import State
from configs.schema.company import Company, load_company
from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild, build_features

COMPANY = Path(__file__).parents[3] / "configs" / "companies" / "simulated"
DONE = ".whole"

Progress = Callable[[str], None]


def simulated(
    folder: Path,
    accounts: int,
    months: int,
    progress: Progress = lambda _: None,
    company: Company | None = None,
) -> tuple[Workspace, FeatureBuild]:
    """Return a simulated company of some size with its features, labels and a filled store.

    Nothing is made again that lies in `folder` already. Its configuration is the shipped one,
    unless another is given.
    """
    from features.simulator import simulate, write_tables

    company = company or load_company(COMPANY)
    root = folder.resolve() / f"company-{accounts}x{months}"
    data = root / "data"
    if not (data / DONE).exists():
        progress(f"simulating {accounts:,} accounts over {months} months")
        write_tables(simulate(n_accounts=accounts, months=months), data)
        (data / DONE).touch()
    workspace = Workspace(company, COMPANY, data, State(root / "state"))
    return workspace, build_features(workspace, company.clock(), progress)
