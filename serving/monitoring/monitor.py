"""How a published model fares: freshness, drift, expected and realised performance, the shadow.

Made after every book and read by the service; each number says how many accounts it rests on, and
nothing is called drift or decay that so many cannot support.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from configs.runtime.errors import BellwetherError
from configs.runtime.state_directory import write_json_atomically
from configs.schema.workspace import Workspace
from serving.http.score_text import to_second
from serving.ledger.ledger import Ledger
from serving.ledger.model_archive import ModelArchive
from serving.ledger.outcomes import contract_id
from serving.ledger.score_rows import SHADOW, BookEntry, JudgedScore, ScoreRow
from serving.monitoring.monitoring_store import LATEST, MonitoringInput
from serving.scoring.scorer import ScoringModel
from training.evaluation.drift import Drift, drift_of, histogram
from training.evaluation.estimated_performance import expected_auc, expected_performance
from training.evaluation.metrics import (
    Measure,
    Sample,
    auc,
    auc_pooled,
    bootstrap,
    brier,
    estimate,
    observed_to_expected,
)
from training.evaluation.sampling import month_codes
from training.model.reasons import is_circumstance
from training.registry.releases import Release

DECILES = tuple(k / 10 for k in range(1, 10))
DRAWS = 200
MIN_EVENTS = 10
"""Events, and non-events, below which no realised performance is told."""

MOST_ROWS = 50_000
"""Of realised outcomes, the latest: a bound on time and memory."""

OFF_LEVEL = 1.25
"""Observed over expected events beyond which, either way, a level is off."""

ASSUMPTION = (
    "if the probabilities are calibrated and accounts leave independently of each other; it tells "
    "whether the book became harder to rank, not whether the probabilities became wrong"
)

_MEASURES: dict[str, Measure] = {
    "auc": auc,
    "auc_pooled": auc_pooled,
    "brier": brier,
    "observed_to_expected": observed_to_expected,
}


def monitor(
    workspace: Workspace, watched: MonitoringInput, ledger: Ledger, now: datetime
) -> dict[str, Any]:
    """Look at the newest book and at what became of earlier ones, and keep what was seen.

    Parameters
    ----------
    workspace : Workspace
        The company.
    watched : Watched
        The newest book.
    ledger : Ledger
        Earlier books and their outcomes.
    now : datetime
        The clock.

    Returns
    -------
    dict
        Plain JSON, see `schemas.Monitoring`; also written to ``monitoring/latest.json``.
    """
    age = now - watched.as_of
    limit = workspace.company.serving.stale_after_days
    archive, seed = ModelArchive(workspace.state), workspace.company.training.seed
    report = {
        "made_at": to_second(now),
        "release_id": watched.release_id,
        "freshness": {
            "as_of": to_second(watched.as_of),
            "age_days": age.days,
            "stale_after_days": limit,
            "is_stale": age.days > limit,
            "n_accounts": watched.n_accounts,
            "n_scored": len(watched.values),
        },
        "targets": {
            model.target: _of_target(model, watched, archive, ledger, seed)
            for model in watched.models
        },
    }
    write_json_atomically(workspace.state.monitoring / LATEST, report)
    return report


def _of_target(
    model: ScoringModel, watched: MonitoringInput, archive: ModelArchive, ledger: Ledger, seed: int
) -> dict[str, Any]:
    matrix = model.encode(watched.values)
    p = model.bundle.predict(matrix).p
    judged = _judged(model, archive, ledger)
    told: dict[str, Any] = {
        "outcome": model.bundle.outcome,
        "bundle_sha": model.sha,
        "verdict": model.bundle.verdict,
        "scores": _score_drift(model, p, watched.as_of, archive, ledger, seed),
        "inputs": _input_drift(model, matrix, seed),
        "expected": _expected(p, seed, watched.until.get(model.target)),
        "realised": realised(judged, seed),
        "realised_of_this_model": realised(_of_bundle(judged, model.sha), seed),
        "shadow": _shadow(model, archive, ledger, judged, seed),
    }
    return told | {"words": words_of(told)}


def _input_drift(model: ScoringModel, matrix: np.ndarray, seed: int) -> dict[str, Any] | None:
    """Return drift by feature, strongest first; None for a model that keeps no reference."""
    manifest = model.bundle.manifest
    n_reference = manifest.reference_entities
    if n_reference == 0:
        return None
    names = model.bundle.encoder.names
    columns = dict(zip(names, matrix.T, strict=True))
    found = drift_of(columns, manifest.reference, n_reference=n_reference, seed=seed)
    info = {item.name: item for item in model.bundle.info}
    told = [
        item.as_dict()
        | {
            "label": info[item.name].label,
            "theme": info[item.name].theme,
            "is_circumstance": is_circumstance(info[item.name]),
        }
        for item in sorted(found, key=lambda item: -(item.psi or 0.0))
    ]
    return {
        "n_accounts": len(matrix),
        "n_reference": n_reference,
        "n_features": len(found),
        "n_moved": sum(_has_moved(item) for item in found),
        "n_too_few_to_tell": sum(item.verdict == "too few to tell" for item in found),
        "features": told,
    }


def _has_moved(item: Drift) -> bool:
    return item.verdict in ("moved", "moved much")


def _score_drift(
    model: ScoringModel,
    p: np.ndarray,
    as_of: datetime,
    archive: ModelArchive,
    ledger: Ledger,
    seed: int,
) -> dict[str, Any] | None:
    """Compare the book's probabilities with those of the model's first book; None in that one.

    Not with those out of time in training: other models made them, of other accounts: those whose
    outcome was known.
    """
    if not model.bundle.has_reasons:
        return None
    books = (
        book
        for book, release in _answered(model.target, archive, ledger, "book")
        if release.bundles[model.target]["sha"] == model.sha
    )
    first = next(books, None)
    if first is None or first.as_of >= as_of:
        return None
    before = ledger.runs.probabilities(first)
    edges = np.quantile(before, DECILES)
    (found,) = drift_of(
        {model.target: p},
        {model.target: histogram(before, edges)},
        n_reference=len(before),
        seed=seed,
    )
    return found.as_dict() | {"since": to_second(first.as_of)}


def _answered(
    target: str, archive: ModelArchive, ledger: Ledger, channel: str
) -> Iterator[tuple[BookEntry, Release]]:
    """Yield the books of a target, oldest first, with the release that answered."""
    for book in ledger.runs.every(channel=channel):
        if book.target == target:
            try:
                yield book, archive.release(book.release_id)
            except BellwetherError:
                continue  # a release that is not kept cannot say what it asked


def _expected(p: np.ndarray, seed: int, until: str | None) -> dict[str, Any] | None:
    if len(p) == 0:
        return None
    told = {"assumption": ASSUMPTION, "until": until}
    return expected_performance(p, seed=seed).as_dict() | told


def _books_of(
    model: ScoringModel, archive: ModelArchive, ledger: Ledger, channel: str
) -> tuple[list[BookEntry], str]:
    """Return the books that asked what the present model asks, and the identity of the question."""
    contract = contract_id(model.contract)
    found = [
        book
        for book, release in _answered(model.target, archive, ledger, channel)
        if contract_id(release.label_contracts[book.target]) == contract
    ]
    return found, contract


def _judged(
    model: ScoringModel, archive: ModelArchive, ledger: Ledger, channel: str = "book"
) -> JudgedScore:
    books, contract = _books_of(model, archive, ledger, channel)
    return ledger.outcomes.judged(books, contract)


def _of_bundle(judged: JudgedScore, sha: str) -> JudgedScore:
    return _take(judged, [i for i, item in enumerate(judged.bundle_sha) if item == sha])


def _take(judged: JudgedScore, rows: Sequence[int]) -> JudgedScore:
    return JudgedScore(
        [judged.entity_id[i] for i in rows],
        [judged.bundle_sha[i] for i in rows],
        [judged.as_of[i] for i in rows],
        judged.p[list(rows)],
        judged.label[list(rows)],
    )


def realised(judged: JudgedScore, seed: int) -> dict[str, Any]:
    """Return how scores did that have outcomes, with 95 % intervals over accounts.

    Returns
    -------
    dict
        n, n_accounts, events, from and to (prediction moments); auc (pairs within a month),
        auc_pooled (pairs of all months), brier and observed_to_expected as value, low, high, and
        expected_auc (within a month); those are None below `MIN_EVENTS` events or non-events.
    """
    rows = sorted(range(len(judged.p)), key=lambda i: judged.as_of[i])[-MOST_ROWS:]
    judged = _take(judged, rows)
    events = int(judged.label.sum())
    told: dict[str, Any] = {
        "n": len(judged.p),
        "n_accounts": len(set(judged.entity_id)),
        "events": events,
        "from": to_second(min(judged.as_of)) if rows else None,
        "to": to_second(max(judged.as_of)) if rows else None,
        **dict.fromkeys((*_MEASURES, "expected_auc")),
    }
    if min(events, len(rows) - events) < MIN_EVENTS:
        return told
    sample = _sample(judged, judged.p)
    drawn = bootstrap(sample, _MEASURES, draws=DRAWS, seed=seed)
    told |= {name: estimate(values).as_dict() for name, values in drawn.items()}
    return told | {"expected_auc": expected_auc(sample.p, sample.cohort)}


def _sample(judged: JudgedScore, p: np.ndarray) -> Sample:
    return Sample(
        judged.label,
        p,
        np.zeros(len(p)),
        np.full(len(p), np.nan),
        np.unique(np.array(judged.entity_id), return_inverse=True)[1],
        month_codes(judged.as_of),
    )


def _shadow(
    model: ScoringModel, archive: ModelArchive, ledger: Ledger, shown: JudgedScore, seed: int
) -> dict[str, Any] | None:
    """Compare the release in the shadow with what was shown beside it; None without one."""
    books, contract = _books_of(model, archive, ledger, SHADOW)
    if not books:
        return None
    last = books[-1]
    own = [b for b in books if b.release_id == last.release_id]
    beside = [b for b in ledger.runs.every(channel="book") if _is_beside(b, last)]
    told: dict[str, Any] = {"release_id": last.release_id, "n_books": len(own)}
    if beside:
        told["agreement"] = _agreement(
            ledger.runs.scores_of(beside[-1]), ledger.runs.scores_of(last)
        )
    return told | {"outcomes": _duel(shown, ledger.outcomes.judged(own, contract), seed)}


def _is_beside(book: BookEntry, shadow: BookEntry) -> bool:
    return book.target == shadow.target and book.as_of == shadow.as_of


def _agreement(shown: Sequence[ScoreRow], shadow: Sequence[ScoreRow]) -> dict[str, Any]:
    by_id = {row.entity_id: row for row in shown}
    pairs = [(by_id[row.entity_id], row) for row in shadow if row.entity_id in by_id]
    before, after = (np.array([pair[k].probability for pair in pairs]) for k in (0, 1))
    return {
        "n": len(pairs),
        "mean_difference": float((after - before).mean()) if pairs else None,
        "mean_size": float(np.abs(after - before).mean()) if pairs else None,
        "other_band_share": float(np.mean([a.band != b.band for a, b in pairs])) if pairs else None,
    }


def _duel(shown: JudgedScore, shadow: JudgedScore, seed: int) -> dict[str, Any]:
    """Return both models' measures on the same accounts and moments, and the paired difference."""
    known = {key: i for i, key in enumerate(zip(shown.entity_id, shown.as_of, strict=True))}
    rows = [
        (known[key], i)
        for i, key in enumerate(zip(shadow.entity_id, shadow.as_of, strict=True))
        if key in known
    ]
    both = _take(shadow, [i for _, i in rows])
    events = int(both.label.sum())
    told: dict[str, Any] = {"n": len(rows), "events": events}
    if min(events, len(rows) - events) < MIN_EVENTS:
        return told
    champion = bootstrap(
        _sample(both, shown.p[[i for i, _ in rows]]), _MEASURES, draws=DRAWS, seed=seed
    )
    challenger = bootstrap(_sample(both, both.p), _MEASURES, draws=DRAWS, seed=seed)
    for name in ("auc", "brier"):
        told[name] = {
            "shown": estimate(champion[name]).as_dict(),
            "shadow": estimate(challenger[name]).as_dict(),
            "difference": estimate(challenger[name] - champion[name]).as_dict(),
        }
    return told


