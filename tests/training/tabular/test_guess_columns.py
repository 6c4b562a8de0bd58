"""Guesses about an unknown table: right where names and values speak, weak ones said to be weak."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError
from configs.schema.company import load_company
from training.tabular.guess_columns import HORIZON_DAYS, guess_table
from training.tabular.scaffold import scaffold_table

N = 40


def guessed(**columns) -> dict[str, object]:
    return {item.key: item.value for item in guess_table(pd.DataFrame(columns))}


def test_a_static_table():
    found = guessed(
        Customer_ID=[f"c{i}" for i in range(N)],
        MonthlyCharges=np.linspace(10, 90, N),
        Contract=["month", "year"] * (N // 2),
        Partner=["Yes", "No"] * (N // 2),
        Churn=["No", "Yes"] * (N // 2),
    )
    assert found == {
        "label": "Churn", "id": "Customer_ID", "segment": "Contract", "mrr": "MonthlyCharges",
    }  # fmt: skip


def test_a_table_with_moments_needs_a_horizon_and_says_that_it_is_not_known():
    frame = pd.DataFrame({
        "account": [f"a{i // 4}" for i in range(N)],
        "created_on": ["2020-01-05"] * N,
        "snapshot_date": [f"2024-0{1 + i % 4}-01" for i in range(N)],
        "churn_date": ["2024-06-01" if i % 3 == 0 else "" for i in range(N)],
        "arr": np.linspace(1e3, 9e4, N),
        "health_score": np.linspace(1, 99, N),
        "churned": [int(i % 3 == 0) for i in range(N)],
    })  # fmt: skip
    found = {item.key: item for item in guess_table(frame)}
    assert found["as_of"].value == "snapshot_date", "created_on does not tell rows apart"
    assert found["horizon_days"].value == HORIZON_DAYS
    assert "set the horizon of the label" in found["horizon_days"].why
    assert found["decided_at"].value == "churn_date"
    assert (found["arr"].value, found["health_score"].value) == ("arr", "health_score")


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("renewed", ["1", "0"], {"label": "renewed", "positive": "0"}),
        ("status", ["active", "cancelled"], {"label": "status", "positive": "cancelled"}),
        ("target", ["not churned", "churned"], {"label": "target", "positive": "churned"}),
        ("upsell", ["yes", "no"], {"label": "upsell", "outcome": "expansion"}),
        ("exited", ["1", "0"], {"label": "exited"}),
    ],
)
def test_what_the_label_means(name, values, wanted):
    found = guessed(**{name: values * (N // 2), "amount": np.arange(N) * 1.5})
    assert found == wanted


def test_a_weak_guess_names_the_alternatives():
    frame = pd.DataFrame({"a": ["x", "y"] * 20, "b": ["p", "q"] * 20})
    label, positive = guess_table(frame)
    assert (label.value, label.others) == ("b", ("a",))
    assert "weak guess" in label.why
    assert "weak guess" in positive.why


def test_without_two_values_there_is_no_label():
    with pytest.raises(DataError, match="none of 2 columns has exactly two values"):
        guessed(a=np.arange(N), b=["same"] * N)


def test_what_is_written_loads(tmp_path):
    frame = pd.DataFrame({
        "customer id": [f"c{i}" for i in range(N)],
        'odd "name": {x}': ["left", "kept"] * (N // 2),
        "churn?": ["gone", "here"] * (N // 2),
    })  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    scaffold_table(tmp_path / "co", tmp_path / "t.parquet")
    table = load_company(tmp_path / "co").table
    assert table is not None
    assert (table.label.column, table.label.positive, table.id) == ("churn?", "gone", "customer id")
