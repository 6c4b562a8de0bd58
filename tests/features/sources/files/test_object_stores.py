"""Files in object stores: the reader's own code over a file system in memory."""

from __future__ import annotations

import gzip
import io
import sys
from importlib import import_module

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from configs.runtime.errors import ConfigError, SourceError, UnavailableError
from features.sources.files import object_stores, secrets

REGISTRY = import_module("fsspec.registry")  # `fsspec.registry` is also the name of a mapping
HEADER = "account_id,occurred_at,feature\n"


class Store(MemoryFileSystem):
    """A bucket in memory, with tags as S3 has, that counts what is copied."""

    protocol = "s3"
    store: dict = {}  # noqa: RUF012  shared by all instances, as in its base
    pseudo_dirs = [""]  # noqa: RUF012
    copied: list = []  # noqa: RUF012

    def get_file(self, rpath, lpath, **keys):
        self.copied.append(rpath)
        super().get_file(rpath, lpath, **keys)


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setattr(REGISTRY, "_registry", {**REGISTRY._registry, "s3": Store})
    monkeypatch.setattr(REGISTRY, "registry", REGISTRY._registry)
    Store.clear_instance_cache()
    Store.store.clear()
    Store.pseudo_dirs[:] = [""]
    Store.copied.clear()
    return Store()


def put(bucket, path, content):
    bucket.pipe_file(f"/bucket/{path}", content if isinstance(content, bytes) else content.encode())


def load(small, file, **rest):
    return small.load({"usage_events": None}, inputs={"usage_events": file}, **rest).tables[
        "usage_events"
    ]


def test_a_file_a_pattern_and_a_folder(small, rows, bucket):
    put(bucket, "usage/a.csv", HEADER + "A1,2024-03-01,a\n")
    put(bucket, "usage/b.csv", HEADER + "A1,2024-03-02,b\nbroken\n")
    put(bucket, "usage/_SUCCESS", "")
    for address, found in (("usage/a.csv", "a"), ("usage/*.csv", "ab"), ("usage", "ab")):
        info = load(small, f"s3://bucket/{address}")
        assert "".join(sorted(row["feature"] for row in rows(info.path))) == found
    assert info.read["lines"]["usage_events"] == {"total": 3, "kept": 2, "set_aside": 1}


def test_partitions_and_compressed_files_next_to_local_ones(small, rows, bucket):
    parquet = io.BytesIO()
    pq.write_table(pa.table({"account_id": ["A1"], "feature": ["p"]}), parquet)
    for n in (1, 2):
        put(bucket, f"events/day=2024-03-0{n}/x.parquet", parquet.getvalue())
    tables = {"usage_events": {"columns": {"occurred_at": "day"}}}
    info = load(small, "s3://bucket/events/*/*.parquet", tables=tables)
    assert sorted(row["occurred_at"].day for row in rows(info.path)) == [1, 2]
    put(bucket, "u.csv.gz", gzip.compress((HEADER + "A1,2024-03-01,z\n").encode()))
    (small.data / "local.csv").write_text(HEADER + "A1,2024-03-02,l\n")
    info = load(small, ["s3://bucket/u.csv.gz", "local.csv"])
    assert sorted(row["feature"] for row in rows(info.path)) == ["l", "z"]


def test_unchanged_files_are_not_copied_again(small, bucket):
    said: list[str] = []
    put(bucket, "u.csv", HEADER + "A1,2024-03-01,a\n")
    for _ in range(2):
        load(small, "s3://bucket/u.csv", progress=said.append)
    assert (said[-1], Store.copied) == ("usage_events: unchanged, 1 rows", ["bucket/u.csv"])
    put(bucket, "u.csv", HEADER + "A1,2024-03-01,b\n")
    load(small, "s3://bucket/u.csv", progress=said.append)
    assert (said[-1], len(Store.copied)) == ("usage_events: 1 of 1 rows kept", 2)
    leftovers = list((small.folder / "state").rglob("u.csv"))
    assert leftovers == [], "copies are removed with the work folder"


def test_a_missing_file_is_named(small, bucket):
    put(bucket, "u.csv", HEADER)
    with pytest.raises(SourceError, match="does not exist") as caught:
        load(small, "s3://bucket/v.csv")
    assert caught.value.where == "s3://bucket/v.csv"


def test_credentials_in_an_address_are_refused_and_not_repeated(small, bucket):
    with pytest.raises(ConfigError, match="has credentials in it") as caught:
        load(small, "s3://key:hunter22@bucket/u.csv")
    assert "hunter22" not in str(caught.value)


def test_a_store_that_refuses_does_not_repeat_secrets(small, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")

    def refuse(*_, **__):
        raise RuntimeError("403 for hunter2-hunter2 at https://x/u.csv?X-Amz-Signature=abcdef&y=1")

    put(bucket, "u.csv", HEADER)
    monkeypatch.setattr(Store, "get_file", refuse)
    with pytest.raises(UnavailableError, match="the store of input usage_events") as caught:
        load(small, "s3://bucket/u.csv")
    assert "hunter2" not in str(caught.value)
    assert "abcdef" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_incomplete_copy_is_refused(small, bucket, monkeypatch):
    put(bucket, "u.csv", HEADER + "A1,2024-03-01,a\n")
    monkeypatch.setattr(Store, "get_file", lambda _s, _r, to, **_: open(to, "wb").close())
    with pytest.raises(
        SourceError, match="copied incompletely or changed meanwhile: 0 of 47 bytes"
    ):
        load(small, "s3://bucket/u.csv")


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")],
)
def test_a_missing_library_names_the_extra(small, monkeypatch, scheme, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(REGISTRY, "_registry", {})
    monkeypatch.setattr(REGISTRY, "registry", {})
    with pytest.raises(ConfigError, match="library is not installed") as caught:
        load(small, f"{scheme}://bucket/u.csv")
    assert caught.value.fix == f"pip install 'bellwether-cs[{extra}]'"


def test_the_version_of_a_file_is_its_tag_or_its_size_and_time():
    version = object_stores._version
    assert version({"ETag": "a", "size": 1, "x": 1}) == version({"ETag": "a", "size": 1, "x": 2})
    assert version({"ETag": "a", "size": 1}) != version({"ETag": "b", "size": 1})
    assert version({"LastModified": 1, "size": 1}) != version({"LastModified": 2, "size": 1})


@pytest.mark.parametrize(
    "message",
    [
        "failed for trino://me:p%40ss-word@host/x",
        "bad password p@ss-word",
        "token t0k3n-value is expired",
        "p%40ss-word",
    ],
)
def test_messages_lose_the_secrets_of_a_url(message):
    url = "trino://me:p%40ss-word@host/x?token=t0k3n-value"
    text = secrets.without_secrets(message, url)
    assert "ss-word" not in text
    assert "t0k3n" not in text
