"""Workbooks as people save them."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime

import openpyxl
import pytest

from configs.runtime.errors import ConfigError, SourceError
from features.sources.files.single_table import read_path

HEADER = ["account_id", "occurred_at", "feature", "quantity"]
ROWS = [
    ["A1", datetime(2024, 3, 1, 10, 30), "0042", 1.5],
    ["A2", datetime(2024, 3, 2), "search", 2],
]


def book(**sheets):
    """A workbook with sheets of rows."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return workbook


@pytest.fixture
def load(small):
    def read(workbook, **keys):
        workbook.save(small.data / "u.xlsx")
        inputs = {"usage_events": {"file": "u.xlsx", **keys}}
        return small.load({"usage_events": None}, inputs=inputs).tables["usage_events"]

    return read


def test_cells_keep_their_types(load, rows):
    info = load(book(Usage=[HEADER, *ROWS]))
    first, second = rows(info.path)
    assert (first["occurred_at"], first["feature"]) == (datetime(2024, 3, 1, 10, 30), "0042")
    assert (first["quantity"], second["quantity"]) == (1.5, 2)
    assert info.read["lines"]["usage_events"] == {"total": 2, "kept": 2, "set_aside": 0}


def test_whole_numbers_are_ids_without_decimals(small, rows):
    workbook = book(
        A=[["account_id", "created_at"], [1001, date(2024, 1, 1)], [1002, date(2024, 1, 2)]]
    )
    workbook.save(small.data / "a.xlsx")
    usage = "account_id,occurred_at\n1001,2024-03-01\n"
    loaded = small.load({"accounts": None, "usage_events": usage}, inputs={"accounts": "a.xlsx"})
    assert [row["account_id"] for row in rows(loaded.tables["accounts"].path)] == ["1001", "1002"]


def test_a_title_above_the_header_is_noted(load):
    info = load(book(U=[["Usage, March"], [], ["Source: app"], HEADER, *ROWS]))
    assert info.rows == 2
    assert "2 rows above the header are left out: Usage, March" in " ".join(info.read["file_notes"])


def test_the_first_sheet_with_a_table_is_read(load):
    info = load(book(Empty=[], Notes=[["Read me"], ["made in March"]], Usage=[HEADER, *ROWS]))
    assert info.rows == 2
    assert "sheet 'Usage' is read, not: Empty, Notes" in info.read["file_notes"][0]


def test_a_sheet_is_chosen_by_name(load):
    info = load(book(Old=[HEADER, ROWS[0]], New=[HEADER, *ROWS]), sheet="New")
    assert info.rows == 2


def test_another_sheet_is_another_content(small):
    book(Old=[HEADER, ROWS[0]], New=[HEADER, *ROWS]).save(small.data / "u.xlsx")
    found = []
    for sheet in ("Old", "New"):
        inputs = {"usage_events": {"file": "u.xlsx", "sheet": sheet}}
        found.append(small.load({"usage_events": None}, inputs=inputs).tables["usage_events"].rows)
    assert found == [1, 2]


def test_a_missing_sheet_names_the_closest(load):
    with pytest.raises(SourceError, match="has no sheet 'Usge'; did you mean \"Usage\""):
        load(book(Usage=[HEADER, *ROWS]), sheet="Usge")


def test_a_hidden_sheet_is_read_on_request_only(load):
    workbook = book(Usage=[HEADER, *ROWS], Secret=[HEADER, ROWS[0]])
    workbook["Usage"].sheet_state = "hidden"
    assert load(workbook).rows == 1
    assert load(workbook, sheet="Usage").rows == 2


def test_merged_hidden_and_wrong_cells_are_noted(load):
    workbook = book(U=[[*HEADER, "x"], *[[*row, "=1+1"] for row in ROWS], ["A3", None, "a", 1, 2]])
    sheet = workbook["U"]
    sheet.merge_cells("C3:C4")
    sheet.row_dimensions[2].hidden = True
    sheet.column_dimensions["D"].hidden = True
    sheet["E4"] = "#N/A"
    sheet["E4"].data_type = "e"
    notes = " ".join(load(workbook).read["file_notes"])
    for words in ("1 merged ranges", "1 rows, 1 groups of columns", "1 cells with an error",
                  "2 formulas without a saved result"):  # fmt: skip
        assert words in notes


def test_a_column_of_numbers_and_texts_is_text_and_noted(tmp_path):
    workbook = book(U=[["id", "amount"], ["0042", 1.234], [17, "2.500,00"], [True, None]])
    workbook.save(tmp_path / "u.xlsx")
    flat = read_path(tmp_path / "u.xlsx")
    assert list(flat.rows["id"]) == ["0042", "17", "true"]
    assert list(flat.rows["amount"][:2]) == ["1.2340", "2.500,00"], "not one thousand"
    assert "id: values of several types, read as text" in flat.notes


