"""Lists of files, folders, partitions and ZIP files."""

from __future__ import annotations

import io
import zipfile

import duckdb
import openpyxl
import pytest

from configs.runtime.errors import ConfigError, SourceError
from features.sources.files.formats import zip_files
from features.sources.files.single_table import read_path

HEADER = "account_id,occurred_at,feature\n"


def line(n):
    return f"A{1 + n % 3},2024-03-{1 + n:02d} 10:00:00,f{n}\n"


def load(small, file, **keys):
    inputs = {"usage_events": {"file": file, **keys}}
    return small.load({"usage_events": None}, inputs=inputs).tables["usage_events"]


def features(rows, info):
    return sorted(row["feature"] for row in rows(*info.files))


def parquet(path, query):
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.connect().execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


def test_a_list_of_files_and_patterns_reads_each_file_once(small, rows):
    for n in range(3):
        (small.data / f"u{n}.csv").write_text(HEADER + line(n))
    info = load(small, ["u2.csv", "u*.csv", str(small.data / "u0.csv")])
    assert features(rows, info) == ["f0", "f1", "f2"]
    assert load(small, str(small.data / "u*.csv")).rows == 3, "an absolute pattern"


def test_a_list_names_the_file_that_is_missing(small):
    with pytest.raises(SourceError, match='did you mean "accounts.csv"'):
        load(small, ["accounts.csv", "acounts.csv"])


@pytest.mark.parametrize("wrong", [[], [""], ""])
def test_no_file_is_refused(small, wrong):
    with pytest.raises(ConfigError, match="name at least one file"):
        load(small, wrong)


def test_files_of_several_formats_are_refused(small):
    parquet(small.data / "u.parquet", "SELECT 1 AS a")
    with pytest.raises(ConfigError, match=r"several formats: accounts.csv \(CSV\), u.parquet"):
        load(small, ["accounts.csv", "u.parquet"])


def test_a_folder_is_read_without_the_files_of_its_writer(small, rows):
    folder = small.data / "events" / "deep"
    folder.mkdir(parents=True)
    for name in ("a.csv", "_SUCCESS", ".a.csv.crc", "~$a.csv"):
        (folder / name).write_text(HEADER + line(1))
    assert features(rows, load(small, "events")) == ["f1"]


PARTITIONED = {
    "csv": lambda path, n: path.write_text(HEADER.replace(",occurred_at", "") + f"A1,f{n}\n"),
    "jsonl": lambda path, n: path.write_text(f'{{"account_id": "A1", "feature": "f{n}"}}\n'),
    "parquet": lambda path, n: parquet(path, f"SELECT 'A1' AS account_id, 'f{n}' AS feature"),
}


def excel(path, n):
    workbook = openpyxl.Workbook()
    for row in (["account_id", "feature"], ["A1", f"f{n}"]):
        workbook.active.append(row)
    workbook.save(path)


@pytest.mark.parametrize("ending", [*PARTITIONED, "xlsx", "latin1.csv"])
@pytest.mark.parametrize("pattern", ["events", "events/*/*/*"])
def test_partitions_are_columns(small, rows, ending, pattern):
    for n, day in enumerate(["2024-03-01", "2024-03-02", "__HIVE_DEFAULT_PARTITION__"]):
        path = small.data / "events" / f"day={day}" / "region=0%2F7" / f"x.{ending}"
        path.parent.mkdir(parents=True)
        if ending == "latin1.csv":  # a clean copy of it is read
            path.write_bytes(f"account_id,feature\nA1,f{n}\nA1,\xe9\xe9\n".encode("latin-1"))
        else:
            {**PARTITIONED, "xlsx": excel}[ending](path, n)
    tables = {"usage_events": {"columns": {"occurred_at": "day", "product": "region"}}}
    inputs = {"usage_events": {"file": pattern}}
    info = small.load({"usage_events": None}, inputs=inputs, tables=tables).tables["usage_events"]
    n = 2 if ending == "latin1.csv" else 1
    assert (info.rows, info.quarantined) == (2 * n, {"missing:occurred_at": n})
    found = {(row["feature"], row["occurred_at"].day, row["product"]) for row in rows(*info.files)}
    assert {("f0", 1, "0/7"), ("f1", 2, "0/7")} <= found


def test_a_file_that_moves_to_another_partition_is_read_again(small, rows):
    for name in ("1", "2"):
        (small.data / "events" / f"day=2024-03-0{name}").mkdir(parents=True)
    old, new = (small.data / "events" / f"day=2024-03-0{n}" / "x.csv" for n in "12")
    old.write_text("account_id,feature\nA1,f\n")
    tables = {"usage_events": {"columns": {"occurred_at": "day"}}}
    days = []
    for _ in range(2):
        inputs = {"usage_events": "events/*/*.csv"}
        info = small.load({"usage_events": None}, inputs=inputs, tables=tables)
        days.append(rows(*info.tables["usage_events"].files)[0]["occurred_at"].day)
        if old.exists():
            old.rename(new)
    assert days == [1, 2]


def test_unchanged_files_are_not_hashed_again(small, monkeypatch):
    from features.sources.files import locations

    for n in range(3):
        (small.data / f"u{n}.csv").write_text(HEADER + line(n))
    load(small, "u*.csv")
    hashed = []
    digest = locations.file_digest
    monkeypatch.setattr(locations, "file_digest", lambda p: (hashed.append(p.name), digest(p))[1])
    (small.data / "u1.csv").write_text(HEADER + line(1) + line(5))
    assert load(small, "u*.csv").rows == 4
    assert {"u1.csv"} == {name for name in hashed if name.startswith("u")}


