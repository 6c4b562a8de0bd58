"""The folder `bellwether init` writes: it loads, explains everything, and replaces nothing."""

from __future__ import annotations

import re

import pytest

from configs.runtime.errors import ConfigError
from configs.schema.company import (
    Cohort,
    Gates,
    Grid,
    Serving,
    Target,
    Training,
    Tuning,
    load_company,
)
from features.sources.mapping import check_tables
from features.sources.scaffold import scaffold
from features.tables.source_tables import TABLES


def test_what_is_written_loads(tmp_path):
    written = scaffold(tmp_path / "Acme & Sons")
    assert [path.name for path in written] == ["company.yaml", "README.md"]
    company = load_company(tmp_path / "Acme & Sons")
    assert company.name == "acme_sons"
    assert check_tables(company) == ["accounts", "usage_events"]


def test_every_commented_key_loads_too_and_stands_at_its_default(tmp_path):
    path = scaffold(tmp_path / "acme")[0]
    plain = load_company(path)
    uncommented = re.sub(r"^( *)#(?=\w)", r"\1", path.read_text(), flags=re.M)
    path.write_text(uncommented)
    full = load_company(path)
    assert check_tables(full) == list(TABLES)
    for section in ("grid", "cohort", "training", "gates", "serving"):
        assert getattr(full, section) == getattr(plain, section)
    assert full.targets["churn"] == plain.targets["churn"]


def test_every_table_column_and_key_is_explained(tmp_path):
    text = scaffold(tmp_path / "acme")[0].read_text()
    for name, spec in TABLES.items():
        assert f"# {name}: one row per " in text
        for column, declared in spec.columns.items():
            assert re.search(rf"#?{column}: {column} +# {declared.kind}; ", text)
    for model in (Grid, Cohort, Training, Tuning, Gates, Serving, Target):
        for key in model.model_fields:
            assert re.search(rf"\b{key}:", text), key


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="nothing was written"):
        scaffold(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"
