"""JSON files: one object per line, arrays, nested objects, and what is broken in them."""

from __future__ import annotations

import gzip
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.runtime.errors import SourceError
from features.sources.files.formats import json_files
from features.sources.files.single_table import read_path

EVENTS = [
    {"account_id": "A1", "occurred_at": "2024-03-01T10:00:00Z", "quantity": 2},
    {"account_id": "A2", "occurred_at": "2024-03-02", "feature": "export", "quantity": 1.5},
]


def as_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def read(tmp_path):
    def from_text(text, name="u.jsonl"):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return read_path(tmp_path / name)

    return from_text


WRITTEN = {
    "u.jsonl": as_lines(EVENTS),
    "u.ndjson": "\ufeff" + as_lines(EVENTS).replace("\n", "\r\n"),
    "lines.json": as_lines(EVENTS) + "\n\n",
    "array.json": json.dumps(EVENTS),
    "pretty.json": json.dumps(EVENTS, indent=2),
    "sequence.json": "\n".join(json.dumps(record, indent=2) for record in EVENTS),
    "array.jsonl": "  " + json.dumps(EVENTS),
    "u.jsonl.gz": as_lines(EVENTS),
    "u.json.gz": json.dumps(EVENTS),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_way_to_write_records(small, rows, name):
    content = WRITTEN[name].encode()
    (small.data / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    info = small.load({"usage_events": None}, inputs={"usage_events": name}).tables["usage_events"]
    first, second = rows(info.path)
    assert (first["quantity"], first["feature"], second["feature"]) == (2, None, "export")
    assert second["quantity"] == 1.5
    assert info.read["lines"]["usage_events"] == {"total": 2, "kept": 2, "set_aside": 0}


def test_a_single_object_is_one_record(read):
    assert read('{\n "a": 1\n}', "u.json").rows.to_dict("list") == {"a": [1]}
    assert read('{"a": 1}', "v.json").rows.to_dict("list") == {"a": [1]}


def test_an_object_around_a_list_says_how_to_get_at_it(read):
    with pytest.raises(SourceError, match="in the list 'data'") as caught:
        read(json.dumps({"next": None, "data": EVENTS}), "u.json")
    assert "jq '.data'" in caught.value.fix


def test_nested_objects_are_columns_and_lists_are_text(read):
    records = [
        {"id": 1, "user": {"name": "x", "tags": ["a", 1]}, "empty": {}},
        {"id": 2, "user": None, "empty": {"later": True}},
        {"id": 3, "user": {"name": "y", "role": {"is_admin": False}}},
    ]
    found = read(as_lines(records)).rows.astype(object)
    assert list(found) == ["id", "user.name", "user.tags", "empty.later", "user.role.is_admin"]
    assert found["user.tags"][0] == '["a",1]'
    assert found["user.role.is_admin"][2] is False


def test_objects_below_the_deepest_level_are_text(read):
    record = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
    assert read(as_lines([record])).rows.to_dict("list") == {"a.b.c.d.e": ['{"f":1}']}


def test_objects_with_very_many_keys_are_text(read):
    records = [{"id": n, "by_user": {f"u{n}": n}, "p": {"x": n}} for n in range(3_000)]
    found = read(as_lines(records))
    assert list(found.rows) == ["id", "by_user", "p.x"]
    assert found.rows["by_user"][2_999] == '{"u2999":2999}'
    assert "by_user: kept as JSON text, its objects have many keys" in found.notes
    with pytest.raises(SourceError, match="more than 1,000 different keys"):
        read(as_lines([{f"k{n}": n} for n in range(3_000)]))


def test_values_keep_what_they_are(read):
    records = [
        {"id": "0042", "n": 1, "big": 12345678901234567890, "long": 9007199254740993, "mixed": 1},
        {"id": "17", "n": 2.5, "big": 1, "long": 0.5, "mixed": "1,5"},
        {"id": "17", "n": None, "big": 1, "long": None, "mixed": 0.125},
    ]
    found = read(as_lines(records))
    assert list(found.rows["id"]) == ["0042", "17", "17"]
    assert list(found.rows["n"][:2]) == [1, 2.5]
    assert list(found.rows["big"]) == ["12345678901234567890", "1", "1"]
    assert found.rows["long"][0] == "9007199254740993", "more digits than a float has"
    assert list(found.rows["mixed"]) == ["1", "1,5", "0.1250"]
    assert "mixed: values of several types, read as text" in found.notes


def test_a_line_that_is_no_object_is_set_aside(small, rows):
    text = (
        as_lines(EVENTS[:1]) + '{"account_id": "A1", \n[1, 2]\n"text"\n\n'
        '{"account_id": "A1", "account_id": "A2"}\n' + as_lines(EVENTS[1:])
    )
    (small.data / "u.jsonl").write_bytes(text.encode() + b'{"account_id": "\xff"}\n')
    info = small.load({"usage_events": None}, inputs={"usage_events": "u.jsonl"}).tables[
        "usage_events"
    ]
    assert info.read["lines"]["usage_events"] == {"total": 7, "kept": 2, "set_aside": 5}
    assert info.quarantined == {"malformed_line": 5}
    aside = rows(info.quarantine)
    assert [row["quarantine_row"] for row in aside] == [2, 3, 4, 6, 8]
    assert aside[0]["quarantine_line"] == '{"account_id": "A1", '


def test_an_element_that_is_no_object_is_set_aside(read):
    found = read('[{"a": 1}, 7, {"a": 2}, "x", null]', "u.json")
    assert (list(found.rows["a"]), found.malformed) == ([1, 2], 3)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("u.jsonl", as_lines(EVENTS)[:-20], "truncated: line 2 is the last one"),
        ("u.json", json.dumps(EVENTS)[:-20], "truncated"),
        ("u.json", json.dumps(EVENTS)[:-1], "is truncated"),
        ("u.json", '[{"a": 1} {"a": 2}]', "a comma is missing"),
        ("u.json", '[{"a": 1}, {"a" 2}]', "damaged or truncated"),
        ("u.json", '[{"a": 1}] trailing', "content after the end of its array"),
        ("u.json", '{"a": 1,\n"b"}', "damaged or truncated"),
        ("u.json", '[{"a": 1, "a": 2}]', "the key 'a' occurs twice"),
        ("u.json", "[]", "has no records"),
        ("u.jsonl", "", "is empty"),
        ("u.jsonl", "\n\n", "has no records"),
        ("u.jsonl", as_lines(EVENTS).encode("utf-16"), "not UTF-8"),
        ("u.json", b'[{"a": "\xff"}]', "not UTF-8"),
        ("u.jsonl", '{"Id": 1}\n{"id": 2}\n', "differ only in upper and lower case: Id, id"),
    ],
)
def test_a_damaged_file_says_what_and_where(tmp_path, read, name, text, words):
    with pytest.raises(SourceError, match=words) as caught:
        read(text, name)
    assert name in caught.value.where
    assert caught.value.fix


