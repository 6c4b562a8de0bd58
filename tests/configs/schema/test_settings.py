"""Settings from environment variables: names, secrets, mistakes, and the table of all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import configs
from configs.runtime.errors import ConfigError
from configs.schema.settings import (
    Environment,
    Locations,
    ServiceSettings,
    SignIn,
    settings_table,
)

ROOT = Path(configs.__file__).parents[1]
SECRET = "a-secret-that-is-long-enough"


def test_every_address_has_its_variable():
    read = Environment.from_environment(
        {
            "BELLWETHER_LEDGER_URL": "postgresql://ledger",
            "BELLWETHER_REDIS": "redis:6379",
            "BELLWETHER_FEAST_REGISTRY_URL": "postgresql://feast",
            "BELLWETHER_MLFLOW_URL": "http://mlflow",
            "BELLWETHER_OPTUNA_URL": "postgresql://optuna",
            "BELLWETHER_PROXY_SECRET": SECRET,
            "BELLWETHER_UNRELATED": "ignored",
        }
    )
    assert read.ledger_url == "postgresql://ledger"
    assert read.redis_url == "redis:6379"
    assert read.registry_url == "postgresql://feast"
    assert read.tracking_url == "http://mlflow"
    assert read.optuna_url == "postgresql://optuna"
    assert read.sign_in.proxy_secret.get_secret_value() == SECRET


def test_groups_of_variables_are_read_by_name_in_lower_case():
    read = Environment.from_environment(
        {
            "BELLWETHER_CONNECTION_ERP": "postgresql://erp",
            "BELLWETHER_CONNECTION_DATA_LAKE": "duckdb:///lake",
            "BELLWETHER_WEBHOOK_SECRET_CRM": SECRET,
        }
    )
    assert set(read.connections) == {"erp", "data_lake"}
    assert read.connections["data_lake"].get_secret_value() == "duckdb:///lake"
    assert read.webhook_secret("crm") == SECRET
    assert read.webhook_secret("other") == ""


def test_neither_repr_nor_json_shows_a_secret():
    read = Environment(
        ledger_url=f"postgresql://me:{SECRET}@host",
        connections={"erp": f"postgresql://me:{SECRET}@host"},
        webhook_secrets={"crm": SECRET},
        sign_in=SignIn(proxy_secret=SECRET),
    )
    assert SECRET not in repr(read)
    assert SECRET not in read.model_dump_json(exclude={"ledger_url"})


def test_empty_variables_count_as_not_set():
    empty = {"BELLWETHER_LEDGER_URL": "", "BELLWETHER_WORKERS": "", "BELLWETHER_STATE": ""}
    assert Environment.from_environment(empty).ledger_url is None
    assert ServiceSettings.from_environment(empty).workers == 1
    assert Locations.from_environment(empty).state is None


def test_a_constructor_reads_no_variable(monkeypatch):
    monkeypatch.setenv("BELLWETHER_LEDGER_URL", "postgresql://ledger")
    assert Environment().ledger_url is None
    assert Environment.from_environment().ledger_url == "postgresql://ledger"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BELLWETHER_WORKERS", "many"),
        ("BELLWETHER_WORKERS", "0"),
        ("BELLWETHER_CHECK_SECONDS", "-1"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_its_variable(variable, value):
    with pytest.raises(ConfigError) as refused:
        ServiceSettings.from_environment({variable: value})
    assert refused.value.where == variable
    assert value not in refused.value.what.split()


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        ServiceSettings().workers = 2


def test_the_table_lists_every_variable_the_code_reads():
    listed = set(re.findall(r"`(BELLWETHER_[A-Z_]+?)(?:_<NAME>)?`", settings_table()))
    read = set()
    for package in ("configs", "features", "training", "serving"):
        for path in (ROOT / package).rglob("*.py"):
            found = re.findall(r"\b(BELLWETHER_[A-Z_]+[A-Z])", path.read_text(encoding="utf-8"))
            read |= {name for name in found if not name.startswith("BELLWETHER_TEST")}
    example = {"BELLWETHER_CONNECTION_ERP"}
    assert read - example <= listed
    assert len(listed) == 20


def test_every_setting_has_a_meaning_and_a_unit():
    for line in settings_table().splitlines()[2:]:
        name, default, unit, meaning = (cell.strip() for cell in line.strip("|").split("|"))
        assert name.startswith("`BELLWETHER_"), line
        assert default, line
        assert unit, line
        assert len(meaning) > 10, line