def words_of(told: dict[str, Any]) -> list[str]:
    """Return what is worth a sentence, alarms first."""
    return [
        *_realised_words(told["realised"]),
        *_drift_words(told["scores"], told["inputs"]),
        *_expected_words(told["expected"]),
        *_shadow_words(told["shadow"]),
    ]


def _realised_words(found: dict[str, Any]) -> list[str]:
    if found["auc"] is None:
        return [
            f"{found['n']:,} past scores have an outcome, {found['events']} of them events: too "
            "few to say how the model did"
        ]
    area, ratio = found["auc"], found["observed_to_expected"]
    words = [
        f"AUC within months so far {area['value']:.2f} ({area['low']:.2f}–{area['high']:.2f}), "
        f"over all months together {found['auc_pooled']['value']:.2f}, on {found['n']:,} scores "
        f"with {found['events']} events; events came {ratio['value']:.2f} times as often as "
        f"estimated ({ratio['low']:.2f}–{ratio['high']:.2f})"
    ]
    is_off = not 1 / OFF_LEVEL <= ratio["value"] <= OFF_LEVEL
    if is_off and not ratio["low"] <= 1.0 <= ratio["high"]:
        words.insert(0, "ALARM: the level of the estimates is off; train again")
    if area["high"] < found["expected_auc"]:
        words.insert(
            0,
            "ALARM: it ranks worse than its own probabilities promise "
            f"({found['expected_auc']:.2f}); train again",
        )
    return words


