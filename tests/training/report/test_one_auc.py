"""One AUC per score and rows, under one name, wherever it is shown; the pooled one next to it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from configs.runtime.formatting import percent
from configs.runtime.state_directory import State, read_json
from training.evaluation.evaluate import evaluate
from training.evaluation.metrics import AUC_POOLED, AUC_WITHIN
from training.model.bundle import logit_of, sigmoid
from training.model.manifest import ModelManifest
from training.registry.model_card import model_card
from training.report.content import report_bootstrap
from training.report.report import build_report

NAMED = re.compile(
    r"AUC(?! within test periods| within months| over all (periods|months) together)"
)
EXPLAINED = ("AUC The share of pairs", "an AUC of 0.75", "the AUC of a period", "for an AUC.")
"""Where the word stands for the idea and no number of a score follows it."""


@pytest.fixture(scope="module")
def seasonal(example):
    """The churn scores with a level that moves from period to period, so that both AUCs differ."""
    rows = example.out_of_time["churn"].copy()
    season = 0.9 * np.sin(rows["fold"].to_numpy() * 2.0)
    for column in ("p_model", "p_model_raw", "p_logistic"):
        rows[column] = sigmoid(logit_of(rows[column].to_numpy()) + season)
    return rows


@pytest.fixture(scope="module")
def shown(example, seasonal, tmp_path_factory):
    drawing = report_bootstrap(example.workspace.company)
    folds = pd.DataFrame(example.evaluations["churn"]["folds"])
    found = evaluate(seasonal, folds, drawing, target="churn", over="time").as_dict()
    made = replace(
        example,
        workspace=replace(
            example.workspace, state=State(tmp_path_factory.mktemp("one_auc") / "state")
        ),
        out_of_time=example.out_of_time | {"churn": seasonal},
        evaluations=example.evaluations | {"churn": found},
    )
    paths = build_report(made.workspace, **made.parts())
    content = read_json(paths.json)["targets"]["churn"]
    return found, content, paths.html.read_text(encoding="utf-8")


def independent(rows, score) -> tuple[float, float]:
    """Both AUCs: by periods weighed by their pairs, and of all rows."""
    areas, pairs = [], []
    for _, here in rows.assign(score=score).groupby("fold"):
        events = here["label"].sum()
        areas.append(roc_auc_score(here["label"], here["score"]))
        pairs.append(events * (len(here) - events))
    return float(np.average(areas, weights=pairs)), float(roc_auc_score(rows["label"], score))


def unnamed(text: str) -> list[str]:
    """Return the places that say AUC and not which."""
    around = [text[max(at.start() - 8, 0) : at.end() + 30] for at in NAMED.finditer(text)]
    return [words for words in around if not any(known in words for known in EXPLAINED)]


def test_the_model_has_one_auc_and_one_pooled(shown, seasonal):
    found, content, _ = shown
    rows = seasonal[seasonal["is_headline"]]
    within, pooled = independent(rows, rows["p_model"])
    model = found["models"]["model"]
    assert model["auc"]["value"] == pytest.approx(within, abs=1e-12)
    assert model["auc_pooled"]["value"] == pytest.approx(pooled, abs=1e-12)
    assert abs(within - pooled) > 0.01
    assert content["models"][0]["auc"] == model["auc"]
    assert content["models"][0]["auc_pooled"] == model["auc_pooled"]
    marks = {item["code"]: item for item in content["criteria"]}
    for code in ("discrimination", "too_good"):
        assert {part: marks[code][part] for part in ("value", "low", "high")} == model["auc"]


def test_the_health_score_has_one_auc_fitted_or_not(shown, seasonal):
    _, content, _ = shown
    rows = seasonal[seasonal["is_headline"] & seasonal["health_score"].notna()]
    within, pooled = independent(rows, -rows["health_score"])
    sides = {item["name"]: item for item in content["sides"]["scores"]}
    for key, value in (("auc", within), ("auc_pooled", pooled)):
        assert content["health"][key]["theirs"]["value"] == pytest.approx(value, abs=1e-12)
        assert sides["health_score"][key] == content["health"][key]["theirs"]
        assert sides["model"][key] == content["health"][key]["ours"]


def test_the_card_tells_the_same(shown):
    found, _, _ = shown
    lines = model_card("churn", ModelManifest(), found).splitlines()
    for key, words in (("auc", AUC_WITHIN), ("auc_pooled", AUC_POOLED)):
        value, low, high = (
            found["models"]["model"][key][part] for part in ("value", "low", "high")
        )
        assert f"| {words} | {value:.3f} ({low:.3f} to {high:.3f}) |" in lines
    assert unnamed("\n".join(lines)) == []


def test_the_page_never_says_auc_alone_of_a_number(shown):
    _, content, html = shown
    text = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))
    assert text.count(AUC_WITHIN) > 10
    assert text.count(AUC_POOLED) > 3
    assert unnamed(text) == []
    model = content["models"][0]
    assert percent(model["auc"]["value"], 0) in html
    assert f"over all periods: {percent(model['auc_pooled']['value'], 0)}" in html
