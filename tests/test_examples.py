"""The shipped companies of public data, run through the front door: honest numbers and no more."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import roc_auc_score

import bellwether
from configs.runtime.state_directory import State, read_json
from serving.batch.score_book import read_latest, read_table
from training.registry.releases import Release, read_current

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

QUICK = {"model_seeds": 1, "bootstrap_draws": 100, "threads": 1, "tuning": {"trials": 0}}


@dataclass(frozen=True)
class Example:
    """A shipped company, run with settings trimmed for time."""

    state: State

    @property
    def evaluation(self) -> Mapping[str, Any]:
        return read_json(self.state.training / "churn" / "evaluation.json")

    @property
    def auc(self) -> float:
        return float(self.evaluation["models"]["model"]["auc"]["value"])

    @property
    def release(self) -> Release:
        release = read_current(self.state.releases)
        assert release is not None
        return release

    @property
    def rows(self) -> list[dict[str, Any]]:
        book = read_latest(self.state)
        assert book is not None
        return [row for row in read_table(book).to_pylist() if row["status"] == "scored"]

    def out_of_time(self, feature: str) -> pd.DataFrame:
        """Out-of-time rows of churn, one per account and fold, with one usage feature beside."""
        rows = pd.read_parquet(self.state.training / "churn" / "predictions.parquet")
        rows = rows[rows["is_headline"]]
        paths = sorted(self.state.snapshots.glob("usage/*/????-??-??/part.parquet"))
        columns = ["entity_id", "as_of", feature]
        values = pd.concat([pq.read_table(path, columns=columns).to_pandas() for path in paths])
        return rows.merge(values, on=["entity_id", "as_of"], validate="one_to_one")


def run_example(name: str, data: Path, root: Path) -> Example:
    shipped = yaml.safe_load((bellwether.SHIPPED / name / "company.yaml").read_text())
    shipped["training"] = {**shipped["training"], **QUICK}
    (root / "company.yaml").write_text(yaml.safe_dump(shipped))
    words = ["run", str(root), "--data", str(data / name), "--state", str(root / "state")]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["bellwether", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            bellwether.main()
        except SystemExit as end:
            code = end.code
    assert code == 0, (out.getvalue(), err.getvalue())
    return Example(State(root / "state"))


@pytest.fixture(scope="module")
def online_retail(real_data, tmp_path_factory) -> Example:
    return run_example("online_retail", real_data, tmp_path_factory.mktemp("online_retail"))


@pytest.fixture(scope="module")
def ravenstack(real_data, tmp_path_factory) -> Example:
    return run_example("ravenstack", real_data, tmp_path_factory.mktemp("ravenstack"))


def within_folds(rows: pd.DataFrame, column: str) -> float:
    """AUC inside each test period, weighted by its events: a period's level says nothing."""
    parts = [
        (roc_auc_score(part["label"], part[column]), part["label"].sum())
        for _, part in rows.groupby("fold")
        if part["label"].nunique() == 2
    ]
    return float(np.average([auc for auc, _ in parts], weights=[n for _, n in parts]))


def test_online_retail_is_scored_with_reasons(online_retail):
    rows = online_retail.rows
    assert len(rows) > 2_000
    assert online_retail.release.bundles["churn"]["verdict"] != "no_signal"
    # Half of them leave in any quarter: what speaks against leaving is shown as often.
    assert np.mean([bool(row["reasons"] or row["protections"]) for row in rows]) > 0.6
    assert all(0 < row["churn_risk"] < 1 for row in rows)


def test_online_retail_knows_more_than_recency(online_retail):
    rows = online_retail.out_of_time("days_since_last_use")
    assert len(rows) > 2_000
    rows["recency"] = rows["days_since_last_use"].fillna(rows["days_since_last_use"].max() + 1)
    model, recency = within_folds(rows, "p_model"), within_folds(rows, "recency")
    assert 0.70 <= model <= 0.85, (model, recency)
    assert 0.70 <= online_retail.auc <= 0.85
    assert model > recency + 0.05, (model, recency)


def test_ravenstack_has_no_signal_to_find(ravenstack):
    assert 0.45 <= ravenstack.auc <= 0.62
    assert ravenstack.release.bundles["churn"]["verdict"] in {"no_signal", "provisional"}
    # Terms are only ever added there: growth is the size of what it is measured against.
    assert ravenstack.release.bundles["expansion"]["verdict"] in {"no_signal", "provisional"}
    assert len(ravenstack.rows) > 100


def test_ravenstack_shows_reasons_only_where_a_model_answers(ravenstack):
    verdict = ravenstack.release.bundles["churn"]["verdict"]
    reasons = [row["reasons"] for row in ravenstack.rows]
    assert any(reasons) is (verdict != "no_signal")


def growth_of(example: Example) -> dict:
    sha = example.release.bundles["expansion"]["sha"]
    return read_json(example.state.bundles / sha / "manifest.json")["growth"]


def test_orders_do_not_tell_what_kind_of_growth_it_was(online_retail):
    assert growth_of(online_retail)["status"] == "not known"
    assert "no contract terms" in growth_of(online_retail)["words"]
    assert not any(row["expansion_kind"] for row in online_retail.rows)


def test_ravenstack_terms_tell_seats_and_plans_and_nothing_else(ravenstack):
    """Terms name a plan as their product and their seats; none says tier, none is metered."""
    kinds = growth_of(ravenstack)["kinds"]
    assert {kind for kind in kinds if kinds[kind]["n_events"]} == {"seats", "product"}
    for kind in ("seats", "product"):
        tested = kinds[kind]["backtest"]
        assert tested["events"] >= 20
        assert 0.6 < tested["observed_to_expected"] < 1.6
    assert {kinds[kind]["basis"] for kind in ("tier", "usage")} == {"rules"}
    offered = {row["expansion_kind"] for row in ravenstack.rows}
    assert offered <= {"seats", "product", None}
