"""Commands that the setup pages start on a company folder, and what each of them needs."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from configs.runtime.errors import ConfigError
from serving.http.problems import ProblemError
from serving.setup.children import Child
from serving.setup.desk import Desk

AUDIT, CHECK, RUN, BOOK = "audit", "check", "run", "book"
REPORT = "report"


def child(desk: Desk, name: str) -> Child:
    """Return a command of a desk."""
    return Child(desk.work / "children" / name)


def start_audit(desk: Desk, folder: Path, given: Sequence[Path]) -> None:
    """Start an audit; the files and the report of an earlier one are removed."""
    one = child(desk, AUDIT)
    one.stop()
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in given:
            path.unlink()
    one.start([AUDIT, *map(str, given), "--out", str(folder / REPORT)])


def start_check(desk: Desk) -> None:
    """Start the check of the data; an earlier check of another mapping is stopped."""
    check_company(desk)
    one = child(desk, CHECK)
    one.stop()
    command = [CHECK, str(desk.folder), "--json", *desk.command_options]
    one.start(command, {"company": desk.content})


def check_choice(desk: Desk) -> None:
    """Refuse files and folders where neither is offered.

    Raises
    ------
    ProblemError
        There is no root.
    """
    if not desk.may_choose:
        raise ProblemError(
            "forbidden",
            "this service accepts no files and no folders: BELLWETHER_START_ROOT is not set",
        )


def check_company(desk: Desk) -> None:
    """Refuse a command on a folder without a company.

    Raises
    ------
    ConfigError
        There is no ``company.yaml``.
    """
    if not desk.written:
        raise ConfigError("there is no company.yaml yet", fix="save the mapping first")


def pickable(root: Path) -> list[str]:
    """Return the folders directly below a root, by name."""
    try:
        found = [path.name for path in root.iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted(name for name in found if not name.startswith("."))


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def service_is_ready(port: int) -> bool:
    """Whether the service at a port would answer a request for a score."""
    connection = HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
