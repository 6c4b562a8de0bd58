"""Hold-outs: drawn from the published book, appended, never redrawn, judged later."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from configs.runtime.errors import ConfigError, StateError
from configs.runtime.state_directory import State
from configs.schema.plays import load_plays
from features.sources import load_sources
from serving.workflow.holdouts import draw_holdout, holdout_file, read_draws, touches_of
from serving.workflow.risk_cases import Event
from serving.workflow.risk_store import RiskStore, new_event_id
from training.validation.current_accounts import RAISED


@pytest.fixture
def workspace(world, book, tmp_path):
    """The company and its published book, with hold-outs of its own."""
    state = State(tmp_path / "state")
    state.root.mkdir()
    assert book.statuses["scored"]
    (state.root / "scores").symlink_to(world.workspace.state.scores)
    return replace(world.workspace, state=state)


def draw(workspace, world, share=0.3, seed=1):
    return draw_holdout(workspace, share=share, seed=seed, now=world.now)


def test_flagged_accounts_get_an_arm_once_and_keep_it(workspace, world):
    first = draw(workspace, world)
    assert set(first.accounts["band"]) <= set(RAISED)
    held = int(first.accounts["arm"].eq("held_out").sum())
    assert abs(held - 0.3 * len(first.accounts)) <= 1
    again = draw(workspace, world, seed=2)
    assert (len(again.accounts), again.kept) == (0, len(first.accounts))
    rows = read_draws(first.file)
    assert [row["account_id"] for row in rows] == first.accounts["account_id"].tolist()
    assert {"as_of", "release_id", "seed", "share", "stratum", "assigned_at"} <= set(rows[0])


def test_a_record_that_was_edited_is_refused(workspace, world):
    file = draw(workspace, world).file
    line = file.read_text(encoding="utf-8").splitlines()[0]
    other = "treated" if '"held_out"' in line else "held_out"
    swapped = line.replace('"held_out"', f'"{other}"').replace('"treated"', f'"{other}"')
    with file.open("a", encoding="utf-8") as handle:
        handle.write(swapped + "\n")
    with pytest.raises(StateError, match="has two arms"):
        draw(workspace, world)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(StateError, match="line 1 cannot be read"):
        read_draws(file)


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_that_compares_nobody_is_refused(workspace, world, share):
    with pytest.raises(ConfigError, match="no account or every account"):
        draw(workspace, world, share=share)


def test_what_people_record_on_the_pages_counts_as_done(workspace, world):
    loaded = load_sources(world.workspace, world.now)
    assert touches_of(workspace, loaded) is None, "the company has no table of contacts"
    casebook = RiskStore.open(workspace, load_plays(workspace.folder))
    day = date(2026, 2, 27)
    for kind in ("touch", "fact"):
        event = Event(new_event_id(), "A-0030", world.now, "Ada", kind, on=day, text="called")
        casebook.record(event)
    casebook.close()
    (row,) = touches_of(workspace, loaded).to_dict("records")
    assert (row["entity_id"], row["touched_at"].date()) == ("A-0030", day)
    assert str(row["touched_at"].tz) == "UTC"


def test_without_a_book_there_is_nothing_to_draw_from(world, tmp_path):
    empty = replace(world.workspace, state=State(tmp_path / "none"))
    with pytest.raises(StateError, match="no scores are published yet"):
        draw(empty, world)
    assert read_draws(holdout_file(empty.state)) == []
