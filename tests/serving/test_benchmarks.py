"""Each benchmark of the service runs, on a small release."""

import pytest

from configs.schema.workspace import Workspace
from serving.batch.score_book import score_book
from serving.ledger.store.ledger import Ledger
from tests.benchmarks.__main__ import PARTS, main
from tests.benchmarks.measure import Measure, write
from tests.benchmarks.serving import nightly, service
from tests.benchmarks.serving.reference import BOOSTER_FILE

TINY = service.Sizes(rounds=1, singles=4, many=8, batches=1, batch=20, starts=1)


@pytest.fixture
def workspace(world, book):
    """The small company, with a booster for servers that know one per model."""
    sha = world.release.bundles["churn"]["sha"]
    text = (world.workspace.state.bundles / sha / "model_7.txt").read_text()
    (world.workspace.state.root / BOOSTER_FILE).write_text(text)
    return world.workspace


@pytest.mark.slow
def test_the_service_is_measured_beside_its_peers(workspace, world, tmp_path):
    found = service.measure(workspace, world.release, tmp_path, TINY)
    single, strict, computed, many, _, *batches = found
    assert set(single.detail) == {"ours", "computed", "bare", "shipped", "mlflow"}
    assert (single.theirs, strict.theirs) == (
        single.detail["shipped"]["p50_ms"],
        single.detail["bare"]["p50_ms"],
    )
    assert computed.ours == computed.detail["computed"]["p50_ms"]
    assert all(item.ours > 0 for item in found)
    assert many.ratio == pytest.approx(many.ours / many.theirs)
    assert len(batches) == 4
    assert all(item.detail["answer_bytes_per_account"] > 1_000 for item in batches)


def test_a_larger_book_is_drawn_from_the_small_one(world, tmp_path):
    state = nightly.larger(world.workspace, world.release, tmp_path / "large", 1_000)

    large = Workspace(world.workspace.company, world.workspace.folder, state.root, state)
    with Ledger.open(large) as ledger:
        run = score_book(large, world.release, ledger, world.now)
    assert sum(run.statuses.values()) == 1_000


def test_what_was_measured_is_shown_and_unknown_parts_are_named(tmp_path, monkeypatch, capsys):
    measured = [Measure("a thing", 2.0, "s", "another", 6.0, 3.0, "≥ 2 ×", True)]
    monkeypatch.setitem(PARTS, "explain", lambda *_: measured)
    write(tmp_path, "start", [Measure("kept from before", 1.0, "s")])
    monkeypatch.setattr("sys.argv", ["bench", "--output", str(tmp_path), "--only", "explain"])
    main()
    shown = capsys.readouterr().out
    assert "a thing" in shown
    assert "kept from" in shown
    monkeypatch.setattr("sys.argv", ["bench", "--only", "explian"])
    with pytest.raises(SystemExit):
        main()
    assert "explian" in capsys.readouterr().err
