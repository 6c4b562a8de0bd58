"""The expansion candidate of an account: what to offer, to whom, when, and what stands in the way.

What is on offer and its evidence were counted when the book was built (`features.offers`); the
shares of kinds and their amounts were measured in training (`training.fitting.expansion_size`) and
lie in the bundle. Here both meet the account's own chance of growth: nothing is counted or learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configs.schema.company import Growth
from features.revenue.growth_kinds import FULLNESS, KINDS, N_CELLS, N_PRODUCTS, cells
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
    "measured": "measured on past growths",
    "rules": "a rule, not measured",
    "unknown": "likely to grow, kind unknown",
    "none": "nothing on offer",
}

BLOCKERS = {
    "no_room": "there is no room to grow",
    "overdue": "an invoice is overdue",
    "open_opportunity": "an expansion is being sold already",
    "at_risk": "its risk comes first",
    "notice_window": "the renewal comes first",
}
"""What may stand in the way of selling, by code."""

AMOUNTS = ("p10", "p50", "p90")

Choice = tuple[str | None, str, float, tuple[tuple[str, float], ...]]
"""The kind to offer, what it rests on (`BASIS_WORDS`), its share of all growth, and the other kinds
that are open and measured with theirs, likeliest first."""

Plain = dict[str, Any]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class OfferMaker:
    """What past growths say, ready for use.

    Attributes
    ----------
    target : str
        Whose chance it splits.
    settings : Growth
        The notice window.
    columns : mapping of str to int
        Features of the state and their place in the served vector.
    shares : numpy.ndarray
        (cells, kinds); zero for kinds that are not measured.
    uplift : mapping of str to mapping
        Kind to p10, p50, p90 and mean of the revenue added over the revenue before.
    n_events : mapping of str to int
        Kind to the past growths it rests on.
    told : tuple of str
        Kinds whose chance by the state of an account beats one share for all, beyond chance.
    """

    target: str
    settings: Growth
    columns: Mapping[str, int]
    shares: np.ndarray
    uplift: Mapping[str, Mapping[str, float]]
    n_events: Mapping[str, int]
    told: tuple[str, ...] = ()
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

    def add_to(self, answers: Sequence[Plain], facts: Sequence[Facts], values: np.ndarray) -> None:
        """Put an `expansion` into every answer that has a chance of growth, or no room for it.

        Parameters
        ----------
        answers : sequence of dict
            With headline and scores.
        facts : sequence of mapping
            Of the same accounts, as they lie beside the vectors.
        values : numpy.ndarray
            (rows, features) served vectors.
        """
        state = {name: values[:, place] for name, place in self.columns.items()}
        places = cells(state, len(values)).tolist()
        for answer, known, cell in zip(answers, facts, places, strict=True):
            answer["expansion"] = self._candidate(answer, known, cell)

    def _choice(self, offers: Facts, cell: int, rules: Sequence[str], is_withheld: bool) -> Choice:
        """Return what to offer; accounts in the same state with the same offers share it."""
        key = (cell, tuple(offers), tuple(rules), is_withheld)
        if key not in self._choices:
            shares = [0.0] * len(KINDS) if is_withheld else self.shares[cell].tolist()
            self._choices[key] = _choose(offers, shares, rules, self.told)
        return self._choices[key]

    def _candidate(self, answer: Plain, facts: Facts, cell: int) -> Plain | None:
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
        if basis == "unknown":
            chance = part["probability"]
        blockers = self._blockers(answer, growth["blockers"], is_withheld)
        return {
            "kind": kind,
            "kind_text": "kind unknown" if basis == "unknown" else KIND_WORDS.get(kind or ""),
            "product": offer.get("product"),
            "basis": basis,
            "basis_text": BASIS_WORDS[basis],
            "n_events": self.n_events.get(kind, 0) if kind else 0,
            "probability": chance,
            **(
                self.amounts(kind, answer["arr"], chance)
                if kind
                else self.any_amount(answer["arr"], chance)
            ),
            "evidence": [offer["text"]] if offer else [],
            "others": [self._other(answer, offers[name], name, part) for name, part in rest],
            "contact": growth["contact"],
            "timing": _timing(answer["renewal"], part["until"]) if part else None,
            "is_eligible": not blockers,
            "blockers": blockers,
        }

    def _other(self, answer: Plain, offer: Facts, kind: str, share: float) -> Plain:
        """Return another kind of growth that is open: its chance, and what it is worth."""
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
        """Return the chance of growth of one kind, given that of any; None where by rules."""
        state = {name: vector[[place]] for name, place in self.columns.items()}
        share = float(self.shares[cells(state, 1)[0], KINDS.index(kind)])
        return probability * share if share else None

    def amounts(self, kind: str | None, arr: float | None, chance: float | None) -> Plain:
        """Return the revenue added should it happen, and times its chance; by rules, none."""
        if kind is None or arr is None or arr <= 0 or chance is None:
            return {"added_arr": None, "expected_added_arr": None}
        uplift = self.uplift[kind]
        return {
            "added_arr": {name: round(uplift[name] * arr, 2) for name in AMOUNTS},
            "expected_added_arr": round(chance * uplift["mean"] * arr, 2),
        }

    def any_amount(self, arr: float | None, chance: float | None) -> Plain:
        """Return what a growth of unknown kind is worth: the mean of all kinds by their events."""
        weights = {kind: self.n_events[kind] for kind in self.uplift}
        if arr is None or arr <= 0 or chance is None or not sum(weights.values()):
            return {"added_arr": None, "expected_added_arr": None}
        gained = sum(self.uplift[kind]["mean"] * n for kind, n in weights.items())
        return {
            "added_arr": None,
            "expected_added_arr": round(chance * gained / sum(weights.values()) * arr, 2),
        }

    def _blockers(
        self, answer: Plain, known: Sequence[Mapping[str, str]], is_withheld: bool
    ) -> list[Mapping[str, str]]:
        """Return what stands in the way, in the order of `BLOCKERS`."""
        found = {item["code"]: item for item in known}
        renewal = answer["renewal"]
        days = renewal and renewal["days_to_notice"]
        if is_withheld:
            found["no_room"] = {"code": "no_room", "text": BLOCKERS["no_room"]}
        if answer.get("risk_band") in AT_RISK:
            text = f"its risk is {answer['risk_band']}: that comes first"
            found["at_risk"] = {"code": "at_risk", "text": text}
        if days is not None and 0 <= days <= self.settings.notice_window_days:
            text = f"notice can be given for {days} more day{'s' if days != 1 else ''}"
            found["notice_window"] = {"code": "notice_window", "text": text}
        return [found[code] for code in BLOCKERS if code in found] if found else []


def kept_candidate(candidate: Mapping[str, Any]) -> Plain:
    """Return what the ledger keeps of a candidate: the offer, its chance, its worth, its blockers.

    >>> told = dict.fromkeys(("kind", "product", "basis", "probability", "expected_added_arr"))
    >>> kept_candidate(told | {"added_arr": None, "blockers": [{"code": "overdue"}]})["blockers"]
    ['overdue']
    """
    return {
        **{name: candidate[name] for name in ("kind", "product", "basis", "probability")},
        **{name: candidate[name] for name in ("added_arr", "expected_added_arr")},
        "blockers": [item["code"] for item in candidate["blockers"]],
    }


def _choose(
    offers: Facts, shares: Sequence[float], rules: Sequence[str], told: Sequence[str] = ()
) -> Choice:
    """Return the kind that the account's own use speaks for, or that its state tells.

    An allowance that is full or soon will be speaks for itself. A plan or a product is named only
    where past growths show that the state of an account tells the kind (`told`); otherwise the
    kind is unknown.

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
    share_of = dict(zip(KINDS, shares, strict=True))
    is_shown = [kind for kind in KINDS if "share" in offers.get(kind, {}) or kind in told]
    is_open = [kind for kind in is_shown if kind in offers and share_of[kind] > 0]
    measured = sorted(is_open, key=lambda kind: -share_of[kind])
    if measured:
        kind = next((name for name in measured if name in rules), measured[0])
        rest = tuple((name, share_of[name]) for name in measured if name != kind)
        return kind, "measured", share_of[kind], rest
    named = next((kind for kind in rules if kind in offers), None)
    if named:
        return named, "rules", 0.0, ()
    return (None, "unknown", 1.0, ()) if any(shares) else (None, "none", 0.0, ())


