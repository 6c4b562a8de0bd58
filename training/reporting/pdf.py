"""PDF of a report, printed by an installed browser without network access."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from configs.runtime.errors import UnavailableError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
"""Browsers that can print; the first one found is used."""

SECONDS = 120

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-pdf-header-footer",
)


def print_pdf(page: Path, seconds: float = SECONDS) -> Path:
    """Print a page to PDF in the same folder, and return the file.

    Parameters
    ----------
    page : Path
        A self-contained HTML file.
    seconds : float
        Timeout of the browser.

    Raises
    ------
    UnavailableError
        No browser is installed, or it did not print.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise UnavailableError(
            "no installed browser can print PDF",
            where=", ".join(BROWSERS),
            fix=f"install Chromium, or open {page} in a browser and print it",
        )
    target = page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "page.pdf"
        # Without user namespaces, as root in a container, Chromium does not start in its sandbox.
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
        command = [browser, *FLAGS, *sandbox, f"--user-data-dir={folder}/profile"]
        command += [f"--print-to-pdf={made}", page.resolve().as_uri()]
        try:
            done = subprocess.run(  # noqa: S603  our own arguments
                command, capture_output=True, timeout=seconds, check=False, text=True
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"the browser did not print within {seconds:.0f} s", where=browser
            ) from error
        if not made.is_file():
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise UnavailableError(f"the browser did not print: {last[0][:200]}", where=browser)
        aside = target.with_name(f".{target.name}.new")
        shutil.copyfile(made, aside)
        aside.replace(target)
    return target