def test_folders_with_different_partitions_are_refused(small):
    for folder in ("day=1", "month=1"):
        (small.data / "events" / folder).mkdir(parents=True)
        (small.data / "events" / folder / "x.csv").write_text(HEADER + line(1))
    with pytest.raises(SourceError, match="different partitions"):
        load(small, "events")


def test_parquet_files_are_put_together_by_name_and_lose_nothing(tmp_path, small, rows):
    base = "'A1' AS account_id, TIMESTAMP '2024-03-01' AS occurred_at"
    parquet(small.data / "u1.parquet", f"SELECT {base}, 1::BIGINT AS quantity")
    parquet(small.data / "u2.parquet", f"SELECT 2.5::DOUBLE AS quantity, {base}, 'x' AS feature")
    info = load(small, "u*.parquet")
    assert sorted(row["quantity"] for row in rows(*info.files)) == [1, 2.5]
    assert features_or_none(rows, info) == {None, "x"}
    assert info.read["file_notes"] == ["feature: 1 of 2 files lack it; it is empty in their rows"]


def features_or_none(rows, info):
    return {row["feature"] for row in rows(*info.files)}


def test_the_damaged_one_of_many_parquet_files_is_named(small):
    for n in range(3):
        parquet(small.data / f"u{n}.parquet", "SELECT 'A1' AS account_id")
    content = (small.data / "u1.parquet").read_bytes()
    (small.data / "u1.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="u1.parquet is not a readable Parquet file") as caught:
        load(small, "u*.parquet")
    assert "u1.parquet" in caught.value.where


def zipped(path, members, **keys):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **keys) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_file_of_one_or_several_files_of_one_header(small, rows):
    zipped(small.data / "one.zip", {"u.csv": HEADER + line(0)})
    zipped(
        small.data / "two.zip",
        {
            "b/u.csv": HEADER + line(2) + "broken\n",
            "a/u.csv": HEADER + line(1),
            "__MACOSX/a/._u.csv": b"\0\1",
            ".DS_Store": b"\0",
        },
    )
    assert features(rows, load(small, "one.zip")) == ["f0"]
    info = load(small, ["one.zip", "two.zip"])
    assert features(rows, info) == ["f0", "f1", "f2"]
    assert info.read["lines"]["usage_events"] == {"total": 4, "kept": 3, "set_aside": 1}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "xlsx"])
def test_other_formats_in_a_zip_file(tmp_path, small, rows, kind):
    inner = tmp_path / f"x.{kind}"
    {**PARTITIONED, "xlsx": excel}[kind](inner, 3)
    zipped(small.data / "u.zip", {f"day=2024-03-01/x.{kind}": inner.read_bytes()})
    tables = {"usage_events": {"columns": {"occurred_at": "day"}}}
    loaded = small.load({"usage_events": None}, inputs={"usage_events": "u.zip"}, tables=tables)
    assert features(rows, loaded.tables["usage_events"]) == ["f3"]


def test_a_path_in_a_zip_file_cannot_leave_its_folder(tmp_path):
    zipped(
        tmp_path / "u.zip", {"../../x=1/../evil.csv": "a,b\n1,2\n", "/abs/evil.csv": "a,b\n1,2\n"}
    )
    out = tmp_path / "out"
    with zipfile.ZipFile(tmp_path / "u.zip") as archive:
        assert len(archive.namelist()) == 2
    assert all(
        path.resolve().is_relative_to(out) for path in zip_files.unpack(tmp_path / "u.zip", out)
    )


def nested():
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x.csv", "a\n1\n")
    return inner.getvalue()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"inner.zip": nested()}, "has another archive inside: inner.zip"),
        ({"x.tar.gz": b""}, "has another archive inside"),
        ({"bomb.csv": b"0" * (230 * 2**20)}, "may be a ZIP bomb"),
        ({}, "has no file inside"),
        ({"folder/": b"", ".hidden.csv": b"a"}, "has no file inside"),
    ],
)
def test_a_zip_file_that_is_refused_says_why(tmp_path, members, words):
    with pytest.raises(SourceError, match=words) as caught:
        read_path(zipped(tmp_path / "u.zip", members))
    assert "u.zip" in caught.value.where
    assert caught.value.fix


def test_a_zip_file_with_other_files_names_them(small):
    zipped(small.data / "u.zip", {"x.csv": HEADER, "report.pdf": b"x"})
    with pytest.raises(ConfigError, match="a format that is not read: report.pdf"):
        load(small, "u.zip")


@pytest.mark.parametrize(("start", "end"), [(0, -40), (100, None), (0, 3)])
def test_a_damaged_zip_file_is_named(tmp_path, start, end):
    lines = "".join(line(n % 28) for n in range(4_000))
    content = zipped(tmp_path / "w.zip", {"u.csv": HEADER + lines}).read_bytes()
    (tmp_path / "u.zip").write_bytes(content[start:end])
    with pytest.raises(SourceError, match="u.zip is not a readable ZIP file") as caught:
        read_path(tmp_path / "u.zip")
    assert "unzip -t" in caught.value.fix


def test_a_zip_file_with_a_password_is_refused(tmp_path):
    content = bytearray(zipped(tmp_path / "u.zip", {"u.csv": HEADER}).read_bytes())
    at = content.index(b"PK\1\2") + 8
    content[at] |= 1
    (tmp_path / "u.zip").write_bytes(content)
    with pytest.raises(SourceError, match="protected by a password"):
        read_path(tmp_path / "u.zip")


def test_names_with_the_signs_of_patterns(small, rows):
    (small.data / "export [1] *.csv").write_text(HEADER + line(1))
    assert features(rows, load(small, "export [1] *.csv")) == ["f1"]
