"""Score runs: all accounts scored from the offline vectors, recorded and published."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime import formatting
from configs.runtime.errors import BellwetherError, StateError
from configs.runtime.formatting import money_in_full, percent, percent_range
from configs.runtime.state_directory import (
    State,
    new_folder,
    read_json,
    read_manifest,
    write_json_atomically,
)
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore, OnlineRows
from features.snapshots.statuses import NOT_CUSTOMERS
from serving.batch.band_medians import ALL_ACCOUNTS, LEVELS, band_medians
from serving.batch.book_changes import ScoredAccount, changes_of_book
from serving.batch.stored_answers import AnswerPublisher
from serving.http.personal_data import mask_contact
from serving.http.score_text import asks_renewal, notice_words, to_second, window
from serving.integrations.webhooks import announce
from serving.ledger.model_archive import ModelArchive
from serving.ledger.shadow_scoring import score_shadow_book
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import BookScores
from serving.monitoring.monitoring_store import MonitoringInput
from serving.scoring.answer import Answer, Score
from serving.scoring.export_columns import SCHEMA, ExportRow
from serving.scoring.export_rows import (
    LedgerExtras,
    LedgerReason,
    compact_reasons,
    csv_lines,
    flat_row,
    ledger_extras,
    stable_content,
)
from serving.scoring.scorer import Scorer, ScoringModel, kept_facts, rank_key
from training.model.bands import newest_vectors
from training.registry.releases import Release

LATEST = "latest.json"
SCORES, SCORES_CSV, REASONS, RANKS = "scores.parquet", "scores.csv", "reasons.jsonl", "ranks.npz"
CHUNK_ROWS = 1_000
WARM_ROWS = 2 * CHUNK_ROWS
"""Number of accounts from which warming up the explanations saves time."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ScoreRun:
    """One score run over all accounts.

    Attributes
    ----------
    run_id : str
        ``<as_of day>-<hash of the content>``.
    folder : Path
        ``scores.parquet`` and ``scores.csv`` (canonical rows, see `serving.scoring.export_rows`),
        ``reasons.jsonl``, ``ranks.npz`` and ``levels.json`` (see `serving.batch.band_medians`).
    as_of, served_at : str
        ISO 8601: the prediction moment, and the time of scoring.
    release_id : str
        Release of the scores.
    statuses : dict of str to int
        Accounts by status.
    """

    run_id: str
    folder: Path
    as_of: str
    served_at: str
    release_id: str
    statuses: dict[str, int]


class RecordedScore(TypedDict):
    """Score of a run as the ledger and ``reasons.jsonl`` store it."""

    account_id: str
    target: str
    probability: float
    logit: float
    band: str
    reasons: list[LedgerReason]
    extras: LedgerExtras


@dataclass(frozen=True)
class _Vectors:
    """Newest feature vectors of the offline store."""

    entity_ids: list[str]
    rows: OnlineRows
    as_of: datetime
    identity: str


