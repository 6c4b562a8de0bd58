"""One account: the headline in its own terms, the waterfall, the facts behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from features.tables.catalog import THEMES
from serving.http.score_text import VERDICT_WORDS, rounded_to_sum
from serving.scoring.export_rows import first_per_outcome
from training.model.reason_text import capital

SMALL_POINTS = 0.0005
"""Themes that move the estimate less are added up in one step."""

NOT_KNOWN = "Not known"
"""The step of what the model makes of unknown values."""

BAR_WIDTH, BAR_HEIGHT = 320, 20

COLUMNS = (
    "target",
    "kind",
    "name",
    "points",
    "value",
    "own_past",
    "peer",
    "unit",
    "window_days",
    "feature",
)
"""Columns of the CSV twin, see `lines`."""


def view(answer: Mapping[str, Any], changes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return what the template of an account takes.

    Parameters
    ----------
    answer : mapping
        Of `serving.scoring.scorer.Scorer.score`.
    changes : sequence of mapping
        What changed since the scores shown before (`serving.ledger.score_changes.change_of`).
    """
    firsts = first_per_outcome(answer)
    risk = firsts.get("churn") or firsts.get("contraction")
    steps = waterfall(risk) if risk and risk["themes"] else None
    return {
        "a": answer,
        "title": answer.get("name") or answer["account_id"],
        "risk": risk,
        "upsell": firsts.get("expansion"),
        "withheld": list(answer.get("withheld", {}).values()),
        "others": [
            part
            for part in answer.get("scores", {}).values()
            if part is not risk and part is not firsts.get("expansion")
        ],
        "changed": _changed(changes, risk),
        "steps": steps,
        "raises": groups(risk["raises"], steps) if risk else [],
        "lowers": groups(risk["lowers"], steps) if risk else [],
        "unknown_points": printed_of(steps).get(NOT_KNOWN, 0.0),
        "rest_of_change": _rest(_changed(changes, risk)),
        "verdict_words": VERDICT_WORDS,
    }


def lines(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return what the estimates of an account are made of as flat lines, for CSV.

    One line per ``step`` from the ``base`` to the ``estimate``, which add up in ``points`` (out of
    100), and one per ``fact`` with its value, its own past and that of similar accounts.
    """
    for part in first_per_outcome(answer).values():
        named = {"target": part["target"]}
        yield {**named, "kind": "base", "points": 100.0 * part["base"]}
        for name, points in steps_of(part) if part["themes"] else ():
            yield {**named, "kind": "step", "name": name, "points": 100.0 * points}
        yield {**named, "kind": "estimate", "points": 100.0 * part["probability"]}
        for reason in (*part["raises"], *part["lowers"]):
            for fact in reason["facts"]:
                own = {"points": 100.0 * fact["points"], "name": fact["label"]}
                yield {**named, "kind": "fact", **fact, **own}


def _changed(
    changes: Sequence[Mapping[str, Any]], risk: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Return the change of the risk, where there was an earlier score, of whatever question."""
    of_risk = [item for item in changes if risk and item["target"] == risk["target"]]
    return of_risk[0] if of_risk and of_risk[0]["is_comparable"] is not None else None


def steps_of(part: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return what moves an estimate from its base, strongest first, circumstances and gaps last."""
    themes = {capital(THEMES[theme]): points for theme, points in part["themes"].items()}
    shown = {name: points for name, points in themes.items() if abs(points) >= SMALL_POINTS}
    steps = sorted(shown.items(), key=lambda item: (-abs(item[1]), item[0]))
    rest = sum(points for name, points in themes.items() if name not in shown)
    if len(shown) < len(themes):
        steps.append(("Everything else", rest))
    aside = [("Context (cannot be changed)", part["context"]), (NOT_KNOWN, part["unknown"])]
    return [*steps, *(step for step in aside if step[1])]


def waterfall(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the steps from the base to the estimate, with bars, in points out of 100.

    The printed numbers add up to the printed estimate: see `rounded_to_sum`.
    """
    steps = steps_of(part)
    exact = [100.0 * part["base"], *(100.0 * points for _, points in steps)]
    printed = rounded_to_sum(exact, round(100.0 * part["probability"], 1))
    edges = [0.0]
    for value in exact:
        edges.append(edges[-1] + value)
    right = axis_end(edges)
    place = BAR_WIDTH / right
    bars = [
        {
            "name": name,
            "points": points,
            "x": round(min(start, end) * place, 2),
            "width": round(max(abs(end - start) * place, 1.0), 2),
            "end": round(end * place, 2),
            "kind": "raises" if end >= start else "lowers",
        }
        for (name, _), points, start, end in zip(
            steps, printed[1:], edges[1:-1], edges[2:], strict=True
        )
        if points  # what prints as nothing is no step
    ]
    return {
        "base": {"points": printed[0], "end": round(edges[1] * place, 2)},
        "bars": bars,
        "total": {
            "points": round(100.0 * part["probability"], 1),
            "end": round(edges[-1] * place, 2),
        },
        "right": right,
        "width": BAR_WIDTH,
        "height": BAR_HEIGHT,
    }


def printed_of(steps: Mapping[str, Any] | None) -> dict[str, float]:
    """Return what the waterfall prints of each step, by its name."""
    return {bar["name"]: bar["points"] for bar in steps["bars"]} if steps else {}


def groups(
    reasons: Sequence[Mapping[str, Any]], steps: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return reasons as the page lists them: each theme with the points its step prints.

    The printed points of the facts, and of what else the theme holds (`rest`), add up to them: each
    number is rounded once.
    """
    printed = printed_of(steps)
    found = []
    for reason in reasons:
        name = capital(THEMES.get(reason["theme"], ""))
        total = printed.get(name, round(100.0 * reason["points"], 1))
        exact = [100.0 * fact["points"] for fact in reason["facts"]]
        *facts, rest = rounded_to_sum([*exact, 100.0 * reason["points"] - sum(exact)], total)
        told = [
            {**fact, "printed": points} for fact, points in zip(reason["facts"], facts, strict=True)
        ]
        found.append({**reason, "printed": total, "facts": told, "rest": rest})
    return found


def _rest(change: Mapping[str, Any] | None) -> float:
    """Return what the printed parts of a change leave of its printed difference."""
    if not change or not change.get("parts"):
        return 0.0
    ends = [round(100.0 * change[end]["probability"], 1) for end in ("after", "before")]
    return round(ends[0] - ends[1] - sum(part["printed"] for part in change["parts"]), 1)


def axis_end(values: Sequence[float]) -> int:
    """Return the round right end of an axis from 0 that holds all values and some air.

    >>> axis_end([10.3, 31.2, 28.0]), axis_end([0.4, 2.1]), axis_end([99.0])
    (35, 5, 100)
    """
    return min(100, (int(max(values) // 5) + 1) * 5)
