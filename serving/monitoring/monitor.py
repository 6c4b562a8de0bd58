"""Monitoring of the published models: freshness, drift, expected and realised performance, shadow.

A report is made after every score run. Drift and decay are reported only where the number of
accounts supports them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import cast

import numpy as np

from configs.runtime.errors import BellwetherError
from configs.runtime.state_directory import write_json_atomically
from configs.schema.workspace import Workspace
from serving.http.score_text import to_second
from serving.ledger.model_archive import ModelArchive
from serving.ledger.outcomes import contract_id
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import SHADOW, BookEntry, JudgedScore, ScoreRow
from serving.monitoring.monitoring_store import LATEST, MonitoringInput
from serving.monitoring.report import (
    Agreement,
    Estimated,
    Expectation,
    InputShift,
    InputShifts,
    Monitoring,
    PairedMeasure,
    PairedOutcomes,
    Realised,
    ScoreShift,
    Shadow,
    TargetReport,
)
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
"""Minimum events and non-events for realised performance."""

MOST_ROWS = 50_000
"""Maximum number of realised outcomes (the latest), to limit time and memory."""

OFF_LEVEL = 1.25
"""Ratio of observed to expected events, in either direction, that raises an alarm."""

ASSUMPTION = (
    "if the probabilities are calibrated and accounts leave independently of each other; it shows "
    "whether the accounts became harder to rank, not whether the probabilities became wrong"
)

_MEASURES: dict[str, Measure] = {
    "auc": auc,
    "auc_pooled": auc_pooled,
    "brier": brier,
    "observed_to_expected": observed_to_expected,
}


def monitor(
    workspace: Workspace, watched: MonitoringInput, ledger: Ledger, now: datetime
) -> Monitoring:
    """Make the monitoring report of the latest scores and store it.

    Parameters
    ----------
    workspace : Workspace
        The company.
    watched : MonitoringInput
        The latest scored vectors.
    ledger : Ledger
        Earlier score runs and their outcomes.
    now : datetime
        The current time.

    Returns
    -------
    Monitoring
        The report; also written to ``monitoring/latest.json``.
    """
    age = now - watched.as_of
    limit = workspace.company.serving.stale_after_days
    archive, seed = ModelArchive(workspace.state), workspace.company.training.seed
    report: Monitoring = {
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
) -> TargetReport:
    matrix = model.encode(watched.values)
    p = model.bundle.predict(matrix).p
    judged = _judged(model, archive, ledger)
    report: TargetReport = {
        "outcome": model.outcome,
        "bundle_sha": model.sha,
        "verdict": model.verdict,
        "scores": _score_drift(model, p, watched.as_of, archive, ledger, seed),
        "inputs": _input_drift(model, matrix, seed),
        "expected": _expected(p, seed, watched.until.get(model.target)),
        "realised": realised(judged, seed),
        "realised_of_this_model": realised(_of_bundle(judged, model.sha), seed),
        "shadow": _shadow(model, archive, ledger, judged, seed),
        "words": [],
    }
    report["words"] = words_of(report)
    return report


def _input_drift(model: ScoringModel, matrix: np.ndarray, seed: int) -> InputShifts | None:
    """Return drift by feature, strongest first; None for a model without reference data."""
    manifest = model.bundle.manifest
    n_reference = manifest.reference_entities
    if n_reference == 0:
        return None
    names = model.bundle.encoder.names
    columns = dict(zip(names, matrix.T, strict=True))
    found = drift_of(columns, manifest.reference, n_reference=n_reference, seed=seed)
    info = {item.name: item for item in model.bundle.info}
    shifts = [
        cast(
            "InputShift",
            item.as_dict()
            | {
                "label": info[item.name].label,
                "theme": info[item.name].theme,
                "is_circumstance": is_circumstance(info[item.name]),
            },
        )
        for item in sorted(found, key=lambda item: -(item.psi or 0.0))
    ]
    return {
        "n_accounts": len(matrix),
        "n_reference": n_reference,
        "n_features": len(found),
        "n_moved": sum(_has_moved(item) for item in found),
        "n_too_few_to_tell": sum(item.verdict == "too few to tell" for item in found),
        "features": shifts,
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
) -> ScoreShift | None:
    """Compare the probabilities with those of the model's first score run; None in that run.

    The out-of-time predictions of training are no reference: they come from other models and only
    from accounts with a known outcome.
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
    return cast("ScoreShift", found.as_dict() | {"since": to_second(first.as_of)})


