"""The canonical row in the fields of another system: names, types and scales from a mapping file.

Shipped mappings lie in ``configs/mappings``; a company's own is a file of the same form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from configs.runtime.errors import ConfigError, did_you_mean
from configs.schema.yaml_models import parse_model, read_yaml
from serving.scoring.export_columns import COLUMNS
from serving.scoring.export_rows import cell, csv_text

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "mappings"


class MappedField(BaseModel):
    """One field of the other system.

    Attributes
    ----------
    field, type : str
        Its name and type there.
    source : str
        Column of the canonical row, ``from`` in the file.
    scale, decimals : float and int
        Numbers are multiplied, then rounded; decimals left out keeps them whole as they are.
    length : int
        Texts are cut to so many characters.
    values : mapping
        Words of ours to theirs; a word without one is an error.
    is_key : bool
        Rows are matched by it.
    empty : str or None
        Text for unknown values; None takes the mapping's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: Annotated[str, Field(min_length=1)]
    type: str
    source: str = Field(alias="from")
    scale: float = 1.0
    decimals: Annotated[int, Field(ge=0, le=10)] | None = None
    length: Annotated[int, Field(ge=2)] | None = None
    values: dict[str, str] = {}
    is_key: bool = False
    empty: str | None = None

    def render(self, value: Any, empty: str = "") -> str:
        """Return a value as the other system takes it; `empty` when it is not known.

        >>> risk = MappedField.model_validate(
        ...     {"field": "R", "type": "%", "from": "churn_risk", "scale": 100, "decimals": 1})
        >>> risk.render(0.3124), risk.render(None)
        ('31.2', '')
        """
        if value is None:
            return empty if self.empty is None else self.empty
        if isinstance(value, list):
            value = "; ".join(value)
        if self.values:
            return self._word(str(value))
        if isinstance(value, str):
            return cell(_cut(value, self.length))
        if self.decimals is None or isinstance(value, bool):
            return cell(value)
        return f"{value * self.scale:.{self.decimals}f}"

    def _word(self, word: str) -> str:
        if word not in self.values:
            raise ConfigError(
                f"{self.field} has no value for {word!r}",
                where="values",
                fix="add it to the mapping",
            )
        return cell(self.values[word])


class FieldMapping(BaseModel):
    """The fields of one system.

    Attributes
    ----------
    system, object : str
        Which, and what its rows are there.
    empty : str
        What takes an earlier value away; a system that skips empty cells would keep the risk of an
        account that is not predicted any more.
    fields : tuple of MappedField
        In the order of the columns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    object: str
    empty: str = ""
    fields: tuple[MappedField, ...]

    @model_validator(mode="after")
    def _check(self) -> FieldMapping:
        for item in self.fields:
            if item.source not in COLUMNS:
                hint = did_you_mean(item.source, COLUMNS) or "GET /v1/columns has all"
                raise ValueError(f"{item.field}: there is no column {item.source!r}; {hint}")
        names = [item.field for item in self.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"filled twice: {', '.join(twice)}")
        if sum(item.is_key for item in self.fields) != 1:
            raise ValueError("exactly one field has is_key: true")
        return self


def load_mapping(name: str) -> FieldMapping:
    """Read a shipped mapping by name, or a file.

    Raises
    ------
    ConfigError
        There is none, or it has mistakes.
    """
    path = Path(name) if Path(name).suffix in {".yaml", ".yml"} else SHIPPED / f"{name}.yaml"
    if not path.is_file():
        known = sorted(item.stem for item in SHIPPED.glob("*.yaml"))
        raise ConfigError(
            f"there is no mapping {name!r}",
            where=str(path),
            fix=did_you_mean(name, known) or f"there are: {', '.join(known)}; or name a file",
        )
    return parse_model(
        FieldMapping,
        read_yaml(path),
        what="the mapping has mistakes",
        where=str(path),
        fix="correct these keys; configs/mappings/ shows all of them",
    )


def mapped_lines(rows: Iterable[Mapping[str, Any]], mapping: FieldMapping) -> Iterator[str]:
    """Return canonical rows as CSV in the other system's fields, header first."""
    header = [item.field for item in mapping.fields]
    empty = mapping.empty
    lines = ([item.render(row.get(item.source), empty) for item in mapping.fields] for row in rows)
    return csv_text(chain([header], lines))


def _cut(text: str, length: int | None) -> str:
    return text if length is None or len(text) <= length else text[: length - 1] + "…"
