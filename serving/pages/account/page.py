"""Account page: estimate, waterfall of its parts, and the facts behind the reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

from fastapi import Depends, Request
from starlette.responses import Response

from features.tables.catalog import THEMES
from serving.auth.permissions import SCORE, RequiredRole, caller_of
from serving.http.problems import ProblemError
from serving.http.score_text import UNKNOWN, VERDICT_WORDS, rounded_to_sum
from serving.online.current_state import Live
from serving.online.score_request import ScoredBatch
from serving.online.server_state import ServerState
from serving.pages.account.call_sheet import MARK_WORDS, family_of, sheet
from serving.pages.common import (
    PageRouter,
    as_csv,
    common,
    csv_of,
    shows_people,
    visible_book,
    visible_owners,
)
from serving.pages.context import Context, Reader
from serving.pages.templating import page
from serving.scoring.answer import Answer, Score
from serving.scoring.export_rows import first_per_outcome
from training.model.reason_text import capitalize
from training.model.reasons import Fact, Reason

SMALL_POINTS = 0.0005
"""Themes with a smaller effect are summed in one step."""

MISSING = "Missing values"
"""Step of the effect of missing values."""

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
"""Columns of the CSV version; see `lines`."""


Answered = Callable[[ServerState, str, Request], Awaitable[ScoredBatch]]


class Bar(TypedDict):
    """One step of the waterfall."""

    name: str
    points: float
    x: float
    width: float
    end: float
    kind: str


class Edge(TypedDict):
    """Start or end of the waterfall."""

    points: float
    end: float


class Waterfall(TypedDict):
    """Steps from the base to the estimate, in points of probability from 0 to 100."""

    base: Edge
    bars: list[Bar]
    total: Edge
    right: int
    width: int
    height: int


class ShownFact(Fact):
    """Fact with its displayed points."""

    printed: float


class ShownReason(TypedDict):
    """Reason with displayed points that add up."""

    code: str
    theme: str
    direction: str
    points: float
    text: str
    facts: list[ShownFact]
    printed: float
    rest: float


def account_router(answered: Answered) -> PageRouter:
    """Return the routes of the account page.

    Parameters
    ----------
    answered : callable
        Scores an account and waits for the ledger.
    """
    router = PageRouter(dependencies=[Depends(RequiredRole(SCORE))])

    async def scored_account(account_id: str, request: Request, live: Live) -> ScoredBatch:
        scored = await answered(live, account_id[:200], request)
        if scored.answers[0]["status"] == UNKNOWN:
            raise ProblemError("unknown-account", f"There is no account “{account_id[:200]}”.")
        return scored

    @router.get("/accounts/{account_id:path}/facts.csv")
    async def facts_csv(account_id: str, request: Request, live: Live) -> Response:
        """Return the parts of the estimates of an account as CSV."""
        answer = (await scored_account(account_id, request, live)).answers[0]
        return as_csv("account", csv_of(COLUMNS, lines(answer)))

    @router.page("/accounts/{account_id:path}")
    async def account_page(
        account_id: str, request: Request, live: Live, context: Context
    ) -> Response:
        """Return the page of an account; the scores it shows are in the ledger."""
        scored = await scored_account(account_id, request, live)
        answer, loop = scored.answers[0], asyncio.get_running_loop()
        changes = await loop.run_in_executor(live.singles, live.changes, scored.rows)
        reader = Reader(
            caller_of(request).name,
            sees_all=visible_owners(live, request) is None,
            sees_people=shows_people(live, request),
        )
        work = partial(context.account_context, answer, live, reader)
        aside = await loop.run_in_executor(live.singles, work)
        shown, base = view(answer, changes), common(live, "")
        seen = visible_book(live, request).table if live.book else None
        family = () if seen is None else family_of(seen, answer["account_id"], _parent(answer))
        call = sheet(
            answer, shown["risk"], aside["case"], aside["call"], family,
            currency=base["currency"], today=live.clock().date(),
        )  # fmt: skip
        return page("account.html", **base, **shown, around=aside, call=call, mark_words=MARK_WORDS)

    return router


def _parent(answer: Answer) -> str | None:
    return answer.get("parent_account_id")


def view(answer: Answer, changes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the template values of an account.

    Parameters
    ----------
    answer : Answer
        Answer of the scorer.
    changes : sequence of mapping
        Changes since the previous scores (`serving.ledger.score_changes.change_of`).
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
        "unknown_points": printed_points(steps).get(MISSING, 0.0),
        "rest_of_change": _rest(_changed(changes, risk)),
        "verdict_words": VERDICT_WORDS,
    }


def lines(answer: Answer) -> Iterator[dict[str, Any]]:
    """Return the parts of the estimates of an account as flat rows for CSV.

    One row per ``step`` from the ``base`` to the ``estimate``, whose ``points`` (0 to 100) add up,
    and one per ``fact`` with its value, the account's own past and that of similar accounts.
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


