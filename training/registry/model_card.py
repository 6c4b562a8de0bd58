"""The model card: what a model was made from, what it promises and where it ends, as Markdown.

Everything is read from the bundle's manifest and the evaluation; a part that is absent is left
out, or said to be unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from features.revenue.growth_kinds import KINDS
from training.evaluation.metrics import AUC_POOLED, AUC_WITHIN

VERDICTS = {
    "promotable": "Every gate was met.",
    "provisional": "A gate was not met: every score shows that it is provisional.",
    "no_signal": "No signal was found: the base rate is served, without reasons.",
}
MEASURES = {
    "auc": AUC_WITHIN,
    "auc_pooled": AUC_POOLED,
    "average_precision": "average precision",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "brier_skill": "Brier skill",
    "observed_to_expected": "observed / expected events",
    "calibration_slope": "calibration slope",
    "lift_at_capacity": "lift at capacity",
    "capture_at_capacity": "events caught at capacity",
    "arr_capture_at_capacity": "lost ARR caught at capacity",
}
_FIRST = (
    "outcome",
    "observed_in",
    "horizon_days",
    "lead_time_days",
    "model",
    "champion",
    "constant",
    "calendar",
    "rules",
    "best_feature",
    "health_score",
    "logistic",
)
"""Keys in the order in which people read them; others follow by name."""

_COMPARED = ("auc", "average_precision", "log_loss", "capture_at_capacity")
_EARLY = ("auc", "lift_at_capacity", "capture_at_capacity", "arr_capture_at_capacity")
_SLICED = ("auc", "lift_at_capacity", "capture_at_capacity", "brier_skill", "observed_to_expected")
_PERIOD = ("auc", "lift_at_capacity", "observed_to_expected")
_QUARTILES = {
    "first_quartile_days": "days, first quartile",
    "median_days": "median",
    "third_quartile_days": "third quartile",
}
UNKNOWN = "–"

FIGURES = "figures"
"""Folder of the pictures, beside the card."""


def model_card(
    target: str,
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]],
) -> str:
    """Return the model card.

    Parameters
    ----------
    target : str
        Name of the target.
    manifest : mapping
        Of the bundle.
    evaluation : mapping
        `training.evaluation.evaluate.Evaluation.as_dict`; estimates are {value, low, high}, 95 %.
    gates : sequence of mapping
        code, title, value, threshold, passed, words.

    Returns
    -------
    str
        Markdown. Keys that are absent shorten it.

    Examples
    --------
    >>> print(model_card("churn", {"verdict": "promotable"}, {}, []).splitlines()[2])
    Verdict: **promotable**. Every gate was met.
    """
    parts = (
        _opening(target, manifest),
        _section("What is predicted", _table(_pairs(manifest.get("label_contract")))),
        _section("Data", _table(_data(manifest, evaluation))),
        _section("Model", _table(_model(manifest, evaluation))),
        _section("Evidence", _evidence(manifest)),
        _section("How good it is", _measures(evaluation, manifest)),
        _section("When the accounts are dealt into folds anew", _repeats(evaluation)),
        _section("Beside the baselines", _baselines(evaluation)),
        _section("Beside the published model", _since(evaluation)),
        _section("By segment, contract and newness", _slices(evaluation)),
        _section("How far ahead", _lead_times(evaluation)),
        _section("Alerts", _alerts(evaluation)),
        _section("By test period", _folds(evaluation)),
        _section("Before the decision", _aligned(manifest)),
        _section("What kind of growth, and how much", _growth(manifest)),
        _section("Gates", _gates(gates)),
        _section("Checks", _checks(manifest)),
        _section("Limits", _limits(manifest, evaluation, gates)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(target: str, manifest: Mapping[str, Any]) -> str:
    verdict = str(manifest.get("verdict", "unknown"))
    return f"# {_cell(target)}\n\nVerdict: **{verdict}**. {VERDICTS.get(verdict, '')}".rstrip()


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _picture(name: str, words: str) -> str:
    return f"![{words}]({FIGURES}/{name}.svg)"


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ("", "")) -> str:
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    rule = "|" + "|".join(" --- " for _ in head) + "|"
    return "\n".join(["| " + " | ".join(head) + " |", rule, *lines])


def _cell(value: Any, digits: int = 3) -> str:
    r"""Return a value as it may stand in a table.

    >>> _cell("a|b"), _cell(None), _cell(1234.5678), _cell(12345), _cell(0.0123456)
    ('a\\|b', '–', '1,235', '12,345', '0.012')
    """
    if value is None or value != value:  # NaN
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.{digits}f}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _pairs(mapping: Any) -> list[tuple[str, Any]]:
    if not isinstance(mapping, Mapping):
        return []
    return [(_words(name), mapping[name]) for name in _ordered(mapping)]


def _ordered(mapping: Mapping[str, Any]) -> list[str]:
    """Return keys in an order that does not depend on how the mapping was made or stored.

    >>> _ordered({"zeta": 1, "calendar": 2, "alpha": 3, "model": 4})
    ['model', 'calendar', 'alpha', 'zeta']
    """
    known = {name: place for place, name in enumerate(_FIRST)}
    return sorted(mapping, key=lambda name: (known.get(name, len(known)), name))


def _words(name: str) -> str:
    return MEASURES.get(name, name.replace("_", " "))


def _known(rows: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in rows if value is not None]


def _part(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = mapping.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(mapping: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = mapping.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _data(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rung = _part(manifest, "rung")
    return _known(
        [
            ("training rows, one per account and moment", manifest.get("n_rows")),
            ("accounts", manifest.get("n_entities")),
            ("distinct resolved events", rung.get("n_events")),
            ("first and last moment", _range(manifest, "trained_from", "trained_to")),
            ("labels known to", None if _is_undated(manifest) else manifest.get("labels_known_to")),
            ("base rate out of time", evaluation.get("base_rate", manifest.get("base_rate"))),
            ("training data", manifest.get("training_fingerprint")),
            ("configuration", manifest.get("config_hash")),
        ]
    )


def _is_undated(manifest: Mapping[str, Any]) -> bool:
    """Return whether it was made from a table that does not say which day it describes."""
    contract = _part(manifest, "label_contract")
    return bool(contract.get("is_static")) and contract.get("taken_on") is None


def _range(mapping: Mapping[str, Any], low: str, high: str) -> str | None:
    if low not in mapping or high not in mapping or _is_undated(mapping):
        return None
    return f"{mapping[low]} to {mapping[high]}"


def _model(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rung, calibration = _part(manifest, "rung"), _part(manifest, "calibration")
    features = manifest.get("features")
    return _known(
        [
            ("kind", manifest.get("kind")),
            ("rung of the ladder", rung.get("name")),
            ("why", rung.get("reason")),
            ("tuning", evaluation.get("tuning") or None),
            ("features", len(features) if isinstance(features, Sequence) else None),
            ("calibration", calibration.get("rule")),
            ("calibration slope applied", calibration.get("slope")),
            ("calibration intercept applied", calibration.get("intercept")),
        ]
    )


def _evidence(manifest: Mapping[str, Any]) -> str:
    """Say what there was to learn from, and when what is missing will be there."""
    found = _part(manifest, "outlook")
    if not found:
        return ""
    pace = " to ".join(_cell(found.get(name)) for name in ("low", "high"))
    rows = [
        ("answers known from and to", _range(found, "resolved_from", "resolved_to")),
        ("events a month (80 % interval)", f"{_cell(found.get('events_per_month'))} ({pace})"),
        ("events the test periods hold at that rate", found.get("tested_events")),
    ]
    due = [
        (
            item.get("what"),
            item.get("needed"),
            item.get("missing"),
            item.get("about_on"),
            item.get("early_on"),
            item.get("late_on") or "later",
        )
        for item in _list(found, "due")
    ]
    later = _table(due, ("needed for", "events", "missing", "about", "earliest", "latest"))
    words = str(manifest.get("evidence", ""))
    parts = [f"{words[:1].upper()}{words[1:]}." if words else "", _table(_known(rows)), later]
    return "\n\n".join(part for part in parts if part)


def _measures(evaluation: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    found = _part(_part(evaluation, "models"), "model") or _part(manifest, "metrics")
    rows = [(_words(name), _estimate(found[name])) for name in MEASURES if name in found]
    if not rows:
        return ""
    counts = [evaluation.get(name) for name in ("n_events", "n_rows", "n_entities")]
    about = ""
    if None not in counts:
        about = "{:,} events in {:,} rows of {:,} accounts, ".format(*counts)
    table = _table(rows, ("measure", "value (95 % interval)"))
    tested = "Out of time" if evaluation.get("over") != "accounts" else "Out of fold, not of time"
    drawn = _picture("reliability", "observed against predicted rates")
    shown = [table, drawn] if _list(evaluation, "reliability") else [table]
    return "\n\n".join([f"{tested}, {about}each account counted once per test period.", *shown])


def _repeats(evaluation: Mapping[str, Any]) -> str:
    """Return what dealing the accounts into folds anew does to the measures."""
    found = _part(evaluation, "repeats")
    rows = [
        (_words(name), item.get("mean"), item.get("deviation"), len(item.get("values", ())))
        for name, item in found.items()
    ]
    return _table(rows, ("measure", "mean", "standard deviation over repeats", "repeats"))


def _estimate(value: Any, digits: int = 3) -> str:
    """Return an estimate with its interval, or a bare number.

    >>> _estimate({"value": 0.71, "low": 0.65, "high": 0.77}), _estimate(0.5), _estimate({})
    ('0.710 (0.650 to 0.770)', '0.500', '–')
    """
    if not isinstance(value, Mapping):
        return _cell(value, digits)
    middle, low, high = (_cell(value.get(name), digits) for name in ("value", "low", "high"))
    return middle if UNKNOWN in (low, high) else f"{middle} ({low} to {high})"


def _baselines(evaluation: Mapping[str, Any]) -> str:
    models, differences = _part(evaluation, "models"), _part(evaluation, "differences")
    shown = [name for name in _ordered(models) if name != "model_raw"]
    head = ("", *(_words(name) for name in _COMPARED))
    rows = [(_words(name), *(_estimate(models[name].get(m)) for m in _COMPARED)) for name in shown]
    if len(rows) < 2:
        return ""
    gains = [
        (f"model − {_words(name)}", *(_estimate(differences[name].get(m)) for m in _COMPARED))
        for name in _ordered(differences)
    ]
    parts = [_table(rows, head), _table(gains, head)]
    return "\n\nDifferences on the same draws:\n\n".join(part for part in parts if part)


def _since(evaluation: Mapping[str, Any]) -> str:
    """Say how the challenger does beside the published model where neither knew the answers."""
    found = _part(evaluation, "champion_since")
    if not found:
        return ""
    since = str(found.get("since"))[:10]
    words = (
        f"On {_cell(found.get('n'))} accounts and {_cell(found.get('n_events'))} events from "
        f"{since} on, after the published model's own cut-off"
    )
    difference = _part(found, "difference")
    if not difference:
        return f"{words}: too few events to compare."
    rows = [(_words(name), _estimate(difference[name])) for name in _COMPARED if name in difference]
    return f"{words}:\n\n{_table(rows, ('measure', 'challenger − published'))}"


def _lead_times(evaluation: Mapping[str, Any]) -> str:
    """Return what the model is worth at each lead time, per moment it is counted from."""
    items = _list(evaluation, "lead_times")
    return "\n\n".join(
        _lead_table(counted_from, [item for item in items if item["counted_from"] == counted_from])
        for counted_from in dict.fromkeys(item["counted_from"] for item in items)
    )


def _lead_table(counted_from: str, items: Sequence[Mapping[str, Any]]) -> str:
    within = items[0]["within_days"]
    rows = [
        (
            item["days"],
            item["n"],
            item["events"],
            *(_estimate(_part(item, "measures").get(name)) for name in _EARLY),
            _estimate(_part(item, "auc").get("calendar")),
        )
        for item in items
    ]
    head = (
        "days ahead",
        "rows",
        "events",
        *(_words(name) for name in _EARLY),
        f"calendar's {AUC_WITHIN}",
    )
    about = (
        f"Counted from the {counted_from}: the row scored nearest, within {_cell(within, 1)} days"
    )
    who = {
        "notice deadline": "each account under contract once per deadline",
        "decision": "events against all who stayed in the same test period",
    }
    return f"{about}; {who.get(counted_from, '')}.\n\n{_table(rows, head)}"


def _alerts(evaluation: Mapping[str, Any]) -> str:
    """Return how early accounts came up on the team's list, and how much work it is."""
    parts = [_first_alerts(_part(evaluation, "first_alerts")), _workload(evaluation)]
    return "\n\n".join(part for part in parts if part)


