"""From vectors to answers: a pure and fast core, the same for one account, a batch and the book.

A `Scorer` holds one release. It reads nothing after it was loaded and asks no clock, so the same
rows give the same answers wherever they come from.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

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
from serving.scoring.expansion_offer import OfferMaker
from training.model.bands import is_applicable, newest_vectors
from training.model.bundle import CONFIDENCE_LIMITS, Bundle, Confidence, Scores, load
from training.model.reasons import Comparison, Explanation, ReasonWriter, is_circumstance
from training.model.rule_model import AppliedRules, Flag, rules_of
from training.registry.releases import Release

OUTCOMES = ("churn", "contraction", "expansion")
"""The order in which targets are answered: what is lost first."""

SHOWN_FACTS = (
    "name",
    "segment",
    "plan",
    "industry",
    "region",
    "parent_account_id",
    "owner_id",
    "owner",
)

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
"""Facts the ledger keeps of a scored account: what was asked of it, and what was at stake."""

LOWEST_BAND = "low"

NO_ROOM = "no_room_to_grow"


@dataclass(frozen=True)
class Peers:
    """What is typical among similar accounts of one book.

    Attributes
    ----------
    as_of : str
        Day of the book, ISO 8601.
    medians : dict of str to numpy.ndarray
        Group to its medians in the order of the served vector, NaN where too few are known.
    words : dict of str to str
        Group to its name for people.
    sizes : dict of str to int
        Group to its number of accounts.
    """

    as_of: str = ""
    medians: Mapping[str, np.ndarray] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def matrix(self, groups: Sequence[str], width: int) -> np.ndarray:
        """Return (rows, features): the medians beside each row's values."""
        nothing = np.full(width, np.nan)
        rows = [self.medians.get(group, nothing) for group in groups]
        return np.array(rows, dtype=np.float64).reshape(len(groups), width)


