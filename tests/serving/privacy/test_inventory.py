"""The inventory lists every place with personal data: files, tables and source columns."""

from __future__ import annotations

import pytest

from configs.runtime.tables import metadata
from serving.privacy.database_columns import HOLDINGS, IMPERSONAL, text_columns
from serving.privacy.inventory import FILES, kinds_of, source_columns
from tests.serving.privacy.marked_company import KIND_OF, traces


@pytest.mark.slow
def test_personal_data_lies_only_where_the_inventory_says(marked):
    found = traces(marked.folder / "state", tuple(KIND_OF))
    assert len(found) > 100, "the markers are in the data"
    undeclared = {
        path: sorted(words)
        for path, words in found.items()
        if not {KIND_OF[word] for word in words} <= kinds_of(path)
    }
    assert undeclared == {}


@pytest.mark.slow
def test_columns_without_a_mapping_and_texts_are_not_copied(marked):
    found = traces(marked.folder / "state", tuple(KIND_OF))
    assert "sources/accounts/keys.parquet" in found
    assert found["sources/accounts/keys.parquet"] == {"MZ-QACCT-77"}, "no link names a column"
    texts = {path for path, words in found.items() if "Qtext77" in words}
    assert {path.split("/")[0] for path in texts} == {"sources"}


def test_every_text_column_of_every_sql_table_is_classified():
    listed = {item.table.name: item for item in HOLDINGS}
    for table in metadata.sorted_tables:
        if table in IMPERSONAL:
            assert table.name not in listed
            continue
        item = listed[table.name]
        assert text_columns(table) == {*item.columns, *item.plain}, table.name
        assert not set(item.columns) & set(item.plain)


def test_every_id_of_a_person_in_the_source_tables_is_marked():
    marked_columns = {(table, name) for table, name, _ in source_columns()}
    for table, column in (
        ("usage_events", "user_id"),
        ("survey_responses", "respondent_id"),
        ("contacts", "contact_id"),
        ("accounts", "owner_id"),
        ("owners", "manager_id"),
        ("support_tickets", "text"),
    ):
        assert (table, column) in marked_columns


def test_patterns_are_unique_and_the_narrower_ones_come_first():
    patterns = [item.pattern for item in FILES]
    assert len(set(patterns)) == len(patterns)
    assert kinds_of("snapshots/vector/ab/2026-01-01/part.parquet") == {"account", "person", "name"}
    assert kinds_of("snapshots/usage/ab/2026-01-01/part.parquet") == {"account"}
    assert kinds_of("releases/current.json") == frozenset()