def _first_alerts(found: Mapping[str, Any]) -> str:
    if not found.get("events"):
        return ""
    rows = [
        (
            _words(name),
            item.get("share"),
            *(_estimate(item.get(key), digits=0) for key in _QUARTILES),
            *(_estimate(share) for share in _part(item, "warned").values()),
        )
        for name, item in ((name, found["models"][name]) for name in _ordered(found["models"]))
    ]
    least = list(_part(found["models"]["model"], "warned"))
    head = ("", "listed", *_QUARTILES.values(), *(f"{days} days ahead or more" for days in least))
    return (
        f"Days from an account's first place on the team's list to the decision, "
        f"{found['events']:,} dated events; the data reach back "
        f"{_cell(found.get('longest_days'), 0)} days. Shares are of all events.\n\n"
        f"{_table(rows, head)}"
    )


def _workload(evaluation: Mapping[str, Any]) -> str:
    """Say how many alerts a month brings, to the team and to each CSM."""
    found = _part(evaluation, "workload")
    if not found:
        return ""
    words = (
        f"At its capacity the team gets {found['per_month']:.1f} alerts a month "
        f"({found['alerts']:,} in {found['months']:.0f} months); the event followed "
        f"{_estimate(found['precision'])} of them."
    )
    each = _part(found, "per_csm_month")
    if not each:
        return f"{words} No owner of accounts is known, so nothing is said per CSM."
    return (
        f"{words} Over {found['csms']} CSMs, as accounts are owned today, that is "
        f"{each['mean']:.1f} a month each; nine months in ten bring at most {each['busy']:.0f}, "
        f"the busiest brought {each['most']}."
    )


