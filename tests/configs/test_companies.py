"""The company folders here: they load, and the real ones hold what their README says."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from configs.runtime.state_directory import State
from configs.schema.company import load_company
from configs.schema.workspace import Workspace
from features.quality import check_quality
from features.sources import load_sources
from features.sources.mapping import check_tables

COMPANIES = Path(__file__).parents[2] / "configs" / "companies"
NAMES = sorted(path.name for path in COMPANIES.iterdir() if (path / "company.yaml").is_file())


def loaded(name, data, state):
    company = load_company(COMPANIES / name)
    workspace = Workspace(company, COMPANIES / name, data / name, State(state))
    tables = load_sources(workspace, company.clock())
    return tables, check_quality(workspace, tables, company.clock())


@pytest.fixture(scope="module")
def online_retail(real_data, tmp_path_factory):
    return loaded("online_retail", real_data, tmp_path_factory.mktemp("online_retail"))


@pytest.fixture(scope="module")
def ravenstack(real_data, tmp_path_factory):
    return loaded("ravenstack", real_data, tmp_path_factory.mktemp("ravenstack"))


@pytest.mark.parametrize("name", NAMES)
def test_a_company_loads_and_names_itself_like_its_folder(name):
    company = load_company(COMPANIES / name)
    assert company.name == name
    if company.table is not None:
        return  # a ready-made table brings no sources, and a static one no clock
    assert "accounts" in check_tables(company)
    assert company.now is not None, "data that has ended pins the clock"


@pytest.mark.parametrize("name", NAMES)
def test_a_company_folder_names_no_place_but_itself(name):
    company = load_company(COMPANIES / name)
    assert company.data == "."
    for path in (COMPANIES / name).iterdir():
        assert not re.search(r"\.\./|/home/|/work/", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", ["online_retail", "ravenstack"])
def test_source_and_licence_are_said(name):
    readme = (COMPANIES / name / "README.md").read_text(encoding="utf-8")
    assert "**Source.**" in readme
    assert re.search("CC BY 4.0|MIT-like", readme)
    assert re.search("CC BY 4.0|MIT-like", load_company(COMPANIES / name).about)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["online_retail", "ravenstack"])
def test_the_readme_counts_the_rows_read(request, name):
    tables, _ = request.getfixturevalue(name)
    readme = (COMPANIES / name / "README.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| (\w+) \| .+ \| ([\d,]+) \|$", readme, flags=re.M))
    assert said == {table: f"{info.rows_read:,}" for table, info in tables.tables.items()}


@pytest.mark.real_data
def test_online_retail_is_what_its_comments_say(online_retail):
    tables, report = online_retail
    assert tables.tables["accounts"].rows == 5_224
    assert tables.tables["support_tickets"].quarantined == {"unknown_account": 26}
    assert tables.tables["support_tickets"].noted == {"before_account": 140}
    assert tables.tables["invoices"].quarantined == {"unknown_account": 28}
    assert tables.tables["invoices"].noted == {"before_account": 143}
    assert tables.tables["usage_events"].rows == tables.tables["usage_events"].rows_read
    assert all(info.rows_after_now == 0 for info in tables.tables.values())
    assert report.grade == "C"


@pytest.mark.real_data
def test_online_retail_leaves_out_the_lines_without_customer_and_no_others(real_data):
    path = real_data / "online_retail" / "invoice_lines.parquet"
    counted = (
        duckdb.connect()
        .execute(
            "SELECT count(*), count(*) FILTER (customer_id IS NULL) FROM read_parquet(?)",
            [str(path)],
        )
        .fetchall()
    )
    assert counted == [(814_723, 188_840)]


@pytest.mark.real_data
def test_ravenstack_survives_its_incoherence_and_is_graded_for_it(ravenstack):
    tables, report = ravenstack
    assert {name: info.rows for name, info in tables.tables.items()} == {
        "accounts": 500,
        "subscriptions": 5_000,
        "usage_events": 25_000,
        "support_tickets": 2_000,
        "outcomes": 600,
    }
    assert tables.tables["usage_events"].noted == {"before_account": 13_198}
    assert tables.tables["support_tickets"].noted == {"before_account": 1_077}
    assert report.grade == "F"
    worst = next(issue for issue in report.issues if issue.code == "contradicting_churn")
    assert "302 of 312 accounts" in worst.detail