def _changed(changes: Sequence[Mapping[str, Any]], risk: Score | None) -> Mapping[str, Any] | None:
    """Return the change of the risk if there was an earlier score, of any question."""
    of_risk = [item for item in changes if risk and item["target"] == risk["target"]]
    return of_risk[0] if of_risk and of_risk[0]["is_comparable"] is not None else None


def steps_of(part: Score) -> list[tuple[str, float]]:
    """Return the steps from the base to the estimate: themes, circumstances, missing values."""
    themes = {capitalize(THEMES[theme]): points for theme, points in part["themes"].items()}
    shown = {name: points for name, points in themes.items() if abs(points) >= SMALL_POINTS}
    steps = sorted(shown.items(), key=lambda item: (-abs(item[1]), item[0]))
    rest = sum(points for name, points in themes.items() if name not in shown)
    if len(shown) < len(themes):
        steps.append(("Everything else", rest))
    aside = [("Context (cannot be changed)", part["context"]), (MISSING, part["unknown"])]
    return [*steps, *(step for step in aside if step[1])]


def waterfall(part: Score) -> Waterfall:
    """Return the steps from the base to the estimate with their bars, in percentage points.

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
    bars: list[Bar] = [
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
        if points  # steps that round to zero are not shown
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


def printed_points(steps: Waterfall | None) -> dict[str, float]:
    """Return the displayed points of each step of the waterfall, by name."""
    return {bar["name"]: bar["points"] for bar in steps["bars"]} if steps else {}


def groups(reasons: Sequence[Reason], steps: Waterfall | None) -> list[ShownReason]:
    """Return reasons as the page lists them, each with the points of its step in the waterfall.

    The displayed points of the facts and of the rest of the theme (`rest`) add up to them; each
    number is rounded once.
    """
    printed = printed_points(steps)
    found: list[ShownReason] = []
    for reason in reasons:
        name = capitalize(THEMES.get(reason["theme"], ""))
        total = printed.get(name, round(100.0 * reason["points"], 1))
        exact = [100.0 * fact["points"] for fact in reason["facts"]]
        *facts, rest = rounded_to_sum([*exact, 100.0 * reason["points"] - sum(exact)], total)
        shown: list[ShownFact] = [
            {**fact, "printed": points} for fact, points in zip(reason["facts"], facts, strict=True)
        ]
        found.append({**reason, "printed": total, "facts": shown, "rest": rest})
    return found


def _rest(change: Mapping[str, Any] | None) -> float:
    """Return the displayed difference of a change minus its displayed parts."""
    if not change or not change.get("parts"):
        return 0.0
    ends = [round(100.0 * change[end]["probability"], 1) for end in ("after", "before")]
    return round(ends[0] - ends[1] - sum(part["printed"] for part in change["parts"]), 1)


def axis_end(values: Sequence[float]) -> int:
    """Return the round right end of an axis from 0 that contains all values with a margin.

    >>> axis_end([10.3, 31.2, 28.0]), axis_end([0.4, 2.1]), axis_end([99.0])
    (35, 5, 100)
    """
    return min(100, (int(max(values) // 5) + 1) * 5)