def _answered(
    target: str, archive: ModelArchive, ledger: Ledger, channel: str
) -> Iterator[tuple[BookEntry, Release]]:
    """Yield the score runs of a target, oldest first, with their release."""
    for book in ledger.runs.every(channel=channel):
        if book.target == target:
            try:
                yield book, archive.release(book.release_id)
            except BellwetherError:
                continue  # the question of a release that is not kept is unknown


def _expected(p: np.ndarray, seed: int, until: str | None) -> Expectation | None:
    if len(p) == 0:
        return None
    found = expected_performance(p, seed=seed).as_dict()
    return cast("Expectation", found | {"assumption": ASSUMPTION, "until": until})


def _books_of(
    model: ScoringModel, archive: ModelArchive, ledger: Ledger, channel: str
) -> tuple[list[BookEntry], str]:
    """Return the score runs with the question of the current model, and the id of the question."""
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


def realised(judged: JudgedScore, seed: int) -> Realised:
    """Return the performance of scores with known outcomes, with 95 % intervals over accounts.

    Returns
    -------
    Realised
        The measures are None below `MIN_EVENTS` events or non-events.
    """
    rows = sorted(range(len(judged.p)), key=lambda i: judged.as_of[i])[-MOST_ROWS:]
    judged = _take(judged, rows)
    events = int(judged.label.sum())
    found: Realised = {
        "n": len(judged.p),
        "n_accounts": len(set(judged.entity_id)),
        "events": events,
        "from": to_second(min(judged.as_of)) if rows else None,
        "to": to_second(max(judged.as_of)) if rows else None,
        "auc": None,
        "auc_pooled": None,
        "brier": None,
        "observed_to_expected": None,
        "expected_auc": None,
    }
    if min(events, len(rows) - events) < MIN_EVENTS:
        return found
    sample = _sample(judged, judged.p)
    drawn = bootstrap(sample, _MEASURES, draws=DRAWS, seed=seed)
    found["auc"] = _estimated(drawn["auc"])
    found["auc_pooled"] = _estimated(drawn["auc_pooled"])
    found["brier"] = _estimated(drawn["brier"])
    found["observed_to_expected"] = _estimated(drawn["observed_to_expected"])
    found["expected_auc"] = expected_auc(sample.p, sample.cohort)
    return found


def _estimated(draws: np.ndarray) -> Estimated:
    return cast("Estimated", estimate(draws).as_dict())


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
) -> Shadow | None:
    """Compare the shadow release with the published one; None without a shadow release."""
    books, contract = _books_of(model, archive, ledger, SHADOW)
    if not books:
        return None
    last = books[-1]
    own = [b for b in books if b.release_id == last.release_id]
    published = [b for b in ledger.runs.every(channel="book") if _is_same_run(b, last)]
    outcomes = _paired_outcomes(shown, ledger.outcomes.judged(own, contract), seed)
    if not published:
        return {"release_id": last.release_id, "n_books": len(own), "outcomes": outcomes}
    agreement = _agreement(ledger.runs.scores_of(published[-1]), ledger.runs.scores_of(last))
    return {
        "release_id": last.release_id,
        "n_books": len(own),
        "agreement": agreement,
        "outcomes": outcomes,
    }


def _is_same_run(book: BookEntry, shadow: BookEntry) -> bool:
    return book.target == shadow.target and book.as_of == shadow.as_of


def _agreement(shown: Sequence[ScoreRow], shadow: Sequence[ScoreRow]) -> Agreement:
    by_id = {row.entity_id: row for row in shown}
    pairs = [(by_id[row.entity_id], row) for row in shadow if row.entity_id in by_id]
    before, after = (np.array([pair[k].probability for pair in pairs]) for k in (0, 1))
    return {
        "n": len(pairs),
        "mean_difference": float((after - before).mean()) if pairs else None,
        "mean_size": float(np.abs(after - before).mean()) if pairs else None,
        "other_band_share": float(np.mean([a.band != b.band for a, b in pairs])) if pairs else None,
    }


