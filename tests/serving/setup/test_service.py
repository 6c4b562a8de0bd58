"""The setup pages of the running service: for administrators, and below a root only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import yaml

from configs.runtime.state_directory import State
from serving.auth.api_keys import KeyStore
from serving.online.server_state import ServerState
from serving.setup.desk import service_desk
from tests.serving.pages.test_pages import SCRIPT, Reader
from tests.serving.setup.conftest import HOME, Pages
from tests.serving.setup.exports import write_exports

ORIGIN = {**HOME, "Origin": "http://127.0.0.1"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "root"
    write_exports(folder / "acme")
    monkeypatch.setenv("BELLWETHER_START_ROOT", str(folder))
    monkeypatch.setattr("serving.setup.routes.WAIT_SECONDS", 30.0)
    return folder


def show(client, path: str, **options):
    return client.get(path, headers=ORIGIN, **options)


def test_the_mapping_of_the_served_company_is_shown(client, world):
    answer = show(client, "/start/mapping")
    page = Reader(answer.text)
    assert answer.status_code == 200
    assert page.tags.count("script") == answer.text.count(SCRIPT)
    assert page.tags.count("h1") == 1
    assert "Mapping of Small & Co" in page.text
    for name, item in world.workspace.company.inputs.items():
        assert f"{name} from {item.file}" in page.text
    assert "0 open guesses" in page.text
    assert "Run" not in Reader(show(client, "/start").text).text.split("Setup of")[0].split()


def test_without_a_root_nothing_is_accepted(client, world):
    token = world.workspace.state.root / "start" / "token"
    assert "file" not in Reader(show(client, "/start").text).attributes
    assert 'type="file"' not in show(client, "/start").text
    assert show(client, "/start?folder=acme").status_code in (403, 422)
    form = {"token": token.read_text()}
    for path in ("/start/folder", "/start/mapping"):
        answer = client.post(path, data={**form, "path": "/etc"}, headers=ORIGIN)
        assert answer.status_code == 403
        assert "BELLWETHER_START_ROOT is not set" in answer.text
    for path in ("/start/upload", "/start/audit"):
        files = {"files": ("a.csv", b"id\n1\n")}
        assert client.post(path, data=form, files=files, headers=ORIGIN).status_code == 403
    for path in ("/start/run", "/start/book", "/start/stop"):
        assert client.post(path, data=form, headers=ORIGIN).status_code == 404


def test_exports_below_the_root_are_proposed_and_saved(client, root, world, monkeypatch):
    assert "<option>acme</option>" in show(client, "/start").text
    desk = "?folder=acme"
    assert "clients.csv" in show(client, f"/start{desk}").text
    token = (root / "acme" / ".start" / "token").read_text()
    page = Reader(show(client, f"/start/mapping{desk}").text)
    assert "Proposed mapping" in page.text
    assert "match Web Site (100%)" in page.text
    assert all(
        address.endswith(desk) for address in page.addresses if address.startswith("/start/")
    )
    download = show(client, f"/start/company.yaml{desk}")
    assert yaml.safe_load(download.text)["data"] == "."
    file = root / "acme" / "company.yaml"
    assert not file.exists()
    monkeypatch.setattr("serving.setup.children.PROGRAM", ("-c", "import sys; print(sys.argv)"))
    form = Pages(service_desk(world.workspace, str(root), "acme"), client).form(
        f"/start/mapping{desk}"
    )
    saved = client.post(f"/start/mapping{desk}", data={**form, "token": token}, headers=ORIGIN)
    assert saved.headers["location"] == f"/start/understood{desk}"
    assert file.read_text() == show(client, f"/start/company.yaml{desk}").text
    started = Pages(service_desk(world.workspace, str(root), "acme"), client).ended("check")
    assert str(world.workspace.state.root) not in started.output, "not the served company's state"
    assert f"'--state', '{root}/acme/.start/state', '--data', '{root}/acme'" in started.output


@pytest.mark.parametrize("folder", ["..", "../..", "/etc", "acme/../..", "missing", "link"])
def test_folders_outside_the_root_are_refused(client, root, folder):
    (root / "link").symlink_to("/etc")
    answer = show(client, "/start/mapping", params={"folder": folder})
    assert answer.status_code == 422
    assert "folder" in Reader(answer.text).text
    assert show(client, "/start?folder=acme").status_code == 200
    token = (root / "acme/.start/token").read_text()
    sent = {"token": token, "path": folder if folder != "missing" else "/etc"}
    answer = client.post("/start/folder?folder=acme", data=sent, headers=ORIGIN)
    assert answer.status_code == 422


def test_only_administrators_come_in(world, tmp_path, client_for):
    serving = ServerState(replace(world.workspace, state=State(tmp_path / "state")))
    store = KeyStore(serving.workspace)
    now = datetime.now(UTC)
    writer = store.create("writer", ["read", "score", "write", "metrics"], now, 1)
    chief = store.create("chief", ["admin"], now, 1)
    store.close()
    serving.refresh()
    try:
        client = client_for(serving)
        for key, status in ((writer, 403), (chief, 200), ("", 401)):
            headers = {**ORIGIN, **({"X-API-Key": key} if key else {})}
            assert client.get("/start/mapping", headers=headers).status_code == status
            assert client.get("/start", headers=headers).status_code == status
    finally:
        serving.close()