def _slices(evaluation: Mapping[str, Any]) -> str:
    """Return the measures by segment and contract, and for accounts that are new."""
    rows = [
        (
            item.get("slice"),
            item.get("n"),
            item.get("events"),
            *(_estimate(item[name]) if name in item else "too few" for name in _SLICED),
        )
        for part in ("segments", "contracts", "newcomers")
        for item in _list(evaluation, part)
    ]
    return _table(rows, ("", "rows", "events", *(_words(name) for name in _SLICED)))


def _folds(evaluation: Mapping[str, Any]) -> str:
    """Return every test period, and what they say of each other."""
    names = ("fold", "cutoff", "test_until", "n_train_events", "n_headline_events")
    periods = {item.get("fold"): item for item in _list(evaluation, "periods")}
    rows = []
    for item in _list(evaluation, "folds"):
        period = periods.get(item.get("fold"), {})
        rows.append(
            (
                *(_day(item.get(name)) for name in names),
                period.get("rate"),
                period.get("mean_p"),
                *(_estimate(period.get(name, item.get(name))) for name in _PERIOD),
            )
        )
    head = (
        "fold", "cut-off", "tested until", "events before", "events tested", "observed",
        "predicted", *(_words(name) for name in _PERIOD),
    )  # fmt: skip
    words = str(_part(evaluation, "stability").get("words", ""))
    said = f"{words[:1].upper()}{words[1:]}." if words else ""
    drawn = _picture("folds", "what each fold was trained and tested on, along time")
    return "\n\n".join(part for part in (_table(rows, head), said, drawn if rows else "") if part)


