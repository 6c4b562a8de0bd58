"""The page: self-contained, safe, accessible, the same bytes for the same inputs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError
from configs.runtime.formatting import percent
from configs.runtime.state_directory import State, read_manifest
from training.report import content_types as types
from training.report.report import build_report, render, style_hash
from training.reporting.report_text import estimated
from training.validation import content_types as account_types

VOID = {"meta", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects what the tests ask for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"unbalanced {tag}"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.words))

    def values(self, name: str) -> list[str]:
        return [str(attrs[name]) for _, attrs in self.tags if name in attrs]


def in_state(example, folder: Path, **changes):
    workspace = replace(example.workspace, state=State(folder))
    return replace(example, workspace=workspace, **changes)


@pytest.fixture(scope="module")
def paths(example, tmp_path_factory):
    made = in_state(example, tmp_path_factory.mktemp("report"))
    return build_report(made.workspace, **made.parts())


@pytest.fixture(scope="module")
def html(paths) -> str:
    return paths.html.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def content(paths) -> dict:
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(paths.json.read_text(encoding="utf-8"), parse_constant=refuse)


def changed(example, tmp_path, **changes) -> tuple[Page, dict]:
    made = in_state(example, tmp_path)
    found = build_report(made.workspace, **{**made.parts(), **changes})
    return (
        Page(found.html.read_text(encoding="utf-8")),
        json.loads(found.json.read_text(encoding="utf-8")),
    )


class TestFiles:
    def test_where(self, paths, content):
        assert paths.folder.name.startswith("2026-07-01-")
        assert content["as_of"] == "2026-07-01"
        assert read_manifest(paths.folder)["as_of"] == "2026-07-01"
        assert paths.latest_html.read_bytes() == paths.html.read_bytes()
        assert paths.latest_json.read_bytes() == paths.json.read_bytes()
        assert paths.latest_html == paths.folder.parent / "latest.html"

    def test_same_inputs_same_bytes(self, example, paths, tmp_path):
        again = in_state(example, tmp_path)
        found = build_report(again.workspace, **again.parts())
        assert found.folder.name == paths.folder.name
        assert found.html.read_bytes() == paths.html.read_bytes()
        assert found.json.read_bytes() == paths.json.read_bytes()

    def test_the_page_is_drawn_from_the_json(self, html, content):
        assert render(content) == html

    def test_keys_are_those_of_the_types(self, content):
        churn, book = content["targets"]["churn"], content["book"]
        accounts = book["targets"]["churn"]
        for part, kind in (
            (content, types.ReportContent),
            (churn, types.TargetContent),
            (churn["test"], types.TestContent),
            (churn["models"][0], types.ModelRow),
            (churn["cohort"][0], types.CohortStep),
            (churn["served"], types.ServedContent),
            (content["joint"], types.JointContent),
            (content["joint"]["now"][0], types.BandPair),
            (content["quality"], types.QualityContent),
            (content["versions"], types.VersionsContent),
            (book, account_types.CurrentAccounts),
            (accounts, account_types.TargetAccounts),
            (accounts["totals"], account_types.AccountTotals),
            (accounts["bands"][0], account_types.BandRow),
            (accounts["top"][0], account_types.TopAccount),
        ):
            assert set(part) == kind.__required_keys__, kind.__name__

    def test_what_tuning_gained_is_told_and_is_no_limit(self, page, content):
        assert page.text.count("Tuning lowered log-loss from 0.2400 to 0.2346.") == 2
        assert not [item for item in content["limits"] if "tuning" in item]

    def test_inputs_are_left_alone(self, example, tmp_path):
        before = {name: rows.copy() for name, rows in example.out_of_time.items()}
        made = in_state(example, tmp_path)
        build_report(made.workspace, **made.parts())
        for name, rows in before.items():
            pd.testing.assert_frame_equal(rows, example.out_of_time[name])

    def test_a_failure_leaves_the_old_report(self, example, paths, tmp_path):
        made = in_state(example, tmp_path)
        first = build_report(made.workspace, **made.parts())
        kept = first.latest_html.read_bytes()
        parts = made.parts() | {"out_of_time": {"churn": made.out_of_time["churn"]}}
        with pytest.raises(DataError, match="expansion: no out-of-time predictions"):
            build_report(made.workspace, **parts)
        assert first.latest_html.read_bytes() == kept
        assert [p.name for p in tmp_path.glob("reports/.*")] == []


class TestSafety:
    def test_nothing_is_fetched_or_run(self, html, page):
        assert "http:" not in html
        assert "https:" not in html
        assert "url(" not in html
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "link", "img", "iframe", "object", "form", "use"}
        assert page.values("style") == []
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
        assert all(target.startswith("#") for target in page.values("href"))

    def test_style_hash(self, html):
        (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        found = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert style_hash() == f"sha256-{found}"
        assert f"style-src '{style_hash()}'" in html.replace("&#39;", "'")

    def test_names_are_text(self, example, tmp_path):
        evil = "<script>alert(1)</script>"
        book = [
            row | {"name": evil, "arr": 9e9} if i == 4 else row
            for i, row in enumerate(example.book)
        ]
        book[4]["scores"] = example.book[1]["scores"] | {
            "churn": example.book[1]["scores"]["churn"] | {"probability": 0.9, "band": "high"}
        }
        page, _ = changed(example, tmp_path, book=book)
        assert evil in page.text
        assert "script" not in {tag for tag, _ in page.tags}


class TestAccess:
    def test_balanced(self, page):
        assert page.open == []

    def test_ids_are_unique_and_found(self, page):
        ids = page.values("id")
        assert len(ids) == len(set(ids))
        wanted = {
            item
            for name in ("aria-labelledby", "aria-describedby")
            for value in page.values(name)
            for item in value.split()
        } | {target[1:] for target in page.values("href")}
        assert wanted <= set(ids)

    def test_every_chart_is_told(self, html):
        charts = re.findall(r'<svg class="chart" role="img".*?</desc>', html, re.DOTALL)
        assert len(charts) >= 8
        for chart in charts:
            assert re.search(r"<title[^>]*>[^<]+</title>", chart)
            assert re.search(r"<desc[^>]*>[^<]+</desc>", chart)

    def test_every_figure_has_its_numbers_in_a_table(self, html):
        for figure in re.findall(r"</figure>(.{0,1500})", html, re.DOTALL):
            assert "<table" in figure or "<details" in figure

    def test_headings_step_by_one(self, page):
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))

    def test_wide_tables_scroll_by_key(self, page):
        regions = [attrs for _, attrs in page.tags if attrs.get("class") == "scroll"]
        assert all(a["tabindex"] == "0" and a["role"] == "region" for a in regions)
        labels = [a["aria-label"] for a in regions]
        assert len(labels) == len(set(labels))


class TestWords:
    def test_verdict_first(self, page):
        text = page.text
        assert text.index("PROMISING") < text.index("Criteria, set in advance")
        assert text.index("INCONCLUSIVE") < text.index("ARR on 1 Jul 2026")
        assert "Does the health score in use predict it? Yes" in text

    def test_numbers_are_those_of_the_json(self, page, content):
        churn = content["targets"]["churn"]
        for item in churn["models"]:
            assert estimated(item["auc"]) in page.text
        for item in churn["criteria"]:
            assert item["found"] in page.text
        assert estimated(churn["health"]["auc"]["difference"], "signed") in page.text
        for item in churn["bands"]["rows"]:
            assert percent(item["rate"]) in page.text

    def test_numbers_are_those_of_the_evaluation(self, example, content):
        told = example.evaluations["churn"]["models"]
        for item in content["targets"]["churn"]["models"]:
            assert item["auc"] == told[item["name"]]["auc"]
        assert content["targets"]["churn"]["calibration"]["bins"] == json.loads(
            json.dumps(example.evaluations["churn"]["reliability"])
        )

    def test_cohort_adds_up(self, content):
        for target in content["targets"].values():
            rows = [(item["step"], item["rows"]) for item in target["cohort"]]
            (whole,) = (n for step, n in rows if step == "whole")
            assert whole == sum(n for step, n in rows if step != "whole")

    def test_two_amounts_have_two_names(self, page):
        assert "ARR in at-risk accounts" in page.text
        assert "Expected ARR lost" in page.text
        assert "ARR at risk" not in page.text

    def test_words_of_cause_are_absent(self, page):
        assert "because" not in page.text
        assert not re.search(r"\bwill (leave|churn|grow)\b", page.text)

    def test_glossary_and_versions(self, page, content):
        assert all(item["word"] in page.text for item in content["glossary"])
        assert content["versions"]["release_id"] in page.text
        assert content["versions"]["config_hash"] in page.text

    def test_limits_are_stated(self, page):
        assert "looks like a false alarm" in page.text
        assert "not measured: every leakage check passes" in page.text


class TestStates:
    def test_no_signal_names_nobody(self, page):
        assert "The model found no signal" in page.text

    def test_growth_with_a_signal(self, example, tmp_path):
        bundles = example.release["bundles"]
        release = example.release | {
            "bundles": {name: item | {"verdict": "provisional"} for name, item in bundles.items()}
        }
        page, content = changed(example, tmp_path, release=release)
        assert "Most likely growth" in page.text
        assert "Read with care: the verdict on this score is inconclusive" in page.text
        assert "is published as provisional" in page.text
        assert len(content["book"]["targets"]["expansion"]["top"]) == 10

    def test_nobody_scored(self, example, tmp_path):
        book = [{"account_id": "A", "status": "too_new", "arr": 5.0}]
        page, content = changed(example, tmp_path, book=book)
        assert "No account is scored." in page.text
        assert content["as_of"] == "2026-07-01"

    def test_undated_outcome(self, example, tmp_path):
        rows = example.out_of_time["churn"].assign(decision_at=pd.NaT)
        rows["decision_at"] = pd.to_datetime(rows["decision_at"], utc=True)
        evaluation = example.evaluations["churn"] | {
            "lead_times": [],
            "first_alerts": {"events": 0, "models": {}, "difference": None},
        }
        page, content = changed(
            example,
            tmp_path,
            out_of_time=example.out_of_time | {"churn": rows},
            evaluations=example.evaluations | {"churn": evaluation},
        )
        assert "the outcome has no decision date" in page.text
        lead = [c for c in content["targets"]["churn"]["criteria"] if c["code"] == "lead"]
        assert lead[0]["status"] == "does not apply"

    def test_held_out_accounts(self, example, tmp_path):
        evaluation = example.evaluations["churn"] | {"over": "accounts"}
        page, content = changed(
            example, tmp_path, evaluations=example.evaluations | {"churn": evaluation}
        )
        assert "accounts were held out instead of time" in page.text
        assert content["targets"]["churn"]["criteria"][0]["status"] == "missed"

    def test_no_health_score(self, example, tmp_path):
        rows = example.out_of_time["churn"].assign(health_score=np.nan)
        page, _ = changed(example, tmp_path, out_of_time=example.out_of_time | {"churn": rows})
        assert page.text.count("Not evaluated: no history") == 4

    def test_suspect(self, example, tmp_path):
        checks = {"churn": [{"title": "AUC falls off a cliff", "passed": False, "words": ""}]}
        page, content = changed(example, tmp_path, checks=checks)
        assert content["targets"]["churn"]["verdict"]["word"] == "SUSPECT"
        assert "AUC falls off a cliff" in page.text

    def test_gates_as_a_list(self, example, tmp_path):
        gates = {name: item["gates"] for name, item in example.gates.items()}
        _, content = changed(example, tmp_path, gates=gates)
        assert content["targets"]["churn"]["criteria"][-2]["code"] == "too_good"

    def test_one_target(self, example, tmp_path):
        page, _ = changed(example, tmp_path, contracts={"churn": example.contracts["churn"]})
        assert "Expansion" not in page.text

    def test_nothing_to_report(self, example, tmp_path):
        with pytest.raises(DataError, match="no targets"):
            changed(example, tmp_path, contracts={})


class TestEditedScore:
    """An own score that was edited after the fact is vouched for nowhere on the page."""

    FAILED = {
        "code": "one_level", "title": "accounts that left do not stand on one narrow level",
        "passed": False, "words": "45 of 90 leavers stand within 2 points",
    }  # fmt: skip
    PASSED = {"code": "copied", "title": "the history moves", "passed": True, "words": "fine"}

    def test_the_answer_is_suspect_and_says_why(self, example, tmp_path):
        page, content = changed(example, tmp_path, own_score=[self.FAILED, self.PASSED])
        health = content["targets"]["churn"]["health"]
        assert (health["predicts"], health["judgement"]) == ("suspect", "suspect")
        assert [item["code"] for item in health["failed"]] == ["one_level"]
        said = "Does the health score in use predict it? SUSPECT. The history of the health score "
        assert page.text.count(said) == 2  # in the verdict, and with the evidence
        assert "45 of 90 leavers stand within 2 points" in page.text
        assert "1 of 2 integrity checks missed" in page.text
        assert "Yes: it ranked" not in page.text

    def test_a_score_that_passes_is_answered_as_before(self, example, tmp_path):
        page, content = changed(example, tmp_path, own_score=[self.PASSED])
        assert content["targets"]["churn"]["health"]["predicts"] == "yes"
        assert "SUSPECT" not in page.text
        assert "0 of 1 integrity check missed" in page.text
