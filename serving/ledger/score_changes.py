"""Changes since an account's last score: the exact parts, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from configs.runtime.errors import BellwetherError, StateError
from configs.runtime.formatting import day, percent, signed
from features.tables.catalog import THEMES, FeatureInfo
from serving.http.score_text import MEASURES, instant, rounded_to_sum
from serving.ledger.comparability import ScoreQuestion, asked_anew, question_of, refuse_mixed
from serving.ledger.model_archive import ModelArchive
from serving.ledger.store.score_rows import ScoreRow
from training.model.bundle import RANGE_DEVIATIONS, Bundle
from training.model.reason_text import amount, capitalize
from training.model.reasons import is_circumstance, theme_names
from training.model.score_change import EarlierScore, ScoreChange, explain_change

SHOWN_POINTS = 0.002
"""Parts that move a score less are in the numbers, not in the words."""

MAX_PARTS, MAX_FACTS = 3, 2

PART_WORDS = {
    "circumstances": "other circumstances: size, terms, age",
    "unknown": "values that became known, or are no longer",
    "time": "time passing",
    "model": "another version of the model",
    "calibration": "another calibration of the model",
}
"""Parts of a change that are not themes, in words."""


@dataclass(frozen=True)
class CurrentScore:
    """Scores of one bundle at present, row by row.

    Attributes
    ----------
    bundle, sha : Bundle, str
        The bundle that computed them.
    matrix : numpy.ndarray
        (rows, features) encoded.
    logit : numpy.ndarray
        (rows,) as served.
    as_of : sequence of datetime
        The prediction moments.
    questions : sequence of ScoreQuestion
        The question of each score.
    """

    bundle: Bundle
    sha: str
    matrix: np.ndarray
    logit: np.ndarray
    as_of: Sequence[datetime]
    questions: Sequence[ScoreQuestion]


def asked_of(archive: ModelArchive, row: ScoreRow, contract: Mapping[str, Any]) -> ScoreQuestion:
    """Return the question of a score in the ledger.

    Parameters
    ----------
    archive : Archive
        The releases as kept.
    row : ScoreRow
        Its facts say whether there was a renewal ahead.
    contract : mapping
        The present label contract: it fills gaps in that of the score's own release, and replaces
        that of a release that is no longer kept.
    """
    if not row.facts:
        return ScoreQuestion("unknown", row.as_of.date())
    try:
        own = archive.release(row.release_id).label_contracts.get(row.target, {})
    except StateError:
        own = {}
    return question_of({**contract, **own}, row.facts, row.as_of)


def asked_as_plain(question: ScoreQuestion) -> dict[str, Any]:
    """Return what a score was asked as plain JSON; nothing where that was not kept."""
    is_known = question.about != "unknown"
    return {
        "asks_about": question.about if is_known else None,
        "until": question.until.isoformat() if is_known else None,
    }


def present_of(archive: ModelArchive, rows: Sequence[ScoreRow]) -> CurrentScore:
    """Return scores of one release and target, as the ledger has them, to compare others with."""
    bundle = archive.bundle_of(rows[0])
    contract = bundle.manifest.label_contract
    return CurrentScore(
        bundle,
        rows[0].bundle_sha,
        archive.matrix(rows, bundle)[0],
        np.array([row.logit for row in rows]),
        [row.as_of for row in rows],
        [asked_of(archive, row, contract) for row in rows],
    )


@dataclass(frozen=True)
class ComparedScores:
    """Some present scores compared with earlier ones of one release.

    Attributes
    ----------
    rows : numpy.ndarray
        Positions in what was compared.
    changes : Changes
        The differences, row by row.
    before, after : numpy.ndarray
        (rows, features) encoded values, for the facts.
    lacking : list of int
        Columns that were not computed then.
    """

    rows: np.ndarray
    changes: ScoreChange
    before: np.ndarray
    after: np.ndarray
    lacking: list[int]


def compare(
    archive: ModelArchive, present: CurrentScore, earlier: Sequence[ScoreRow | None]
) -> Iterator[ComparedScores]:
    """Compare each present score with an earlier one, in groups of one release each.

    Parameters
    ----------
    archive : Archive
        Bundles and releases as kept.
    present : Present
        The scores of one bundle.
    earlier : sequence of ScoreRow or None
        Row by row, asked the same question; None where there is none.

    Raises
    ------
    ModelError, StateError
        What answered then is no longer kept, or was changed.
    DataError
        An earlier score was asked something else (`serving.ledger.comparability`).
    """
    contract = present.bundle.manifest.label_contract
    refuse_mixed(
        (row.entity_id, asked_of(archive, row, contract), question)
        for row, question in zip(earlier, present.questions, strict=True)
        if row is not None
    )
    groups: dict[tuple[str, str], list[int]] = {}
    for position, row in enumerate(earlier):
        if row is not None:
            groups.setdefault((row.release_id, row.bundle_sha), []).append(position)
    for positions in groups.values():
        yield _compared(archive, present, np.array(positions), [earlier[i] for i in positions])  # type: ignore[misc]


def _compared(
    archive: ModelArchive, present: CurrentScore, positions: np.ndarray, rows: list[ScoreRow]
) -> ComparedScores:
    seen, lacking = archive.matrix(rows, present.bundle)
    is_same = rows[0].bundle_sha == present.sha
    old = None if is_same else archive.bundle_of(rows[0])
    days = [
        (present.as_of[i] - row.as_of).total_seconds() / 86_400
        for i, row in zip(positions, rows, strict=True)
    ]
    now = present.matrix[positions]
    earlier = EarlierScore(
        logit=np.array([row.logit for row in rows]),
        seen=seen,
        days=np.array(days),
        bundle=old,
        matrix=None if old is None else archive.matrix(rows, old)[0],
        lacking=lacking,
    )
    changes = explain_change(present.bundle, now, present.logit[positions], earlier)
    return ComparedScores(positions, changes, seen, now, lacking)


def change_of(
    archive: ModelArchive, now: ScoreRow, before: ScoreRow | None, currency: str
) -> dict[str, Any]:
    """Return what changed between two scores of one account and target; see `schemas.Change`."""
    bundle = archive.bundle_of(now)
    told: dict[str, Any] = {
        "target": now.target,
        "outcome": bundle.outcome,
        "measure": MEASURES[bundle.outcome],
        "after": _end(now),
        "is_comparable": True,
    }
    if before is None:
        text = "the first score: there is none to compare with"
        return told | {"before": None, "is_comparable": None, "text": text}
    present = present_of(archive, [now])
    asked = asked_of(archive, before, bundle.manifest.label_contract)
    question = present.questions[0]
    if not asked.is_same(question):
        text = asked_anew(asked, question, now.as_of.date(), now.probability)
        return told | {"before": None, "is_comparable": False, "text": text}
    told |= {"before": _end(before), "difference": now.probability - before.probability}
    try:
        (found,) = compare(archive, present, [before])
    except BellwetherError as error:
        return told | {"text": f"the change cannot be split into its parts: {error.what}"}
    return told | _told(found, 0, bundle, before.as_of, currency)


def _end(row: ScoreRow) -> dict[str, Any]:
    return {
        "score_id": row.score_id,
        "as_of": instant(row.as_of),
        "served_at": instant(row.served_at),
        "probability": row.probability,
        "band": row.band,
        "release_id": row.release_id,
        "bundle_sha": row.bundle_sha,
    }


def _told(
    found: ComparedScores, row: int, bundle: Bundle, since: datetime, currency: str
) -> dict[str, Any]:
    changes = found.changes
    themes, circumstances, unknown = changes.happened_by_theme
    half = float(RANGE_DEVIATIONS * changes.spread[row])
    parts = _parts(found, row, bundle, currency)
    return {
        "difference": float(changes.difference[row]),
        "low": float(changes.difference[row]) - half,
        "high": float(changes.difference[row]) + half,
        "is_clear": bool(changes.is_clear[row]),
        "text": change_text(changes, row, since),
        "themes": dict(zip(theme_names(bundle.info), themes[row].tolist(), strict=True)),
        "circumstances": float(circumstances[row]),
        "unknown": float(unknown[row]),
        "time": float(changes.time[row]),
        "model": float(changes.model[row]),
        "calibration": float(changes.calibration[row]),
        "parts": parts,
        "notes": _notes(found, bundle),
    }


def change_text(changes: ScoreChange, row: int, since: datetime) -> str:
    """Return one change as a sentence: whether it is clear, and what moved it most."""
    before, after = float(changes.before[row]), float(changes.after[row])
    then, now = percent(before, 1), percent(after, 1)
    since_day = day(since.date())
    if not changes.is_clear[row]:
        return (
            f"no clear change since {since_day}: {then} then, {now} now, "
            "within the precision of the model"
        )
    sizes = printed_sizes(changes, row)
    strongest = sorted(sizes, key=lambda part: -abs(part[1]))
    shown = [part for part in strongest[:MAX_PARTS] if abs(part[1]) >= 100 * SHOWN_POINTS]
    rest = round(sum(p for _, p in sizes) - sum(p for _, p in shown), 1)
    parts = [*shown, ("everything else", rest)] if shown and rest else shown
    moved = [f"{words} {signed(p, 1)}" for words, p in parts]
    direction = "up" if after > before else "down"
    sentence = f"{direction} from {then} to {now} since {since_day}"
    return f"{sentence}: {'; '.join(moved)}" if moved else sentence


def printed_sizes(changes: ScoreChange, row: int) -> list[tuple[str, float]]:
    """Return every part of a change as it is printed, in percentage points, in a fixed order.

    Rounded once for all places that print them, so that they add up to the printed difference.
    """
    before, after = (round(100 * float(ends[row]), 1) for ends in (changes.before, changes.after))
    sizes = _sizes(changes, row)
    printed = rounded_to_sum([100 * p for _, p in sizes], round(after - before, 1))
    return [(words, p) for (words, _), p in zip(sizes, printed, strict=True)]


def _sizes(changes: ScoreChange, row: int) -> list[tuple[str, float]]:
    themes, circumstances, unknown = changes.happened_by_theme
    named = zip(theme_names(changes.info), themes[row].tolist(), strict=True)
    others = {
        "circumstances": circumstances,
        "unknown": unknown,
        "time": changes.time,
        "model": changes.model,
        "calibration": changes.calibration,
    }
    return [(THEMES[theme], size) for theme, size in named] + [
        (PART_WORDS[kind], float(values[row])) for kind, values in others.items()
    ]


def _parts(found: ComparedScores, row: int, bundle: Bundle, currency: str) -> list[dict[str, Any]]:
    """Return the parts worth showing, strongest first, with the facts that moved."""
    themes, circumstances, unknown = found.changes.happened_by_theme
    reader = _Facts(found, row, bundle, currency)
    made = [
        _part("theme", theme, size, reader.of(theme))
        for theme, size in zip(theme_names(bundle.info), themes[row].tolist(), strict=True)
    ]
    made.append(_part("circumstances", None, float(circumstances[row]), reader.circumstances()))
    made.append(_part("unknown", None, float(unknown[row]), reader.unknown()))
    for kind in ("time", "model", "calibration"):
        made.append(_part(kind, None, float(getattr(found.changes, kind)[row]), []))
    printed = dict(printed_sizes(found.changes, row))
    for part in made:
        part["printed"] = printed[
            THEMES[part["theme"]] if part["theme"] else PART_WORDS[part["kind"]]
        ]
    shown = [part for part in made if abs(part["points"]) >= SHOWN_POINTS]
    return sorted(shown, key=lambda part: -abs(part["points"]))


def _part(kind: str, theme: str | None, size: float, facts: list[dict[str, Any]]) -> dict[str, Any]:
    words = THEMES[theme] if theme else PART_WORDS[kind]
    return {"kind": kind, "theme": theme, "points": size, "text": capitalize(words), "facts": facts}


@dataclass(frozen=True)
class _Facts:
    """The values that moved one score, before and after."""

    found: ComparedScores
    row: int
    bundle: Bundle
    currency: str

    def of(self, theme: str) -> list[dict[str, Any]]:
        """Return the strongest of one theme that were known then and are now."""
        unknown = self._unknown
        return self._strongest(
            i
            for i, item in enumerate(self.bundle.info)
            if item.theme == theme and not is_circumstance(item) and not unknown[i]
        )

    def circumstances(self) -> list[dict[str, Any]]:
        """Return the strongest that no action can change."""
        return self._strongest(
            i for i, item in enumerate(self.bundle.info) if is_circumstance(item)
        )

    def unknown(self) -> list[dict[str, Any]]:
        """Return the strongest that were not known then, or are not now."""
        unknown = self._unknown
        return self._strongest(
            i for i, item in enumerate(self.bundle.info) if unknown[i] and not is_circumstance(item)
        )

    @property
    def _unknown(self) -> np.ndarray:
        row: np.ndarray = self.found.changes.unknown[self.row]
        return row

    def _strongest(self, candidates: Iterable[int]) -> list[dict[str, Any]]:
        points = self.found.changes.happened[self.row]
        members = [i for i in candidates if points[i] != 0 and self._moves_on_display(i)]
        strongest = sorted(members, key=lambda i: -abs(points[i]))[:MAX_FACTS]
        return [self._fact(i, float(points[i])) for i in strongest]

    def _moves_on_display(self, feature: int) -> bool:
        """Say whether before and after read differently: others explain nothing to a reader."""
        info = self.bundle.info[feature]
        before, after = (self._value(m, feature) for m in (self.found.before, self.found.after))
        return self._words(before, info) != self._words(after, info)

    def _fact(self, feature: int, points: float) -> dict[str, Any]:
        info = self.bundle.info[feature]
        before = self._value(self.found.before, feature)
        after = self._value(self.found.after, feature)
        window = f" in the last {info.window_days} days" if info.window_days else ""
        told = f"{self._words(after, info)}{window}, before {self._words(before, info)}"
        return {
            "feature": info.name,
            "label": info.label,
            "unit": info.unit,
            "window_days": info.window_days,
            "before": before,
            "after": after,
            "points": points,
            "text": f"{capitalize(info.label)}: {told}",
        }

    def _value(self, matrix: np.ndarray, feature: int) -> float | str | None:
        value = float(matrix[self.row, feature])
        if np.isnan(value):
            return None
        levels = self.bundle.encoder.levels.get(self.bundle.info[feature].name)
        return value if levels is None else levels[int(value)]

    def _words(self, value: float | str | None, info: FeatureInfo) -> str:
        if value is None or isinstance(value, str):
            return value or "not known"
        return amount(value, info.unit, currency=self.currency)


def _notes(found: ComparedScores, bundle: Bundle) -> list[str]:
    if not found.lacking:
        return []
    labels = list(dict.fromkeys(bundle.info[i].label for i in found.lacking))[:3]
    return [
        f"{len(found.lacking)} values were not computed then ({', '.join(labels)} …): what they "
        "move is counted as another version of the model"
    ]