def _aligned(manifest: Mapping[str, Any]) -> str:
    """Return how features of those with the event came apart from the others before it."""
    found = _part(manifest, "aligned")
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for item in _list(found, "rows"):
        lines.setdefault(item["feature"], []).append(item)
    if not lines:
        return ""
    rows = [(name, *(_gap(item) for item in steps)) for name, steps in lines.items()]
    starts = [item["from_days"] for item in next(iter(lines.values()))]
    head = ("", *(f"{start} to {start - found['step_days']} days" for start in starts))
    words = (
        f"{_cell(found['n_events'])} decisions, aligned on their day: the mean of each feature "
        "before it, less that of accounts without the event at the same moments, in their standard "
        f"deviations (± 95 %). Of {_cell(found['n_features'])} features the {len(rows)} that end "
        "furthest apart. What moves months ahead can warn; what is level and then jumps with the "
        "decision was written by it (BW-L10)."
    )
    drawn = _picture("aligned", "the same, drawn along the days before the decision")
    return f"{words}\n\n{_table(rows, head)}\n\n{drawn}"


def _gap(item: Mapping[str, Any]) -> str:
    """Return a gap with its interval.

    >>> _gap({"gap": -0.5, "error": 0.1})
    '-0.50 ± 0.20'
    """
    return f"{item['gap']:+.2f} ± {1.96 * item['error']:.2f}"


