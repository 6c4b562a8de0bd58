"""Checks are found by file, run on every training, and can be ignored with a reason."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import training.checks
from configs.runtime.errors import ConfigError
from configs.schema.company import Checks, Gates, parse_company
from training.candidates.gates import GateResult, apply_checks
from training.candidates.train import train
from training.checks import check_catalogue
from training.checks.base import OUTCOMES, SECTIONS, Check
from training.checks.registry import leakage_marks
from training.registry.model_card import model_card

HERE = Path(training.checks.__file__).parent


def test_every_file_holds_the_check_of_its_name():
    files = sorted(path.stem for path in HERE.glob("*/[a-z][0-9][0-9]_*.py"))
    codes = [check.code for check in check_catalogue()]
    assert codes == [f"BW-{name[:3].upper()}" for name in files]
    assert len(codes) == len(set(codes)) >= 15


@pytest.mark.parametrize("check", check_catalogue(), ids=lambda check: check.code)
def test_every_check_says_what_it_is(check: Check):
    about = type(check).__doc__ or ""
    assert about.startswith("Finds "), "the docstring says which fault it finds"
    assert len(about.split()) > 20
    assert check.severity in ("blocking", "advisory")
    assert re.fullmatch(rf"BW-[{''.join(SECTIONS)}]\d\d", check.code)
    assert check.title[0].islower()
    assert check.to_do


@pytest.mark.parametrize("check", check_catalogue(), ids=lambda check: check.code)
def test_every_check_has_its_tests(check: Check):
    name = type(check).__module__.rsplit(".", 1)[-1]
    source = (Path(__file__).parent / f"test_{name}.py").read_text(encoding="utf-8")
    assert f'"{check.code}"' in source
    assert re.search(r'"(issue|tip)"', source), "one plants the fault and sees it caught"
    assert '"passed"' in source, "one stays quiet on clean data"


def test_every_check_runs_and_says_a_word(run_ignoring):
    results = run_ignoring({})
    assert [item.code for item in results] == [check.code for check in check_catalogue()]
    assert {item.outcome for item in results} <= set(OUTCOMES)
    for item in results:
        assert item.words
        assert bool(item.to_do) == (item.outcome in ("issue", "tip"))
        assert item.link == f"reference/checks/#{item.code.lower()}"
    json.dumps([item.as_dict() for item in results], allow_nan=False)


def test_an_ignored_check_gives_the_reason(run_ignoring):
    results = {item.code: item for item in run_ignoring({"BW-S01": "a pilot of 50 accounts"})}
    assert results["BW-S01"].outcome == "ignored"
    assert results["BW-S01"].words == "a pilot of 50 accounts"


def test_ignoring_what_does_not_exist_is_refused(run_ignoring):
    with pytest.raises(ConfigError, match="BW-L00"):
        run_ignoring({"BW-L00": "nothing"})


@pytest.mark.parametrize("ignore", [{"BW-L04": " "}, {"L04": "a reason"}, {"BW-L04": None}])
def test_a_check_is_ignored_by_its_code_and_with_a_reason(ignore):
    raw = {
        "name": "x",
        "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}},
        "checks": {"ignore": ignore},
    }
    with pytest.raises(ConfigError, match=r"checks\.ignore"):
        parse_company(raw, where="test")


@pytest.fixture(scope="module")
def result(run_ignoring):
    """Say what a check might have found: `result("BW-L02", "issue")`."""
    by_code = {item.code: item for item in run_ignoring({})}
    return lambda code, outcome: replace(by_code[code], outcome=outcome)


@pytest.mark.parametrize(
    ("code", "outcome", "before", "after"),
    [
        ("BW-L02", "issue", "promotable", "provisional"),
        ("BW-L02", "tip", "promotable", "promotable"),
        ("BW-L02", "ignored", "promotable", "promotable"),
        ("BW-T01", "issue", "promotable", "promotable"),
        ("BW-L02", "issue", "no_signal", "no_signal"),
        ("BW-L02", "issue", "provisional", "provisional"),
    ],
)
def test_only_issues_of_blocking_checks_block(result, code, outcome, before, after):
    held = apply_checks(GateResult(before, ()), [result(code, outcome)])
    assert held.verdict == after
    gate = held.gates[-1]
    assert gate.code == "checks"
    assert gate.passed == (not (outcome == "issue" and code == "BW-L02"))
    assert gate.passed or gate.words.startswith("BW-L02 ")


def test_the_report_is_given_the_leakage_checks(result):
    plain = [result(code, outcome).as_dict() for code, outcome in (
        ("BW-L02", "issue"), ("BW-L03", "tip"), ("BW-L04", "passed"), ("BW-L08", "skipped"),
        ("BW-L05", "ignored"), ("BW-L06", "not applicable"), ("BW-S01", "issue"),
    )]  # fmt: skip
    assert [mark["passed"] for mark in leakage_marks(plain)] == [False, True, True, *[None] * 3]


@pytest.fixture(scope="module")
def leaky(frame, small):
    """A training on a column filled in after the decision, with every gate wide open."""
    rng = np.random.default_rng(3)
    planted = small.with_columns(
        frame, features={"noise_3": frame.label + 0.3 * rng.normal(size=len(frame))}
    )
    gates = Gates(min_events=1, min_folds=1, max_auc=1.0, max_calibration_ratio=100.0)
    company = small.company().model_copy(update={"gates": gates})
    ignoring = company.model_copy(
        update={"checks": Checks(ignore={"BW-L02": "known", "BW-L04": "known"})}
    )
    nowhere = "sqlite:///:memory:"
    return tuple(train(planted, item, storage_url=nowhere) for item in (company, ignoring))


def test_a_blocking_issue_is_sealed_in_the_bundle(leaky):
    trained, _ = leaky
    assert trained.gate_result.verdict == "provisional"
    assert [gate.code for gate in trained.gate_result.failed] == ["checks"]
    manifest = trained.bundle.manifest
    assert manifest.verdict == "provisional"
    assert manifest.to_dict()["checks"] == [item.as_dict() for item in trained.checks]


def test_an_ignored_check_does_not_block_and_stands_in_the_card(leaky):
    _, trained = leaky
    assert trained.gate_result.verdict == "promotable"
    manifest = trained.bundle.manifest
    card = model_card("churn", manifest, trained.evaluation.as_dict())
    assert "| ignored | BW-L02 | no single feature determines the outcome | known |" in card
