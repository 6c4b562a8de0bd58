"""What is packed: the container recipe, the bento, and settings that are all documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_the_bento_packs_the_rooms_and_no_company():
    recipe = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    assert {f"{room}/**" for room in ROOMS} <= set(recipe["include"])
    assert "configs/companies/**" in recipe["exclude"]
    assert (ROOT / recipe["python"]["requirements_txt"]).is_file()


def test_every_setting_that_is_read_is_documented():
    read = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            read |= set(re.findall(r'"(BELLWETHER_[A-Z_]+)"', path.read_text()))
    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line[:2] == "| "]
    told = set(re.findall(r"BELLWETHER_[A-Z_]+", "\n".join(table)))
    for line in table:  # `BELLWETHER_OIDC_ISSUER`, `_AUDIENCE`: the beginning is said once
        names = re.findall(r"`(BELLWETHER_[A-Z]+)_[A-Z]+`", line)
        told |= {names[0] + rest for rest in re.findall(r"`(_[A-Z]+)`", line) if names}
    assert read - told <= {
        "BELLWETHER_CONNECTION_",  # a prefix, told where sources are
        "BELLWETHER_COMPANY",  # set by `bellwether serve`
    }


@pytest.mark.slow
def test_the_bento_builds(tmp_path):
    environment = {
        **os.environ,
        "BENTOML_HOME": str(tmp_path),
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", "."],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (bento,) = (tmp_path / "bentos" / "bellwether").glob("*/bento.yaml")
    packed = bento.parent / "src"
    assert (packed / "serving" / "service.py").is_file()
    assert (packed / "serving" / "templates" / "base.html").is_file()
    assert not list(packed.rglob("companies/*"))
    assert not list(packed.rglob("tests"))
    assert "pytest" not in {item.name for item in packed.iterdir()}
