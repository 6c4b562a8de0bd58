"""Scores feature vectors: the pure core behind single scores, batches and score runs.

A `Scorer` holds one release. It reads no files after loading and no clock, so the same rows always
give the same answers.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from configs.runtime.errors import ModelError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import read_json
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.feast_store import OnlineRows
from serving.http.score_text import (
    MEASURES,
    STATUS_WORDS,
    UNKNOWN,
    asked_alike,
    asks_renewal,
    data_confidence,
    data_notes,
    estimate_text,
    gap,
    instant,
    window,
)
from serving.scoring.answer import (
    Answer,
    Gap,
    Measure,
    Outcome,
    Question,
    Renewal,
    Score,
    ScoreBody,
    StatusText,
    Verdict,
    Withheld,
)
from serving.scoring.expansion_offer import OfferMaker
from training.model.bands import is_applicable, newest_vectors
from training.model.bundle import CONFIDENCE_LIMITS, Bundle, Confidence, Scores, load
from training.model.reasons import (
    Comparison,
    Explanation,
    Fact,
    Reason,
    ReasonWriter,
    is_circumstance,
)
from training.model.rule_model import AppliedRules, Flag, rules_of
from training.registry.releases import Release

OUTCOMES: tuple[Outcome, ...] = ("churn", "contraction", "expansion")
"""Order of the targets in an answer."""

KEPT_FACTS = (
    "status",
    "arr",
    "segment",
    "owner_id",
    "is_under_contract",
    "renews_on",
    "notice_on",
    "tenure_days",
    "peer_group",
)
"""Facts of a scored account that the ledger keeps: its question and the revenue at stake."""

LOWEST_BAND = "low"

NO_ROOM = "no_room_to_grow"


@dataclass(frozen=True)
class Peers:
    """Typical values of groups of similar accounts at one as_of.

    Attributes
    ----------
    as_of : str
        Day of the feature vectors, ISO 8601.
    medians : dict of str to numpy.ndarray
        Group to its medians in the order of the served vector, NaN where too few are known.
    words : dict of str to str
        Group to its display name.
    sizes : dict of str to int
        Group to its number of accounts.
    """

    as_of: str = ""
    medians: Mapping[str, np.ndarray] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def matrix(self, groups: Sequence[str], width: int) -> np.ndarray:
        """Return (rows, features): the medians of each row's group."""
        missing = np.full(width, np.nan)
        rows = [self.medians.get(group, missing) for group in groups]
        return np.array(rows, dtype=np.float64).reshape(len(groups), width)


def load_peers(folder: Path | None, names: Sequence[str]) -> Peers:
    """Read the peer groups stored with the feature vectors; empty without vectors."""
    if folder is None:
        return Peers()
    plain = read_json(folder / "peers.json")
    unknown = (np.nan, np.nan, np.nan)
    medians = {
        group: np.array([entry["quartiles"].get(name, unknown)[1] for name in names])
        for group, entry in plain.items()
    }
    return Peers(
        folder.name,
        medians,
        {group: entry["words"] for group, entry in plain.items()},
        {group: entry["n"] for group, entry in plain.items()},
    )


