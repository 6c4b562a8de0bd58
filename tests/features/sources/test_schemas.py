"""Canonical tables satisfy the schemas derived from the contract; broken frames do not."""

from __future__ import annotations

import pandas as pd
import pandera.errors
import pytest

from configs.errors import ConfigError
from features.contracts import TABLES
from features.sources.schemas import schema_of

SUBSCRIPTIONS = (
    "account_id,subscription_id,started_on,ended_on,end_reason,arr,seats,auto_renew,notice_at\n"
    "A1,S1,2024-01-01,,,1200,5,true,\n"
    "A2,S2,2024-01-02,2024-05-01,churned,900,,no,2024-04-01 10:00\n"
)


@pytest.mark.parametrize("table", ["accounts", "usage_events", "subscriptions"])
def test_loaded_tables_satisfy_their_schema(small, table):
    loaded = small.load({"subscriptions": SUBSCRIPTIONS})
    frame = pd.read_parquet(loaded.tables[table].path)
    schema_of(table).validate(frame)


def test_every_table_has_a_schema():
    for name, spec in TABLES.items():
        assert set(schema_of(name).columns) == {*spec.columns, "known_at"}


@pytest.mark.parametrize(
    "change",
    [
        {"arr": -1.0},
        {"end_reason": "bored"},
        {"subscription_id": " S1"},
        {"subscription_id": None},
        {"seats": 2.5},
        {"auto_renew": "maybe"},
        {"started_on": pd.Timestamp("2024-01-01 10:00")},
        {"surprise": 1},
    ],
)
def test_a_broken_frame_is_refused(small, change):
    loaded = small.load({"subscriptions": SUBSCRIPTIONS})
    frame = pd.read_parquet(loaded.tables["subscriptions"].path)
    broken = frame.astype({"seats": object}).assign(**change)
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        schema_of("subscriptions").validate(broken)


def test_a_missing_required_column_is_refused(small):
    frame = pd.read_parquet(small.load().tables["accounts"].path).drop(columns="created_at")
    with pytest.raises(pandera.errors.SchemaError, match="created_at"):
        schema_of("accounts").validate(frame)


def test_an_unknown_table_names_the_closest():
    with pytest.raises(ConfigError, match="did you mean"):
        schema_of("account")
