"""The signals on Spark: the same declarations give the same numbers there as on DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
from ibis.backends import BaseBackend

from configs.runtime.state_directory import State
from configs.schema.company import Cohort, load_company
from configs.schema.workspace import Environment, Workspace
from features.signals import FAMILIES
from features.simulator import simulate, write_tables
from features.snapshots.account_status import account_status_table
from features.snapshots.aggregate import family_table
from features.snapshots.grid import NOT_SIGNALS, grid_at
from features.sources import Loaded, load_sources
from features.tables.daily_tables import to_daily
from features.tables.duckdb_engine import connect
from features.tables.source_tables import TABLES
from features.text.columns import with_text_scores

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.filterwarnings("ignore:::pyspark")]

VERSIONS = dict.fromkeys(TABLES, True)
"""Attributes that are overwritten in place are read too: no feature is left out."""

SIMULATED = Path(__file__).parents[2] / "configs" / "companies" / "simulated"


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Loaded:
    """The canonical tables of a small simulated company, dirt and currencies included."""
    folder = tmp_path_factory.mktemp("world")
    write_tables(simulate(seed=3, n_accounts=24, months=14), folder / "data")
    company = load_company(SIMULATED)
    workspace = Workspace(
        company, SIMULATED, folder / "data", State(folder / "state"), Environment()
    )
    return load_sources(workspace, company.clock(), lambda _: None)


@pytest.fixture(scope="module")
def as_of() -> date:
    return load_company(SIMULATED).clock().date() - timedelta(days=60)


def daily_of(engine: BaseBackend, sources: Loaded) -> dict[str, ir.Table]:
    """Every table a signal reads, put on days by one engine."""
    read = {name: engine.read_parquet(info.path) for name, info in sources.tables.items()}
    return {
        name: to_daily(
            name, with_text_scores(name, table), read["rates"], history=True, currency="EUR"
        )
        for name, table in read.items()
        if name not in NOT_SIGNALS
    }


def in_order(engine: BaseBackend, table: ir.Table) -> pd.DataFrame:
    return engine.execute(table).set_index("entity_id").sort_index()


@pytest.fixture(scope="module")
def on_both(sources, spark_session, tmp_path_factory) -> list[tuple[BaseBackend, Mapping]]:
    engines = [connect(tmp_path_factory.mktemp("scratch")), ibis.pyspark.connect(spark_session)]
    return [(engine, daily_of(engine, sources)) for engine in engines]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_feature_is_equal(on_both, as_of, family):
    here, there = (
        in_order(engine, family_table(family, daily, grid_at(daily["accounts"], [as_of]), VERSIONS))
        for engine, daily in on_both
    )
    assert list(here.index) == list(there.index)
    assert len(here) > 15
    names = [item.name for item in family.features]
    assert {name for name in names if here[name].notna().any()}, "nothing was compared"
    for name in names:
        np.testing.assert_allclose(
            there[name].to_numpy(dtype=float),
            here[name].to_numpy(dtype=float),
            rtol=1e-12,
            atol=1e-12,
            err_msg=name,
        )


def test_where_an_account_stands_is_equal(on_both, as_of):
    here, there = (
        in_order(
            engine,
            account_status_table(daily, grid_at(daily["accounts"], [as_of]), Cohort(), VERSIONS),
        ).astype(object)
        for engine, daily in on_both
    )
    assert set(here["status"]) > {"scored"}
    pd.testing.assert_frame_equal(
        there.where(there.notna(), None), here.where(here.notna(), None), check_dtype=False
    )
