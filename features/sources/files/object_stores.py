"""Files in object stores (Amazon S3, Google Cloud Storage, Azure Blob Storage), copied to be read.

Credentials come from the environment, as the library of each store documents; none is read from
``company.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from configs.runtime.errors import ConfigError, SourceError, UnavailableError
from configs.runtime.hashing import digest
from features.sources.files.secrets import without_secrets

STORES = {"s3": "s3", "gs": "gcs", "az": "azure"}
"""Scheme → extra that installs its library."""

WILDCARDS = "*?["


@dataclass(frozen=True)
class StoredFile:
    """One file in an object store.

    Attributes
    ----------
    url : str
        Address with scheme.
    size : int
        Bytes.
    version : str
        Identity of the content: changes when the file is written again.
    """

    url: str
    size: int
    version: str


def is_stored(text: str) -> bool:
    """Whether a path is the address of an object store.

    >>> is_stored("s3://bucket/usage/*.parquet"), is_stored("usage/a.csv")
    (True, False)
    """
    return text.partition("://")[0] in STORES and "://" in text


def find_stored(name: str, address: str) -> list[StoredFile]:
    """Return the files of an address, sorted: a file, a pattern or a folder.

    Raises
    ------
    ConfigError
        The library of the store is not installed, or the address has credentials.
    SourceError
        No such file exists.
    UnavailableError
        The store refuses or does not answer.
    """
    scheme, _, rest = address.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ConfigError(
            f"the address of input {name} has credentials in it",
            where=f"inputs.{name}.file in company.yaml",
            fix="remove them; credentials are read from the environment",
        )
    store = _store(name, scheme)
    with _store_errors(name, address):
        store.invalidate_cache()
        if any(mark in rest for mark in WILDCARDS):
            found = store.glob(rest, detail=True)
        elif store.isfile(rest):
            found = {rest: store.info(rest)}
        else:
            found = store.find(rest, detail=True)
    files = [
        StoredFile(f"{scheme}://{path.lstrip('/')}", int(info["size"]), _version(info))
        for path, info in sorted(found.items())
        if info["type"] == "file" and not _is_hidden(path.removeprefix(rest))
    ]
    if not files:
        raise SourceError(
            f"the file of input {name} does not exist",
            where=address,
            fix="correct `inputs` in company.yaml, or grant the right to list the folder",
        )
    return files


def copy_stored(name: str, file: StoredFile, folder: Path) -> Path:
    """Copy a file into a folder, with its partitions (``key=value``) in the path.

    Raises
    ------
    SourceError
        The copy is shorter or longer than the file.
    UnavailableError
        The store refuses or does not answer.
    """
    scheme, _, rest = file.url.partition("://")
    *above, last = rest.split("/")
    target = folder.joinpath(*(part for part in above if "=" in part), last)
    target.parent.mkdir(parents=True, exist_ok=True)
    store = _store(name, scheme)
    with _store_errors(name, file.url):
        store.get_file(rest, str(target))
    size = target.stat().st_size
    if size != file.size:
        raise SourceError(
            f"{last} was copied incompletely or changed meanwhile: {size:,} of {file.size:,} bytes",
            where=file.url,
            fix="run the same command again",
        )
    return target


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _version(info: dict[str, Any]) -> str:
    """Return the identity of a version: the tag of the store where it has one, or size and time."""
    tag = next((info[k] for k in ("ETag", "etag", "md5Hash", "content_md5") if info.get(k)), None)
    if tag is not None:
        return digest(str(tag), info["size"], length=64)
    times = [info.get(k) for k in ("LastModified", "last_modified", "updated", "mtime", "created")]
    return digest([str(item) for item in times], info["size"], length=64)


def _store(name: str, scheme: str) -> Any:
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise ConfigError(
            f"input {name} is in an object store ({scheme}://), whose library is not installed",
            where=f"inputs.{name}.file in company.yaml",
            fix=f"pip install 'bellwether-cs[{STORES[scheme]}]'",
        ) from error
    except Exception as error:
        raise _refused(name, f"{scheme}://", error) from None


@contextmanager
def _store_errors(name: str, address: str) -> Iterator[None]:
    """Convert the errors of a store, whose classes differ between libraries."""
    try:
        yield
    except FileNotFoundError:
        raise SourceError(
            f"the file of input {name} does not exist",
            where=address,
            fix="correct `inputs` in company.yaml",
        ) from None
    except Exception as error:
        # Not chained: messages of drivers may repeat credentials.
        raise _refused(name, address, error) from None


def _refused(name: str, address: str, error: Exception) -> UnavailableError:
    message = without_secrets(f"{type(error).__name__}: {error}")
    return UnavailableError(
        f"the store of input {name} does not answer or refuses: {message}",
        where=address,
        fix="check the network and the credentials in the environment: AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY or AWS_PROFILE (s3), GOOGLE_APPLICATION_CREDENTIALS (gs), "
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (az)",
    )
