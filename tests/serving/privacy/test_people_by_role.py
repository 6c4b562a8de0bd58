"""Contacts on pages, in API answers and in exports, for each role, of a company that was run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from configs.schema.settings import SignIn
from configs.schema.workspace import Workspace
from serving.batch.score_book import read_latest, read_table
from serving.online.server_state import ServerState
from tests.serving.privacy.marked_company import MarkedCompany

pytestmark = pytest.mark.slow

PROXY = "a-long-secret-of-the-proxy-in-this-test"
GROUPS = {"cs": "csm", "leads": "leader", "ops": "admin"}


@pytest.fixture(scope="module")
def workspace(marked: MarkedCompany, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    opened = marked.copy_to(tmp_path_factory.mktemp("roles") / "company").workspace
    access = opened.company.access.model_copy(update={"groups": GROUPS})
    places = opened.places.model_copy(
        update={"sign_in": SignIn(proxy_secret=SecretStr(PROXY), oidc_issuer="",
                                  oidc_audience="", oidc_jwks="")}
    )  # fmt: skip
    company = opened.company.model_copy(update={"access": access})
    return replace(opened, company=company, places=places)


@pytest.fixture(scope="module")
def ask(workspace, client_for) -> Iterator[Callable[..., httpx.Response]]:
    live = ServerState(workspace)
    live.refresh()
    client = client_for(live)

    def request(path: str, group: str, user: str = "ada@x.example", **options) -> httpx.Response:
        headers = {
            "X-Bellwether-Proxy-Secret": PROXY,
            "X-Forwarded-Email": user,
            "X-Forwarded-Groups": group,
        }
        method = "POST" if "json" in options else "GET"
        return client.request(method, path, headers=headers, **options)

    yield request
    live.close()


@pytest.fixture(scope="module")
def offered(workspace) -> tuple[str, str, str]:
    """An account with an offer, its owner, and the masked contact of its exported row."""
    run = read_latest(workspace.state)
    assert run is not None
    rows = read_table(run).to_pylist()
    offers = [row for row in rows if row["expansion_contact"] and row["owner_id"]]
    row = next(row for row in offers if "@" not in row["expansion_contact"])
    return row["account_id"], row["owner_id"], row["expansion_contact"]


def test_exports_hold_masked_contacts(workspace, offered):
    run = read_latest(workspace.state)
    contacts = [text for text in read_table(run)["expansion_contact"].to_pylist() if text]
    assert len(contacts) > 3
    assert all(text[1] == "…" for text in contacts)
    assert "-U0" not in (run.folder / "scores.csv").read_text(), "the form of contact ids"


def test_a_csm_sees_the_contact_of_their_account_and_a_leader_a_masked_one(ask, offered):
    account, owner, masked = offered
    shown = ask(f"/v1/accounts/{account}/score", "cs", owner).json()["expansion"]["contact"]
    assert "…" not in shown["contact_id"]
    for group in ("leads", "ops"):
        hidden = ask(f"/v1/accounts/{account}/score", group).json()["expansion"]["contact"]
        assert hidden == {**shown, "contact_id": f"{shown['contact_id'][0]}…"}
        assert masked.startswith(hidden["contact_id"])


def test_a_batch_is_masked_like_a_single_score(ask, offered):
    account, owner, _ = offered
    asked = {"account_ids": [account]}
    [shown] = ask("/v1/scores", "cs", owner, json=asked).json()["results"]
    [hidden] = ask("/v1/scores", "leads", json=asked).json()["results"]
    assert "…" not in shown["expansion"]["contact"]["contact_id"]
    assert hidden["expansion"]["contact"]["contact_id"].endswith("…")
    assert hidden["scores"].keys() == shown["scores"].keys()


def test_the_account_page_follows_the_role(ask, offered):
    account, owner, _ = offered
    contact = ask(f"/v1/accounts/{account}/score", "cs", owner).json()["expansion"]["contact"]
    page = ask(f"/accounts/{account}", "cs", owner)
    assert page.status_code == 200
    assert contact["contact_id"] in page.text
    assert contact["contact_id"] not in ask(f"/accounts/{account}", "leads").text
