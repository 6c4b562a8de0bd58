"""An example that lives through its last weeks: books one after the other, of one model."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

import bellwether
from configs.runtime.errors import ConfigError
from configs.schema.company import SHIPPED
from configs.schema.workspace import open_workspace
from serving.batch.score_book import read_latest
from serving.ledger.store.ledger import Ledger
from serving.pages.history.charts import HistoryCharts
from training.registry.releases import history, open_store

pytestmark = pytest.mark.slow

WEEKS = ["2026-06-15", "2026-06-22", "2026-06-29"]


def call(*words) -> str:
    """Run a command as a person does; return what it printed."""
    out = io.StringIO()
    argv = ["bellwether", "--debug", *map(str, words)]
    with (
        patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        bellwether.main()
    return out.getvalue()


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> tuple[str, ...]:
    root = tmp_path_factory.mktemp("weeks")
    call("simulate", root / "data", "--accounts", 120, "--months", 18)
    shipped = yaml.safe_load((SHIPPED / "simulated" / "company.yaml").read_text())
    quick = {"model_seeds": 1, "bootstrap_draws": 100, "threads": 1}
    del shipped["targets"]["expansion"]
    (root / "company.yaml").write_text(yaml.safe_dump({**shipped, "training": quick}))
    found = (str(root), "--state", str(root / "state"), "--data", str(root / "data"))
    call("run", *found, "--weeks", 2)
    return found


def workspace_at(options):
    return open_workspace(options[0], state=options[2], data=options[4])


def test_each_week_has_its_book_by_the_model_of_the_first(options):
    workspace = workspace_at(options)
    with Ledger.open(workspace) as ledger:
        books = [book for book in ledger.runs.every(channel="book") if book.target == "churn"]
    assert [f"{book.as_of:%Y-%m-%d}" for book in books] == WEEKS
    assert [f"{book.served_at:%Y-%m-%d}" for book in books] == WEEKS
    [published] = history(open_store(workspace))
    assert {book.release_id for book in books} == {published.release_id}
    assert published.release_id.startswith(WEEKS[0].replace("-", ""))
    run = read_latest(workspace.state)
    assert run.as_of[:10] == WEEKS[-1]
    assert len(HistoryCharts(workspace.state).of(run)) > 20, "lines can be drawn"
    report = json.loads((workspace.state.reports / "latest.json").read_bytes())
    assert report["as_of"][:10] == WEEKS[-1]


def test_what_was_lived_through_is_not_lived_through_again(options):
    workspace = workspace_at(options)
    before = sorted(workspace.state.scores.iterdir())
    said = call("run", *options, "--weeks", 2)
    assert "before the present" not in said
    assert "scored book of 2026-06-29" in said
    after = sorted(workspace.state.scores.iterdir())
    assert {path.name[:8] for path in set(after) - set(before)} <= {"20260629"}
    assert len(history(open_store(workspace))) == 1


def test_a_company_that_lives_now_has_no_past_to_live_through(options, tmp_path):
    plain = yaml.safe_load((Path(options[0]) / "company.yaml").read_text())
    del plain["now"]
    (tmp_path / "company.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigError, match="only for examples with a pinned clock"):
        call("run", tmp_path, "--state", tmp_path / "state", *options[3:], "--weeks", 2)