def test_dates_and_times_in_one_column_are_times(tmp_path):
    book(U=[["d", "x"], [date(2026, 1, 2), 1], [datetime(2026, 1, 3, 4), 2]]).save(
        tmp_path / "u.xlsx"
    )
    assert list(read_path(tmp_path / "u.xlsx").rows["d"]) == [
        datetime(2026, 1, 2), datetime(2026, 1, 3, 4),
    ]  # fmt: skip


def test_a_column_without_a_name_is_kept_if_it_has_values(tmp_path):
    rows = [["a", None, "c", None], ["x", 1, "y", None], ["z", 2, "y", None]]
    book(U=rows).save(tmp_path / "u.xlsx")
    assert list(read_path(tmp_path / "u.xlsx").rows) == ["a", "column_2", "c"]


def test_empty_rows_and_columns_do_not_count(tmp_path):
    workbook = book(U=[])
    for n, row in enumerate([["a", "b"], ["x", 1], [None, None], ["y", 2]]):
        for m, value in enumerate(row):
            workbook["U"].cell(n + 4, m + 3, value)
    workbook.save(tmp_path / "u.xlsx")
    assert read_path(tmp_path / "u.xlsx").rows.to_dict("list") == {"a": ["x", "y"], "b": [1, 2]}


def test_many_rows_change_type_late(tmp_path):
    book(U=[["n", "t"], *[[i, f"t{i}"] for i in range(60_000)], [0.5, "last"], ["x", None]]).save(
        tmp_path / "u.xlsx"
    )
    read = read_path(tmp_path / "u.xlsx")
    assert len(read.rows) == 60_002
    assert list(read.rows["n"][[0, 59_999, 60_000, 60_001]]) == ["0", "59999", "0.5", "x"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 2, 3], [4, 5, 6]], "no header was found in sheet 'U'"),
        ([["a", date(2024, 1, 1), 2.5], ["b", date(2024, 1, 2), 3.5]], "no header was found"),
        ([["a", "A", "b"], [1, 2, 3]], "repeats column names: A, a"),
        ([["a", "b"]], "no visible sheet with a header and rows"),
        ([], "no visible sheet with a header and rows"),
    ],
)
def test_a_sheet_without_a_header_is_refused(tmp_path, rows, words):
    book(U=rows).save(tmp_path / "u.xlsx")
    with pytest.raises(SourceError, match=words) as caught:
        read_path(tmp_path / "u.xlsx")
    assert "u.xlsx" in caught.value.where
    assert caught.value.fix


def saved(workbook):
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words", "fix"),
    [
        ("u.xls", b"\xd0\xcf\x11\xe0", ".xls workbooks are not read", "save it as .xlsx"),
        ("u.ods", b"PK\3\4", ".ods workbooks are not read", "save it as .xlsx"),
        ("u.xlsx", b"\xd0\xcf\x11\xe0" * 300, "protected by a password", "remove the password"),
        ("u.xlsx", b"not a workbook", "not a readable workbook", "export it again"),
        ("u.xlsx", b"", "not a readable workbook", "export it again"),
        ("u.xlsx", saved(book(U=[HEADER, *ROWS]))[:-900], "is truncated", "export it again"),
    ],
)
def test_a_workbook_that_cannot_be_read_says_why(tmp_path, name, content, words, fix):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        read_path(tmp_path / name)
    assert fix in caught.value.fix
    assert str(tmp_path) in caught.value.where


def test_a_workbook_with_a_damaged_sheet_is_refused(tmp_path):
    source, out = zipfile.ZipFile(io.BytesIO(saved(book(U=[HEADER, *ROWS])))), tmp_path / "u.xlsx"
    with zipfile.ZipFile(out, "w") as target:
        for item in source.infolist():
            content = source.read(item)
            is_sheet = item.filename.startswith("xl/worksheets/")
            target.writestr(item.filename, content[: len(content) // 2] if is_sheet else content)
    with pytest.raises(SourceError) as caught:
        read_path(out)
    assert "u.xlsx" in str(caught.value)


def test_a_sheet_of_another_format_is_refused(small):
    with pytest.raises(ConfigError, match="names a sheet, but its file is CSV"):
        small.load(inputs={"usage_events": {"file": "usage_events.csv", "sheet": "U"}})


def test_workbooks_of_one_input_share_a_header(small):
    for name, header in (("1", HEADER), ("2", HEADER), ("3", HEADER[::-1])):
        book(U=[header, *ROWS]).save(small.data / f"u{name}.xlsx")
    two = {"usage_events": {"file": ["u1.xlsx", "u2.xlsx"]}}
    info = small.load({"usage_events": None}, inputs=two).tables["usage_events"]
    assert info.read["lines"]["usage_events"]["total"] == 4
    with pytest.raises(SourceError, match="different headers"):
        small.load({"usage_events": None}, inputs={"usage_events": "u*.xlsx"})
