"""The steps of the setup: what a person sees is what is read, and what is saved."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import unescape

import pytest
import yaml

from configs.runtime.errors import ConfigError
from features.sources.proposal.propose import answered, propose
from serving.company.company import open_company
from serving.setup.desk import chosen_folder
from serving.setup.mapping_form import currencies, time_zones
from tests.benchmarks.training.audit import company
from tests.serving.pages.test_pages import SCRIPT, Reader
from tests.serving.setup.exports import N_ACCOUNTS, write_exports

ENDED = "2026-05-31T00:00:00Z"
"""The day after the last event of the twelve accounts."""

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def text_of(answer) -> str:
    return Reader(answer.text).text


def written(desk) -> dict:
    return yaml.safe_load(desk.company_file.read_text(encoding="utf-8"))


def test_the_first_page_needs_no_script_and_offers_both_ways(pages):
    answer = pages.get("/", follow_redirects=True)
    page = Reader(answer.text)
    assert answer.status_code == 200
    assert page.tags.count("script") == answer.text.count(SCRIPT)
    assert "style" not in page.attributes
    assert page.tags.count("h1") == page.tags.count("main") == 1
    assert page.tags.count("form") == 3
    assert answer.text.count(pages.desk.token()) == 3
    assert "500 MB per file" in page.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_uploaded_exports_become_a_proposal_with_evidence(uploaded):
    answer = uploaded.get("/start/mapping")
    page = text_of(answer)
    for words in (
        "Proposed mapping", "clients.csv", "12 rows", "one row per account", "its column names",
        "match Web Site (100%)", "event_time has no time zone", "Nothing is written before",
    ):  # fmt: skip
        assert words in page
    form = uploaded.form()
    assert form["tables.accounts.columns.account_id"] == "Client Ref"
    assert form["tables.usage_events.account.0"] == "user"
    assert form["tables.usage_events.timezone"] == "UTC"
    assert form["reporting_currency"] == "EUR"
    assert form["now"] == ENDED
    assert not uploaded.desk.company_file.exists()


def test_while_files_are_read_the_page_waits_and_a_sent_form_is_not_lost(uploaded, monkeypatch):
    form = uploaded.form()
    path = uploaded.desk.exports / "clients.csv"
    path.write_bytes(path.read_bytes() + b"\n")  # the files are read again
    for name in ("WAIT_SECONDS", "SAVE_SECONDS"):
        monkeypatch.setattr(f"serving.setup.routes.{name}", 0.0)
    answer = uploaded.get("/start/mapping")
    assert "Reading 3 files" in text_of(answer)
    assert answer.headers["refresh"] == "2"
    answer = uploaded.post("/start/mapping", form)
    assert answer.status_code == 503
    assert "nothing was saved; go back" in text_of(answer)
    monkeypatch.setattr("serving.setup.routes.WAIT_SECONDS", 30.0)
    assert "Proposed mapping" in text_of(uploaded.get("/start/mapping"))


def test_saving_writes_what_init_would_write(uploaded, no_check):
    answer = uploaded.save()
    assert (answer.status_code, answer.headers["location"]) == (303, "/start/understood")
    found = written(uploaded.desk)
    assert found["name"] == "twelve"
    assert found["data"] == "exports"
    proposal = propose(uploaded.desk.exports, NOW)
    for draft in proposal.drafts:
        columns = {name: choice.value for name, choice in draft.columns.items()}
        assert found["tables"][draft.table]["columns"] == columns
    assert set(found["guesses"]) == set(proposal.guesses()) != set()
    shown = uploaded.get("/start/company.yaml")
    assert shown.headers["content-disposition"] == 'attachment; filename="company.yaml"'
    assert shown.text == uploaded.desk.company_file.read_text(encoding="utf-8")


def test_a_changed_value_is_saved_with_who_chose_it(uploaded, no_check):
    uploaded.save(tables__usage_events__timezone="Europe/Berlin", now="",
                  tables__usage_events__columns__feature="")  # fmt: skip
    found = written(uploaded.desk)
    assert found["tables"]["usage_events"]["timezone"] == "Europe/Berlin"
    assert "feature" not in found["tables"]["usage_events"]["columns"]
    assert "now" not in found
    assert "guesses" not in found
    assert "chosen by a person" in uploaded.desk.company_file.read_text(encoding="utf-8")
    form = uploaded.form()  # what was chosen stays chosen, and can be taken back
    assert form["tables.usage_events.timezone"] == "Europe/Berlin"
    assert form["now"] == ""
    uploaded.save(now=ENDED, tables__usage_events__columns__feature="action")
    found = written(uploaded.desk)
    assert found["now"] == datetime(2026, 5, 31, tzinfo=UTC)
    assert found["tables"]["usage_events"]["columns"]["feature"] == "action"
    assert "now" in found["guesses"]


def test_answers_after_a_proposal_equal_answers_before_it(tmp_path):
    folder = write_exports(tmp_path / "exports")
    answers = {
        "tables.usage_events.account.0": "",
        "now": "",
        "reporting_currency": "USD",
        "tables.subscriptions.columns.arr": "",
        "tables.usage_events.known_at": "event_time",
    }
    before = propose(folder, NOW)
    kept = {key: choice.value for key, choice in before.choices().items()}
    after = answered(before, answers)
    assert after.choices() == propose(folder, NOW, answers).choices()
    assert {key: choice.value for key, choice in before.choices().items()} == kept


@pytest.mark.parametrize(
    "changes",
    [
        {"tables.accounts.columns.name": "no such column"},
        {"tables.accounts.columns.name": "(SELECT 1)"},
        {"tables.accounts.leave_out": "true"},
        {"data": "/"},
    ],
)
def test_only_offered_values_are_accepted(uploaded, changes):
    answer = uploaded.post("/start/mapping", {**uploaded.form(), **changes})
    assert answer.status_code == 422
    assert "not a possible value" in text_of(answer)
    assert not uploaded.desk.company_file.exists()


def test_values_that_contradict_each_other_are_refused_with_the_key(uploaded):
    answer = uploaded.save(tables__subscriptions__columns__arr="")
    assert answer.status_code == 303
    form = uploaded.form()
    assert "tables.subscriptions.billing.amount" in form, "a price is offered where ARR is missing"
    answer = uploaded.save(tables__subscriptions__billing__amount="arr")
    assert answer.status_code == 422
    assert "billing" in text_of(answer)
    assert "billing" not in written(uploaded.desk)["tables"]["subscriptions"]


def test_a_file_can_be_left_out_or_read_as_another_table(uploaded, no_check):
    uploaded.save(**{"files.usage_log": "support_tickets"})
    page = text_of(uploaded.get("/start/mapping"))
    assert "its columns do not have what support_tickets needs" in page
    assert not uploaded.desk.company_file.exists(), "the new tables are shown first"
    uploaded.save(**{"files.usage_log": ""})
    assert "left out" in text_of(uploaded.get("/start/mapping"))
    uploaded.save(**{"files.usage_log": "as recognised"})
    assert "tables.usage_events.timezone" in uploaded.form()


def test_without_accounts_the_page_asks_which_file_has_them(pages, exports):
    pages.upload(*(item for item in exports if item[0] != "clients.csv"))
    answer = pages.get("/start/mapping")
    page = text_of(answer)
    assert answer.status_code == 422
    assert "No file looks like the list of accounts" in page
    assert "account_id, created_at" in page
    assert set(pages.form()) == {"files.subscriptions", "files.usage_log"}
    answer = pages.save(**{"files.usage_log": "accounts"})
    assert answer.status_code == 303
    assert pages.desk.record.answers == {"files.usage_log": "accounts"}
    assert not pages.desk.company_file.exists()


def test_a_list_of_accounts_without_rows_is_no_list(pages, exports):
    pages.upload(*exports[1:], ("clients.csv", exports[0][1].splitlines()[0] + b"\n"))
    assert pages.get("/start/mapping").status_code == 422


def test_guesses_are_confirmed_and_stay_so(uploaded, no_check):
    uploaded.save()
    assert "2 open guesses" in text_of(uploaded.get("/start/mapping"))
    key = "tables.usage_events.timezone"
    uploaded.post("/start/confirm", {"key": key})
    assert set(written(uploaded.desk)["guesses"]) == {"now"}
    uploaded.save(tables__accounts__columns__owner_id="")
    assert set(written(uploaded.desk)["guesses"]) == {"now"}, "a confirmed guess stays confirmed"
    uploaded.post("/start/confirm")
    assert "guesses" not in written(uploaded.desk)
    uploaded.post("/start/confirm", {"key": key})  # twice is once
    assert "0 open guesses" in text_of(uploaded.get("/start/mapping"))


def test_a_file_that_a_person_edited_is_never_overwritten(uploaded, no_check):
    uploaded.save()
    form = uploaded.form()
    path = uploaded.desk.company_file
    path.write_text(path.read_text().replace("title: twelve", "title: Twelve & Co"))
    text = path.read_text()
    page = text_of(uploaded.get("/start/mapping"))
    assert "Mapping of Twelve & Co" in page
    assert "they do not change it" in page
    answer = uploaded.post("/start/mapping", form)
    assert answer.status_code == 422
    assert "nothing was overwritten" in text_of(answer)
    assert path.read_text() == text
    uploaded.post("/start/confirm", {"key": "now"})
    assert "Twelve & Co" in path.read_text()
    assert "now" not in written(uploaded.desk)["guesses"]


def test_figures_and_quality_equal_those_of_the_python_api(uploaded):
    uploaded.save()
    assert uploaded.ended("check").status == "done"
    figures = open_company(uploaded.desk.folder).revenue().summary
    page = text_of(uploaded.get("/start/understood"))
    assert figures.accounts == N_ACCOUNTS
    assert "Is this right?" in page
    for quarter in figures.quarters:
        assert f"{quarter.quarter} {quarter.start_arr:,.0f} {quarter.lost}" in page
    assert sum(quarter.lost for quarter in figures.quarters) > 0
    assert all(line.replace("\xa0", " ") in page for line in figures.lines())

    quality = open_company(uploaded.desk.folder).check()
    page = text_of(uploaded.get("/start/quality"))
    assert f"Data quality: grade {quality.grade}" in page
    assert f"{len(quality.issues)} issues" in page
    for detail in quality.issues["detail"]:
        assert " ".join(detail.split()) in page

    answer = uploaded.post("/start/agree")
    assert answer.url.path == "/start/quality"
    assert "Confirmed:" in text_of(uploaded.get("/start/understood"))
    uploaded.post("/start/confirm")  # states no other figures
    assert "Confirmed:" in text_of(uploaded.get("/start/understood"))


def test_figures_of_an_earlier_mapping_say_so(uploaded):
    uploaded.save()
    uploaded.ended("check")
    path = uploaded.desk.company_file
    path.write_text(path.read_text().replace("reporting_currency: EUR", "reporting_currency: USD"))
    assert "of an earlier mapping" in text_of(uploaded.get("/start/understood"))


def test_a_data_folder_of_the_environment_does_not_replace_the_exports(uploaded, monkeypatch):
    monkeypatch.setenv("BELLWETHER_DATA", str(uploaded.desk.folder))
    uploaded.save()
    assert uploaded.ended("check").status == "done"


def test_exports_elsewhere_are_read_in_place(pages, tmp_path, no_check):
    folder = write_exports(tmp_path / "from_crm")
    answer = pages.post("/start/folder", {"path": str(folder)})
    assert "Proposed mapping" in text_of(answer)
    pages.save()
    assert written(pages.desk)["data"] == str(folder)
    assert not pages.desk.exports.exists()


def test_exports_in_the_company_folder_itself_are_found(pages, no_check):
    write_exports(pages.desk.folder)
    assert "clients.csv" in text_of(pages.get())
    pages.save()
    assert written(pages.desk)["data"] == "."


@pytest.mark.parametrize(
    "path", ["/etc", "../..", "from_crm/../../..", "missing", "", "link", "\0"]
)
def test_folders_outside_the_root_are_refused(pages, tmp_path, path):
    (tmp_path / "link").symlink_to("/etc")
    answer = pages.post("/start/folder", {"path": path})
    assert answer.status_code == 422
    assert "root:" not in answer.text
    assert pages.desk.record.data == ""


def test_a_folder_is_found_relative_to_the_root(tmp_path):
    (tmp_path / "a b").mkdir()
    assert chosen_folder((tmp_path,), " a b ") == (tmp_path / "a b").resolve()
    with pytest.raises(ConfigError, match="outside"):
        chosen_folder((tmp_path / "a b",), str(tmp_path))


def test_two_files_give_the_verdict_of_a_health_score(pages):
    scores, outcomes = company(150, 20)
    answer = pages.post(
        "/start/audit",
        files=[
            ("scores", ("export.csv", scores.to_csv(index=False).encode())),
            ("outcomes", ("export.csv", outcomes.to_csv(index=False).encode())),
        ],
    )
    assert answer.url.path == "/start/audit"
    assert "refresh" in answer.headers
    assert "refresh" not in pages.get("/start/audit?still").headers
    assert pages.ended("audit").status == "done"
    answer = pages.get("/start/audit")
    page = text_of(answer)
    assert re.search(r"Churn: (proven|promising|not proven|inconclusive)", page)
    assert "150 accounts, scores from" in page
    assert "The date of the score scores scored_on by its name" in page
    assert "The date of the decision outcomes" in page
    assert "refresh" not in answer.headers
    report = pages.get("/start/audit/report")
    assert "Health-score audit" in report.text
    assert "script" not in Reader(report.text).tags


def test_an_audit_that_cannot_be_made_says_why(pages):
    pages.upload(("scores.csv", b"a,b\n1,2\n"), path="/start/audit", field="scores")
    assert pages.ended("audit").status == "failed"
    page = text_of(pages.get("/start/audit"))
    assert "The health score could not be tested" in page
    assert "Where:" in page or "To do:" in page
    assert "Traceback" not in page
    assert pages.get("/start/audit/report").status_code == 404


def test_without_a_mapping_nothing_is_run(pages):
    for path in ("/start/run", "/start/check", "/start/book"):
        answer = pages.post(path)
        assert answer.status_code == 422
        assert "save the mapping first" in text_of(answer)
    for path in ("/start/run", "/start/understood", "/start/quality"):
        assert "There is no mapping yet" in text_of(pages.get(path))


def test_offered_currencies_and_time_zones_are_real():
    assert {"EUR", "USD", "JPY", "CHF"} <= set(currencies())
    assert not {"DEM", "XXX"} & set(currencies())
    assert {"UTC", "Europe/Berlin", "America/New_York"} <= set(time_zones())


def test_names_of_files_and_columns_are_shown_as_they_are(pages, exports):
    odd = exports[0][1].replace(b"Client Name", b'"<script>alert(1)</script>"')
    pages.upload(("clients.csv", odd), *exports[1:])
    answer = pages.get("/start/mapping")
    assert answer.status_code == 200
    assert "<script>" not in answer.text
    assert "<script>alert(1)</script>" in unescape(answer.text)
