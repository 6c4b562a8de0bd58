"""The container recipe and the Bento hold what they should, and serve it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State
from configs.schema.company import load_company
from configs.schema.workspace import Workspace
from serving.online.server_state import workspace_from_environment

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("configs", "features", "training", "serving")


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the container recipe, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def test_the_container_recipe_copies_what_there_is():
    copied = [
        name
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    assert set(ROOMS) <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert all(f"!{name}" in ignored for name in copied)


def test_the_container_does_not_run_as_root_and_stops_gently():
    found = dict(instructions())
    assert found["USER"] == "bellwether"
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert "/readyz" in found["HEALTHCHECK"]
    assert "--constraint requirements.lock" in " ".join(rest for _, rest in instructions())


def test_the_bento_packs_the_rooms():
    recipe = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    assert {f"{room}/**" for room in ROOMS} <= set(recipe["include"])
    assert (ROOT / recipe["python"]["requirements_txt"]).is_file()


def run(command: list[str], **settings: str) -> None:
    """Run a command of this checkout as a person would."""
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def bento(tmp_path_factory) -> Path:
    """The Bento, as `bentoml build` makes it; it lies in a BentoML home of its own."""
    home = tmp_path_factory.mktemp("bentoml")
    run(["-m", "bentoml", "build", "--output", "tag", "."], BENTOML_HOME=str(home))
    (made,) = (home / "bentos" / "bellwether").glob("*/bento.yaml")
    return made.parent


def files_of(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for room in ROOMS
        for path in (folder / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_the_bento_holds_every_file_of_the_rooms_and_no_other(bento):
    packed = bento / "src"
    assert files_of(packed) == files_of(ROOT)
    assert "configs/companies/simulated/company.yaml" in files_of(packed)
    others = {item.name for item in packed.iterdir()} - set(ROOMS)
    wanted = {"bentofile.yaml", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"}
    assert others == wanted
    beside = [path for path in packed.rglob("*") if path.name in {"LICENSE", "pyproject.toml"}]
    assert {path.parent for path in beside} == {packed}


@pytest.mark.slow
def test_a_bento_serves_a_shipped_example(bento, service_for, tmp_path):
    """Where Bellwether is installed too: all that runs is what was packed."""
    data, state = tmp_path / "data", tmp_path / "state"
    run(["bellwether.py", "simulate", str(data), "--accounts", "60", "--months", "14"])
    run(["bellwether.py", "run", "simulated", "--data", str(data), "--state", str(state)])
    example = bento / "src" / "configs" / "companies" / "simulated" / "company.yaml"
    title = "title: Simulated Software Company"
    example.write_text(example.read_text().replace(title, "title: Packed Company"))
    company = load_company(example)
    workspace = Workspace(company, Path("simulated"), data, State(state))
    home = str(bento.parents[2])
    started = service_for(workspace, what="bellwether:latest", folder=tmp_path, BENTOML_HOME=home)
    with started as server:
        assert server.get("/readyz").status_code == 200
        score = server.get("/v1/accounts/A-00002/score")
        assert score.status_code == 200, score.text
        assert score.json()["account_id"] == "A-00002"
        many = server.post("/v1/scores", json={"account_ids": ["A-00002", "A-00003"]})
        assert [item["account_id"] for item in many.json()["results"]] == ["A-00002", "A-00003"]
        assert "Packed Company" in server.get("/").text
    assert not (bento / "src" / "ledger").exists()


@pytest.mark.parametrize("name", ["elsewhere", "simulatd"])
def test_a_company_that_is_not_there_is_told(name, tmp_path):
    environment = {"BELLWETHER_COMPANY": name, "BELLWETHER_STATE": str(tmp_path)}
    with pytest.raises(ConfigError, match=f"no company folder '{name}'") as error:
        workspace_from_environment(environment)
    assert "simulated" in error.value.where


def test_a_shipped_example_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    environment = {"BELLWETHER_COMPANY": "simulated", "BELLWETHER_STATE": "state"}
    found = workspace_from_environment(environment)
    assert (found.company.name, found.state.root) == ("simulated", tmp_path / "state")
    by_file = {**environment, "BELLWETHER_COMPANY": str(found.folder / "company.yaml")}
    assert workspace_from_environment(by_file).folder == found.folder


def test_a_state_directory_that_is_not_there_is_told_and_not_made(tmp_path, monkeypatch):
    """A Bento runs in a folder of its own: a relative path would name one inside it."""
    monkeypatch.chdir(tmp_path)
    environment = {"BELLWETHER_COMPANY": "simulated", "BELLWETHER_STATE": "state/simulated"}
    with pytest.raises(ConfigError, match="no state directory") as error:
        workspace_from_environment(environment)
    assert str(tmp_path / "state" / "simulated") in error.value.where
    assert "full path" in error.value.fix
    assert list(tmp_path.iterdir()) == []
