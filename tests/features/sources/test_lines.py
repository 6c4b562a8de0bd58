"""Lines of CSV files that are broken: each is counted, and costs only itself."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.runtime.errors import SourceError
from features.sources.files.single_table import read_path

HEADER = "account_id,occurred_at,feature\n"


def lines(n, first=0):
    return [f"A{1 + i % 3},2024-03-{1 + i % 28:02d} 10:00:00,f{i}\n" for i in range(first, n)]


def usage(body):
    return HEADER + "".join(body)


def load(small, text):
    return small.load({"usage_events": text}).tables["usage_events"]


def counts(info):
    lines = info.read["lines"]["usage_events"]
    assert lines["total"] == lines["kept"] + lines["set_aside"], "every line is accounted for"
    return lines["total"], lines["set_aside"], info.rows + info.rows_duplicate


def test_one_stray_quote_among_a_thousand_lines_costs_one_line(small):
    body = lines(1000)
    body[200] = 'A1,2024-03-01 10:00:00,"open\n'
    assert counts(load(small, usage(body))) == (1000, 1, 999)


def test_two_stray_quotes_do_not_swallow_the_lines_between_them(small, rows):
    body = lines(1000)
    body[200] = 'A1,2024-03-01 10:00:00,"open\n'
    body[993] = 'A2,2024-03-02 10:00:00,close"\n'
    info = load(small, usage(body))
    assert counts(info) == (1000, 1, 999)
    assert 'close"' in [row["feature"] for row in rows(info.path)]


def test_texts_of_several_lines_are_one_record(small, rows):
    text = 'A1,2024-03-01 10:00:00,"dear all,\nthe export, again, is broken\n\nyours"\n'
    said = 'A2,2024-03-02 10:00:00,"she said ""no"", twice"\n'
    info = load(small, usage([text, said, *lines(3)]))
    assert counts(info) == (7, 0, 5)
    kept = [row["feature"] for row in rows(info.path)]
    assert "dear all,\nthe export, again, is broken\nyours" in kept or (
        "dear all,\nthe export, again, is broken\n\nyours" in kept
    )
    assert 'she said "no", twice' in kept


def test_a_line_without_end_is_set_aside_and_counted(small, rows):
    body = lines(100)
    body[50] = f"A1,2024-03-01 10:00:00,{'y' * 5_000_000}\n"
    info = load(small, usage(body))
    assert counts(info) == (100, 1, 99)
    (aside,) = rows(info.quarantine)
    assert aside["quarantine_line"].startswith("A1,2024-03-01 10:00:00,yyy")
    assert len(aside["quarantine_line"]) == 10_000


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends_of_every_system(small, end):
    info = load(small, usage(lines(30)).replace("\n", end).encode())
    assert counts(info) == (30, 0, 30)


def test_line_ends_of_two_systems_in_one_file(small):
    text = HEADER + "".join(lines(10)).replace("\n", "\r") + "".join(lines(20, 10))
    assert counts(load(small, text.encode())) == (20, 0, 20)


def test_empty_lines_are_none(small):
    text = HEADER + "\n" + "".join(f"{line}\n   \n" for line in lines(5)) + "\n\n"
    total, aside, kept = counts(load(small, text))
    assert (total - aside, kept) == (5, 5)


def test_a_spreadsheet_may_say_its_delimiter_first(small):
    text = "sep=;\r\n" + usage(lines(5)).replace(",", ";").replace("\n", "\r\n")
    assert counts(load(small, text.encode("utf-8-sig"))) == (5, 0, 5)


PIECE = st.sampled_from(
    ["A1,2024-03-01 10:00:00,x", 'A2,2024-03-02,"a ""b"" c"', 'A3,2024-03-03,"two\nlines"', "A1,x",
     'A1,2024-03-04,"open', 'A1,2024-03-05,shut"', 'A1,"2024-03-06"x,y', "A1,2024-03-07,a,b", "",
     '"', '""', 'A2,2024-03-08,"', "\ufeffA1,2024-03-09,z"]
)  # fmt: skip


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=st.lists(PIECE, max_size=14))
def test_no_mixture_of_broken_lines_loses_one(tmp_path, pieces):
    path = tmp_path / "x.csv"
    text = HEADER + "\n".join(["A1,2024-02-01,sound", *pieces]) + "\n"
    path.write_text(text, encoding="utf-8")
    flat = read_path(path)  # it raises where a line is lost
    n_lines = sum(1 for line in text.split("\n")[1:] if line.strip())
    several = sum(str(cell).count("\n") for cell in flat.rows.to_numpy().ravel() if cell)
    assert len(flat.rows) + several + flat.malformed == n_lines


@pytest.mark.parametrize(
    ("name", "content", "words", "fix"),
    [
        (
            "u.csv.gz",
            gzip.compress(usage(lines(9000)).encode(), mtime=0)[:-900],
            "truncated",
            "gzip -t",
        ),
        ("u.csv.gz", usage(lines(3)).encode(), "not compressed with gzip", "u.csv"),
        ("u.csv", gzip.compress(b"a", mtime=0), "compressed with gzip", "u.csv.gz"),
        ("u.csv", b"PK\x03\x04rest", "is a workbook", "UTF-8 CSV"),
        ("u.csv", b"a,b\n\0\1\2,x\n", "not a text file", "tr -d"),
        ("u.csv", b"A1,2024-03-01,5\nA2,2024-03-02,6\n", "not a header but values", "header line"),
        ("u.csv", b"A1,5,5\nA2,6,6\n", "not a header but values: A1, 5, 5", "header line"),
        ("u.csv", b"a,b,A\n1,2,3\n", "repeats column names: A, a", "rename the columns"),
        ("u.csv", "a,b\nx,é\n".encode("utf-16")[:-1], "not valid UTF-16", "iconv -f utf-16"),
        ("u.parquet", b"not parquet", "not a readable Parquet", "export it again"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, name, content, words, fix):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        read_path(tmp_path / name)
    assert fix in caught.value.fix
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("header", ["0,1,2", "1,2,3", "2023,2024,2025"])
def test_columns_may_be_numbered_or_be_years(tmp_path, header):
    (tmp_path / "u.csv").write_text(f"{header}\n7,8,9\n")
    assert list(read_path(tmp_path / "u.csv").rows) == header.split(",")


@pytest.mark.parametrize(
    ("content", "words", "note"),
    [
        ("name\nMüller\nfrühe Bücher\n".encode() + b"M\xfcller\n", "Müller", "1 broken character"),
        ("name\nMüller\n".encode("latin-1") + b"\x81\n", "Müller", "Latin-1"),
        ("name\nMüller\n".encode("utf-16-be"), "Müller", "UTF-16"),
    ],
)
def test_encodings_that_are_not_quite_one(tmp_path, content, words, note):
    (tmp_path / "u.csv").write_bytes(content)
    flat = read_path(tmp_path / "u.csv")
    assert flat.rows["name"][0] == words
    assert note in flat.notes[0]
