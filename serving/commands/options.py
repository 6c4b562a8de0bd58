"""Arguments and options that several commands share, and the company they open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from serving.company.company import Company

if TYPE_CHECKING:
    from configs.schema.workspace import Workspace

CompanyArgument = Annotated[
    str, typer.Argument(help="Company folder, or the name of a shipped example.")
]
StateOption = Annotated[
    str | None,
    typer.Option(
        "--state",
        help="State directory, for everything derived from the data. "
        "Default: BELLWETHER_STATE, then ./state/COMPANY.",
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Folder of the raw files. Default: BELLWETHER_DATA, then `data` in company.yaml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
PdfOption = Annotated[
    bool, typer.Option("--pdf", help="Write a PDF as well; needs an installed Chromium.")
]

NO_DATA = "."
"""Data folder of commands that read no raw data."""


def workspace_of(company: str, state: str | None, data: str | None) -> Workspace:
    """Open a company's configuration, data and state."""
    from configs.schema.workspace import open_workspace

    return open_workspace(company, data=data, state=state)


def open_company(
    company: str, state: str | None, data: str | None, progress: Callable[[str], None]
) -> Company:
    """Open a company through the Python API."""
    return Company(workspace_of(company, state, data), progress)