def import_lightgbm_alone() -> None:
    """Import LightGBM without the training libraries that it would import if present."""
    if "lightgbm" in sys.modules:
        return
    absent = [name for name in ("sklearn", "dask") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not importable
    try:
        import lightgbm  # noqa: F401  imported for its place in sys.modules
    finally:
        for name in absent:
            del sys.modules[name]


@dataclass(frozen=True)
class ScoringModel:
    """Model of one target of a release.

    Attributes
    ----------
    target, sha : str
        Name of the target, and identity of the bundle.
    bundle : Bundle
        The verified model.
    contract : mapping
        Label definition: outcome, horizon_days, lead_time_days, until_renewal, words.
    cuts : tuple of (float, str)
        Lower probability limit of each band, ascending.
    positions : numpy.ndarray
        Positions of the model's features in the served vector.
    basis : mapping
        Inputs of the band sizes (`training.model.bands.FrozenBands`); empty in releases of 0.1.0.
    """

    target: str
    sha: str
    bundle: Bundle
    contract: Mapping[str, Any]
    cuts: tuple[tuple[float, str], ...]
    positions: np.ndarray
    basis: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """Outcome of the target."""
        return cast("Outcome", self.bundle.outcome)

    @property
    def verdict(self) -> Verdict:
        """Verdict on the model."""
        return cast("Verdict", self.bundle.verdict)

    @cached_property
    def _theme_columns(self) -> dict[str, np.ndarray]:
        """Columns of the model's matrix by theme, without circumstances."""
        columns: dict[str, list[int]] = {}
        for position, item in enumerate(self.bundle.info):
            if not is_circumstance(item):
                columns.setdefault(item.theme, []).append(position)
        return {theme: np.array(found) for theme, found in columns.items()}

    @cached_property
    def _usual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which features are mostly present in training, and the range of each."""
        seen = [self.bundle.manifest.reference[item.name] for item in self.bundle.info]
        low = [item.low if item.low is not None else -np.inf for item in seen]
        high = [item.high if item.high is not None else np.inf for item in seen]
        return np.array([item.missing < 0.2 for item in seen]), np.array(low), np.array(high)

    def asks(self, facts: Mapping[str, Any]) -> bool:
        """Return whether the target applies to an account: a full account cannot grow."""
        return is_applicable(self.bundle.outcome, facts)

    def confidence(self, scores: Scores) -> list[Confidence]:
        """Return the confidence in each score, by the limits frozen at release."""
        return scores.confidence_at(self.basis.get("confidence_limits", CONFIDENCE_LIMITS))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the model's matrix of served vectors."""
        return self.bundle.encoder.encode_numbers(values[:, self.positions]).matrix

    def band(self, p: float) -> str:
        """Return the band of a probability: the last one whose limit it reaches."""
        return next((name for cut, name in reversed(self.cuts) if p >= cut), LOWEST_BAND)

    def answer(
        self, matrix: np.ndarray, past: np.ndarray, peer: np.ndarray, currency: str
    ) -> tuple[Scores, Sequence[Explanation | None]]:
        """Score and explain encoded rows; the explanation is None where the base rate is served."""
        if not self.bundle.has_reasons:
            return self.bundle.predict(matrix), [None] * len(matrix)
        scores, contributions = self.bundle.predict_and_explain(matrix)
        comparison = Comparison(
            past=past[:, self.positions], peer=peer[:, self.positions], currency=currency
        )
        return scores, self._reason_writer.explain(contributions, matrix, comparison)

    @cached_property
    def _reason_writer(self) -> ReasonWriter:
        return ReasonWriter(self.bundle.info, self.bundle.outcome, self.bundle.encoder.levels)

    @cached_property
    def _rules(self) -> AppliedRules:
        return rules_of(self.bundle)

    def flags(
        self, matrix: np.ndarray, past: np.ndarray, peer: np.ndarray, currency: str
    ) -> list[list[Flag]]:
        """Return per row the expert rules that apply; empty except on the lowest model tier."""
        if not self._rules.rules:
            return [[] for _ in matrix]
        comparison = Comparison(
            past=past[:, self.positions], peer=peer[:, self.positions], currency=currency
        )
        return self._rules.flags(matrix, self._reason_writer, comparison)

    def gaps(self, matrix: np.ndarray) -> list[list[Gap]]:
        """Return per row the missing values by theme; rows with equal gaps share one list."""
        missing = np.isnan(matrix)
        patterns = [row.tobytes() for row in missing]
        distinct = dict(zip(patterns, missing, strict=True))
        by_pattern = {pattern: self._gaps_of(row) for pattern, row in distinct.items()}
        return [by_pattern[pattern] for pattern in patterns]

    def _gaps_of(self, missing: np.ndarray) -> list[Gap]:
        found: list[Gap] = []
        for theme, columns in self._theme_columns.items():
            labels = [self.bundle.info[i].label for i in columns[missing[columns]].tolist()]
            if labels:
                found.append(
                    {
                        "theme": theme,
                        "text": gap(theme, labels, len(columns)),
                        "n_missing": len(labels),
                        "n_features": len(columns),
                    }
                )
        return found

    def data_checks(self, matrix: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
        """Return per row the missing usual values, their total, and the values out of range."""
        usual, low, high = self._usual
        missing = (np.isnan(matrix) & usual).sum(axis=1)
        odd = ((matrix < low) | (matrix > high)).sum(axis=1)
        return missing, int(usual.sum()), odd


@dataclass(frozen=True)
class _PredictedRows:
    """Rows of a batch that are predicted."""

    values: np.ndarray
    past: np.ndarray
    peer: np.ndarray
    facts: list[dict[str, Any]]
    as_of: list[datetime]


class _Estimate(NamedTuple):
    """Estimate of one model for one row."""

    p: float
    low: float
    high: float
    logit: float
    confidence: Confidence


@dataclass(frozen=True)
class Scorer:
    """Scorer of one release.

    Attributes
    ----------
    release : Release
        The published release.
    company : Company
        Currency and staleness limit.
    models : tuple of ScoringModel
        One per target, in the order of `OUTCOMES`.
    peers : Peers
        Peer groups of the newest feature vectors.
    ranks : mapping of str to numpy.ndarray
        `rank_key` to the ascending probabilities of the latest published scores; may be empty.
    """

    release: Release
    company: Company
    models: tuple[ScoringModel, ...]
    peers: Peers = Peers()
    ranks: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, workspace: Workspace, release: Release) -> Scorer:
        """Load and verify the models and peers of a release.

        Raises
        ------
        ModelError
            A bundle is missing, damaged, or needs features the release does not serve.
        """
        import_lightgbm_alone()
        models = [_load_model(workspace, release, target) for target in release.bundles]
        models.sort(key=lambda model: (OUTCOMES.index(model.bundle.outcome), model.target))
        vectors = newest_vectors(workspace.state, release.feature_set["hash"])
        peers = load_peers(vectors, release.feature_set["names"])
        return cls(release, workspace.company, tuple(models), peers)

    @cached_property
    def feature_hash(self) -> str:
        """Identity of the feature set of the release."""
        return str(self.release.feature_set["hash"])

    @property
    def width(self) -> int:
        """Length of the served vector."""
        return len(self.release.feature_set["names"])

    @cached_property
    def identity(self) -> str:
        """Hash of what an answer depends on besides the account's row, the day and the code.

        The release, the configuration, the peers, and the ranks of the published book.
        """
        peers = self.peers
        return digest(
            self.release.release_id,
            self.company.config_hash,
            (peers.as_of, peers.words, peers.sizes),
            {group: _array_hash(values) for group, values in peers.medians.items()},
            {key: _array_hash(values) for key, values in self.ranks.items()},
            length=32,
        )

    def with_peers(self, peers: Peers) -> Scorer:
        """Return the same scorer with other peer groups."""
        return replace(self, peers=peers)

    def with_ranks(self, ranks: Mapping[str, np.ndarray]) -> Scorer:
        """Return the same scorer with the ranks of other published scores."""
        return replace(self, ranks=ranks)

    def score(self, entity_ids: Sequence[str], rows: OnlineRows, now: datetime) -> list[Answer]:
        """Score some entities.

        Parameters
        ----------
        entity_ids : sequence of str
            Entities to score; repeats are scored twice.
        rows : OnlineRows
            Their vectors and facts, in the same order.
        now : datetime
            Time of scoring, for days to the renewal and staleness.

        Returns
        -------
        list of Answer
            One per entity, in the same order. Entities that are not predicted have no ``scores``.
        """
        answers = [
            self._account_part(entity, rows.facts[i], rows.as_of[i], now.date())
            if rows.is_known[i]
            else status_answer(entity, UNKNOWN)
            for i, entity in enumerate(entity_ids)
        ]
        chosen = [i for i, answer in enumerate(answers) if answer["status"] == "scored"]
        if chosen:
            part = self._take(rows, chosen)
            predicted = [answers[i] for i in chosen]
            matrices = [model.encode(part.values) for model in self.models]
            self._add_data(predicted, part, matrices[0], now)
            for model, matrix in zip(self.models, matrices, strict=True):
                self._add_scores(predicted, model, matrix, part)
            for answer in predicted:
                _add_headline(answer)
            if self._offer_maker is not None:
                self._offer_maker.add_to(predicted, part.facts, part.values)
        return answers

    @cached_property
    def _offer_maker(self) -> OfferMaker | None:
        """Maker of expansion offers for the first expansion target; None without one."""
        growing = [model for model in self.models if model.bundle.outcome == "expansion"]
        if not growing:
            return None
        names = self.release.feature_set["names"]
        return OfferMaker.of(growing[0].bundle, names, self.company.growth)

    def _status(self, facts: Mapping[str, Any]) -> str:
        """Return the status of an account; `NO_ROOM` if no target applies to it."""
        code = str(facts.get("status"))
        is_applicable = any(model.asks(facts) for model in self.models)
        return NO_ROOM if code == "scored" and not is_applicable else code

    def _take(self, rows: OnlineRows, chosen: list[int]) -> _PredictedRows:
        facts = [rows.facts[i] for i in chosen]
        groups = [str(item.get("peer_group")) for item in facts]
        return _PredictedRows(
            rows.values[chosen],
            rows.past[chosen],
            self.peers.matrix(groups, self.width),
            facts,
            [moment for i in chosen if (moment := rows.as_of[i]) is not None],
        )

    def _account_part(
        self, entity: str, facts: Mapping[str, Any], as_of: datetime | None, today: date
    ) -> Answer:
        """Return the part of an answer that does not depend on a prediction."""
        state = status(self._status(facts))
        return {
            "account_id": entity,
            "status": state["status"],
            "status_text": state["status_text"],
            "name": facts.get("name"),
            "segment": facts.get("segment"),
            "plan": facts.get("plan"),
            "industry": facts.get("industry"),
            "region": facts.get("region"),
            "parent_account_id": facts.get("parent_account_id"),
            "owner_id": facts.get("owner_id"),
            "owner": facts.get("owner"),
            "products": facts.get("products") or [],
            "arr": facts.get("arr"),
            "currency": self.company.reporting_currency,
            "tenure_days": facts.get("tenure_days"),
            "last_active_days": facts.get("last_active_days"),
            "renewal": _renewal(facts, today),
            "as_of": instant(as_of) if as_of else None,
            "release_id": self.release.release_id,
            "config_hash": self.release.config_hash,
        }

    def _add_data(
        self, answers: list[Answer], rows: _PredictedRows, matrix: np.ndarray, now: datetime
    ) -> None:
        """Add the quality of the data, and the peer group, to each answer."""
        model = self.models[0]
        missing, usual, odd = model.data_checks(matrix)
        limit = self.company.serving.stale_after_days
        for i, (answer, gaps) in enumerate(zip(answers, model.gaps(matrix), strict=True)):
            age = (now - rows.as_of[i]).days
            notes = data_notes(
                age_days=age,
                stale_after_days=limit,
                missing=int(missing[i]),
                usual=usual,
                unusual=int(odd[i]),
                tenure=float(rows.facts[i].get("tenure_days") or 0),
            )
            group = str(rows.facts[i].get("peer_group"))
            answer["data"] = {
                "through": instant(rows.as_of[i]),
                "is_stale": age > limit,
                "confidence": data_confidence(notes, int(missing[i]) / max(usual, 1)),
                "notes": notes,
                "gaps": gaps,
            }
            answer["peers"] = {
                "text": self.peers.words.get(group),
                "n_accounts": self.peers.sizes.get(group),
            }

    def _add_scores(
        self,
        answers: list[Answer],
        model: ScoringModel,
        matrix: np.ndarray,
        rows: _PredictedRows,
    ) -> None:
        currency = self.company.reporting_currency
        scores, why = model.answer(matrix, rows.past, rows.peer, currency)
        flags = model.flags(matrix, rows.past, rows.peer, currency)
        confidences = model.confidence(scores)
        low, high = scores.low.tolist(), scores.high.tolist()
        for i, (p, logit) in enumerate(zip(scores.p.tolist(), scores.logit.tolist(), strict=True)):
            facts = rows.facts[i]
            if not model.asks(facts):
                withheld = cast("Withheld", status(NO_ROOM))
                answers[i].setdefault("withheld", {})[model.target] = withheld
                continue
            estimate = _Estimate(p, low[i], high[i], logit, confidences[i])
            part = self._score(model, estimate, facts, rows.as_of[i], why[i], flags[i])
            # The id follows when the ledger row is made.
            answers[i].setdefault("scores", {})[model.target] = cast("Score", part)

    def _score(
        self,
        model: ScoringModel,
        estimate: _Estimate,
        facts: Mapping[str, Any],
        as_of: datetime,
        explanation: Explanation | None,
        flags: list[Flag],
    ) -> ScoreBody:
        bundle, contract, p = model.bundle, model.contract, estimate.p
        is_renewal = asks_renewal(contract, facts)
        question: Question = "renewal" if is_renewal else "horizon"
        until = window(contract, facts, as_of)
        why = explanation or _without_reasons(p)
        percentile, percentile_of = self._percentile(model, is_renewal, p)
        return {
            "target": model.target,
            "outcome": model.outcome,
            "measure": cast("Measure", MEASURES[model.outcome]),
            "probability": p,
            "low": estimate.low,
            "high": estimate.high,
            "logit": estimate.logit,
            "band": model.band(p),
            "confidence": estimate.confidence,
            "horizon_days": contract["horizon_days"],
            "lead_time_days": contract["lead_time_days"],
            "verdict": model.verdict,
            "is_provisional": model.verdict == "provisional",
            "rung": bundle.model_tier,
            "evidence": bundle.evidence,
            "bundle_sha": model.sha,
            "text": estimate_text(contract, is_renewal, p, until),
            "asks_about": question,
            "until": until.isoformat(),
            "percentile": percentile,
            "percentile_of": percentile_of,
            "base": why["base"],
            "themes": why["themes"],
            "context": why["context"],
            "unknown": why["unknown"],
            "raises": why["raises"],
            "lowers": why["lowers"],
            "circumstances": why["circumstances"],
            "rules": flags,
        }

    def _percentile(
        self, model: ScoringModel, is_renewal: bool, p: float
    ) -> tuple[float | None, str | None]:
        """Return the share of accounts below a probability (ties count half), and their group.

        The group are the published accounts with the same question: the risk of losing a renewal
        is not ranked together with the risk of leaving within the horizon.
        """
        ranked = self.ranks.get(rank_key(model.target, is_renewal=is_renewal))
        if ranked is None or len(ranked) == 0:
            return None, None
        places = np.searchsorted(ranked, p, "left") + np.searchsorted(ranked, p, "right")
        share = round(50.0 * float(places) / len(ranked), 1)
        return share, asked_alike(model.contract, is_renewal, len(ranked))


def _array_hash(values: np.ndarray) -> str:
    """Return the hash of an array's float64 values."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()


def rank_key(target: str, *, is_renewal: bool) -> str:
    """Return the key of the probabilities that may be ranked together.

    >>> rank_key("churn", is_renewal=True)
    'churn:renewal'
    """
    return f"{target}:{'renewal' if is_renewal else 'horizon'}"


def kept_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that the ledger stores with a score."""
    return {name: facts[name] for name in KEPT_FACTS if facts.get(name) is not None}


def status_answer(account_id: str, code: str) -> Answer:
    """Return the answer of an account that has a status and nothing else."""
    state = status(code)
    return {
        "account_id": account_id,
        "status": state["status"],
        "status_text": state["status_text"],
    }


def status(code: str) -> StatusText:
    """Return a status with its text; an undeclared one is its own text."""
    return {"status": code, "status_text": STATUS_WORDS.get(code, code.replace("_", " "))}


def _load_model(workspace: Workspace, release: Release, target: str) -> ScoringModel:
    sha = release.bundles[target]["sha"]
    bundle = load(workspace.state.bundles / sha, expected_sha=sha)
    place = {name: i for i, name in enumerate(release.feature_set["names"])}
    missing = [name for name in bundle.encoder.names if name not in place]
    if missing:
        raise ModelError(
            f"the model of {target} needs {len(missing)} features that the release does not "
            f"serve: {', '.join(missing[:5])}",
            where=f"release {release.release_id}, bundle {sha[:12]}",
            fix="train and publish again with the current feature set",
        )
    contract = {**bundle.manifest.label_contract, **release.label_contracts[target]}
    cuts = sorted((cut, name) for name, cut in release.bands[target].items())
    positions = np.array([place[name] for name in bundle.encoder.names])
    basis = release.frozen.get(target, {})
    return ScoringModel(target, sha, bundle, contract, tuple(cuts), positions, basis)


def _renewal(facts: Mapping[str, Any], today: date) -> Renewal | None:
    renews_on, notice_on = facts.get("renews_on"), facts.get("notice_on")
    if renews_on is None:
        return None
    return {
        "renews_on": renews_on,
        "days_to_renewal": (date.fromisoformat(renews_on) - today).days,
        "notice_on": notice_on,
        "days_to_notice": (date.fromisoformat(notice_on) - today).days if notice_on else None,
    }


def _without_reasons(p: float) -> Explanation:
    """Return the explanation of a base rate that is served for every account: no reasons."""
    reasons: list[Reason] = []
    facts: list[Fact] = []
    return {
        "p": p,
        "base": p,
        "themes": {},
        "context": 0.0,
        "unknown": 0.0,
        "raises": reasons,
        "lowers": reasons,
        "circumstances": facts,
    }


def _add_headline(answer: Answer) -> None:
    """Add the numbers that a CRM maps to fields, of the first target per outcome, to the top."""
    for part in answer["scores"].values():
        answer.setdefault(part["measure"], part["probability"])
        if part["outcome"] == "churn":
            answer.setdefault("risk_band", part["band"])
            answer.setdefault("expected_arr_lost_by", part["until"])
    risk, arr = answer.get("churn_risk"), answer["arr"]
    answer["expected_arr_lost"] = None if risk is None or arr is None else risk * max(arr, 0.0)
