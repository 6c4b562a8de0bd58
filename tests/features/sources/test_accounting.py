"""No row is lost: read = kept + set aside + copies, whatever the file holds."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CELL = st.one_of(
    st.sampled_from(["", "A1", "A2", "A9", "null", " A1 ", "nan"]),
    st.sampled_from(
        ["2024-02-01", "2024-02-01 10:00:00", "31/12/2024", "9999-12-31", "1970-01-01"]
    ),
    st.sampled_from(["1", "-1", "1e400", "x", "3.5", "inf"]),
    st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=6),
)
ROW = st.tuples(
    st.one_of(st.sampled_from(["A1", "A2", "A3"]), CELL),
    st.one_of(st.sampled_from(["T1", "T2", "T3"]), CELL),
    st.one_of(st.sampled_from(["2024-02-01", "2024-02-02 08:00"]), CELL),
    CELL,
    st.one_of(st.sampled_from(["1", "5"]), CELL),
)
LINE = st.sampled_from(["A1,T1", "A1,T1,2024-02-01,,3,too,many", ""])
HEADER = "account_id,ticket_id,opened_at,resolved_at,csat"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(ROW, max_size=12), lines=st.lists(LINE, max_size=3))
def test_every_row_is_accounted_for(small, rows, lines):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    sound = "A1,T0,2024-02-01 10:00:00,,5"
    tickets = "\n".join([HEADER, sound, *lines]) + "\n" + text.getvalue()
    info = small.load({"support_tickets": tickets}).tables["support_tickets"]

    broken_lines = sum(1 for line in lines if line)
    assert info.rows_read == 1 + broken_lines + len(rows)
    assert info.rows_read == info.rows + info.rows_quarantined + info.rows_duplicate
    assert pq.read_metadata(info.path).num_rows == info.rows
    assert pq.read_metadata(info.quarantine).num_rows == info.rows_quarantined
    kept = pq.read_table(info.path).to_pydict()
    assert len(set(kept["ticket_id"])) == info.rows, "one row per key"
    assert all(value is None or 1 <= value <= 5 for value in kept["csat"])
    assert set(kept["account_id"]) <= {"A1", "A2", "A3"}