def load_peers(folder: Path | None, names: Sequence[str]) -> Peers:
    """Read the peers that lie beside a book's vectors; without a book there are none."""
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
    """Import LightGBM without the training libraries it takes along when it finds them."""
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
    """One target of a release, ready to answer.

    Attributes
    ----------
    target, sha : str
        Its name, and the identity of its bundle.
    bundle : Bundle
        The verified model.
    contract : mapping
        What is predicted: outcome, horizon_days, lead_time_days, until_renewal, words.
    cuts : tuple of (float, str)
        Probability from which each band holds, ascending.
    positions : numpy.ndarray
        Where the model's features stand in the served vector.
    basis : mapping
        What the bands were sized by (`training.model.bands.FrozenBands`); empty in releases of
        0.1.0.
    """

    target: str
    sha: str
    bundle: Bundle
    contract: Mapping[str, Any]
    cuts: tuple[tuple[float, str], ...]
    positions: np.ndarray
    basis: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _theme_columns(self) -> dict[str, np.ndarray]:
        """Columns of the model's matrix by theme, without circumstances nobody acts on."""
        columns: dict[str, list[int]] = {}
        for position, item in enumerate(self.bundle.info):
            if not is_circumstance(item):
                columns.setdefault(item.theme, []).append(position)
        return {theme: np.array(found) for theme, found in columns.items()}

    @cached_property
    def _usual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which features are mostly known in training, and the range of each."""
        seen = [self.bundle.manifest.reference[item.name] for item in self.bundle.info]
        low = [item.low if item.low is not None else -np.inf for item in seen]
        high = [item.high if item.high is not None else np.inf for item in seen]
        return np.array([item.missing < 0.2 for item in seen]), np.array(low), np.array(high)

    def asks(self, facts: Mapping[str, Any]) -> bool:
        """Say whether the question makes sense for an account: who is full cannot grow."""
        return is_applicable(self.bundle.outcome, facts)

    def confidence(self, scores: Scores) -> list[Confidence]:
        """Return the confidence in each score, by the limits frozen at release."""
        return scores.confidence_at(self.basis.get("confidence_limits", CONFIDENCE_LIMITS))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the model's matrix of served vectors."""
        return self.bundle.encoder.encode_numbers(values[:, self.positions]).matrix

    def band(self, p: float) -> str:
        """Return the band of a probability: the last whose cut it reaches."""
        return next((name for cut, name in reversed(self.cuts) if p >= cut), LOWEST_BAND)

    def answer(
        self, matrix: np.ndarray, past: np.ndarray, peer: np.ndarray, currency: str
    ) -> tuple[Scores, Sequence[Explanation | None]]:
        """Score and explain encoded rows; None for reasons where the base rate is served."""
        if not self.bundle.has_reasons:
            return self.bundle.predict(matrix), [None] * len(matrix)
        scores, contributions = self.bundle.predict_and_explain(matrix)
        beside = Comparison(
            past=past[:, self.positions], peer=peer[:, self.positions], currency=currency
        )
        return scores, self._teller.explain(contributions, matrix, beside)

    @cached_property
    def _teller(self) -> ReasonWriter:
        return ReasonWriter(self.bundle.info, self.bundle.outcome, self.bundle.encoder.levels)

    @cached_property
    def _rules(self) -> AppliedRules:
        return rules_of(self.bundle)

    def flags(
        self, matrix: np.ndarray, past: np.ndarray, peer: np.ndarray, currency: str
    ) -> list[list[Flag]]:
        """Return per row the plain rules that hold; none but on the lowest rung of the ladder."""
        if not self._rules.rules:
            return [[] for _ in matrix]
        beside = Comparison(
            past=past[:, self.positions], peer=peer[:, self.positions], currency=currency
        )
        return self._rules.flags(matrix, self._teller, beside)

    def gaps(self, matrix: np.ndarray) -> list[list[dict[str, Any]]]:
        """Return per row what is not known, by theme; rows that lack the same share the answer."""
        missing = np.isnan(matrix)
        patterns = [row.tobytes() for row in missing]
        found = dict(zip(patterns, missing, strict=True))
        told = {pattern: self._gaps_of(row) for pattern, row in found.items()}
        return [told[pattern] for pattern in patterns]

    def _gaps_of(self, missing: np.ndarray) -> list[dict[str, Any]]:
        found = []
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

    def soundness(self, matrix: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
        """Return per row how many usual values are missing, how many there are, how many odd."""
        usual, low, high = self._usual
        missing = (np.isnan(matrix) & usual).sum(axis=1)
        odd = ((matrix < low) | (matrix > high)).sum(axis=1)
        return missing, int(usual.sum()), odd


@dataclass(frozen=True)
class _Rows:
    """The rows of a batch that are predicted."""

    values: np.ndarray
    past: np.ndarray
    peer: np.ndarray
    facts: list[dict[str, Any]]
    as_of: list[datetime]


@dataclass(frozen=True)
class Scorer:
    """One release, ready to answer.

    Attributes
    ----------
    release : Release
        What is published.
    company : Company
        Currency and staleness.
    models : tuple of Model
        One per target, what is lost first.
    peers : Peers
        Of the newest book.
    ranks : mapping of str to numpy.ndarray
        `rank_key` to the ascending probabilities of the last published book; may be empty.
    """

    release: Release
    company: Company
    models: tuple[ScoringModel, ...]
    peers: Peers = Peers()
    ranks: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, workspace: Workspace, release: Release) -> Scorer:
        """Load and verify everything a release names.

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
        """Identity of the feature set it takes."""
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
        """Return the same scorer with the peers of another book."""
        return replace(self, peers=peers)

    def with_ranks(self, ranks: Mapping[str, np.ndarray]) -> Scorer:
        """Return the same scorer with the probabilities of another published book."""
        return replace(self, ranks=ranks)

    def score(
        self, entity_ids: Sequence[str], rows: OnlineRows, now: datetime
    ) -> list[dict[str, Any]]:
        """Answer for some entities, in the order asked; see `serving.api.schemas.Answer`.

        Parameters
        ----------
        entity_ids : sequence of str
            Whom; repeats are answered twice.
        rows : OnlineRows
            Their vectors and facts, in the same order.
        now : datetime
            The clock, for days to go and staleness.

        Returns
        -------
        list of dict
            Plain JSON, one per entity. Entities that are not predicted have no ``scores``.
        """
        answers = [
            self._standing(entity, rows.facts[i], rows.as_of[i], now.date())
            if rows.is_known[i]
            else {"account_id": entity, **status(UNKNOWN)}
            for i, entity in enumerate(entity_ids)
        ]
        chosen = [i for i, answer in enumerate(answers) if answer["status"] == "scored"]
        if chosen:
            part = self._take(rows, chosen)
            told = [answers[i] for i in chosen]
            matrices = [model.encode(part.values) for model in self.models]
            self._add_data(told, part, matrices[0], now)
            for model, matrix in zip(self.models, matrices, strict=True):
                self._add_scores(told, model, matrix, part)
            for answer in told:
                _add_headline(answer)
            if self._seller is not None:
                self._seller.add_to(told, part.facts, part.values)
        return answers

    @cached_property
    def _seller(self) -> OfferMaker | None:
        """What turns the first chance of growth into something to sell; None without one."""
        growing = [model for model in self.models if model.bundle.outcome == "expansion"]
        if not growing:
            return None
        names = self.release.feature_set["names"]
        return OfferMaker.of(growing[0].bundle, names, self.company.growth)

    def _status(self, facts: Mapping[str, Any]) -> str:
        """Return the status of an account: with nothing to ask of it, why not."""
        code = str(facts.get("status"))
        is_applicable = any(model.asks(facts) for model in self.models)
        return NO_ROOM if code == "scored" and not is_applicable else code

    def _take(self, rows: OnlineRows, chosen: list[int]) -> _Rows:
        facts = [rows.facts[i] for i in chosen]
        groups = [str(item.get("peer_group")) for item in facts]
        return _Rows(
            rows.values[chosen],
            rows.past[chosen],
            self.peers.matrix(groups, self.width),
            facts,
            [moment for i in chosen if (moment := rows.as_of[i]) is not None],
        )

    def _standing(
        self, entity: str, facts: Mapping[str, Any], as_of: datetime | None, today: date
    ) -> dict[str, Any]:
        """Return what is known of an account whether or not it is predicted."""
        return {
            "account_id": entity,
            **status(self._status(facts)),
            **{name: facts.get(name) for name in SHOWN_FACTS},
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
        self, answers: list[dict[str, Any]], rows: _Rows, matrix: np.ndarray, now: datetime
    ) -> None:
        """Say how far the data behind each answer can be trusted."""
        model = self.models[0]
        missing, usual, odd = model.soundness(matrix)
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
        self, answers: list[dict[str, Any]], model: ScoringModel, matrix: np.ndarray, rows: _Rows
    ) -> None:
        currency = self.company.reporting_currency
        scores, why = model.answer(matrix, rows.past, rows.peer, currency)
        flags = model.flags(matrix, rows.past, rows.peer, currency)
        for i, part in enumerate(_parts(model, scores)):
            facts = rows.facts[i]
            if not model.asks(facts):
                answers[i].setdefault("withheld", {})[model.target] = status(NO_ROOM)
                continue
            is_renewal = asks_renewal(model.contract, facts)
            until = window(model.contract, facts, rows.as_of[i])
            part["text"] = estimate_text(model.contract, is_renewal, part["probability"], until)
            part["asks_about"] = "renewal" if is_renewal else "horizon"
            part["until"] = until.isoformat()
            part |= self._percentile(model, is_renewal, part["probability"])
            part |= _why(why[i], part["probability"])
            part["rules"] = flags[i]
            answers[i].setdefault("scores", {})[model.target] = part

    def _percentile(self, model: ScoringModel, is_renewal: bool, p: float) -> dict[str, Any]:
        """Return the share of like accounts below a probability, ties counted half, and of whom.

        Like accounts are those of the published book that were asked the same kind of question: the
        chance of losing a renewal is not ranked with the chance of leaving within the horizon.
        """
        book = self.ranks.get(rank_key(model.target, is_renewal=is_renewal))
        if book is None or len(book) == 0:
            return {"percentile": None, "percentile_of": None}
        places = np.searchsorted(book, p, "left") + np.searchsorted(book, p, "right")
        return {
            "percentile": round(50.0 * float(places) / len(book), 1),
            "percentile_of": asked_alike(model.contract, is_renewal, len(book)),
        }


def _array_hash(values: np.ndarray) -> str:
    """Return the hash of an array's float64 values."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()


