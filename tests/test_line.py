"""The whole line through the front door: a simulated company, from its files to its answers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import httpx
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient

import bellwether
from configs.places import Workspace
from features.build import Built, build_features
from serving.api import create_app
from serving.book import BookRun, read_latest, read_table
from serving.ledger import Ledger, unpack_features
from serving.live import Live
from serving.metrics import Metrics
from training.bundle import load
from training.releases import read_current

pytestmark = pytest.mark.slow

ROOT = Path(bellwether.__file__).parent
QUICK = {
    "folds": 3,
    "fold_days": 91,
    "model_seeds": 2,
    "bootstrap_draws": 100,
    "threads": 1,
    "tuning": {"trials": 2, "inner_folds": 1},
}


def call(*words) -> str:
    """Run a command as a person does; return what it printed."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["bellwether", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            bellwether.main()
        except SystemExit as end:
            code = end.code
    assert code == 0, (code, out.getvalue(), err.getvalue())
    return out.getvalue()


@dataclass(frozen=True)
class Line:
    """A company that was simulated and run, and what the run said."""

    workspace: Workspace
    options: tuple[str, ...]
    said: str

    @property
    def book(self) -> BookRun:
        book = read_latest(self.workspace.state)
        assert book is not None
        return book


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Line:
    root = tmp_path_factory.mktemp("line")
    call("simulate", root / "data", "--accounts", 400, "--months", 24)
    shipped = yaml.safe_load((bellwether.SHIPPED / "simulated" / "company.yaml").read_text())
    quick = {**shipped, "training": QUICK, "grid": {"every": "month", "start_on": "2024-11-01"}}
    (root / "company.yaml").write_text(yaml.safe_dump(quick))
    folder, state, data = str(root), str(root / "state"), str(root / "data")
    options = (folder, "--state", state, "--data", data)
    said = call("run", *options)
    return Line(bellwether.workspace_of(folder, state, data), options, said)


@pytest.fixture(scope="module")
def built(line) -> Built:
    return build_features(line.workspace, line.workspace.company.clock())


@pytest.fixture(scope="module")
def ask(line) -> Callable[..., httpx.Response]:
    """Ask the service what a system would ask it."""
    live = Live(line.workspace)
    live.refresh()
    metrics = Metrics()
    app = create_app(lambda _: live, lambda _: metrics)

    def request(method: str, path: str, **options) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return await http.request(method, path, **options)

        return asyncio.run(one())

    yield request
    live.close()


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file lies at each path: a file written anew is another one."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def scored_ids(line: Line, n: int = 5) -> list[str]:
    rows = read_table(line.book).to_pylist()
    return [row["account_id"] for row in rows if row["status"] == "scored"][:n]


def test_a_run_ends_with_a_book_reasons_and_a_report(line):
    rows = read_table(line.book).to_pylist()
    assert len(rows) == 401
    assert all(row["status"] for row in rows)
    scored = [row for row in rows if row["status"] == "scored"]
    assert len(scored) > 200
    assert np.mean([bool(row["reasons"]) for row in scored]) > 0.5
    report = (line.workspace.state.reports / "latest.html").read_text(encoding="utf-8")
    assert "<html" in report
    assert scored[0]["account_id"] in report or scored[0]["name"] in report


def test_a_run_shows_the_book_and_where_everything_lies(line):
    assert "Data quality of Simulated Software Company: grade" in line.said
    assert "Most at risk" in line.said
    top = read_table(line.book).to_pylist()[0]
    assert f" 1. {top['name']} ({top['account_id']}): " in line.said
    for path in (line.workspace.state.sources, line.book.folder):
        assert f"    {path}\n" in line.said


def test_a_second_run_makes_nothing_again(line):
    kept = ("sources", "daily", "snapshots", "labels", "training", "bundles", "scores", "feast")
    root = line.workspace.state.root
    before = {name: files_of(root / name) for name in kept if name != "scores"}
    book, release = line.book.run_id, read_current(line.workspace.state.releases)
    said = call("run", *line.options)
    assert {name: files_of(root / name) for name in before} == before
    assert line.book.run_id == book
    assert read_current(line.workspace.state.releases) == release
    assert "usage_events: unchanged" in said
    assert "usage: 21 snapshots unchanged" in said
    assert "feature store: unchanged" in said
    for target in ("churn", "expansion"):
        assert f"{target}: nothing changed since the last training" in said
    assert "is current already" in said
    assert not [words for words in said.splitlines() if "building" in words or "putting" in words]


