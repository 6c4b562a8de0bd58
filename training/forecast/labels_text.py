"""The forecast as lines of text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from configs.runtime.formatting import money, percent, signed
from training.forecast.charts import band_text

Plain = Mapping[str, Any]


def forecast_lines(content: Plain) -> Iterator[str]:
    """Yield a company's forecast in words and aligned numbers."""
    yield from content["words"]
    if content["kind"] == "spend":
        yield from _spend(content)
    if content["kind"] == "recurring":
        yield from _recurring(content)
    if "backtest" in content:
        yield from _past(content)


def _spend(content: Plain) -> Iterator[str]:
    currency, usual = content["currency"], content["usual_spend"]
    yield ""
    yield f"Usual spend of {content['horizon_days']} days: {money(usual, currency)}, of which"
    yield f"  {band_text(content['share'])} belongs to accounts that stay active (P50, P10 to P90)"


def _recurring(content: Plain) -> Iterator[str]:
    currency = content["currency"]
    yield ""
    yield f"ARR on {content['as_of']}: {money(content['arr'], currency)}"
    for period in content["periods"]:
        yield ""
        yield f"{period['name']}  (P50 [P10, P90])"
        for measure in ("grr", "nrr"):
            if period[measure] is not None:
                so_far = period["to_date"]
                told = f"   to date {percent(so_far[measure], 1)}" if so_far else ""
                yield f"  {measure.upper()}  {band_text(period[measure])}{told}"
        lost = period["lost"]
        yield (
            f"  ARR lost {money(lost['p50'], currency)} [{money(lost['p10'])}, "
            f"{money(lost['p90'])}], of which {money(period['known_lost'])} is known"
        )
        for group in period["groups"]:
            if group["grr"] is not None:
                yield f"    {group['kind']:8} {group['name'][:28]:28} {band_text(group['grr'])}"
    yield ""
    yield "Renewals due"
    for due in content["renewals"]:
        yield "  " + _due(due, currency)
    top = content["concentration"]
    yield f"The ten largest accounts hold {percent(top['share'])} of the ARR."


def _due(due: Plain, currency: str) -> str:
    lost = due["expected_lost"]
    told = "not forecast: further ahead than the model was tested"
    if lost is not None:
        told = f"expected ARR lost {money(lost, currency)}"
    return (
        f"{due['quarter']}: {due['accounts']} with {money(due['arr'], currency)}; open "
        f"{money(due['open_arr'])}, ARR in at-risk accounts {money(due['at_risk_arr'])}; {told}"
    )


def _past(content: Plain) -> Iterator[str]:
    past = content["backtest"]["summary"]
    yield ""
    yield f"Backtest over {past['quarters']} past quarters. " + " ".join(past["words"])
    for measure in ("grr", "nrr", "share"):
        if measure in past:
            found = past[measure]
            rival = found["crps_last_year"]
            beside = f", last year's {rival:.4f}" if rival is not None else ""
            yield (
                f"  {measure.upper()}: {found['covered']} of {past['quarters']} within P10 to P90, "
                f"bias {signed(100 * found['bias'], 1)} points, CRPS {found['crps']:.4f}{beside}"
            )
    commit = past["commit"]
    if commit:
        currency = content["currency"]
        yield (
            f"  Renewals with a commit: CSMs expected {money(commit['commit_lost'], currency)} "
            f"lost, the model {money(commit['model_lost'])}, lost were "
            f"{money(commit['actual_lost'])}"
        )