@contextmanager
def _without_collections() -> Iterator[None]:
    """Switch off the garbage collector: the growing rows contain no cycles.

    This saves a quarter of the processor time of a large run.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collections()
def score_book(
    workspace: Workspace,
    release: Release,
    ledger: Ledger,
    now: datetime,
    progress: Progress = lambda _: None,
) -> ScoreRun:
    """Score every account of the newest vectors, record the scores in the ledger, publish them.

    The answers go into the online store, where requests find them (`serving.batch.stored_answers`).

    Parameters
    ----------
    workspace : Workspace
        The company.
    release : Release
        The release to score with.
    ledger : Ledger
        Receives every score before the run is published.
    now : datetime
        Time of scoring, with a zone.
    progress : callable
        Called with one line per step.

    Returns
    -------
    ScoreRun
        The same rows and release at the same `now` give the same run.

    Raises
    ------
    StateError
        No vectors exist for the features of the release.
    """
    scorer = Scorer.load(workspace, release)
    vectors = _read_vectors(workspace, scorer)
    if len(vectors.entity_ids) >= WARM_ROWS:
        for model in scorer.models:
            model.bundle.warm()
    progress(f"scoring {len(vectors.entity_ids):,} accounts as of {vectors.as_of:%Y-%m-%d}")
    ranks = _ranks(scorer, vectors)
    shows_people = workspace.company.privacy.people.exports == "shown"
    flat: list[ExportRow] = []
    kept: dict[str, list[RecordedScore]] = {model.target: [] for model in scorer.models}
    ranked = scorer.with_ranks(ranks)
    stored = AnswerPublisher(FeastStore(workspace), ranked, now, progress)
    for answers, rows in _answers(ranked, vectors, now):
        flat += [_export_row(answer, shows_people=shows_people) for answer in answers]
        for answer in answers:
            for target, part in answer.get("scores", {}).items():
                kept[target].append(_recorded(answer, part))
        stored.add(answers, rows)
        progress(f"{len(flat):,} of {len(vectors.entity_ids):,}")
    _add_changes(workspace, scorer, vectors, ledger, flat, kept, progress)
    flat = _ranked(flat)
    run_id = f"{vectors.as_of:%Y%m%d}-{_identity(release, now, flat, kept)}"
    _keep(scorer, ledger, vectors, kept, run_id, now)
    score_shadow_book(workspace, ledger, partial(_read_for, workspace), run_id, now, progress)
    progress("writing the scores")
    before = _rows_before(workspace.state)
    flat = _dated(flat, before, now)
    # Before publication: if the process ends here, the next run announces the changes.
    announce(workspace, before, flat, run_id, now)
    return _publish(workspace.state, scorer, vectors, flat, kept, ranks, run_id, now)


def watched_book(workspace: Workspace, release: Release) -> MonitoringInput:
    """Return the newest vectors as input of `serving.monitoring.monitor`."""
    scorer = Scorer.load(workspace, release)
    vectors = _read_vectors(workspace, scorer)
    facts = vectors.rows.facts
    chosen = [fact.get("status") == "scored" for fact in facts]
    asked = [fact for fact, is_chosen in zip(facts, chosen, strict=True) if is_chosen]
    last = {
        model.target: max(window(model.contract, fact, vectors.as_of) for fact in asked)
        for model in scorer.models
        if asked
    }
    return MonitoringInput(
        scorer.models,
        vectors.rows.values[np.array(chosen, dtype=bool)],
        vectors.as_of,
        release.release_id,
        sum(fact.get("status") not in NOT_CUSTOMERS for fact in facts),
        {target: day.isoformat() for target, day in last.items()},
    )


def _identity(
    release: Release,
    now: datetime,
    flat: Sequence[ExportRow],
    kept: Mapping[str, Sequence[RecordedScore]],
) -> str:
    """Return the hash of the content of a run, updated row by row to save memory."""
    found = hashlib.sha256(f"{release.release_id} {now.isoformat()}".encode())
    for row in chain(flat, *(kept[target] for target in sorted(kept))):
        found.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return found.hexdigest()[:12]


def answers_of(workspace: Workspace, release: Release, now: datetime) -> Iterator[Answer]:
    """Yield the answers for the newest vectors as the API returns them; nothing is recorded."""
    scorer = Scorer.load(workspace, release)
    vectors = _read_vectors(workspace, scorer)
    for answers, _ in _answers(scorer.with_ranks(_ranks(scorer, vectors)), vectors, now):
        yield from answers


def read_latest(state: State) -> ScoreRun | None:
    """Return the latest published score run, or None."""
    try:
        run_id = str(read_json(state.scores / LATEST)["run_id"])
    except FileNotFoundError:
        return None
    folder = state.scores / run_id
    manifest = read_manifest(folder)
    if manifest is None:
        raise StateError(
            f"the latest score run {run_id} is missing or incomplete",
            where=str(folder),
            fix="bellwether score",
        )
    return ScoreRun(folder=folder, **manifest)


def read_table(run: ScoreRun) -> pa.Table:
    """Return the canonical rows of a score run, ranked; one row per account."""
    return pq.read_table(run.folder / SCORES, schema=SCHEMA)


def _levels(
    scorer: Scorer, vectors: _Vectors, flat: Sequence[ExportRow]
) -> dict[str, dict[str, list[float | None]]]:
    """Return the medians of features by risk band (`serving.batch.band_medians`)."""
    bands = {row["account_id"]: band for row in flat if (band := row["risk_band"])}
    kept = [i for i, entity in enumerate(vectors.entity_ids) if entity in bands]
    groups = [str(vectors.rows.facts[i].get("peer_group")) for i in kept]
    names = [str(name) for name in scorer.release.feature_set["names"]]
    words = [scorer.peers.words.get(group) or ALL_ACCOUNTS for group in groups]
    of_risk = [bands[vectors.entity_ids[i]] for i in kept]
    return band_medians(vectors.rows.values[kept], names, words, of_risk)


def read_ranks(run: ScoreRun) -> dict[str, np.ndarray]:
    """Return the ascending probabilities of a score run, by `serving.scoring.scorer.rank_key`."""
    with np.load(run.folder / RANKS) as stored:
        return {target: stored[target] for target in stored.files}


def top_at_risk(run: ScoreRun, n: int = 10) -> list[str]:
    """Return the `n` accounts with the highest expected loss, with their reasons, as text."""
    table = read_table(run)
    ranked = table.filter(pc.is_valid(table["rank"])).slice(0, n).to_pylist()
    return [_as_text(row) for row in ranked]


def _as_text(row: ExportRow) -> str:
    r"""Return one account as a few lines of text.

    >>> row = dict.fromkeys(SCHEMA.names) | {
    ...     "rank": 1, "account_id": "A-1", "name": "Acme", "churn_risk": 0.31, "churn_low": 0.22,
    ...     "churn_high": 0.4, "risk_band": "high", "arr": 84000.0, "currency": "GBP",
    ...     "expected_arr_lost": 26040.0, "churn_until": "2026-03-12",
    ...     "renews_on": "2026-03-12", "days_to_notice": -2,
    ...     "reasons": ["Active users 4"]}
    >>> print(_as_text(row))
     1. Acme (A-1): 31\xa0% (22 to 40\xa0%), high; expected loss £26,040 of £84,000 by 12 Mar 2026
        notice deadline passed 2 days ago, renewal 12 Mar 2026
        + Active users 4
    >>> print(_as_text(row | {"reasons": [], "churn_rung": "rates", "churn_rules": ["It fell"]}))
     1. Acme (A-1): 31\xa0% (22 to 40\xa0%), high; expected loss £26,040 of £84,000 by 12 Mar 2026
        notice deadline passed 2 days ago, renewal 12 Mar 2026
        rule: It fell
    >>> print(_as_text(row | {"reasons": [], "renews_on": None, "churn_verdict": "promotable"}))
     1. Acme (A-1): 31\xa0% (22 to 40\xa0%), high; expected loss £26,040 of £84,000 by 12 Mar 2026
        no single reason is dominant
    """
    known = "".join(c if c.isprintable() else " " for c in str(row["name"] or ""))
    who = f"{known} ({row['account_id']})" if known else row["account_id"]
    lines = [f"{row['rank']:2d}. {who}: {_risk_text(row)}"]
    if row["renews_on"]:
        notice = notice_words(row["days_to_notice"])
        lines.append(
            f"    {notice + ', ' if notice else ''}renewal {formatting.day(row['renews_on'])}"
        )
    lines += [f"    + {text}" for text in row["reasons"] or ()]
    lines += [f"    - {text}" for text in row["protections"] or ()]
    lines += [f"    rule: {text}" for text in row["churn_rules"] or ()]
    has_reasons = row["reasons"] or row["protections"] or row["churn_rung"] == "rates"
    if row["churn_risk"] is not None and not has_reasons and row["churn_verdict"] != "no_signal":
        lines.append("    no single reason is dominant")
    return "\n".join(lines)


def _risk_text(row: ExportRow) -> str:
    risk, low, high = row["churn_risk"], row["churn_low"], row["churn_high"]
    if risk is None or low is None or high is None:
        return row["status_text"]
    words = f"{percent(risk)} ({percent_range(low, high)}), {row['risk_band']}"
    if row["expected_arr_lost"] is None:
        return words
    currency = row["currency"] or ""
    lost, arr = (money_in_full(value, currency) for value in (row["expected_arr_lost"], row["arr"]))
    return f"{words}; expected loss {lost} of {arr} by {formatting.day(row['churn_until'])}"


def _read_vectors(workspace: Workspace, scorer: Scorer) -> _Vectors:
    folder = newest_vectors(workspace.state, scorer.feature_hash)
    if folder is None:
        raise StateError(
            f"no vectors exist for the features of release {scorer.release.release_id}",
            where=str(workspace.state.snapshots / "vector" / scorer.feature_hash),
            fix="bellwether features; if the code of the features changed, also train and publish",
        )
    table = pq.read_table(folder / "part.parquet")
    shape = (len(table), scorer.width)
    stamps = [moment.astimezone(UTC) for moment in table["as_of"].to_pylist()]
    rows = OnlineRows(
        is_known=np.ones(len(table), dtype=bool),
        values=_matrix(table["values"], shape),
        past=_matrix(table["past"], shape),
        facts=[orjson.loads(item) for item in table["facts"].to_pylist()],
        as_of=list(stamps),
    )
    if not stamps:
        raise StateError(
            "the feature vectors contain no accounts", where=str(folder), fix="bellwether features"
        )
    return _Vectors(table["entity_id"].to_pylist(), rows, stamps[0], folder.name)


def _read_for(workspace: Workspace, scorer: Scorer) -> tuple[list[str], OnlineRows, datetime]:
    vectors = _read_vectors(workspace, scorer)
    return vectors.entity_ids, vectors.rows, vectors.as_of


def _matrix(column: pa.ChunkedArray, shape: tuple[int, int]) -> np.ndarray:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray = flat.astype(np.float64).reshape(shape)
    return matrix


def _ranks(scorer: Scorer, vectors: _Vectors) -> dict[str, np.ndarray]:
    """Return the probabilities of all predicted accounts, ascending, by `rank_key`."""
    return {
        rank_key(model.target, is_renewal=is_renewal): np.sort(p)
        for model in scorer.models
        for is_renewal, p in _by_question(model, vectors.rows).items()
        if len(p)
    }


def _by_question(model: ScoringModel, rows: OnlineRows) -> dict[bool, np.ndarray]:
    """Return the probabilities of accounts with a renewal question (True), and of the others."""
    chosen = [fact.get("status") == "scored" and model.asks(fact) for fact in rows.facts]
    mask = np.array(chosen, dtype=bool)
    p = model.bundle.probabilities(model.encode(rows.values[mask]))
    asked = (fact for fact, is_chosen in zip(rows.facts, chosen, strict=True) if is_chosen)
    renewal = np.array([asks_renewal(model.contract, fact) for fact in asked], dtype=bool)
    return {True: p[renewal], False: p[~renewal]}


def _answers(
    scorer: Scorer, vectors: _Vectors, now: datetime
) -> Iterator[tuple[list[Answer], OnlineRows]]:
    """Score the accounts in chunks, to limit memory; yield the answers with their rows."""
    rows = vectors.rows
    for start in range(0, len(vectors.entity_ids), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        chunk = OnlineRows(
            rows.is_known[part],
            rows.values[part],
            rows.past[part],
            rows.facts[part],
            rows.as_of[part],
        )
        yield scorer.score(vectors.entity_ids[part], chunk, now), chunk


def _export_row(answer: Answer, *, shows_people: bool) -> ExportRow:
    """Return the canonical row of an answer, without ids of persons unless exports show them."""
    row = flat_row(answer)
    if not shows_people:
        row["expansion_contact"] = mask_contact(row["expansion_contact"])
    return row


def _recorded(answer: Answer, part: Score) -> RecordedScore:
    return {
        "account_id": answer["account_id"],
        "target": part["target"],
        "probability": part["probability"],
        "logit": part["logit"],
        "band": part["band"],
        "reasons": compact_reasons(part),
        "extras": ledger_extras(answer, part),
    }


def _add_changes(
    workspace: Workspace,
    scorer: Scorer,
    vectors: _Vectors,
    ledger: Ledger,
    flat: Sequence[ExportRow],
    kept: Mapping[str, Sequence[RecordedScore]],
    progress: Progress,
) -> None:
    """Add the change since the previous run to each row, if that run and its model are kept."""
    archive = ModelArchive(workspace.state)
    position = {entity: i for i, entity in enumerate(vectors.entity_ids)}
    done: set[str] = set()
    for model in scorer.models:
        if model.bundle.outcome in done:
            continue  # the columns of an outcome belong to its first target
        done.add(model.bundle.outcome)
        facts = vectors.rows.facts
        scored = [
            ScoredAccount(
                row["account_id"],
                row["probability"],
                row["logit"],
                facts[position[row["account_id"]]],
            )
            for row in kept[model.target]
        ]
        earlier = ledger.runs.last(model.target, unlike=(vectors.as_of, scorer.release.release_id))
        values = vectors.rows.values[[position[row.account_id] for row in scored]]
        try:
            changes = changes_of_book(archive, model, scored, values, vectors.as_of, earlier)
        except BellwetherError as error:
            progress(f"{model.target}: no changes since the previous run: {error.what}")
            continue
        for row in flat:
            for name, value in changes.get(row["account_id"], {}).items():
                if (column := f"{model.bundle.outcome}_{name}") in row:
                    cast("dict[str, object]", row)[column] = value


def _ranked(rows: list[ExportRow]) -> list[ExportRow]:
    """Order by expected loss, then by risk; accounts that are not predicted come last.

    On the tier `rates` the number of rules that apply comes first, because rates hardly differ
    between accounts.
    """

    def place(row: ExportRow) -> tuple[int, float, float, str]:
        n_rules = len(row["churn_rules"] or ())
        lost, risk = row["expected_arr_lost"] or 0.0, row["churn_risk"] or 0.0
        return -n_rules, -lost, -risk, row["account_id"]

    scored = sorted((row for row in rows if row["status"] == "scored"), key=place)
    others = sorted((row for row in rows if row["status"] != "scored"), key=place)
    ranked: list[ExportRow] = [{**row, "rank": rank} for rank, row in enumerate(scored, start=1)]
    return ranked + others


def _rows_before(state: State) -> list[ExportRow]:
    """Return the rows of the latest published run; empty without one, or if it is damaged."""
    try:
        before = read_latest(state)
    except StateError:
        return []
    return read_table(before).to_pylist() if before else []


def _dated(rows: list[ExportRow], before: Sequence[ExportRow], now: datetime) -> list[ExportRow]:
    """Add the last time that the content of each row changed."""
    known = {row["account_id"]: row for row in before}
    served_at = to_second(now)
    return [
        {**row, "updated_at": _same_since(known.get(row["account_id"]), row) or served_at}
        for row in rows
    ]


def _same_since(before: ExportRow | None, row: ExportRow) -> str | None:
    return (
        before["updated_at"] if before and stable_content(before) == stable_content(row) else None
    )


def _keep(
    scorer: Scorer,
    ledger: Ledger,
    vectors: _Vectors,
    kept: Mapping[str, Sequence[RecordedScore]],
    run_id: str,
    now: datetime,
) -> None:
    position = {entity: i for i, entity in enumerate(vectors.entity_ids)}
    for model in scorer.models:
        rows = kept[model.target]
        ids = [str(row["account_id"]) for row in rows]
        ledger.append_book(
            BookScores(
                book_id=run_id,
                target=model.target,
                as_of=vectors.as_of,
                served_at=now,
                release_id=scorer.release.release_id,
                bundle_sha=model.sha,
                verdict=model.bundle.verdict,
                feature_set=scorer.feature_hash,
                entity_ids=ids,
                probability=np.array([row["probability"] for row in rows], dtype=np.float64),
                logit=np.array([row["logit"] for row in rows], dtype=np.float64),
                band=[row["band"] for row in rows],
                features=vectors.rows.values[[position[entity] for entity in ids]],
                reasons=[row["reasons"] for row in rows],
                facts=[
                    kept_facts(vectors.rows.facts[position[row["account_id"]]]) | row["extras"]
                    for row in rows
                ],
            )
        )


def _publish(
    state: State,
    scorer: Scorer,
    vectors: _Vectors,
    flat: list[ExportRow],
    kept: Mapping[str, Sequence[RecordedScore]],
    ranks: Mapping[str, np.ndarray],
    run_id: str,
    now: datetime,
) -> ScoreRun:
    counts: dict[str, int] = {}
    for row in flat:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    run = ScoreRun(
        run_id=run_id,
        folder=state.scores / run_id,
        as_of=vectors.as_of.isoformat(),
        served_at=now.astimezone(UTC).isoformat(),
        release_id=scorer.release.release_id,
        statuses=counts,
    )
    manifest = {key: value for key, value in asdict(run).items() if key != "folder"}
    with new_folder(run.folder, manifest) as aside:
        pq.write_table(pa.Table.from_pylist(flat, SCHEMA), aside / SCORES, compression="zstd")
        with (aside / SCORES_CSV).open("w", encoding="utf-8", newline="") as handle:
            handle.writelines(csv_lines(flat))
        with (aside / REASONS).open("wb") as handle:
            handle.writelines(
                orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
                for rows in kept.values()
                for row in rows
            )
        arrays: dict[str, Any] = dict(ranks)
        np.savez_compressed(aside / RANKS, **arrays)
        write_json_atomically(aside / LEVELS, _levels(scorer, vectors, flat))
    write_json_atomically(state.scores / LATEST, {"run_id": run_id})
    return run
