"""One company, opened: its configuration, its raw data, its state directory and its environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State, keep_private
from configs.schema.company import Company, company_folder, load_company
from configs.schema.settings import Environment as Environment
from configs.schema.settings import Locations


@dataclass(frozen=True)
class Workspace:
    """One company with its data, its state and its environment: the input of every step.

    Attributes
    ----------
    company : Company
        The configuration.
    folder : Path
        The company folder.
    data : Path
        Where the raw files lie.
    state : State
        Where everything derived lies.
    places : Environment
        Addresses and secrets of other systems.
    """

    company: Company
    folder: Path
    data: Path
    state: State
    places: Environment = field(default_factory=Environment)


def open_workspace(
    company: str | Path, *, data: str | Path | None = None, state: str | Path | None = None
) -> Workspace:
    """Open a company.

    Parameters
    ----------
    company : str or Path
        A company folder, or the name of a shipped example.
    data : str or Path, optional
        Folder of the raw files; default ``BELLWETHER_DATA``, then ``data`` in company.yaml.
    state : str or Path, optional
        State directory; default ``BELLWETHER_STATE``, then ``./state/<company>``.

    Raises
    ------
    ConfigError
        The company, its configuration or its data folder cannot be found or read.
    """
    folder = company_folder(str(company))
    loaded = load_company(folder)
    folder = folder.parent if folder.is_file() else folder
    chosen = state or Locations.from_environment().state
    root = Path(chosen) if chosen else Path("state") / loaded.name
    keep_private(root)
    return Workspace(
        company=loaded,
        folder=folder,
        data=data_folder(loaded, folder, str(data) if data else None),
        state=State(root.absolute()),
        places=Environment.from_environment(),
    )


def data_folder(company: Company, folder: Path, override: str | None) -> Path:
    """Resolve the folder of the raw files: the option, then the environment, then the YAML."""
    chosen = override or Locations.from_environment().data
    path = Path(chosen or company.data).expanduser()
    resolved = path if chosen or path.is_absolute() else folder / path
    if any(item.has_local_files for item in company.inputs.values()) and not resolved.is_dir():
        raise ConfigError(
            "the data folder does not exist",
            where=str(resolved),
            fix="name it with --data FOLDER or BELLWETHER_DATA=FOLDER",
        )
    return resolved
