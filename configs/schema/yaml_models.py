"""YAML files as typed models; an error lists every mistake with its key and the closest one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.runtime.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

MAX_DEPTH = 40
MAX_VALUES = 100_000
"""Limits of nesting and size, far above those of any configuration."""


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML or JSON file.

    Raises
    ------
    ConfigError
        The file is not YAML or not text, repeats a key, or exceeds `MAX_DEPTH` or `MAX_VALUES`.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not readable as YAML: {error}", where=str(path), fix="correct the line it names"
        ) from error


class _Loader(yaml.SafeLoader):
    """Loader of plain values; refuses repeated keys, deep nesting and expanding references."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse nesting deeper than `MAX_DEPTH`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                None, None, f"nested more than {MAX_DEPTH} levels deep", mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        """Refuse a file whose references expand to more than `MAX_VALUES` values."""
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_VALUES:
            raise yaml.MarkedYAMLError(
                None,
                None,
                f"its references (&, *) expand to more than {MAX_VALUES:,} values",
                node.start_mark,
            )
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse repeated keys."""
        seen: dict[Any, Any] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise yaml.MarkedYAMLError(
                    f"the key {key!r} is repeated, first",
                    seen[key],
                    "and again",
                    key_node.start_mark,
                )
            if isinstance(key, str | int | float | bool):
                seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep=deep)


def _size(node: Any, known: dict[int, int]) -> int:
    """Return the number of values of a node with all its references expanded."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # a node that contains itself
        parts = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [part for pair in node.value for part in pair]
        )
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def parse_model(model: type[Model], raw: Any, *, what: str, where: str, fix: str) -> Model:
    """Validate parsed YAML against its model.

    Parameters
    ----------
    model : type of BaseModel
        The model class.
    raw : object
        Content from `read_yaml`.
    what : str
        First line of the error: ``the plays have mistakes``.
    where : str
        The file.
    fix : str
        Reference to an example with every key.

    Raises
    ------
    ConfigError
        Every mistake with its key; unknown keys with the closest known one.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = "\n".join(_explain(error, model, raw))
        raise ConfigError(f"{what}:\n{lines}", where=where, fix=fix) from error


def _explain(error: ValidationError, root: type[BaseModel], raw: Any) -> list[str]:
    lines = []
    for item in error.errors():
        key = ".".join(_written_parts(item["loc"], raw))
        words = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _known_keys(root, item["loc"][:-1])
            words = f"unknown key; {did_you_mean(str(item['loc'][-1]), known) or 'leave it out'}"
        lines.append(f"  {key}: {words}" if key else f"  {words}")
    return lines


def _written_parts(location: tuple[int | str, ...], raw: Any) -> list[str]:
    """Return the keys of a place as they are written: without the index of a list of one."""
    parts = []
    for part in location:
        if isinstance(part, int) and not isinstance(raw, list | tuple):
            continue
        parts.append(str(part))
        is_inside = isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        raw = raw.get(part) if isinstance(raw, dict) else raw[part] if is_inside else None
    return parts


def _known_keys(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at `location`, following nested models and mappings."""
    model: type[BaseModel] | None = root
    for part in location:
        field = model.model_fields.get(str(part)) if model else None
        if field is None:
            continue  # a key of a mapping or an index of a list: the model stays the same
        model = _model_of(field.annotation)
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None
