"""One account: the headline in its own terms, the waterfall, the facts behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from features.catalog import THEMES
from serving.exports import first_per_outcome
from serving.phrases import VERDICT_WORDS
from training.words import capital

SMALL_POINTS = 0.0005
"""Themes that move the estimate less are added up in one step."""

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
        Of `serving.scoring.Scorer.score`.
    changes : sequence of mapping
        What changed since the scores shown before (`serving.changes.change_of`).
    """
    firsts = first_per_outcome(answer)
    risk = firsts.get("churn") or firsts.get("contraction")
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
        "steps": waterfall(risk) if risk and risk["themes"] else None,
        "upsell_steps": steps_of(firsts["expansion"]) if "expansion" in firsts else [],
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
    aside = [("Circumstances nobody acts on", part["context"]), ("Not known", part["unknown"])]
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


def axis_end(values: Sequence[float]) -> int:
    """Return the round right end of an axis from 0 that holds all values and some air.

    >>> axis_end([10.3, 31.2, 28.0]), axis_end([0.4, 2.1]), axis_end([99.0])
    (35, 5, 100)
    """
    return min(100, (int(max(values) // 5) + 1) * 5)


def rounded_to_sum(values: Sequence[float], total: float, digits: int = 1) -> list[float]:
    """Round values so that they add up to `total`: the largest remainders are rounded up.

    Examples
    --------
    >>> rounded_to_sum([10.34, 5.36, 4.3], 20.0)
    [10.3, 5.4, 4.3]
    >>> round(sum(rounded_to_sum([1 / 3, 1 / 3, 1 / 3], 1.0)), 9)
    1.0
    """
    unit = 10**digits
    floors = [int(value * unit // 1) for value in values]
    missing = round(total * unit) - sum(floors)
    order = sorted(range(len(values)), key=lambda i: -(values[i] * unit - floors[i]))
    for i in order[: max(missing, 0)]:
        floors[i] += 1
    return [floor / unit for floor in floors]
