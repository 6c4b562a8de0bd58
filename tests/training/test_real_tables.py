"""A public table with a known honest result."""

import numpy as np
import pandas as pd
import pytest

from features.catalog import FeatureInfo
from training.frame import TrainingFrame
from training.recipe import train


@pytest.fixture(scope="module")
def telco(real_data) -> TrainingFrame:
    table = pd.read_csv(real_data / "ibm_telco" / "Telco-Customer-Churn.csv")
    table["TotalCharges"] = pd.to_numeric(table["TotalCharges"], errors="coerce")
    moment = pd.Timestamp("2024-01-01", tz="UTC")
    rows = pd.DataFrame(
        {
            "entity_id": table["customerID"],
            "as_of": moment,
            "label": (table["Churn"] == "Yes").astype(int),
            "label_known_at": moment + pd.Timedelta(days=91),
            "decision_at": pd.Series(pd.NaT, table.index, dtype="datetime64[us, UTC]"),
            "arr": 12 * table["MonthlyCharges"],
            "segment": table["Contract"],
            "is_under_contract": table["Contract"] != "Month-to-month",
            "days_to_renewal": np.nan,
            "health_score": np.nan,
        }
    )
    features = table.drop(columns=["customerID", "Churn"])
    numbers = features.select_dtypes("number").columns
    features = features.astype(dict.fromkeys(numbers, np.float64))
    info = tuple(
        FeatureInfo(str(name), "telco", str(name), "", "score", None, "commercial")
        for name in features
    )
    return TrainingFrame("churn", rows, features, info)


@pytest.mark.real_data
def test_ibm_telco_gives_the_honest_auc_and_no_more(telco, small):
    company = small.company(folds=5, model_seeds=1)
    found = train(telco, company, storage_url="sqlite:///:memory:")
    model, logistic = (found.evaluation.models[name] for name in ("model", "logistic"))
    assert 0.845 <= model["auc"]["value"] <= 0.852
    assert 0.838 <= logistic["auc"]["value"] <= 0.852
    assert model["brier"]["value"] == pytest.approx(0.133, abs=0.002)
    assert model["calibration_slope"]["value"] == pytest.approx(1.0, abs=0.1)
    assert found.judgement.verdict == "provisional"
    assert [gate.code for gate in found.judgement.failed] == ["folds"]
