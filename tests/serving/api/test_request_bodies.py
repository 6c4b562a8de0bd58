"""JSON bodies: what is not valid is refused with the place of the mistake."""

from __future__ import annotations

import pytest

from serving.api.request_bodies import json_of
from serving.http.problems import ProblemError

JSON = "application/json; charset=utf-8"


def test_a_body_is_read_once_per_key():
    body = b'{"a": [1, {"b": 2}], "c": {"b": null}}'
    assert json_of(JSON, body) == {"a": [1, {"b": 2}], "c": {"b": None}}


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 2}', b'[{"x": {"a": 1, "b": 0, "a": 1}}]'])
def test_a_repeated_key_is_refused(body):
    with pytest.raises(ProblemError) as caught:
        json_of(JSON, body)
    assert caught.value.what == "the key 'a' is repeated; send it once"
    assert caught.value.errors == [
        {"pointer": "/a", "message": "the key 'a' is repeated; send it once"}
    ]


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b"[" * 5000 + b"]" * 5000])
def test_what_is_not_json_is_refused(body):
    with pytest.raises(ProblemError, match="not JSON"):
        json_of(JSON, body)


def test_another_content_type_is_refused():
    with pytest.raises(ProblemError, match="text/plain"):
        json_of("text/plain", b"{}")
