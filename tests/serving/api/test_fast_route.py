"""The lane answers what the framework would have answered, and leaves it everything else."""

from __future__ import annotations

import copy

import orjson
import pytest

from serving.api.fast_route import Lane, route_named
from serving.api.scores import scores
from serving.auth.permissions import SCORE

ASKED = [
    ("GET", "/v1/accounts/A-0030/score"),
    ("GET", "/v1/accounts/nobody/score"),
    ("GET", f"/v1/accounts/{'x' * 300}/score"),
    ("GET", "/v1/accounts//score"),
    ("GET", "/v1/accounts/A-0030/score/"),
    ("GET", "/v1/accounts/A%2F0030/score"),
    ("GET", "/v1/accounts/A-0030%0A/score"),
    ("GET", "/v1/accounts/A-0030/score%0A"),
    ("GET", "/v1/accounts/A%00/score"),
    ("GET", "/v1/accounts/S%C3%B6hne/score"),
    ("GET", "/v1/accounts/a/score/b/score"),
    ("GET", "/v1/accounts/A-0030/score?owner=x"),
    ("HEAD", "/v1/accounts/A-0030/score"),
    ("POST", "/v1/accounts/A-0030/score"),
    ("OPTIONS", "/v1/accounts/A-0030/score"),
    ("GET", "/v1/accounts/A-0030/scores"),
]
HEADERS = {"X-Request-ID": "the-same"}


@pytest.fixture
def without_lane(client_for, live):
    """A client of the application that leaves everything to the framework."""
    gate = copy.copy(client_for(live).app)
    assert isinstance(gate.app, Lane)
    gate.app = gate.app.app
    found = client_for(live)
    found.app = gate
    return found


def told(answer) -> object:
    """What an answer says, but for the ids of its scores."""
    document = orjson.loads(answer.content) if answer.content else None
    for part in (document or {}).get("scores", {}).values():
        del part["score_id"]
    return document


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_the_lane_answers_as_the_framework_does(client, without_lane, method, path):
    one = client.request(method, path, headers=HEADERS)
    other = without_lane.request(method, path, headers=HEADERS)
    assert (one.status_code, told(one)) == (other.status_code, told(other))
    lengths = {"content-length"}  # ids of scores are of one length, requests of HEAD have none
    assert {k: v for k, v in one.headers.items() if k not in lengths} == {
        k: v for k, v in other.headers.items() if k not in lengths
    }


def test_the_lane_asks_for_what_the_route_needs(live):
    route = route_named(scores(lambda _: live, lambda _: None), "score_one")
    lane = Lane(None, route)
    assert [need.scope for need in lane._needs] == [SCORE]
