"""The expansion offer of an account: kind, amount, contact, timing and blockers.

The open kinds and their evidence come from the features (`features.offers`); the shares of kinds
and their amounts come from training (`training.fitting.expansion_size`) and are in the bundle. This
module combines both with the expansion propensity of the account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, cast

import numpy as np

from configs.schema.company import Growth
from features.revenue.growth_kinds import FULLNESS, KINDS, N_CELLS, N_PRODUCTS, cells
from serving.scoring.answer import (
    AddedArr,
    Answer,
    Blocker,
    Contact,
    GrowthKind,
    Offer,
    OtherKind,
    Renewal,
    Timing,
)
from serving.scoring.playbooks import AT_RISK
from training.model.bundle import Bundle
from training.model.manifest_parts import GrowthKinds

KIND_WORDS = {
    "seats": "more seats",
    "tier": "a higher plan",
    "product": "a further product",
    "usage": "more units",
}

BASIS_WORDS = {
    "measured": "measured on past expansions",
    "rules": "an expert rule, not measured",
    "unknown": "likely to expand, kind unknown",
    "none": "no offer",
}

BLOCKERS = {
    "no_room": "there is no room to grow",
    "overdue": "an invoice is overdue",
    "open_opportunity": "an expansion is already being sold",
    "at_risk": "handle the risk first",
    "notice_window": "handle the renewal first",
}
"""Reasons not to sell now, by code."""

AMOUNTS: tuple[Literal["p10", "p50", "p90"], ...] = ("p10", "p50", "p90")

Basis = Literal["measured", "rules", "unknown", "none"]

Choice = tuple[GrowthKind | None, Basis, float, tuple[tuple[GrowthKind, float], ...]]
"""The kind to offer, its basis (`BASIS_WORDS`), its share of all expansions, and the other kinds
that are open and measured with their shares, most likely first."""

Facts = Mapping[str, Any]


class OfferValue(TypedDict):
    """Amount of an offer."""

    added_arr: AddedArr | None
    expected_added_arr: float | None


class LedgerOffer(TypedDict):
    """Expansion offer as the ledger stores it."""

    kind: GrowthKind | None
    product: str | None
    basis: Basis
    probability: float | None
    added_arr: AddedArr | None
    expected_added_arr: float | None
    blockers: list[str]


@dataclass(frozen=True)
class OfferMaker:
    """Measurements of past expansions, ready to make offers from.

    Attributes
    ----------
    target : str
        Expansion target whose probability is split by kind.
    settings : Growth
        The notice window.
    columns : mapping of str to int
        State features and their position in the served vector.
    shares : numpy.ndarray
        (cells, kinds); zero for kinds that are not measured.
    uplift : mapping of str to mapping
        Kind to p10, p50, p90 and mean of the added ARR over the ARR before.
    n_events : mapping of str to int
        Kind to its number of past expansions.
    predictable : tuple of str
        Kinds that the state of an account predicts significantly better than one share for all.
    """

    target: str
    settings: Growth
    columns: Mapping[str, int]
    shares: np.ndarray
    uplift: Mapping[str, Mapping[str, float]]
    n_events: Mapping[str, int]
    predictable: tuple[str, ...] = ()
    _choices: dict[tuple[Any, ...], Choice] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, bundle: Bundle, names: Sequence[str], settings: Growth) -> OfferMaker:
        """Read what a bundle knows of kinds; one that knows nothing leaves the rules."""
        growth = bundle.manifest.growth or GrowthKinds()
        kinds = growth.kinds
        measured = np.array([kind in kinds and kinds[kind].basis == "measured" for kind in KINDS])
        shares = np.zeros((N_CELLS, len(KINDS)))
        if measured.any():
            shares = np.array(growth.shares, dtype=np.float64) * measured
        place = {name: i for i, name in enumerate(names)}
        return cls(
            bundle.target,
            settings,
            {name: place[name] for name in (*FULLNESS, N_PRODUCTS) if name in place},
            shares,
            {
                kind: {name: value for name, value in item.uplift.items() if value is not None}
                for kind, item in kinds.items()
                if item.basis == "measured"
            },
            {kind: item.n_events for kind, item in kinds.items()},
            tuple(kind for kind, item in kinds.items() if item.backtest.beats_flat),
        )

    def add_to(self, answers: Sequence[Answer], facts: Sequence[Facts], values: np.ndarray) -> None:
        """Add `expansion` to every answer that has an expansion propensity, or no room to grow.

        Parameters
        ----------
        answers : sequence of Answer
            With headline and scores.
        facts : sequence of mapping
            Facts of the same accounts, as stored with the vectors.
        values : numpy.ndarray
            (rows, features) served vectors.
        """
        state = {name: values[:, place] for name, place in self.columns.items()}
        places = cells(state, len(values)).tolist()
        for answer, known, cell in zip(answers, facts, places, strict=True):
            answer["expansion"] = self._offer(answer, known, cell)

    def _choice(self, offers: Facts, cell: int, rules: Sequence[str], is_withheld: bool) -> Choice:
        """Return the kind to offer; accounts in the same state with the same offers share it."""
        key = (cell, tuple(offers), tuple(rules), is_withheld)
        if key not in self._choices:
            shares = [0.0] * len(KINDS) if is_withheld else self.shares[cell].tolist()
            self._choices[key] = _choose(offers, shares, rules, self.predictable)
        return self._choices[key]

    def _offer(self, answer: Answer, facts: Facts, cell: int) -> Offer | None:
        part = answer["scores"].get(self.target)
        is_withheld = self.target in answer.get("withheld", ())
        growth = facts.get("growth")
        if growth is None or (part is None and not is_withheld):
            return None
        offers = growth["kinds"]
        kind, basis, share, rest = self._choice(offers, cell, growth.get("rules", ()), is_withheld)
        if kind is None and not is_withheld and basis != "unknown":
            return None
        offer = offers.get(kind, {})
        chance = part["probability"] * share if part is not None and share else None
        blockers = self._blockers(answer, growth["blockers"], is_withheld)
        value = (
            self.amounts(kind, answer["arr"], chance)
            if kind
            else self.any_amount(answer["arr"], chance)
        )
        return {
            "kind": kind,
            "kind_text": "kind unknown" if basis == "unknown" else KIND_WORDS.get(kind or ""),
            "product": offer.get("product"),
            "basis": basis,
            "basis_text": BASIS_WORDS[basis],
            "n_events": self.n_events.get(kind, 0) if kind else 0,
            "probability": chance,
            "added_arr": value["added_arr"],
            "expected_added_arr": value["expected_added_arr"],
            "evidence": [offer["text"]] if offer else [],
            "others": [self._other(answer, offers[name], name, share) for name, share in rest],
            "contact": growth["contact"],
            "timing": _timing(answer["renewal"], part["until"]) if part else None,
            "is_eligible": not blockers,
            "blockers": blockers,
        }

    def _other(self, answer: Answer, offer: Facts, kind: GrowthKind, share: float) -> OtherKind:
        """Return another kind of expansion that is open, with probability and expected amount."""
        chance, arr = answer["scores"][self.target]["probability"] * share, answer["arr"]
        worth = None if not arr else round(chance * self.uplift[kind]["mean"] * max(arr, 0.0), 2)
        return {
            "kind": kind,
            "kind_text": KIND_WORDS[kind],
            "product": offer["product"],
            "probability": chance,
            "expected_added_arr": worth,
            "evidence": [offer["text"]],
        }

    def chance(self, vector: np.ndarray, kind: str, probability: float) -> float | None:
        """Return the probability of one kind, given that of any expansion; None if by rules."""
        state = {name: vector[[place]] for name, place in self.columns.items()}
        share = float(self.shares[cells(state, 1)[0], KINDS.index(kind)])
        return probability * share if share else None

    def amounts(self, kind: str | None, arr: float | None, chance: float | None) -> OfferValue:
        """Return the ARR added if it happens, and its expected value; none if by rules."""
        if kind is None or arr is None or arr <= 0 or chance is None:
            return {"added_arr": None, "expected_added_arr": None}
        uplift = self.uplift[kind]
        return {
            "added_arr": {
                "p10": round(uplift["p10"] * arr, 2),
                "p50": round(uplift["p50"] * arr, 2),
                "p90": round(uplift["p90"] * arr, 2),
            },
            "expected_added_arr": round(chance * uplift["mean"] * arr, 2),
        }

    def any_amount(self, arr: float | None, chance: float | None) -> OfferValue:
        """Return the value of an expansion of unknown kind: the mean weighted by events."""
        weights = {kind: self.n_events[kind] for kind in self.uplift}
        if arr is None or arr <= 0 or chance is None or not sum(weights.values()):
            return {"added_arr": None, "expected_added_arr": None}
        gained = sum(self.uplift[kind]["mean"] * n for kind, n in weights.items())
        return {
            "added_arr": None,
            "expected_added_arr": round(chance * gained / sum(weights.values()) * arr, 2),
        }

    def _blockers(
        self, answer: Answer, known: Sequence[Blocker], is_withheld: bool
    ) -> list[Blocker]:
        """Return the blockers in the order of `BLOCKERS`."""
        found: dict[str, Blocker] = {item["code"]: item for item in known}
        renewal = answer["renewal"]
        days = renewal and renewal["days_to_notice"]
        if is_withheld:
            found["no_room"] = {"code": "no_room", "text": BLOCKERS["no_room"]}
        if answer.get("risk_band") in AT_RISK:
            text = f"its risk is {answer['risk_band']}: handle the risk first"
            found["at_risk"] = {"code": "at_risk", "text": text}
        if days is not None and 0 <= days <= self.settings.notice_window_days:
            text = f"notice can be given for {days} more day{'s' if days != 1 else ''}"
            found["notice_window"] = {"code": "notice_window", "text": text}
        return [found[code] for code in BLOCKERS if code in found] if found else []


def ledger_offer(offer: Offer) -> LedgerOffer:
    """Return an offer as the ledger stores it: kind, probability, value and blockers."""
    return {
        "kind": offer["kind"],
        "product": offer["product"],
        "basis": offer["basis"],
        "probability": offer["probability"],
        "added_arr": offer["added_arr"],
        "expected_added_arr": offer["expected_added_arr"],
        "blockers": [item["code"] for item in offer["blockers"]],
    }


def _choose(
    offers: Facts, shares: Sequence[float], rules: Sequence[str], predictable: Sequence[str] = ()
) -> Choice:
    """Return the kind that the account's own use suggests, or that its state predicts.

    An allowance that is full or soon will be is evidence enough. A plan or a product is named only
    where past expansions show that the state of an account predicts the kind (`predictable`);
    otherwise the kind is unknown.

    >>> offers = {"seats": {"share": 0.9}, "usage": {"share": 1.1}, "tier": {}}
    >>> _choose(offers, [0.2, 0.5, 0.0, 0.1], [])
    ('seats', 'measured', 0.2, (('usage', 0.1),))
    >>> _choose(offers, [0.2, 0.5, 0.0, 0.1], ["usage"])
    ('usage', 'measured', 0.1, (('seats', 0.2),))
    >>> _choose({"tier": {}}, [0.2, 0.5, 0.0, 0.1], [])
    (None, 'unknown', 1.0, ())
    >>> _choose({"tier": {}}, [0.2, 0.5, 0.0, 0.1], [], ["tier"])
    ('tier', 'measured', 0.5, ())
    >>> _choose({"usage": {"share": 1.1}}, [0.0, 0.5, 0.0, 0.0], ["usage", "seats"])
    ('usage', 'rules', 0.0, ())
    >>> _choose(offers, [0.0, 0.0, 0.0, 0.0], [])
    (None, 'none', 0.0, ())
    """
    kinds = cast("tuple[GrowthKind, ...]", KINDS)
    share_of = dict(zip(kinds, shares, strict=True))
    is_shown = [kind for kind in kinds if "share" in offers.get(kind, {}) or kind in predictable]
    is_open = [kind for kind in is_shown if kind in offers and share_of[kind] > 0]
    measured = sorted(is_open, key=lambda kind: -share_of[kind])
    if measured:
        kind = next((name for name in measured if name in rules), measured[0])
        rest = tuple((name, share_of[name]) for name in measured if name != kind)
        return kind, "measured", share_of[kind], rest
    named = next((kind for kind in cast("Sequence[GrowthKind]", rules) if kind in offers), None)
    if named:
        return named, "rules", 0.0, ()
    return (None, "unknown", 1.0, ()) if any(shares) else (None, "none", 0.0, ())


def _timing(renewal: Renewal | None, until: str) -> Timing:
    """Return when to ask: with a renewal inside the prediction window, otherwise within the window.

    >>> renewal = {"renews_on": "2026-05-01", "notice_on": "2026-04-01", "days_to_notice": 31}
    >>> _timing(renewal, "2026-06-01")
    {'by_on': '2026-04-01', 'text': 'before the notice deadline of the next renewal'}
    >>> _timing(None, "2026-06-01")
    {'by_on': '2026-06-01', 'text': 'within the prediction window'}
    """
    if renewal is None or renewal["renews_on"] > until:
        return {"by_on": until, "text": "within the prediction window"}
    notice = renewal["notice_on"]
    if notice is not None and (renewal["days_to_notice"] or 0) >= 0:
        return {"by_on": notice, "text": "before the notice deadline of the next renewal"}
    return {"by_on": renewal["renews_on"], "text": "with the renewal"}


def contact_text(contact: Contact | None) -> str | None:
    """Return the contact as short text.

    >>> contact_text({"contact_id": "U-2", "role": "sponsor", "is_champion": True})
    'U-2 (sponsor, advocate)'
    >>> contact_text({"contact_id": "U-4", "role": None, "is_champion": False})
    'U-4'
    """
    if contact is None:
        return None
    parts = [contact["role"] or "", "advocate" if contact["is_champion"] else ""]
    details = ", ".join(part for part in parts if part)
    return f"{contact['contact_id']} ({details})" if details else contact["contact_id"]
