"""Commented company folder as a starting point, generated from the contract and the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from configs.runtime.errors import ConfigError
from configs.schema.company import (
    COMPANY_FILE,
    Checks,
    Cohort,
    Gates,
    Grid,
    Growth,
    GrowthRoom,
    Limits,
    Retention,
    Serving,
    Target,
    Training,
    Tuning,
)
from features.sources.loaded_tables import MISSING_TABLES
from features.tables.source_tables import TABLES, VERSIONS, SourceColumn, SourceTable

ACTIVE = ("accounts", "usage_events")
"""Tables that are not commented out: the minimum."""

SECTIONS: dict[str, type[BaseModel]] = {
    "grid": Grid,
    "cohort": Cohort,
    "room": GrowthRoom,
    "growth": Growth,
    "training": Training,
    "gates": Gates,
    "serving": Serving,
    "checks": Checks,
    "limits": Limits,
    "ledger": Retention,
}
NOTE_AT = 30
"""Column at which notes begin."""


def scaffold(folder: Path) -> list[Path]:
    """Write a company folder that documents every table and key.

    Parameters
    ----------
    folder : Path
        Created when absent; its name becomes the company's name.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ConfigError
        One of the files exists; nothing is written.
    """
    files = {COMPANY_FILE: "company.yaml.j2", "README.md": "README.md.j2"}
    for name in files:
        if (folder / name).exists():
            raise ConfigError(
                "the company file already exists; nothing was written",
                where=str(folder / name),
                fix="choose another folder, or delete the file first",
            )
    values = _values(folder.resolve().name)
    environment = Environment(
        loader=PackageLoader("features.sources"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(),
        keep_trailing_newline=True,
    )
    texts = {name: environment.get_template(used).render(values) for name, used in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def company_name(folder_name: str) -> str:
    """Return a valid company name derived from the name of a folder.

    >>> company_name("Acme GmbH & Co"), company_name("2024")
    ('acme_gmbh_co', 'company_2024')
    """
    name = re.sub(r"[^a-z0-9]+", "_", folder_name.lower()).strip("_")[:32] or "company"
    return name if name[0].isalpha() else f"company_{name}"


class ColumnTemplate(TypedDict):
    """Line of a column in the template."""

    required: bool
    line: str


class TableTemplate(TypedDict):
    """Table section of the template."""

    name: str
    grain: str
    gap: str
    active: bool
    columns: list[ColumnTemplate]


class SectionTemplate(TypedDict):
    """Configuration section of the template."""

    name: str
    about: str
    lines: list[str]


class TemplateValues(TypedDict):
    """Values of the templates."""

    name: str
    title: str
    activity: str
    tables: list[TableTemplate]
    optional: list[TableTemplate]
    sections: list[SectionTemplate]
    target_keys: list[str]


def _values(folder_name: str) -> TemplateValues:
    tables = [_table(name, spec) for name, spec in TABLES.items()]
    return {
        "name": company_name(folder_name),
        "title": folder_name.replace('"', ""),
        "activity": ", ".join(name for name, spec in TABLES.items() if spec.activity),
        "tables": tables,
        "optional": [table for table in tables if not table["active"]],
        "sections": [
            {"name": name, "about": _about(model), "lines": _keys(model)}
            for name, model in SECTIONS.items()
        ],
        "target_keys": [
            _key(name, field) for name, field in Target.model_fields.items() if _has_default(field)
        ],
    }


def _table(name: str, spec: SourceTable) -> TableTemplate:
    return {
        "name": name,
        "grain": spec.grain,
        "gap": MISSING_TABLES.get(name, ""),
        "active": name in ACTIVE,
        "columns": [
            {"required": column.required, "line": _aligned(f"{key}: {key}", _note(column))}
            for key, column in spec.columns.items()
        ],
    }


def _note(column: SourceColumn) -> str:
    notes = [column.meaning]
    if column.values:
        notes.append("one of " + ", ".join(column.values))
    if column.required:
        notes.append("required")
    if column.visible_from == VERSIONS:
        notes.append("a signal only with history: true")
    return f"{column.kind}; " + "; ".join(notes)


def _aligned(text: str, note: str) -> str:
    return f"{text:<{NOTE_AT}}  # {note}" if note else text


def _about(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _keys(model: type[BaseModel]) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if field.annotation is Tuning:
            lines += [f"#{name}:", *(f"  {line}" for line in _keys(Tuning))]
        else:
            lines.append(_key(name, field))
    return lines


def _has_default(field: FieldInfo) -> bool:
    return not field.is_required() and field.default_factory is None


def _key(name: str, field: FieldInfo) -> str:
    return _aligned(f"#{name}: {json.dumps(field.default)}", field.description or "")