def _drift_words(scores: dict[str, Any] | None, inputs: dict[str, Any] | None) -> list[str]:
    words = []
    if scores is not None and scores["verdict"].startswith("moved"):
        words.append(
            f"ALARM: the scores {scores['verdict']} since the model's first book, of "
            f"{scores['since'][:10]} (PSI {scores['psi']:.2f})"
        )
    if inputs is None:
        return words
    moved = [item for item in inputs["features"] if item["verdict"].startswith("moved")]
    named = ", ".join(f"{item['label']} ({item['psi']:.2f})" for item in moved[:3])
    n = f"{inputs['n_accounts']:,} accounts"
    words.append(
        f"{len(moved)} of {inputs['n_features']} inputs moved since training: {named}"
        if moved
        else f"no input moved more than {n} can show"
    )
    if inputs["n_too_few_to_tell"]:
        words.append(f"{inputs['n_too_few_to_tell']} inputs: {n} are too few to tell a shift")
    return words


def _expected_words(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["nobody is scored"]
    area = (
        "too few events expected for an AUC"
        if found["auc"] is None
        else f"AUC within the book {found['auc']:.2f} "
        f"({found['auc_low']:.2f}–{found['auc_high']:.2f})"
    )
    by = f" by {found['until']}" if found["until"] else ""
    return [
        f"to be expected of this book{by}: {found['events']:.0f} events "
        f"({found['events_low']:.0f}–{found['events_high']:.0f}), {area}, {found['assumption']}"
    ]


def _shadow_words(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    outcomes = found["outcomes"]
    if "brier" not in outcomes:
        return [
            f"in the shadow: {found['release_id']}, {outcomes['n']:,} scores with an outcome, "
            f"{outcomes['events']} events: too few to compare"
        ]
    gap = outcomes["brier"]["difference"]
    clear = not gap["low"] <= 0.0 <= gap["high"]
    verdict = ("better" if gap["value"] < 0 else "worse") if clear else "no different"
    return [
        f"in the shadow: {found['release_id']} is {verdict} on {outcomes['n']:,} scores, Brier "
        f"{gap['value']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
    ]
