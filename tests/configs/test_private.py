"""What is derived is readable to its owner only, and a killed run leaves nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import configs.runtime.state_directory
from configs.runtime.state_directory import State, keep_private, new_folder, sweep_work, work_folder

ROOT = Path(configs.runtime.state_directory.__file__).resolve().parents[2]

HOLD = """
import sys, time
from pathlib import Path
from configs.runtime.state_directory import {function} as hold
with hold({arguments}) as folder:
    (folder / "half").write_text("written")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def working(function: str, arguments: str) -> Iterator[Path]:
    """Work in a process of its own, killed at the end; yield the folder it works in."""
    code = HOLD.format(function=function, arguments=arguments)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip())
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_state_left_open_by_an_earlier_version_is_closed(tmp_path, mask):
    root = tmp_path / "state"
    inner = root / "ledger"
    inner.mkdir(parents=True)
    for name in ("scores.db", "scores.db-wal", "scores.db-shm"):
        (inner / name).write_text("")
    (inner / "run.sh").write_text("")
    (inner / "run.sh").chmod(0o755)
    outside = tmp_path / "theirs"
    outside.write_text("")
    (root / "link").symlink_to(outside)
    keep_private(root)
    assert {mode(path) for path in inner.iterdir()} == {0o600, 0o700}
    assert mode(inner / "scores.db-wal") == 0o600
    assert (mode(root), mode(inner)) == (0o700, 0o700)
    assert mode(outside) == 0o644, "what a link leads to is not ours"


def test_what_is_written_from_then_on_is_private(tmp_path, mask):
    root = tmp_path / "state"
    keep_private(root)
    with State(root).lock("test"), new_folder(root / "scores" / "run", {}) as folder:
        (folder / "part.csv").write_text("")
        (folder / "deep").mkdir()
    found = [root, *root.rglob("*")]
    assert len(found) >= 6
    for path in found:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    ("function", "name"), [("work_folder", ".work."), ("new_folder", ".accounts.")]
)
def test_the_folder_of_a_killed_run_is_removed_by_the_next(tmp_path, function, name):
    arguments = f"Path({str(tmp_path)!r}), '.work.'"
    if function == "new_folder":
        arguments = f"Path({str(tmp_path / 'accounts')!r}), {{}}"
    with working(function, arguments) as folder:
        assert folder.name.startswith(name)
        begin_again(tmp_path, function)
        assert (folder / "half").is_file(), "a live run keeps its folder"
    assert (folder / "half").is_file(), "nothing ran in the meantime"
    begin_again(tmp_path, function)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(name)] == []


def begin_again(parent: Path, function: str) -> None:
    if function == "new_folder":
        with new_folder(parent / "accounts", {}):
            pass
    else:
        with work_folder(parent, ".work."):
            pass


def test_what_merely_looks_alike_is_left(tmp_path):
    kept = [".work.", ".work.a", ".work.abcdefghi", ".works.abcdefgh", "x.work.abcdefgh"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / ".work.file5678").write_text("")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".work.link5678").symlink_to(elsewhere)
    (tmp_path / ".work.left5678").mkdir()
    sweep_work(tmp_path, ".work.")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*kept, ".work.file5678", ".work.link5678", "elsewhere"]
    )


def test_what_spilled_to_disk_goes_with_the_next_lock(tmp_path):
    state = State(tmp_path)
    state.scratch.mkdir()
    (state.scratch / "duckdb_temp_storage-0.tmp").write_text("")
    with state.lock("test"):
        assert not state.scratch.exists()
