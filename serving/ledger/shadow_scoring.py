"""The release in the shadow, scored next to the published one: into the ledger, never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from configs.runtime.errors import BellwetherError
from configs.schema.workspace import Workspace
from features.feast_store import OnlineRows
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import (
    SHADOW,
    BookScores,
    ScoreRow,
    new_score_ids,
    pack_features,
)
from serving.scoring.scorer import Scorer, ScoringModel, kept_facts
from training.model.bundle import Scores
from training.registry.shadow import read_shadow

Progress = Callable[[str], None]


def load_shadow(workspace: Workspace) -> Scorer | None:
    """Return the release in the shadow, ready to score; None when there is none."""
    release = read_shadow(workspace.state.releases)
    return None if release is None else Scorer.load(workspace, release)


def shadow_rows(
    scorer: Scorer, shown: Sequence[ScoreRow], rows: OnlineRows, positions: dict[str, int]
) -> list[ScoreRow]:
    """Score again, in the shadow, the accounts of some answers.

    Parameters
    ----------
    scorer : Scorer
        The release in the shadow; it takes the vectors of the published one.
    shown : sequence of ScoreRow
        Scores of the published release.
    rows : OnlineRows
        The vectors they were computed from.
    positions : dict of str to int
        Position of each account in `rows`.

    Returns
    -------
    list of ScoreRow
        One per account and target of the shadow, without reasons.
    """
    accounts = list({row.entity_id: row for row in shown}.values())
    values = rows.values[[positions[row.entity_id] for row in accounts]]
    made = []
    for model in scorer.models if accounts else ():
        scores = model.bundle.predict(model.encode(values))
        for i, (row, score_id) in enumerate(
            zip(accounts, new_score_ids(datetime.now(UTC), len(accounts)), strict=True)
        ):
            made.append(
                row._replace(
                    score_id=score_id,
                    target=model.target,
                    release_id=scorer.release.release_id,
                    bundle_sha=model.sha,
                    probability=float(scores.p[i]),
                    logit=float(scores.logit[i]),
                    band=model.band(float(scores.p[i])),
                    verdict=model.bundle.verdict,
                    features=pack_features(values[i]),
                    feature_set=scorer.feature_hash,
                    reasons=(),
                    channel=SHADOW,
                )
            )
    return made


def score_shadow_book(
    workspace: Workspace,
    ledger: Ledger,
    read: Callable[[Scorer], tuple[Sequence[str], OnlineRows, datetime]],
    run_id: str,
    now: datetime,
    progress: Progress = lambda _: None,
) -> None:
    """Score the book in the shadow, when a release is there; errors are only reported.

    Parameters
    ----------
    workspace, ledger : Workspace, Ledger
        The company, and where the scores go.
    read : callable
        Returns entities, vectors and as_of of the newest book in the features of a scorer.
    run_id : str
        Run of the published book.
    now : datetime
        When it is scored, with a zone.
    progress : callable
        Receives messages about the result.
    """
    try:
        scorer = load_shadow(workspace)
        if scorer is None:
            return
        entity_ids, rows, as_of = read(scorer)
        chosen = [i for i, fact in enumerate(rows.facts) if fact.get("status") == "scored"]
        for model in scorer.models:
            ledger.append_book(_book(scorer, model, entity_ids, rows, chosen, as_of, run_id, now))
        release_id = scorer.release.release_id
        progress(f"scored {len(chosen):,} accounts in the shadow with release {release_id}")
    except BellwetherError as error:
        progress(f"nothing was scored in the shadow: {error.what}")


def _book(
    scorer: Scorer,
    model: ScoringModel,
    entity_ids: Sequence[str],
    rows: OnlineRows,
    chosen: list[int],
    as_of: datetime,
    run_id: str,
    now: datetime,
) -> BookScores:
    values = rows.values[chosen]
    scores: Scores = model.bundle.predict(model.encode(values))
    return BookScores(
        book_id=f"{run_id}-{scorer.release.release_id}",
        target=model.target,
        as_of=as_of,
        served_at=now,
        release_id=scorer.release.release_id,
        bundle_sha=model.sha,
        verdict=model.bundle.verdict,
        feature_set=scorer.feature_hash,
        entity_ids=[entity_ids[i] for i in chosen],
        probability=scores.p,
        logit=scores.logit,
        band=[model.band(p) for p in scores.p.tolist()],
        features=values,
        facts=[kept_facts(rows.facts[i]) for i in chosen],
        channel=SHADOW,
    )
