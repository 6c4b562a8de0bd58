"""The contract against its own description: examples, and requests nobody thought of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from configs.runtime.state_directory import State
from serving.api import create_app
from serving.auth.api_keys import ApiKeys, KeyStore
from serving.auth.authenticate import Authenticator
from serving.http.prometheus import Metrics

EXAMPLES = 4
EXPECTED: list[str | int] = ["2xx"]
UNSEEN: dict[str, list[int]] = {
    # Which accounts, models, jobs, books and measurements there are is no part of a schema.
    **dict.fromkeys(("score_one", "changes_of_one", "read_history", "model_card", "watch"), [404]),
    "list_scores": [410],
    "what_if": [404, 409],
    "read_job": [404],
    "read_results": [404, 409],
    # A key that came with another body before; more jobs than may wait.
    **dict.fromkeys(("report_outcomes", "give_feedback"), [409]),
    "create_job": [409, 429],
}
"""Further answers to a request that follows the contract, by operation."""
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="session")
def document(client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(document) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield f"{method.upper()} {path}", operation


def mistakes(document, schema, value) -> list[str]:
    whole = {**schema, "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return [error.message for error in validator.iter_errors(value)]


def test_every_operation_has_examples_of_what_is_asked_and_answered(document):
    found = dict(operations(document))
    assert len(found) >= 10
    for name, operation in found.items():
        assert operation["summary"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", ()):
            assert not mistakes(document, parameter["schema"], parameter["example"]), name
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media:
            assert not mistakes(document, media["schema"], media["example"]), name
        success = [code for code in operation["responses"] if code.startswith("2")]
        assert success, name
        for code, answer in operation["responses"].items():
            for media in answer.get("content", {}).values():
                told = media.get("examples") or {"the": {"value": media.get("example")}}
                for example in told.values():
                    wrong = mistakes(document, media["schema"], example["value"])
                    assert not wrong, (name, code, wrong)


def test_names_of_operations_are_for_people_who_generate_clients(document):
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert {"score_one", "score_many", "list_scores"} <= set(names)


@pytest.fixture
def key(live, world) -> Iterator[str]:
    """A key that may do everything, in a service that asks for one."""
    store = KeyStore(replace(world.workspace, state=State(world.workspace.state.root / "contract")))
    made = store.create("contract", ["admin"], datetime.now(UTC), 1)
    before, live._door = live._door, Authenticator(ApiKeys(store.every()), live._people)
    yield made
    live._door = before
    store.close()


def contract(live, key) -> schemathesis.BaseSchema:
    config = schemathesis.Config.from_dict(
        {
            "seed": 7,
            "headers": {"Authorization": f"Bearer {key}"},
            "generation": {"max-examples": EXAMPLES, "deterministic": True},
            "phases": {"stateful": {"enabled": False}},
            "checks": {"positive_data_acceptance": {"expected-statuses": EXPECTED}},
            "operations": [
                {
                    "include-operation-id": name,
                    "checks": {
                        "positive_data_acceptance": {"expected-statuses": [*EXPECTED, *also]}
                    },
                }
                for name, also in UNSEEN.items()
            ],
        }
    )
    metrics = Metrics()
    app = create_app(lambda _: live, lambda _: metrics, ["testserver"])
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


@pytest.mark.slow
def test_no_request_gets_an_unexpected_response(live, key):
    """Examples, boundary values, requests that break the contract, and random ones."""
    n_cases, wrong = 0, []
    for event in from_schema(contract(live, key)).execute():
        assert not isinstance(event, events.FatalError | events.NonFatalError), event
        if isinstance(event, events.ScenarioFinished):
            n_cases += len(event.recorder.cases)
            wrong += [
                f"{event.recorder.label}: {check.failure_info.failure}\n"
                f"{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info
            ]
    assert not wrong, (
        f"{len(wrong)} unexpected responses\n" + "\n".join(sorted(set(wrong)))[:20_000]
    )
    assert n_cases > 300
