"""ZIP files as inputs: the files inside are unpacked into the work folder.

A nested or encrypted ZIP file is refused, and so is one that would grow beyond all measure.
"""

from __future__ import annotations

import errno
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from configs.runtime.errors import SourceError

ENDING = ".zip"
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".bz2", ".xz")
MAX_FILES = 10_000
MAX_BYTES = 100 * 2**30
MAX_RATIO = 250
"""Compression beyond which a large file is a ZIP bomb: tables rarely exceed a factor of 50."""
SMALL = 200 * 2**20
"""Bytes up to which any compression is accepted."""


def unpack(path: Path, folder: Path) -> list[Path]:
    """Unpack the files of a ZIP file, and return their paths.

    Folders named ``key=value`` are kept in the paths, because they are partition columns.

    Parameters
    ----------
    path : Path
        The ZIP file.
    folder : Path
        Empty folder for the files.

    Raises
    ------
    SourceError
        The file is damaged, empty, encrypted or nested, or a ZIP bomb.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            return [_extract(archive, item, folder / str(n)) for n, item in enumerate(members)]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a position before the beginning of the file
            raise _damaged(path, error) from error
        raise
    except NotImplementedError as error:
        raise SourceError(
            f"{path.name} uses a compression that is not read: {error}",
            where=str(path),
            fix="compress it again with the common method (deflate), or unpack it",
        ) from error


def check_archive(path: Path) -> None:
    """Refuse a ZIP file, or a workbook, that cannot be read or would grow beyond all measure.

    Only the directory of the archive is read.

    Raises
    ------
    SourceError
        As in `unpack`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if path.name.lower().endswith(ENDING):
                _members(archive, path)
            else:
                _check_size(archive, path)
    except (zipfile.BadZipFile, EOFError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path.name} is not a readable ZIP file, or is truncated: {error}",
        where=str(path),
        fix="copy or export it again; `unzip -t FILE` tests it",
    )


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the data files of an archive after all checks, by name."""
    found = [item for item in archive.infolist() if not _is_hidden(item)]
    _check_size(archive, path)
    inner = next((i.filename for i in found if i.filename.lower().endswith(ARCHIVES)), None)
    if inner is not None:
        raise _refused(path, f"has another archive inside: {inner}", "unpack it")
    if any(item.flag_bits & 1 for item in found):
        raise _refused(path, "is protected by a password", "save it without one")
    if not found:
        raise _refused(path, "has no file inside", "export it again")
    return sorted(found, key=lambda item: item.filename)


def _is_hidden(item: zipfile.ZipInfo) -> bool:
    """Whether a member is a folder, or a file that an operating system or Spark added."""
    name = PurePosixPath(item.filename)
    return item.is_dir() or name.parts[0] == "__MACOSX" or name.name.startswith((".", "_"))


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    size = sum(item.file_size for item in members)
    packed = max(1, path.stat().st_size)
    if len(members) > MAX_FILES:
        raise _refused(
            path, f"has {len(members):,} files; up to {MAX_FILES:,} are read", "split it"
        )
    if size > MAX_BYTES or (size > SMALL and size > MAX_RATIO * packed):
        raise _refused(
            path,
            f"would grow from {packed:,} to {size:,} bytes and may be a ZIP bomb",
            "unpack it yourself if you trust it, and name the files inside",
        )


def _refused(path: Path, why: str, fix: str) -> SourceError:
    return SourceError(f"{path.name} {why}", where=str(path), fix=fix)


def _extract(archive: zipfile.ZipFile, item: zipfile.ZipInfo, folder: Path) -> Path:
    """Write one file; of its path only the name and the partitions are used."""
    name = PurePosixPath(item.filename.replace("\\", "/"))
    target = folder.joinpath(*(part for part in name.parts[:-1] if "=" in part), name.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    # `zipfile` reads no more bytes than the directory of the archive states, and checks the CRC.
    with archive.open(item) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    return target
