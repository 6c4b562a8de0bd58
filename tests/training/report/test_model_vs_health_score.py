"""Side by side, losses by name, the parts of a score, risk and growth together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from training.evaluation.sampling import Drawing
from training.report.decision_curve import decision_curve
from training.report.risk_and_growth import agreement, now, pair_of, what_followed
from training.validation.early_warning import first_alert_days, starts_of_alerts, warned
from training.validation.score_components import components_of
from training.validation.side_by_side import one_each, side_by_side, workload_of_both

DRAWING = Drawing(draws=100, seed=3, capacity_per_month=20, fold_days=91)
DAY = pd.Timedelta(days=1)


def panel(n: int = 400, quarters: int = 4, seed: int = 2, **scores: float) -> pd.DataFrame:
    """Headline rows: a known risk, and scores that see it through noise of a given size."""
    rng = np.random.default_rng(seed)
    risk = np.tile(rng.normal(size=n), quarters)
    fold = np.repeat(np.arange(1, quarters + 1), n)
    label = (rng.random(len(risk)) < 1 / (1 + np.exp(3.0 - 1.3 * risk))).astype(int)
    as_of = pd.Timestamp("2025-01-01", tz="UTC") + pd.to_timedelta(91 * (fold - 1), unit="D")
    rows = pd.DataFrame({
        "entity_id": np.tile([f"A{i}" for i in range(n)], quarters), "fold": fold, "label": label,
        "as_of": as_of, "label_known_at": as_of + 91 * DAY, "arr": 100.0,
        "decision_at": np.where(label == 1, as_of + 40 * DAY, pd.NaT),
    })  # fmt: skip
    rows["decision_at"] = pd.to_datetime(rows["decision_at"], utc=True)
    for name, noise in scores.items():
        seen = risk + noise * rng.normal(size=len(risk))
        rows[f"p_{name}"] = 1 / (1 + np.exp(3.0 - 1.3 * seen))
    return rows


@pytest.fixture(scope="module")
def sides():
    rows = panel(model=0.3, health_score=2.5, copy=0.0, constant=0.0)
    rows["p_copy"] = rows["p_model"]
    rows["p_constant"] = 0.1
    names = ["model", "health_score", "copy", "constant"]
    return rows, side_by_side(rows, names, DRAWING)


class TestSideBySide:
    def one(self, sides, name):
        return next(item for item in sides[1]["scores"] if item["name"] == name)

    def test_words(self, sides):
        assert self.one(sides, "health_score")["judgement"] == "better"
        assert self.one(sides, "copy")["judgement"] == "equivalent"
        assert self.one(sides, "health_score")["one_each"]["adds"] in ("main", "both")
        assert self.one(sides, "copy")["one_each"]["delong"]["p_value"] is None
        assert self.one(sides, "constant")["one_each"]["other_adds"]["p_value"] == 1.0

    def test_few_events_cannot_tell(self):
        rows = panel(n=60, quarters=2, seed=6, model=0.5, other=0.5)
        assert rows["label"].sum() < 20
        item = side_by_side(rows, ["model", "other"], DRAWING)["scores"][1]
        assert item["judgement"] == "inconclusive"

    def test_paired_difference(self, sides):
        rows, _ = sides
        item = self.one(sides, "health_score")
        gap = item["difference"]["auc"]
        weight = [part.label.sum() * (1 - part.label).sum() for _, part in rows.groupby("fold")]
        areas = [
            roc_auc_score(part.label, part.p_model) - roc_auc_score(part.label, part.p_health_score)
            for _, part in rows.groupby("fold")
        ]
        assert gap["value"] == pytest.approx(np.average(areas, weights=weight))
        assert gap["low"] < gap["value"] < gap["high"]

    def test_workload_adds_up(self, sides):
        rows, content = sides
        for item in content["scores"][1:]:
            load = item["workload"]
            parts = load["both"] + load["main_only"] + load["other_only"] + load["neither"]
            assert parts == pytest.approx(rows["label"].sum())
            assert load["picked"] == pytest.approx(4 * DRAWING.capacity_per_fold)

    def test_one_row_per_account_its_event_first(self, sides):
        rows, _ = sides
        chosen = rows.iloc[one_each(rows, 1)]
        assert chosen["entity_id"].is_unique
        had = rows.groupby("entity_id")["label"].max()
        assert (chosen.set_index("entity_id")["label"] == had.reindex(chosen["entity_id"])).all()

    def test_workload_of_one_score_with_itself(self, sides):
        from training.evaluation.sampling import sample_of

        rows, _ = sides
        sample = sample_of(rows, "model", DRAWING.capacity_per_fold)
        load = workload_of_both(sample, sample)
        assert (load["main_only"], load["other_only"]) == pytest.approx((0, 0))


class TestWarned:
    def rows(self):
        start = pd.Timestamp("2025-01-01", tz="UTC")
        months = [start + pd.DateOffset(months=m) for m in range(12)]
        table = pd.DataFrame(
            [{"entity_id": name, "as_of": at, "arr": 10.0} for name in "ABCD" for at in months]
        )
        raised = np.zeros(len(table), dtype=bool)
        raised[[3, 4, 8]] = True  # A: two runs, from April and from September
        raised[24] = True  # C: January only, and stays
        return table, raised

    def test_alerts_begin_once(self):
        table, raised = self.rows()
        found = starts_of_alerts(table, raised)
        assert found["entity_id"].tolist() == ["A", "A", "C"]
        assert found["as_of"].dt.month.tolist() == [4, 9, 1]

    def test_every_loss_is_told(self):
        table, raised = self.rows()
        events = pd.DataFrame({
            "entity_id": ["A", "B"], "arr": [10.0, 30.0],
            "decision_at": pd.to_datetime(["2025-11-10", "2025-12-01"], utc=True),
        })  # fmt: skip
        alerts = {"model": starts_of_alerts(table, raised)}

        def read(asked):
            return asked.assign(score=asked["as_of"].dt.month.astype(float))

        found = warned(events, alerts, read, ["score"], until=pd.Timestamp("2026-01-01", tz="UTC"),
                       resolved_days=91)  # fmt: skip
        assert [item["entity_id"] for item in found["losses"]] == ["B", "A"]
        first = found["losses"][1]
        assert first["first_alert_days"]["model"] == pytest.approx(223)
        assert first["at"]["90"]["score"] == 8.0
        told = found["scores"]["model"]
        assert (told["warned"], told["missed"], told["arr_missed"]) == (1, 1, 30.0)
        assert [item["entity_id"] for item in told["false_alarms"]] == ["C"]
        assert told["true_alerts"] == 1

    def test_an_alert_long_before_is_no_warning(self):
        events = pd.DataFrame({
            "entity_id": ["A"], "decision_at": pd.to_datetime(["2025-11-10"], utc=True)
        })  # fmt: skip
        alerts = pd.DataFrame({
            "entity_id": ["A", "A"], "as_of": pd.to_datetime(["2025-01-10", "2025-11-10"], utc=True)
        })  # fmt: skip
        assert np.isnan(first_alert_days(events, alerts, within=180)).all()
        assert first_alert_days(events, alerts).tolist() == [304.0]


@pytest.fixture(scope="module")
def parts():
    rows = panel(n=500, quarters=5, model=0.0)
    rng = np.random.default_rng(21)
    truth = np.log(rows["p_model"] / (1 - rows["p_model"])).to_numpy()
    truth = (truth - truth.mean()) / truth.std()
    rows["part_good"] = -truth + 0.6 * rng.normal(size=len(rows))
    rows["part_echo"] = rows["part_good"] + 0.05 * rng.normal(size=len(rows))
    rows["part_noise"] = rng.normal(size=len(rows))
    rows["part_backwards"] = 0.8 * truth + rng.normal(size=len(rows))
    score = (
        0.3 * rows["part_good"] + 0.2 * rows["part_echo"] + 0.3 * rows["part_noise"]
        + 0.2 * rows["part_backwards"]
    )  # fmt: skip
    names = ["good", "echo", "noise", "backwards"]
    content = components_of(rows, names, -score.to_numpy(), DRAWING, "part_")
    return {item["name"]: item for item in content["parts"]}, content


class TestComponents:
    def test_the_formula_is_found(self, parts):
        parts, content = parts
        assert content["rebuilt"] == pytest.approx(1.0)
        assert sum(item["weight"] for item in parts.values()) == pytest.approx(1.0)
        assert {item["direction"] for item in parts.values()} == {-1}

    def test_each_gets_its_word(self, parts):
        parts, _ = parts
        assert parts["noise"]["judgement"] == "no evidence"
        assert parts["backwards"]["judgement"] == "inverted"
        assert parts["good"]["nearest"]["name"] == "echo"
        assert "redundant" in (
            parts["good"]["judgement"], parts["echo"]["judgement"]
        )  # fmt: skip

    def test_dropping_noise_helps_and_dropping_signal_hurts(self, parts):
        parts, _ = parts
        assert parts["noise"]["dropped"]["high"] < 0
        assert parts["good"]["dropped"]["low"] > 0

    def test_weights_are_suggested_where_the_data_carries_them(self, parts):
        _, content = parts
        idea = content["suggestion"]
        assert idea["status"] == "suggested"
        assert idea["gain"]["low"] > 0
        weights = {item["name"]: item["suggested"] for item in idea["weights"]}
        assert abs(weights["noise"]) < 0.1
        assert weights["backwards"] > 0

    def test_no_weights_from_few_events(self):
        rows = panel(n=60, quarters=2, model=0.0)
        rows["part_a"] = -rows["p_model"]
        found = components_of(rows, ["a"], rows["p_model"].to_numpy(), DRAWING, "part_")
        assert found["suggestion"]["status"] == "too few"
        assert found["suggestion"]["weights"] is None


class TestJoint:
    def test_cells_count_everybody(self):
        risk = panel(n=300, model=0.5)
        growth = panel(n=300, model=0.5, seed=8)
        cuts = {name: {"elevated": 0.05, "high": 0.2} for name in ("churn", "expansion")}
        cells = what_followed(risk, growth, cuts, ("churn", "expansion"))
        assert sum(cell["n"] for cell in cells) == 1200
        assert sum(cell["left"]["events"] for cell in cells) == risk["label"].sum()
        assert sum(cell["grew"]["events"] for cell in cells) == growth["label"].sum()

    def test_the_book(self):
        def row(name, risk, growth):
            scores = {"churn": {"band": risk}, "expansion": {"band": growth}}
            return {"account_id": name, "arr": 5.0, "scores": scores}

        rows = [row("A", "low", "high"), row("B", "high", "low"), row("C", "low", "high")]
        cells = now(rows, ("churn", "expansion"))
        assert sum(cell["accounts"] for cell in cells) == 3
        assert sum(cell["arr"] for cell in cells) == 15.0
        assert agreement(cells) == pytest.approx(-1.0)
        assert agreement(now(rows[:1], ("churn", "expansion"))) is None

    def test_pairs(self):
        assert pair_of({"c": {"outcome": "churn"}, "e": {"outcome": "expansion"}}) == ("c", "e")
        assert pair_of({"c": {"outcome": "churn"}}) is None


def test_a_useless_score_is_worth_no_more_than_everybody_or_nobody():
    rows = panel(model=0.3)
    label = rows["label"].to_numpy(dtype=float)
    flat = decision_curve(label, np.full(len(label), label.mean()))
    good = decision_curve(label, rows["p_model"].to_numpy())
    for useless, useful in zip(flat, good, strict=True):
        assert useless["score"] <= max(useless["all_accounts"], 0.0) + 1e-9
        assert useful["score"] >= max(useful["all_accounts"], 0.0) - 3.0
