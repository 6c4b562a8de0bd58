"""The ledger loses no acknowledged score: to a kill, a second process, or a retry."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

import serving.ledger.store.commit_queue as commit_queue
import serving.ledger.store.ledger as module
from configs.runtime.database import reading, writing
from configs.runtime.errors import DataError, StateError, UnavailableError
from configs.runtime.sql_inserts import settle
from configs.runtime.tables import scores_table
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import (
    BookScores,
    RecordedOutcome,
    ScoreRow,
    new_score_ids,
    pack_features,
    unpack_features,
)

ROOT = Path(module.__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, 12, 30, 15, 123456, tzinfo=UTC)
AS_OF = datetime(2026, 3, 2, tzinfo=UTC)

WRITER = """
import os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import ScoreRow, new_score_ids

url, file, name, n_batches = sys.argv[1] or None, Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
now = datetime(2026, 3, 2, tzinfo=UTC)
ledger = Ledger(url, file, "acme")

def work(thread):
    done = 0
    while done != n_batches:
        request = f"{name}-{thread}-{done}"
        ids = new_score_ids(now, 20)
        ledger.append([
            ScoreRow(id, request, now, f"a{i}", now, "churn", "r", "s", 0.5, 0.0, "low",
                     "promotable", b"", "f", [], "api")
            for i, id in enumerate(ids)
        ])
        os.write(1, (" ".join([request, *ids]) + chr(10)).encode())
        done += 1

threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ledger.close()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "scores.db"


@pytest.fixture
def ledger(url: str, file: Path) -> Iterator[Ledger]:
    with Ledger(url or None, file, "acme") as opened:
        yield opened


@pytest.fixture
def embedded(file: Path) -> Iterator[Ledger]:
    with Ledger(None, file, "acme", wait_seconds=10) as opened:
        yield opened


def rows(n: int = 1, **changes: object) -> list[ScoreRow]:
    base = ScoreRow(
        score_id="",
        request_id="request-1",
        served_at=NOW,
        entity_id="a1",
        as_of=AS_OF,
        target="churn",
        release_id="20260302-0123456789",
        bundle_sha="s" * 64,
        probability=0.25,
        logit=-1.0986122886681098,
        band="high",
        verdict="promotable",
        features=pack_features([1.5, float("nan"), -0.0]),
        feature_set="f0",
        reasons=[{"theme": "adoption", "points": 0.1}],
        channel="api",
    )
    ids = new_score_ids(NOW, n)
    return [base._replace(**{"score_id": score_id, **changes}) for score_id in ids]  # type: ignore[arg-type]