def rank_key(target: str, *, is_renewal: bool) -> str:
    """Return the name under which a book keeps the probabilities that may be ranked together.

    >>> rank_key("churn", is_renewal=True)
    'churn:renewal'
    """
    return f"{target}:{'renewal' if is_renewal else 'horizon'}"


def kept_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that the ledger keeps beside a score."""
    return {name: facts[name] for name in KEPT_FACTS if facts.get(name) is not None}


def status(code: str) -> dict[str, str]:
    """Return a status with its words; one nobody declared stands for itself."""
    return {"status": code, "status_text": STATUS_WORDS.get(code, code.replace("_", " "))}


def _load_model(workspace: Workspace, release: Release, target: str) -> ScoringModel:
    sha = release.bundles[target]["sha"]
    bundle = load(workspace.state.bundles / sha, expected_sha=sha)
    place = {name: i for i, name in enumerate(release.feature_set["names"])}
    lacking = [name for name in bundle.encoder.names if name not in place]
    if lacking:
        raise ModelError(
            f"the model of {target} needs {len(lacking)} features the release does not serve: "
            f"{', '.join(lacking[:5])}",
            where=f"release {release.release_id}, bundle {sha[:12]}",
            fix="train and publish again on the present feature set",
        )
    contract = {**bundle.manifest.label_contract, **release.label_contracts[target]}
    cuts = sorted((cut, name) for name, cut in release.bands[target].items())
    positions = np.array([place[name] for name in bundle.encoder.names])
    basis = release.frozen.get(target, {})
    return ScoringModel(target, sha, bundle, contract, tuple(cuts), positions, basis)


def _renewal(facts: Mapping[str, Any], today: date) -> dict[str, Any] | None:
    renews_on, notice_on = facts.get("renews_on"), facts.get("notice_on")
    if renews_on is None:
        return None
    return {
        "renews_on": renews_on,
        "days_to_renewal": (date.fromisoformat(renews_on) - today).days,
        "notice_on": notice_on,
        "days_to_notice": (date.fromisoformat(notice_on) - today).days if notice_on else None,
    }


def _parts(model: ScoringModel, scores: Scores) -> list[dict[str, Any]]:
    """Return what the model says of each row, reasons apart."""
    bundle, contract = model.bundle, model.contract
    low, high = scores.low.tolist(), scores.high.tolist()
    return [
        {
            "target": model.target,
            "outcome": bundle.outcome,
            "measure": MEASURES[bundle.outcome],
            "probability": p,
            "low": low[i],
            "high": high[i],
            "logit": logit,
            "band": model.band(p),
            "confidence": confidence,
            "horizon_days": contract["horizon_days"],
            "lead_time_days": contract["lead_time_days"],
            "verdict": bundle.verdict,
            "is_provisional": bundle.verdict == "provisional",
            "rung": bundle.model_tier,
            "evidence": bundle.evidence,
            "bundle_sha": model.sha,
        }
        for i, (p, logit, confidence) in enumerate(
            zip(scores.p.tolist(), scores.logit.tolist(), model.confidence(scores), strict=True)
        )
    ]


def _why(explanation: Explanation | None, p: float) -> dict[str, Any]:
    """Return the reasons; a base rate served to everybody has none."""
    if explanation is None:
        silent: dict[str, Any] = dict.fromkeys(("raises", "lowers", "circumstances"), ())
        return {"base": p, "themes": {}, "context": 0.0, "unknown": 0.0, **silent}
    return {name: value for name, value in explanation.items() if name != "p"}


def _add_headline(answer: dict[str, Any]) -> None:
    """Put the numbers a CRM maps to fields on the top level: of the first target per outcome."""
    for part in answer["scores"].values():
        answer.setdefault(part["measure"], part["probability"])
        if part["outcome"] == "churn":
            answer.setdefault("risk_band", part["band"])
            answer.setdefault("expected_arr_lost_by", part["until"])
    risk, arr = answer.get("churn_risk"), answer["arr"]
    answer["expected_arr_lost"] = None if risk is None or arr is None else risk * max(arr, 0.0)
