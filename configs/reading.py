"""YAML into typed models: every mistake named at once, with its key and the closest known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import ConfigError, did_you_mean

Read = TypeVar("Read", bound=BaseModel)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds.

    Raises
    ------
    ConfigError
        It is not YAML, or not text.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a safe one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not readable as YAML: {error}", where=str(path), fix="correct the line it names"
        ) from error


class _Loader(yaml.SafeLoader):
    """YAML of plain values, in which a key written twice is a mistake: the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen: set[str] = set()
        for key, _ in node.value:
            word = str(key.value)
            if key.tag != "tag:yaml.org,2002:merge" and word in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {word!r} is written twice", key.start_mark
                )
            seen.add(word)
        return super().construct_mapping(node, deep)


def parse(model: type[Read], raw: Any, *, what: str, where: str, fix: str) -> Read:
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