def book(
    book_id: str = "book-1", n: int = 7, served_at: datetime = NOW, **changes: object
) -> BookScores:
    base = BookScores(
        book_id=book_id,
        target="churn",
        as_of=AS_OF,
        served_at=served_at,
        release_id="20260302-0123456789",
        bundle_sha="s" * 64,
        verdict="promotable",
        feature_set="f0",
        entity_ids=[f"a{i}" for i in range(n)],
        probability=np.linspace(0.1, 0.7, n),
        logit=np.linspace(-2.0, 1.0, n),
        band=["low"] * n,
        features=np.arange(3.0 * n).reshape(n, 3),
        reasons=[[{"rank": i}] for i in range(n)],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@contextmanager
def busy(ledger: Ledger) -> Iterator[None]:
    """Hold the write lock of the embedded database."""
    with writing(ledger.engine):
        yield


def all_ids(ledger: Ledger) -> set[str]:
    with reading(ledger.engine) as connection:
        return set(connection.execute(select(scores_table.c.score_id)).scalars())


def start_writer(url: str, file: Path, name: str, n_batches: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(file), name, str(n_batches)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def test_a_score_comes_back_bit_for_bit(ledger: Ledger) -> None:
    written = rows(1)
    assert ledger.append(written) == 1
    assert ledger.scores.history("a1", "churn") == written
    assert ledger.scores.find(written[0].score_id) == written[0]
    assert ledger.scores.find("unknown") is None


def test_features_keep_missing_values_and_signs() -> None:
    vector = np.array([0.1 + 0.2, float("nan"), -0.0, float("inf"), 5e-324])
    assert unpack_features(pack_features(vector)).tobytes() == vector.tobytes()


def test_instants_of_other_zones_come_back_in_utc(ledger: Ledger) -> None:
    zone = datetime.fromisoformat("2026-03-02T13:30:15.123456+01:00")
    ledger.append(rows(1, served_at=zone))
    (found,) = ledger.scores.history("a1", "churn")
    assert found.served_at.isoformat() == NOW.isoformat()


def test_history_is_newest_first_and_limited(ledger: Ledger) -> None:
    for day in (1, 3, 2):
        ledger.append(rows(1, served_at=NOW + timedelta(days=day), request_id=f"day {day}"))
    ledger.append(rows(1, entity_id="a2"))
    ledger.append(rows(1, target="expansion"))
    found = ledger.scores.history("a1", "churn", limit=2)
    assert [row.request_id for row in found] == ["day 3", "day 2"]


def test_companies_sharing_a_database_do_not_see_each_other(
    ledger: Ledger, url: str, file: Path
) -> None:
    ledger.append(rows(1))
    with Ledger(url or None, file, "globex") as other:
        assert other.scores.history("a1", "churn") == []
        assert other.scores.count() == 0


def test_appending_again_changes_nothing(ledger: Ledger) -> None:
    written = rows(3)
    ledger.append(written)
    assert ledger.append([*written, *rows(1)]) == 4
    assert ledger.scores.count() == 4


def test_another_score_under_a_known_id_is_refused(ledger: Ledger) -> None:
    (first,) = written = rows(1)
    ledger.append(written)
    with pytest.raises(StateError, match="something else is kept"):
        ledger.append([*rows(1), first._replace(probability=0.9)])
    assert ledger.scores.history("a1", "churn") == written


def test_one_id_twice_in_a_call_is_refused(ledger: Ledger) -> None:
    (first,) = rows(1)
    with pytest.raises(StateError):
        ledger.append([first, first._replace(entity_id="a2")])
    assert ledger.scores.count() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"probability": 1.2},
        {"probability": float("nan")},
        {"logit": float("inf")},
        {"served_at": datetime(2026, 3, 2)},  # noqa: DTZ001 - the mistake under test
        {"channel": "fax"},
        {"features": b"123"},
    ],
)
def test_a_row_that_could_not_be_replayed_is_refused(
    embedded: Ledger, wrong: dict[str, object]
) -> None:
    with pytest.raises(DataError, match="where: score"):
        embedded.append([*rows(1), *rows(1, **wrong)])
    assert embedded.scores.count() == 0


def test_nothing_to_append_is_fine(embedded: Ledger) -> None:
    assert embedded.append([]) == 0


