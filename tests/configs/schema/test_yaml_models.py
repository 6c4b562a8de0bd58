"""YAML that says one thing twice, or grows beyond reason, is refused with its line."""

from __future__ import annotations

import pytest

from configs.runtime.errors import ConfigError
from configs.schema.yaml_models import read_yaml

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(6)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\ntables:\n  x: 1\nname: b\n", r"the key 'name' is repeated.*line 1.*line 4"),
        ("tables:\n  x: {arr: a,\n    arr: b}\n", r"the key 'arr' is repeated.*line 2.*line 3"),
        ('{"name": "a",\n "name": "b"}', r"the key 'name' is repeated.*line 1.*line 2"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 40 levels deep.*line 1"),
        ("a: " + "[" * 20_000, "nested more than 40 levels deep"),
        ("a: " + "{x: " * 60 + "1" + "}" * 60, "nested more than 40 levels deep"),
        (BOMB, "expand to more than 100,000 values"),
        ("a: &a [*a]\n", "expand to more than 100,000 values"),
        ("a: [1, 2\n", "not readable as YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    path = tmp_path / "company.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){words}") as caught:
        read_yaml(path)
    assert caught.value.where == str(path)


def test_what_is_read(tmp_path):
    path = tmp_path / "company.yaml"
    path.write_text(
        "\ufeffa: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: [*a, *a]\n", encoding="utf-8"
    )
    both = {"x": 1, "y": 2}
    assert read_yaml(path) == {"a": both, "b": {"x": 1, "y": 3}, "c": [both, both]}