def _day(value: Any) -> Any:
    """Return the day of an instant; anything else as it is.

    >>> _day("2025-04-01T00:00:00+00:00"), _day(3)
    ('2025-04-01', 3)
    """
    is_instant = isinstance(value, str) and value[10:11] == "T"
    return value[:10] if is_instant else value


def _growth(manifest: Mapping[str, Any]) -> str:
    """Return the backtest of kinds and amounts of growth."""
    found = _part(manifest, "growth")
    if not found:
        return ""
    kinds = _part(found, "kinds")
    rows = []
    for kind in (name for name in KINDS if name in kinds):
        item, tested = kinds[kind], _part(kinds[kind], "backtest")
        uplift = _part(item, "uplift")
        ends = " to ".join(_cell(uplift.get(name)) for name in ("p10", "p90"))
        rows.append(
            (
                kind,
                item.get("basis"),
                item.get("n_events"),
                f"{_cell(tested.get('events'))} / {_cell(tested.get('expected'))}",
                tested.get("observed_to_expected"),
                tested.get("auc"),
                f"{_cell(tested.get('brier'))} / {_cell(tested.get('brier_flat'))}",
                f"{_cell(uplift.get('p50'))} ({ends})",
                f"{_cell(tested.get('n_inside'))} of {_cell(tested.get('n_amounts'))}",
            )
        )
    head = (
        "kind",
        "served",
        "past growths",
        "tested: happened / expected",
        "O/E",
        AUC_WITHIN,
        "Brier / with one share for all",
        "added to revenue: median (P10 to P90)",
        "tested within P10 to P90",
    )
    words = str(found.get("words", ""))
    return "\n\n".join(
        part for part in (f"{words[:1].upper()}{words[1:]}.", _table(rows, head)) if part
    )


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            "met" if gate.get("passed") else "NOT MET",
            gate.get("title", gate.get("code")),
            gate.get("threshold"),
            gate.get("words", gate.get("value")),
        )
        for gate in gates
    ]
    if not rows:
        return ""
    table = _table(rows, ("", "gate", "required", "found"))
    return f"{table}\n\nA gate goes by the value found, or by the limit that it names."


def _checks(manifest: Mapping[str, Any]) -> str:
    rows = [
        (
            "ISSUE" if item.get("outcome") == "issue" else item.get("outcome"),
            item.get("code"),
            item.get("title"),
            item.get("words"),
        )
        for item in _list(manifest, "checks")
    ]
    return _table(rows, ("", "code", "check", "found"))


def _limits(
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]],
) -> str:
    notes = evaluation.get("notes") or []
    lines = [str(note) for note in notes]
    lines += [
        f"Not met: {gate.get('title', gate.get('code'))}."
        for gate in gates
        if not gate.get("passed")
    ]
    if evaluation.get("over") == "accounts":
        lines.append("Tested on other accounts, not on a later period: the future was not tested.")
    if "labels_known_to" in manifest and not _is_undated(manifest):
        lines.append(f"What changed after {manifest['labels_known_to']} is not in it.")
    lines.append(
        "Scores are chances, not verdicts; reasons are associated with the outcome, not its causes."
    )
    lines.append("Accounts that were saved by a play look like wrong alarms here.")
    return "\n".join(f"- {line}" for line in lines)
