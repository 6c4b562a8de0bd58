"""The book in other systems' fields: right names, types and scales, safe to open."""

from __future__ import annotations

import csv
import io
import re

import pytest

from configs.runtime.errors import ConfigError
from serving.batch.score_book import read_table
from serving.integrations.crm_export import SHIPPED, MappedField, load_mapping, mapped_lines
from serving.ledger.store.feedback_store import FeedbackStore, ReportedOutcome
from serving.run.exports import export_mapped, export_outcomes

SYSTEMS = ("salesforce", "hubspot", "gainsight")
EMPTY = {"salesforce": "#N/A", "hubspot": "", "gainsight": ""}
"""What takes an earlier value away. Bulk API 2.0 skips empty cells of an update (Salesforce,
Bulk API 2.0 Developer Guide, "Valid CSV Record Rows")."""
PERCENT = {"salesforce": 100.0, "hubspot": 1.0, "gainsight": 100.0}
TYPES = {
    "salesforce": r"(Percent|Number|Currency)\(\d+,\d\)|Text\(255\)|LongTextArea\(32768\)|Picklist|"
    r"Checkbox|Date|DateTime",
    "hubspot": r"number(\((percentage|currency)\))?|string(\(textarea\))?|enumeration|bool|date|"
    r"datetime",
    "gainsight": r"Percentage|Number|Currency|String|RichTextArea|Dropdown|Boolean|Date|DateTime",
}
"""Field types of the three systems a mapping may name."""


def test_every_shipped_mapping_is_tested():
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == set(SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_book_in_their_fields(system, book):
    mapping, rows = load_mapping(system), read_table(book).to_pylist()
    text = "".join(mapped_lines(rows, mapping))
    lines = list(csv.DictReader(io.StringIO(text)))
    by = {item.source: item for item in mapping.fields}
    assert len(lines) == 260
    assert next(iter(lines[0])) == by["account_id"].field
    for item in mapping.fields:
        assert re.fullmatch(TYPES[system], item.type), item.field
        assert item.length is None or all(len(line[item.field]) <= item.length for line in lines)
    for row, line in zip(rows, lines, strict=True):
        shown = line[by["churn_risk"].field]
        if row["churn_risk"] is None:
            assert shown == EMPTY[system]
            continue
        decimals = by["churn_risk"].decimals
        assert float(shown) == pytest.approx(
            row["churn_risk"] * PERCENT[system], abs=0.5 * 10**-decimals + 1e-9
        )
        assert line[by["risk_band"].field].lower() == row["risk_band"]
        assert line[by["renews_on"].field] == (row["renews_on"] or EMPTY[system])
        assert line[by["is_stale"].field] in {"true", "false"}


def test_values_are_cut_scaled_and_safe():
    text = MappedField.model_validate({"field": "T", "type": "Text", "from": "name", "length": 5})
    assert text.render("=1+1") == "'=1+1"
    assert text.render("abcdefg") == "abcd…"
    assert text.render(["a", "b"]) == "a; b"
    assert text.render(None, "#N/A") == "#N/A"
    flag = {"field": "F", "type": "Checkbox", "from": "is_stale", "empty": "false"}
    assert MappedField.model_validate(flag).render(None, "#N/A") == "false"
    word = MappedField.model_validate(
        {"field": "B", "type": "Picklist", "from": "risk_band", "values": {"low": "Low"}}
    )
    assert word.render("low") == "Low"
    with pytest.raises(ConfigError, match="no value for 'high'"):
        word.render("high")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("from: churn_risk", 'did you mean "churn_risk"'),
        ("is_key: true", "exactly one field"),
        ("Bellwether_Risk_Band__c", "filled twice"),
        ("object: Account", "object"),
    ],
)
def test_a_mapping_with_a_mistake_is_refused(tmp_path, change, words):
    wrong = {
        "from: churn_risk": "from: churn_rsk",
        "is_key: true": "is_key: false",
        "Bellwether_Risk_Band__c": "Bellwether_Status__c",
        "object: Account": "objekt: Account",
    }
    path = tmp_path / "mine.yaml"
    path.write_text((SHIPPED / "salesforce.yaml").read_text().replace(change, wrong[change], 1))
    with pytest.raises(ConfigError, match=words):
        load_mapping(str(path))


def test_a_mapping_nobody_ships_gets_a_hint():
    with pytest.raises(ConfigError) as caught:
        load_mapping("salesfroce")
    assert caught.value.fix == 'did you mean "salesforce"?'


def test_files_are_written_whole(world, book, tmp_path):
    path = tmp_path / "hubspot.csv"
    assert export_mapped(world.workspace, "hubspot", path) == 260
    assert path.read_bytes().count(b"\r\n") == 261
    assert [item.name for item in tmp_path.iterdir()] == ["hubspot.csv"]


def test_reported_outcomes_are_written_for_training(world, tmp_path):
    intake = FeedbackStore(world.workspace)
    intake.record_outcomes([ReportedOutcome("A-0099", "churned", "2026-02-01")], "crm", world.now)
    intake.close()
    path = tmp_path / "outcomes.csv"
    assert export_outcomes(world.workspace, path) >= 1
    rows = {row["account_id"]: row for row in csv.DictReader(io.StringIO(path.read_text()))}
    assert rows["A-0099"]["outcome"] == "churn"
    assert rows["A-0099"]["known_at"].startswith("2026-03-02T09:30")