def test_one_row_offline_online_and_in_the_ledger(line, built, ask):
    ids = scored_ids(line)
    names, width = built.features.names, len(built.features.names)
    rows = pd.DataFrame(
        {"entity_id": ids, "as_of": pd.Timestamp(built.snapshots.book_on, tz="UTC")}
    )
    offline = built.store.historical(rows, built.features.info)[names].to_numpy()
    online = built.store.online(built.features.hash, width, ids).values
    np.testing.assert_array_equal(offline, online)
    answers = [ask("GET", f"/v1/accounts/{entity}/score").json() for entity in ids]
    with Ledger.open(line.workspace) as ledger:
        for position, answer in enumerate(answers):
            for part in answer["scores"].values():
                kept = ledger.score(part["score_id"])
                np.testing.assert_array_equal(unpack_features(kept.features), online[position])
                assert kept.probability == part["probability"]


def test_contributions_add_up_to_the_served_probability(line, built, ask):
    ids = scored_ids(line)
    release = read_current(line.workspace.state.releases)
    values = built.store.online(built.features.hash, len(built.features.names), ids).values
    columns = dict(zip(built.features.names, values.T, strict=True))
    for target, named in release.bundles.items():
        bundle = load(line.workspace.state.bundles / named["sha"], named["sha"])
        made = bundle.explain(bundle.encode(columns).matrix)
        added = 1.0 / (1.0 + np.exp(-(made.base + made.values.sum(axis=1))))
        for entity, probability in zip(ids, added, strict=True):
            part = ask("GET", f"/v1/accounts/{entity}/score").json()["scores"][target]
            served = part["probability"]
            expected = probability if bundle.has_reasons else bundle.base_rate
            assert served == pytest.approx(expected, abs=1e-9)


def test_an_account_that_does_not_exist_is_a_problem_and_spoils_no_batch(line, ask):
    alone = ask("GET", "/v1/accounts/NOBODY/score")
    assert alone.status_code == 404
    assert alone.headers["content-type"].startswith("application/problem+json")
    assert alone.json()["type"] == "/v1/problems/unknown-account"
    known = scored_ids(line, 1)[0]
    batch = ask("POST", "/v1/scores", json={"account_ids": [known, "NOBODY", ""]})
    assert batch.status_code == 200
    first, second, third = batch.json()["results"]
    assert first["account_id"] == known
    assert first["scores"]["churn"]["probability"] > 0
    assert second["problem"]["status"] == 404
    assert third["problem"]["status"] == 422


def test_score_report_and_relog_stand_on_their_own(line):
    assert "Most at risk" in call("score", *line.options)
    assert f"wrote {line.workspace.state.reports}" in call("report", *line.options)
    folder, *state = line.options[:3]
    assert "waited to be sent: 0" in call("relog", folder, *state)
    assert "publish" in call("releases", folder, *state)


def test_the_tour_runs_on_the_state(line, tmp_path, monkeypatch):
    folder, _, state, _, data = line.options
    monkeypatch.setenv("BELLWETHER_COMPANY", folder)
    monkeypatch.setenv("BELLWETHER_STATE", state)
    monkeypatch.setenv("BELLWETHER_DATA", data)
    register_kernel(tmp_path / "kernels" / "tour")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(ROOT / "notebooks" / "tour.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="tour")
    client.execute(cwd=str(ROOT / "notebooks"))
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(shown), "every cell shows something"
    answer = shown[-1][-1]["data"]["text/plain"]
    assert "'raises': [" in answer
    assert "at similar accounts" in answer


def register_kernel(folder: Path) -> None:
    """Make this very interpreter a Jupyter kernel; nothing is installed or fetched."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "tour", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