def test_many_callers_share_a_commit(embedded: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    real = embedded._writer._commit

    def commit(records: list[object]) -> None:
        commits.append(len(records))
        real(records)

    monkeypatch.setattr(embedded._writer, "_commit", commit)
    with ThreadPoolExecutor(24) as pool:
        with busy(embedded):
            waiting = [pool.submit(embedded.append, rows(1)) for _ in range(24)]
            time.sleep(0.3)
        assert sum(item.result(10) for item in waiting) == 24
    assert embedded.scores.count() == 24
    assert sum(commits) == 24
    assert len(commits) <= 3, "who came first, and all who waited together"


def test_one_callers_bad_rows_cost_no_other_caller_theirs(ledger: Ledger) -> None:
    (first,) = rows(1)
    ledger.append([first])
    bad = [[first._replace(band="low")], rows(1, entity_id="lone \ud800 surrogate")]
    good = [rows(2) for _ in range(5)]
    futures = [ledger.submit(part) for part in (good[0], bad[0], *good[1:3], bad[1], *good[3:])]
    outcomes = [future.exception(10) for future in futures]
    assert [type(error).__name__ for error in outcomes if error] == [
        "StateError",
        "UnicodeEncodeError",
    ]
    assert ledger.scores.count() == 11


def test_closing_commits_what_waits_and_refuses_what_comes(embedded: Ledger, file: Path) -> None:
    with busy(embedded):
        futures = [embedded.submit(rows(1)) for _ in range(10)]
        closing = threading.Thread(target=embedded.close)
        closing.start()
    closing.join(10)
    assert [future.result(0) for future in futures] == [1] * 10
    with pytest.raises(StateError, match="closed"):
        embedded.append(rows(1))
    with Ledger(None, file, "acme") as again:
        assert again.scores.count() == 10


def test_a_full_queue_says_so_at_once(embedded: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_queue, "WAITING_ROWS", 10)
    with busy(embedded):
        embedded.submit(rows(1))
        time.sleep(0.2)  # the writer takes the first and waits for the lock
        accepted = embedded.submit(rows(10))
        with pytest.raises(UnavailableError, match="behind"):
            embedded.submit(rows(1))
    assert accepted.result(10) == 10


def test_a_slow_commit_is_told_and_may_be_repeated(file: Path) -> None:
    with Ledger(None, file, "acme", wait_seconds=0.3) as ledger:
        written = rows(2)
        with busy(ledger), pytest.raises(UnavailableError, match=r"within 0\.3 s"):
            ledger.append(written)
        time.sleep(0.3)
        assert ledger.append(written) == 2
        assert ledger.scores.count() == 2


def test_a_cancelled_caller_is_passed_over(embedded: Ledger) -> None:
    with busy(embedded):
        embedded.submit(rows(1))
        time.sleep(0.2)
        cancelled, other = embedded.submit(rows(1)), embedded.submit(rows(1))
        assert cancelled.cancel()
    assert other.result(10) == 1
    assert embedded.scores.count() == 2


def test_a_ledger_is_not_carried_over_a_fork(
    embedded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(StateError, match="forked"):
        embedded.append(rows(1))


def test_an_outage_is_retried(embedded: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [UnavailableError("lost"), UnavailableError("lost")]
    real = embedded._writer._commit

    def flaky(records: list[object]) -> None:
        if failures:
            raise failures.pop()
        real(records)

    monkeypatch.setattr(embedded._writer, "_commit", flaky)
    assert embedded.append(rows(1)) == 1
    assert embedded.scores.count() == 1


def test_a_commit_whose_answer_was_lost_is_not_written_twice(
    embedded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = embedded._writer._commit, [True]

    def commit(records: list[dict[str, object]]) -> None:
        real(records)
        if lost.pop() if lost else False:
            raise UnavailableError("connection lost at commit")

    monkeypatch.setattr(embedded._writer, "_commit", commit)
    assert embedded.append(rows(3)) == 3
    assert embedded.scores.count() == 3


def test_a_database_that_is_away_is_named_without_its_password(file: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        Ledger("postgresql://someone:hunter2@127.0.0.1:1/nowhere", file, "acme")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:1/nowhere" in str(caught.value)


def test_a_damaged_file_is_told(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b"this is no database, it is a letter to my grandmother" * 100)
    with pytest.raises(UnavailableError, match="not a database"):
        Ledger(None, file, "acme")


def test_a_kill_loses_no_acknowledged_score(url: str, file: Path) -> None:
    child = start_writer(url, file, "killed", -1)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(60)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    acknowledged = {score_id for line in lines for score_id in line.decode().split()[1:]}
    assert len(acknowledged) >= 1200
    with Ledger(url or None, file, "acme") as ledger:
        assert acknowledged <= all_ids(ledger)
        with reading(ledger.engine) as connection:
            requests = Counter(connection.execute(select(scores_table.c.request_id)).scalars())
        assert set(requests.values()) == {20}  # each call whole or not at all
        assert ledger.append(rows(1)) == 1


def test_processes_at_once_lose_nothing(url: str, file: Path) -> None:
    children = [start_writer(url, file, name, 15) for name in ("one", "two")]
    lines = [line for child in children for line in child.communicate(timeout=60)[0].splitlines()]
    assert [child.returncode for child in children] == [0, 0]
    acknowledged = {score_id for line in lines for score_id in line.decode().split()[1:]}
    with Ledger(url or None, file, "acme") as ledger:
        assert all_ids(ledger) == acknowledged
    assert len(acknowledged) == 2 * 4 * 15 * 20


def test_a_book_comes_back_most_probable_first(ledger: Ledger) -> None:
    assert ledger.append_book(book()) == 7
    found = ledger.runs.last("churn")
    assert [row.entity_id for row in found] == [f"a{i}" for i in reversed(range(7))]
    assert unpack_features(found[0].features).tolist() == [18.0, 19.0, 20.0]
    assert found[0].reasons == [{"rank": 6}]
    assert {row.channel for row in found} == {"book"}
    assert ledger.runs.last("expansion") == []


def test_books_follow_each_other(ledger: Ledger) -> None:
    later = NOW + timedelta(days=7)
    ledger.append_book(book())
    ledger.append_book(book("book-2", n=3, served_at=later))
    assert len(ledger.runs.last("churn")) == 3
    assert len(ledger.runs.last("churn", before=later)) == 7
    assert len(ledger.scores.history("a0", "churn")) == 2


def test_a_book_is_seen_whole_or_not_at_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BOOK_ROWS", 3)
    real, calls = settle, iter([True, True, False])

    def interrupted(*arguments: object, **named: object) -> int:
        if not next(calls):
            raise UnavailableError("lost")
        return int(real(*arguments, **named))  # type: ignore[arg-type]

    monkeypatch.setattr(module, "settle", interrupted)
    with pytest.raises(UnavailableError):
        ledger.append_book(book())
    assert ledger.runs.last("churn") == []
    monkeypatch.setattr(module, "settle", real)
    assert ledger.append_book(book()) == 4
    assert len(ledger.runs.last("churn")) == 7
    assert ledger.append_book(book()) == 0


def test_another_book_under_the_same_name_is_refused_before_it_is_written(ledger: Ledger) -> None:
    ledger.append_book(book())
    with pytest.raises(StateError):
        ledger.append_book(book(served_at=NOW + timedelta(days=1)))
    with pytest.raises(StateError):
        ledger.append_book(book(probability=np.full(7, 0.5)))
    assert ledger.scores.count() == 7


def test_a_crooked_book_is_refused(embedded: Ledger) -> None:
    with pytest.raises(DataError, match="differ in length"):
        embedded.append_book(book(band=["low"]))
    with pytest.raises(DataError, match="first at entity a0"):
        embedded.append_book(book(probability=np.full(7, np.nan)))
    assert embedded.scores.count() == 0


def test_outcomes_are_recorded_once_and_corrected_later(ledger: Ledger) -> None:
    outcome = RecordedOutcome("a1", "churn", AS_OF, 0, NOW)
    assert ledger.outcomes.record_one(outcome, recorded_at=NOW)
    assert not ledger.outcomes.record_one(outcome, recorded_at=NOW + timedelta(days=1))
    with pytest.raises(StateError):
        ledger.outcomes.record_one(replace(outcome, label=1), recorded_at=NOW)
    later = NOW + timedelta(days=30)
    corrected = replace(outcome, label=1, known_at=later, decision_at=AS_OF)
    assert ledger.outcomes.record([corrected, outcome], recorded_at=later) == 1
    assert ledger.outcomes.known("churn") == [corrected]
    assert ledger.outcomes.known("churn", known_by=NOW) == [outcome]
    assert ledger.outcomes.known("expansion") == []


def test_an_outcome_is_yes_or_no(embedded: Ledger) -> None:
    with pytest.raises(DataError):
        embedded.outcomes.record_one(RecordedOutcome("a1", "churn", AS_OF, 2, NOW), recorded_at=NOW)


def test_ids_sort_by_time() -> None:
    early, late = new_score_ids(NOW, 100), new_score_ids(NOW + timedelta(seconds=1), 100)
    assert max(early) < min(late)
    assert len(set(early + late)) == 200
    assert all(re.fullmatch(r"[0-9a-f]{32}", score_id) for score_id in early)


def test_the_ledger_is_light_to_import() -> None:
    script = (
        "import sys, serving.ledger.store.ledger, training.registry.releases\n"
        "heavy = {'pandas', 'mlflow', 'optuna', 'lightgbm', 'sklearn', 'shap', 'feast'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_score_to_compare_with_is_of_another_moment_or_model(ledger: Ledger) -> None:
    day = timedelta(days=1)
    (present,) = rows(1)
    (week_ago,) = rows(1, as_of=AS_OF - 7 * day, served_at=NOW - 7 * day)
    (month_ago,) = rows(1, as_of=AS_OF - 30 * day, served_at=NOW - 30 * day)
    (hidden,) = rows(1, as_of=AS_OF - day, served_at=NOW - day, channel="shadow")
    (ahead,) = rows(1, as_of=AS_OF + day, served_at=NOW - day)
    (twin,) = rows(1, served_at=NOW - timedelta(hours=1))
    ledger.append([present, month_ago, week_ago, hidden, ahead, twin])
    of = {"as_of": AS_OF, "bundle_sha": present.bundle_sha}
    assert ledger.scores.previous("a1", "churn", **of) == week_ago  # type: ignore[arg-type]
    before = NOW - 7 * day
    assert ledger.scores.previous("a1", "churn", **of, served_before=before) == month_ago  # type: ignore[arg-type]
    retrained = {"as_of": AS_OF, "bundle_sha": "t" * 64}
    assert ledger.scores.previous("a1", "churn", **retrained) == present  # type: ignore[arg-type]
    assert ledger.scores.previous("a2", "churn", **of) is None  # type: ignore[arg-type]


def test_the_book_to_compare_with_is_of_another_moment_or_release(ledger: Ledger) -> None:
    day = timedelta(days=1)
    ledger.append_book(book())
    assert ledger.runs.last("churn", unlike=(AS_OF, book().release_id)) == []
    ledger.append_book(book("older", n=3, as_of=AS_OF - 7 * day, served_at=NOW - 7 * day))
    ledger.append_book(book("again", n=5, served_at=NOW + day))
    assert len(ledger.runs.last("churn", unlike=(AS_OF, book().release_id))) == 3
    assert len(ledger.runs.last("churn", unlike=(AS_OF, "another"))) == 5


def test_a_shadow_book_is_kept_and_never_the_last_book(ledger: Ledger) -> None:
    ledger.append_book(book("shown", n=3))
    ledger.append_book(book("hidden", served_at=NOW + timedelta(days=1), channel="shadow"))
    assert {row.request_id for row in ledger.runs.last("churn")} == {"shown"}
    assert ledger.scores.count() == 10


def test_facts_and_clock_come_back(ledger: Ledger) -> None:
    facts = {"arr": 12.5, "renews_on": "2026-04-01", "is_under_contract": True}
    written = rows(1, facts=facts, clock=NOW)
    ledger.append(written)
    assert ledger.scores.find(written[0].score_id) == written[0]
    ledger.append_book(book(facts=[{"arr": float(i)} for i in range(7)]))
    kept = ledger.runs.last("churn")[0]
    assert (kept.facts, kept.clock) == ({"arr": 6.0}, NOW)


def test_a_sample_is_spread_over_the_ledger_and_the_same_each_time(ledger: Ledger) -> None:
    for day in range(40):
        ledger.append(rows(1, request_id=f"day {day:02d}"))
    found = [row.request_id for row in ledger.scores.sample(8)]
    assert found == [f"day {day:02d}" for day in range(0, 40, 5)]
    assert [row.request_id for row in ledger.scores.sample(8)] == found
    assert len(ledger.scores.sample(1000)) == 40


def test_books_are_judged_by_the_outcomes_of_their_own_contract(ledger: Ledger) -> None:
    ledger.append_book(book(n=4))
    ledger.append_book(book("hidden", n=4, channel="shadow", bundle_sha="t" * 64))
    ledger.append_book(book("again", n=4, served_at=NOW + timedelta(hours=1)))
    known = AS_OF + timedelta(days=91)
    answers = [
        RecordedOutcome("a0", "churn", AS_OF, 0, known, contract="until"),
        RecordedOutcome("a1", "churn", AS_OF, 1, known, contract="until"),
        RecordedOutcome("a1", "churn", AS_OF, 0, known, contract="within"),
    ]
    assert ledger.outcomes.record(answers, recorded_at=NOW) == 3
    assert ledger.outcomes.record(answers, recorded_at=NOW) == 0
    shown, hidden, again = ledger.runs.every()
    assert (shown.channel, hidden.channel, again.book_id) == ("book", "shadow", "again")
    assert ledger.runs.every(channel="shadow") == [hidden]
    assert ledger.outcomes.count() == {("churn", AS_OF): 2}
    assert ledger.outcomes.missing(shown, "until") == {"a2", "a3"}
    assert ledger.outcomes.missing(hidden, "within") == {"a0", "a2", "a3"}
    judged = ledger.outcomes.judged([shown, again, hidden], "until")
    found = sorted(zip(judged.entity_id, judged.bundle_sha, judged.label, strict=True))
    own, other = "s" * 64, "t" * 64
    assert found == [("a0", own, 0.0), ("a0", other, 0.0), ("a1", own, 1.0), ("a1", other, 1.0)]
    assert [row.entity_id for row in ledger.runs.scores_of(hidden)] == ["a0", "a1", "a2", "a3"]
    assert len(ledger.outcomes.known("churn")) == 3


def test_the_ledger_and_its_log_are_readable_to_their_owner_only(file):
    before = os.umask(0o022)
    try:
        with Ledger(None, file, "acme") as opened:
            opened.append(rows())
            files = [file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))]
            assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3
            for path in files:
                path.chmod(0o644)
        with Ledger(None, file, "acme") as again:
            again.append(rows(score_id=""))
            assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3
    finally:
        os.umask(before)