def test_a_truncated_gzip_file_is_refused(tmp_path):
    whole = gzip.compress(
        "".join(json.dumps({"n": math.sin(n)}) + "\n" for n in range(9_000)).encode()
    )
    (tmp_path / "u.jsonl.gz").write_bytes(whole[:-900])
    with pytest.raises(SourceError, match="gzip file is truncated"):
        read_path(tmp_path / "u.jsonl.gz")


def test_files_of_one_input_may_have_different_keys(small, rows):
    for n, record in enumerate(EVENTS):
        (small.data / f"u{n}.jsonl").write_text(as_lines([record]))
    info = small.load({"usage_events": None}, inputs={"usage_events": "u*.jsonl"})
    assert [row["feature"] for row in rows(info.tables["usage_events"].path)] == [None, "export"]


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=1), inner),
    max_leaves=4,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(VALUE, min_size=1, max_size=12), split=st.integers(1, 60))
def test_an_array_and_lines_are_read_alike(tmp_path, monkeypatch, values, split):
    records = [{"first": 1}, *values]
    (tmp_path / "u.jsonl").write_text(as_lines(records))
    (tmp_path / "u.json").write_text(json.dumps(records))
    monkeypatch.setattr(json_files, "BLOCK", split)  # values are cut at every place
    array = read_path(tmp_path / "u.json")
    lines = read_path(tmp_path / "u.jsonl")
    assert len(lines.rows) + lines.malformed == len(records)
    assert array.malformed == lines.malformed
    assert array.rows.equals(lines.rows)
