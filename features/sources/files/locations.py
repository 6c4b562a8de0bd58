"""Files of an input: names, patterns, lists, folders and object stores; identity and copies."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from configs.runtime.errors import ConfigError, SourceError, did_you_mean
from configs.runtime.hashing import digest, file_digest
from configs.schema.source_mapping import Input
from features.sources.files.formats import zip_files
from features.sources.files.object_stores import (
    STORES,
    WILDCARDS,
    StoredFile,
    copy_stored,
    find_stored,
    is_stored,
)
from features.sources.manifest import FileFacts, Fingerprint

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""Value of a partition folder for rows without a value."""

PARTITION = "="


def local_files(data: Path, name: str, item: Input) -> list[Path]:
    """Return the files of an input on disk, in the order of its list, patterns sorted.

    Raises
    ------
    SourceError
        A file does not exist; the error names the closest one in its folder.
    """
    patterns = [text for text in item.files if not is_stored(text)]
    return list(dict.fromkeys(path for text in patterns for path in _matches(data, name, text)))


def stored_files(name: str, item: Input) -> list[StoredFile]:
    """Return the files of an input in object stores, in the order of its list."""
    addresses = [text for text in item.files if is_stored(text)]
    return list(dict.fromkeys(file for text in addresses for file in find_stored(name, text)))


def _matches(data: Path, name: str, pattern: str) -> list[Path]:
    if "://" in pattern:
        raise ConfigError(
            f"input {name} has an address that is not read: {pattern.partition('://')[0]}://",
            where=f"inputs.{name}.file in company.yaml",
            fix="addresses read: " + ", ".join(f"{scheme}://" for scheme in STORES),
        )
    path = data / pattern
    if path.is_file():
        return [path]
    found: list[Path] = []
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(path))]
    elif any(mark in pattern for mark in WILDCARDS):
        texts = glob.glob(pattern, root_dir=data, recursive=True)  # noqa: PTH207  absolute ones, too
        found = [data / text for text in texts if (data / text).is_file()]
        found = [file for file in found if not file.name.startswith("~$")]  # locks of Excel
    if found:
        return sorted(found)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    raise SourceError(
        f"the file of input {name} does not exist" + (f"; {hint}" if hint else ""),
        where=str(path),
        fix="correct `inputs` in company.yaml, or name the data folder with --data FOLDER",
    )


def _is_hidden(path: Path) -> bool:
    """Whether a file in a folder is no data: of an operating system, of Excel or of Spark."""
    return any(part.startswith((".", "_", "~$")) for part in path.parts)


def partitions_of(path: Path | str) -> dict[str, str | None]:
    """Return the partition columns of a path: folders named ``key=value``.

    >>> partitions_of("events/date=2026-01-01/region=007/part.parquet")
    {'date': '2026-01-01', 'region': '007'}
    """
    found: dict[str, str | None] = {}
    for part in Path(path).parts[:-1]:
        key, mark, value = part.partition(PARTITION)
        if mark and key:
            found[key] = None if value == NO_VALUE else unquote(value)
    return found


def common_partitions(name: str, files: Sequence[Path]) -> list[str]:
    """Return the partition columns of files, which must be the same for all.

    Raises
    ------
    SourceError
        The folders of two files name different columns.
    """
    first = list(partitions_of(files[0]))
    for path in files:
        keys = list(partitions_of(path))
        if keys != first:
            raise SourceError(
                f"the folders of input {name} have different partitions: {first} and {keys}",
                where=str(path),
                fix="name folders of one level alike, as in date=2026-01-01",
            )
    return first


def files_fingerprint(
    data: Path, name: str, item: Input, known: Mapping[str, Fingerprint]
) -> Fingerprint:
    """Return the identity of the content of an input's files.

    Files on disk with the same size and modification time as in the last run, and files in object
    stores, are not read.
    """
    earlier = known[name].get("files", []) if name in known else []
    before = {file["file"]: file for file in earlier}
    files = [
        _file_facts(path, data, before.get(_relative(path, data)))
        for path in local_files(data, name, item)
    ]
    for stored in stored_files(name, item):
        size, version = stored.size, stored.version
        files.append({"file": stored.url, "size": size, "mtime_ns": 0, "sha256": version})
    # A file that moves to another partition changes its rows.
    parts = [[file["sha256"], partitions_of(file["file"])] for file in files]
    return {"content": digest(parts, item.sheet), "files": files}


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _file_facts(path: Path, folder: Path, before: FileFacts | None) -> FileFacts:
    stat = path.stat()
    if before is not None and (before["size"], before["mtime_ns"]) == (
        stat.st_size,
        stat.st_mtime_ns,
    ):
        return before
    return {
        "file": _relative(path, folder),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_digest(path),
    }


def copy_all_stored(name: str, files: Sequence[StoredFile], folder: Path) -> list[Path]:
    """Copy files from object stores into a folder; return the copies."""
    return [copy_stored(name, file, folder / f"stored_{n}") for n, file in enumerate(files)]


def unpacked(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return files with each ZIP file replaced by the files inside it."""
    found: list[Path] = []
    for number, path in enumerate(files):
        if path.name.lower().endswith(zip_files.ENDING):
            outer = [part for part in path.parts[:-1] if PARTITION in part]
            found += zip_files.unpack(path, folder.joinpath(f"zip_{number}", *outer))
        else:
            found.append(path)
    return found
