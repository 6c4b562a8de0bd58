"""Any past score, computed again from what the ledger keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configs.runtime.errors import BellwetherError
from configs.schema.company import Growth
from serving.ledger.model_archive import ModelArchive
from serving.ledger.store.score_rows import ScoreRow, unpack_features
from serving.scoring.expansion_offer import OfferMaker
from training.model.bundle import Bundle, sigmoid
from training.model.reasons import membership, points, roll_up, theme_names

TOLERANCE = 1e-12
"""Difference in probability that another platform may make."""

REASON_TOLERANCE = 1e-9
"""Difference in points of a reason: it may have been explained by another exact explainer."""


@dataclass(frozen=True)
class Replay:
    """One score, as kept and as computed again.

    Attributes
    ----------
    row : ScoreRow
        As kept.
    probability, logit : float or None
        Computed again; None where that was impossible.
    mistakes : list of str
        Why the score cannot be reproduced; empty when it was.
    """

    row: ScoreRow
    probability: float | None = None
    logit: float | None = None
    mistakes: list[str] = field(default_factory=list)

    @property
    def is_reproduced(self) -> bool:
        """Whether it is the same score within `TOLERANCE`."""
        return not self.mistakes

    @property
    def is_identical(self) -> bool:
        """Whether it is the same to the last bit."""
        again = (self.probability, self.logit)
        return self.is_reproduced and again == (self.row.probability, self.row.logit)

    @property
    def words(self) -> str:
        """The result of the replay in words."""
        if self.mistakes:
            return "NOT reproduced: " + "; ".join(self.mistakes)
        if self.is_identical:
            return "the same, bit for bit"
        assert self.probability is not None
        return f"the same within {abs(self.probability - self.row.probability):.1g}"

    def as_dict(self) -> dict[str, Any]:
        """Return both numbers and the verdict as plain JSON."""
        row = self.row
        return {
            "score_id": row.score_id,
            "account_id": row.entity_id,
            "target": row.target,
            "as_of": row.as_of.isoformat(),
            "served_at": row.served_at.isoformat(),
            "channel": row.channel,
            "release_id": row.release_id,
            "bundle_sha": row.bundle_sha,
            "served": row.probability,
            "replayed": self.probability,
            "is_identical": self.is_identical,
            "is_reproduced": self.is_reproduced,
            "words": self.words,
        }


def replay(archive: ModelArchive, row: ScoreRow) -> Replay:
    """Compute a kept score again: the same vector, the bundle it names, every byte verified.

    Nothing is raised for a score that cannot be reproduced; what is wrong is named in the result.

    Parameters
    ----------
    archive : Archive
        Bundles and releases as kept.
    row : ScoreRow
        The score.
    """
    if not row.features:
        words = "0 features are kept: vectors are removed after ledger.vectors_days (company.yaml)"
        return Replay(row, mistakes=[words])
    try:
        bundle = archive.bundle_of(row)
        features = archive.release(row.release_id).feature_set
        matrix, lacking = archive.matrix([row], bundle)
    except BellwetherError as error:
        return Replay(row, mistakes=[error.what])
    scores = bundle.predict(matrix)
    probability, logit = float(scores.p[0]), float(scores.logit[0])
    mistakes = []
    if features["hash"] != row.feature_set:
        named = features["hash"]
        mistakes.append(f"the row names feature set {row.feature_set}, its release {named}")
    if lacking:
        mistakes.append(f"{len(lacking)} features of the model are not in the vector")
    mistakes += _mistakes(row, probability, logit)
    mistakes += _reason_mistakes(row, bundle, matrix)
    mistakes += _candidate_mistakes(row, bundle, features["names"])
    return Replay(row, probability, logit, mistakes)


def _mistakes(row: ScoreRow, probability: float, logit: float) -> list[str]:
    found = []
    if not abs(probability - row.probability) <= TOLERANCE:
        found.append(f"served {row.probability!r}, replayed {probability!r}")
    if not abs(float(sigmoid(np.array(row.logit))) - row.probability) <= TOLERANCE:
        found.append(f"its log-odds {row.logit!r} are not those of {row.probability!r}")
    elif not abs(logit - row.logit) <= 1e-9 * max(1.0, abs(logit)):
        found.append(f"log-odds served {row.logit!r}, replayed {logit!r}")
    return found


def _reason_mistakes(row: ScoreRow, bundle: Bundle, matrix: np.ndarray) -> list[str]:
    """Compare the points of the reasons that were shown."""
    if not row.reasons or not bundle.has_reasons:
        return []
    moved = points(bundle.explain(matrix))
    rolled = roll_up(moved, np.isnan(matrix), membership(bundle.info))
    again = dict(zip(theme_names(bundle.info), rolled.themes[0].tolist(), strict=True))
    return [
        f"reason {reason['code']} was shown with {reason['points']!r} points, "
        f"replayed {_points(again, reason)!r}"
        for reason in row.reasons
        if not abs(_points(again, reason) - reason["points"]) <= REASON_TOLERANCE
    ]


def _candidate_mistakes(row: ScoreRow, bundle: Bundle, names: Sequence[str]) -> list[str]:
    """Compare chance and worth of the expansion candidate that was shown."""
    kept = row.facts.get("candidate")
    if not kept or kept["kind"] is None:
        return []
    seller = OfferMaker.of(bundle, names, Growth())
    chance = seller.chance(unpack_features(row.features), kept["kind"], row.probability)
    again = {"probability": chance, **seller.amounts(kept["kind"], row.facts.get("arr"), chance)}
    return [
        f"a candidate of {kept['kind']} was shown with {name} {kept[name]!r}, replayed {value!r}"
        for name, value in again.items()
        if kept[name] != value
    ]


def _points(themes: Mapping[str, float], reason: Mapping[str, Any]) -> float:
    return themes.get(str(reason["code"]).split(".")[1], float("nan"))