def _timing(renewal: Mapping[str, Any] | None, until: str) -> Plain:
    """Return when to ask: with a renewal that falls into the time looked at, else within it.

    >>> renewal = {"renews_on": "2026-05-01", "notice_on": "2026-04-01", "days_to_notice": 31}
    >>> _timing(renewal, "2026-06-01")
    {'by_on': '2026-04-01', 'text': 'before the last day of notice, with the renewal ahead'}
    >>> _timing(None, "2026-06-01")
    {'by_on': '2026-06-01', 'text': 'within the time the estimate looks at'}
    """
    if renewal is None or renewal["renews_on"] > until:
        return {"by_on": until, "text": "within the time the estimate looks at"}
    notice = renewal["notice_on"]
    if notice is not None and (renewal["days_to_notice"] or 0) >= 0:
        return {"by_on": notice, "text": "before the last day of notice, with the renewal ahead"}
    return {"by_on": renewal["renews_on"], "text": "with the renewal"}


def contact_words(contact: Mapping[str, Any] | None) -> str | None:
    """Return whom to ask, in a few words.

    >>> contact_words({"contact_id": "U-2", "role": "sponsor", "is_champion": True})
    'U-2 (sponsor, advocate)'
    >>> contact_words({"contact_id": "U-4", "role": None, "is_champion": False})
    'U-4'
    """
    if contact is None:
        return None
    told = [contact["role"] or "", "advocate" if contact["is_champion"] else ""]
    words = ", ".join(word for word in told if word)
    return f"{contact['contact_id']} ({words})" if words else str(contact["contact_id"])
