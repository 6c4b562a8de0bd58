"""Ledger rows of computed answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from features.feast_store import OnlineRows
from serving.ledger.store.score_rows import ScoreRow, new_score_ids, pack_features
from serving.scoring.answer import Answer
from serving.scoring.export_rows import compact_reasons, ledger_extras
from serving.scoring.scorer import Scorer, kept_facts


def ledger_rows(
    scorer: Scorer,
    answers: Sequence[Answer],
    rows: OnlineRows,
    now: datetime,
    request_id: str,
    channel: str,
) -> list[ScoreRow]:
    """Return the ledger rows of some answers, and put each score's id into its answer.

    Parameters
    ----------
    scorer : Scorer
        The release that computed them.
    answers : sequence of Answer
        As `Scorer.score` returns them; those without scores have no rows.
    rows : OnlineRows
        The vectors and facts they were computed from, in the same order.
    now : datetime
        The clock they were computed at.
    request_id, channel : str
        On what occasion they are shown (`ScoreRow`).
    """
    # When it was really answered: the company's clock may be pinned.
    served_at = datetime.now(UTC)
    parts = [
        (i, part) for i, answer in enumerate(answers) for part in answer.get("scores", {}).values()
    ]
    facts = {i: kept_facts(rows.facts[i]) for i, _ in parts}
    vectors = {i: pack_features(rows.values[i]) for i in facts}
    made = []
    for (i, part), score_id in zip(parts, new_score_ids(served_at, len(parts)), strict=True):
        part["score_id"] = score_id
        as_of = rows.as_of[i]
        assert as_of is not None  # a scored account has one
        extras = ledger_extras(answers[i], part)
        made.append(
            ScoreRow(
                score_id=score_id,
                request_id=request_id,
                served_at=served_at,
                entity_id=answers[i]["account_id"],
                as_of=as_of,
                target=part["target"],
                release_id=scorer.release.release_id,
                bundle_sha=part["bundle_sha"],
                probability=part["probability"],
                logit=part["logit"],
                band=part["band"],
                verdict=part["verdict"],
                features=vectors[i],
                feature_set=scorer.feature_hash,
                reasons=compact_reasons(part),
                channel=channel,
                facts={**facts[i], **extras} if extras else facts[i],
                clock=now,
            )
        )
    return made
