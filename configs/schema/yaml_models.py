"""YAML into typed models: every mistake named at once, with its key and the closest known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.runtime.errors import ConfigError, did_you_mean

Read = TypeVar("Read", bound=BaseModel)

MAX_DEPTH = 40
MAX_VALUES = 100_000
"""Deeper or larger than any configuration is."""


def read_yaml(path: Path) -> Any:
    """Return what a YAML (or JSON) file holds.

    Raises
    ------
    ConfigError
        It is not YAML, or not text; a key stands twice, or it is nested or repeated beyond reason.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not readable as YAML: {error}", where=str(path), fix="correct the line it names"
        ) from error


class _Loader(yaml.SafeLoader):
    """Reads plain values only; refuses a key that stands twice, and values that grow too large."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count how deep a value lies."""
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
        """Refuse a file that its own references make large, before anything is built of it."""
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_VALUES:
            raise yaml.MarkedYAMLError(
                None,
                None,
                f"its references (&, *) stand for more than {MAX_VALUES:,} values",
                node.start_mark,
            )
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that stands twice."""
        seen: dict[Any, Any] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise yaml.MarkedYAMLError(
                    f"the key {key!r} stands twice, first",
                    seen[key],
                    "and again",
                    key_node.start_mark,
                )
            if isinstance(key, str | int | float | bool):
                seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep=deep)


def _size(node: Any, known: dict[int, int]) -> int:
    """Return how many values a node stands for, its references counted each time."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # what contains itself never ends
        parts = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [part for pair in node.value for part in pair]
        )
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def parse_model(model: type[Read], raw: Any, *, what: str, where: str, fix: str) -> Read:
    """Check what was read against its model.

    Parameters
    ----------
    model : type of BaseModel
        What it must become.
    raw : object
        As `read_yaml` returns it.
    what : str
        Names it in the error: ``the plays have mistakes``.
    where : str
        The file.
    fix : str
        Where an example of every key is found.

    Raises
    ------
    ConfigError
        Every mistake with its key; unknown keys with the closest known one.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = "\n".join(_explain(error, model))
        raise ConfigError(f"{what}:\n{lines}", where=where, fix=fix) from error


def _explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        words = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _known_keys(root, item["loc"][:-1])
            words = f"unknown key; {did_you_mean(str(item['loc'][-1]), known) or 'leave it out'}"
        lines.append(f"  {key}: {words}" if key else f"  {words}")
    return lines


def _known_keys(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at `location`, following nested models and mappings."""
    model: type[BaseModel] | None = root
    for part in location:
        field = model.model_fields.get(str(part)) if model else None
        if field is None:
            continue  # the key of a mapping, or a place in a list: its model is the current one
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