def _paired_outcomes(shown: JudgedScore, shadow: JudgedScore, seed: int) -> PairedOutcomes:
    """Return the measures of both models on the same accounts, and their paired difference."""
    known = {key: i for i, key in enumerate(zip(shown.entity_id, shown.as_of, strict=True))}
    rows = [
        (known[key], i)
        for i, key in enumerate(zip(shadow.entity_id, shadow.as_of, strict=True))
        if key in known
    ]
    both = _take(shadow, [i for _, i in rows])
    events = int(both.label.sum())
    found: PairedOutcomes = {"n": len(rows), "events": events}
    if min(events, len(rows) - events) < MIN_EVENTS:
        return found
    champion = bootstrap(
        _sample(both, shown.p[[i for i, _ in rows]]), _MEASURES, draws=DRAWS, seed=seed
    )
    challenger = bootstrap(_sample(both, both.p), _MEASURES, draws=DRAWS, seed=seed)
    found["auc"] = _paired(champion["auc"], challenger["auc"])
    found["brier"] = _paired(champion["brier"], challenger["brier"])
    return found


def _paired(champion: np.ndarray, challenger: np.ndarray) -> PairedMeasure:
    return {
        "shown": _estimated(champion),
        "shadow": _estimated(challenger),
        "difference": _estimated(challenger - champion),
    }


def words_of(report: TargetReport) -> list[str]:
    """Return the summary of a report in sentences, alarms first."""
    return [
        *_realised_words(report["realised"]),
        *_drift_words(report["scores"], report["inputs"]),
        *_expected_words(report["expected"]),
        *_shadow_words(report["shadow"]),
    ]


def _realised_words(found: Realised) -> list[str]:
    area, ratio, pooled = found["auc"], found["observed_to_expected"], found["auc_pooled"]
    if area is None or ratio is None or pooled is None:
        return [
            f"{found['n']:,} past scores with a known outcome, {found['events']} of them events: "
            "too few to measure performance"
        ]
    words = [
        f"AUC within months so far {area['value']:.2f} ({area['low']:.2f}–{area['high']:.2f}), "
        f"over all months together {pooled['value']:.2f}, on {found['n']:,} scores "
        f"with {found['events']} events; observed events were {ratio['value']:.2f} "
        f"times the estimate ({ratio['low']:.2f}–{ratio['high']:.2f})"
    ]
    value, low, high = _known(ratio)
    if not (1 / OFF_LEVEL <= value <= OFF_LEVEL or low <= 1.0 <= high):
        words.insert(0, "ALARM: the observed rate differs from the estimates; train again")
    implied = found["expected_auc"]
    if implied is not None and _known(area)[2] < implied:
        words.insert(
            0,
            "ALARM: the AUC is lower than its own probabilities imply "
            f"({implied:.2f}); train again",
        )
    return words


def _drift_words(scores: ScoreShift | None, inputs: InputShifts | None) -> list[str]:
    words: list[str] = []
    if scores is not None and scores["verdict"].startswith("moved"):
        words.append(
            f"ALARM: the scores {scores['verdict']} since the first score run of the model on "
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
        else f"no significant drift of the inputs over {n}"
    )
    if inputs["n_too_few_to_tell"]:
        words.append(f"{inputs['n_too_few_to_tell']} inputs: {n} are too few to detect drift")
    return words


def _expected_words(found: Expectation | None) -> list[str]:
    if found is None:
        return ["no accounts are scored"]
    area = (
        "too few events expected for an AUC"
        if found["auc"] is None
        else f"AUC {found['auc']:.2f} ({found['auc_low']:.2f}–{found['auc_high']:.2f})"
    )
    by = f" by {found['until']}" if found["until"] else ""
    return [
        f"expected{by}: {found['events']:.0f} events "
        f"({found['events_low']:.0f}–{found['events_high']:.0f}), {area}, {found['assumption']}"
    ]


def _shadow_words(found: Shadow | None) -> list[str]:
    if found is None:
        return []
    outcomes = found["outcomes"]
    if "brier" not in outcomes:
        return [
            f"shadow release {found['release_id']}: {outcomes['n']:,} scores with a known outcome, "
            f"{outcomes['events']} events: too few to compare"
        ]
    value, low, high = _known(outcomes["brier"]["difference"])
    is_clear = not low <= 0.0 <= high
    verdict = ("better" if value < 0 else "worse") if is_clear else "no different"
    return [
        f"shadow release {found['release_id']} is {verdict} on {outcomes['n']:,} scores, Brier "
        f"{value:+.4f} ({low:+.4f} to {high:+.4f})"
    ]


def _known(found: Estimated) -> tuple[float, float, float]:
    """Return value and interval; an estimate that is not known has an unlimited interval."""
    value, low, high = found["value"], found["low"], found["high"]
    return (
        np.nan if value is None else value,
        -np.inf if low is None else low,
        np.inf if high is None else high,
    )
