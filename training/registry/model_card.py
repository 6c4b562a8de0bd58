"""Model card: training data, performance, gates, checks and limits of a model, as Markdown.

All content is read from the bundle's manifest and the evaluation. Absent parts are left out or
shown as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from features.revenue.growth_kinds import KINDS
from training.evaluation.metrics import AUC_POOLED, AUC_WITHIN
from training.evaluation.parts import (
    EvaluationJson,
    FirstAlertsJson,
    FoldJson,
    LeadTimeJson,
    ListedJson,
    PeriodJson,
    WorkloadJson,
)
from training.model.manifest import ModelManifest
from training.model.manifest_parts import EventStudyRow, GrowthKind

VERDICTS = {
    "promotable": "Every gate was met.",
    "provisional": "A gate was not met: every score is marked as provisional.",
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
    "capture_at_capacity": "events captured at capacity",
    "arr_capture_at_capacity": "lost ARR captured at capacity",
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
"""Keys shown first, in this order; others follow by name."""

_COMPARED = ("auc", "average_precision", "log_loss", "capture_at_capacity")
_EARLY = ("auc", "lift_at_capacity", "capture_at_capacity", "arr_capture_at_capacity")
SliceMeasure = Literal[
    "auc", "lift_at_capacity", "capture_at_capacity", "brier_skill", "observed_to_expected"
]
_SLICED: tuple[SliceMeasure, ...] = (
    "auc",
    "lift_at_capacity",
    "capture_at_capacity",
    "brier_skill",
    "observed_to_expected",
)
PeriodMeasure = Literal["auc", "lift_at_capacity", "observed_to_expected"]
_PERIOD: tuple[PeriodMeasure, ...] = ("auc", "lift_at_capacity", "observed_to_expected")
_FOLD = ("fold", "cutoff", "test_until", "n_train_events", "n_headline_events")
_QUARTILES = ("days, first quartile", "median", "third quartile")
UNKNOWN = "–"

FIGURES = "figures"
"""Folder of the figures, next to the card."""


def model_card(
    target: str,
    manifest: ModelManifest,
    evaluation: EvaluationJson,
) -> str:
    """Return the model card as Markdown.

    Parameters
    ----------
    target : str
        Name of the target.
    manifest : ModelManifest
        Manifest of the bundle.
    evaluation : dict
        `training.evaluation.evaluate.Evaluation.as_dict`; estimates are {value, low, high}, 95 %.

    Examples
    --------
    >>> print(model_card("churn", ModelManifest(verdict="promotable"), {}).splitlines()[2])
    Verdict: **promotable**. Every gate was met.
    """
    parts = (
        _opening(target, manifest),
        _section("Label", _table(_pairs(manifest.label_contract))),
        _section("Data", _table(_data(manifest, evaluation))),
        _section("Model", _table(_model(manifest, evaluation))),
        _section("Evidence", _evidence(manifest)),
        _section("Performance", _measures(evaluation, manifest)),
        _section("Repeated assignment of accounts to folds", _repeats(evaluation)),
        _section("Comparison with baselines", _baselines(evaluation)),
        _section("Comparison with the published model", _since(evaluation)),
        _section("By segment, contract and new accounts", _slices(evaluation)),
        _section("Lead time", _lead_times(evaluation)),
        _section("Alerts", _alerts(evaluation)),
        _section("By test period", _folds(evaluation)),
        _section("Before the decision", _event_study(manifest)),
        _section("Kinds and amounts of growth", _growth(manifest)),
        _section("Gates", _gates(manifest)),
        _section("Checks", _checks(manifest)),
        _section("Limits", _limits(manifest, evaluation)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(target: str, manifest: ModelManifest) -> str:
    verdict = manifest.verdict or "unknown"
    return f"# {_cell(target)}\n\nVerdict: **{verdict}**. {VERDICTS.get(verdict, '')}".rstrip()


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _picture(name: str, words: str) -> str:
    return f"![{words}]({FIGURES}/{name}.svg)"


def _table(rows: Iterable[Sequence[object]], head: Sequence[str] = ("", "")) -> str:
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    rule = "|" + "|".join(" --- " for _ in head) + "|"
    return "\n".join(["| " + " | ".join(head) + " |", rule, *lines])


def _cell(value: object, digits: int = 3) -> str:
    r"""Return a value as the text of a table cell.

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


def _pairs(mapping: Mapping[str, object]) -> list[tuple[str, object]]:
    return [(_words(name), mapping[name]) for name in _ordered(mapping)]


def _ordered(mapping: Mapping[str, object]) -> list[str]:
    """Return keys in an order that is independent of the mapping's own.

    >>> _ordered({"zeta": 1, "calendar": 2, "alpha": 3, "model": 4})
    ['model', 'calendar', 'alpha', 'zeta']
    """
    known = {name: place for place, name in enumerate(_FIRST)}
    return sorted(mapping, key=lambda name: (known.get(name, len(known)), name))


def _words(name: str) -> str:
    return MEASURES.get(name, name.replace("_", " "))


def _known(rows: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in rows if value is not None]


def _data(manifest: ModelManifest, evaluation: EvaluationJson) -> list[tuple[str, object]]:
    labels_known_to = "" if _is_undated(manifest) else manifest.labels_known_to
    return _known(
        [
            ("training rows, one per account and as_of", manifest.n_rows),
            ("accounts", manifest.n_entities),
            ("distinct resolved events", manifest.tier.n_events if manifest.tier else None),
            ("first and last as_of", _as_of_range(manifest)),
            ("labels known to", labels_known_to or None),
            ("base rate out of time", evaluation.get("base_rate", manifest.base_rate)),
            ("training data", manifest.training_fingerprint or None),
            ("configuration", manifest.config_hash or None),
        ]
    )


def _is_undated(manifest: ModelManifest) -> bool:
    """Return whether the training rows are a ready-made table without a date."""
    contract = manifest.label_contract
    return bool(contract.get("is_static")) and contract.get("taken_on") is None


def _as_of_range(manifest: ModelManifest) -> str | None:
    if not (manifest.trained_from and manifest.trained_to) or _is_undated(manifest):
        return None
    return f"{manifest.trained_from} to {manifest.trained_to}"


def _model(manifest: ModelManifest, evaluation: EvaluationJson) -> list[tuple[str, object]]:
    tier, calibration = manifest.tier, manifest.calibration
    is_calibrated = "calibration" in manifest.model_fields_set
    return _known(
        [
            ("kind", manifest.kind or None),
            ("model tier", tier.name if tier else None),
            ("reason", tier.reason if tier else None),
            ("tuning", evaluation.get("tuning") or None),
            ("features", len(manifest.features) or None),
            ("calibration", calibration.rule if is_calibrated else None),
            ("calibration slope applied", calibration.slope if is_calibrated else None),
            ("calibration intercept applied", calibration.intercept if is_calibrated else None),
        ]
    )


def _evidence(manifest: ModelManifest) -> str:
    """Return the number of events and the months by which missing ones are expected."""
    found = manifest.sufficiency
    if found is None:
        return ""
    rate = f"{_cell(found.events_per_month)} ({_cell(found.low)} to {_cell(found.high)})"
    rows: list[tuple[str, object]] = [
        ("labels known from and to", f"{found.resolved_from} to {found.resolved_to}"),
        ("events a month (80 % interval)", rate),
        ("events expected in the test periods", found.tested_events),
    ]
    due = [
        (
            item.what,
            item.needed,
            item.missing,
            item.about_on,
            item.early_on,
            item.late_on or "later",
        )
        for item in found.due
    ]
    later = _table(due, ("needed for", "events", "missing", "about", "earliest", "latest"))
    return _paragraphs(_sentence(manifest.evidence), _table(rows), later)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _measures(evaluation: EvaluationJson, manifest: ModelManifest) -> str:
    found = evaluation.get("models", {}).get("model") or manifest.metrics
    rows = [(_words(name), _estimate(found[name])) for name in MEASURES if name in found]
    if not rows:
        return ""
    counts = (
        evaluation.get("n_events"),
        evaluation.get("n_rows"),
        evaluation.get("n_entities"),
    )
    about = ""
    if None not in counts:
        about = "{:,} events in {:,} rows of {:,} accounts, ".format(*counts)
    table = _table(rows, ("measure", "value (95 % interval)"))
    over = evaluation.get("over")
    tested = "Out of time" if over != "accounts" else "Out of fold, but not out of time"
    figure = _picture("reliability", "observed against predicted rates")
    return _paragraphs(
        f"{tested}, {about}each account counted once per test period.",
        table,
        figure if evaluation.get("reliability") else "",
    )


def _repeats(evaluation: EvaluationJson) -> str:
    """Return the spread of measures over repeated assignments of accounts to folds."""
    rows = [
        (_words(name), item["mean"], item["deviation"], len(item["values"]))
        for name, item in evaluation.get("repeats", {}).items()
    ]
    return _table(rows, ("measure", "mean", "standard deviation over repeats", "repeats"))


def _estimate(value: object, digits: int = 3) -> str:
    """Return an estimate with its interval, or a bare number.

    >>> _estimate({"value": 0.71, "low": 0.65, "high": 0.77}), _estimate(0.5), _estimate({})
    ('0.710 (0.650 to 0.770)', '0.500', '–')
    """
    if not isinstance(value, Mapping):
        return _cell(value, digits)
    middle, low, high = (_cell(value.get(name), digits) for name in ("value", "low", "high"))
    return middle if UNKNOWN in (low, high) else f"{middle} ({low} to {high})"


def _baselines(evaluation: EvaluationJson) -> str:
    models, differences = evaluation.get("models", {}), evaluation.get("differences", {})
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


def _since(evaluation: EvaluationJson) -> str:
    """Return the comparison with the published model on cohorts after its cut-off."""
    found = evaluation.get("champion_since")
    if not found:
        return ""
    words = (
        f"On {_cell(found.get('n'))} accounts and {_cell(found.get('n_events'))} events from "
        f"{str(found.get('since'))[:10]} on, after the published model's own cut-off"
    )
    difference = found.get("difference")
    if not difference:
        return f"{words}: too few events to compare."
    rows = [(_words(name), _estimate(difference[name])) for name in _COMPARED if name in difference]
    return f"{words}:\n\n{_table(rows, ('measure', 'challenger − published'))}"


def _lead_times(evaluation: EvaluationJson) -> str:
    """Return the performance at each lead time, one table per date counted from."""
    items = evaluation.get("lead_times", [])
    return "\n\n".join(
        _lead_table(counted_from, [item for item in items if item["counted_from"] == counted_from])
        for counted_from in dict.fromkeys(item["counted_from"] for item in items)
    )


def _lead_table(counted_from: str, items: Sequence[LeadTimeJson]) -> str:
    within = items[0]["within_days"]
    rows = [
        (
            item["days"],
            item["n"],
            item["events"],
            *(_estimate(item.get("measures", {}).get(name)) for name in _EARLY),
            _estimate(item.get("auc", {}).get("calendar")),
        )
        for item in items
    ]
    head = (
        "days ahead",
        "rows",
        "events",
        *(_words(name) for name in _EARLY),
        f"{AUC_WITHIN} of the calendar",
    )
    about = (
        f"Counted back from the {counted_from}: the nearest scored row, within {_cell(within, 1)} "
        "days"
    )
    cohort = {
        "notice deadline": "each account under contract once per deadline",
        "decision": "events against all accounts that stayed in the same test period",
    }
    return f"{about}; {cohort.get(counted_from, '')}.\n\n{_table(rows, head)}"


def _alerts(evaluation: EvaluationJson) -> str:
    """Return how early accounts reached the team's list, and the workload."""
    return _paragraphs(
        _first_alerts(evaluation.get("first_alerts", {})), _workload(evaluation.get("workload", {}))
    )


def _first_alerts(found: FirstAlertsJson) -> str:
    if not found.get("events"):
        return ""
    models = found["models"]
    rows = [
        (
            _words(name),
            models[name]["share"],
            *(_estimate(value, digits=0) for value in _quartiles(models[name])),
            *(_estimate(share) for share in models[name].get("warned", {}).values()),
        )
        for name in _ordered(models)
    ]
    least = list(models["model"].get("warned", {}))
    head = ("", "listed", *_QUARTILES, *(f"{days} days ahead or more" for days in least))
    return (
        f"Days from an account's first place on the team's list to the decision, "
        f"{found['events']:,} dated events; the data reach back "
        f"{_cell(found.get('longest_days'), 0)} days. Shares are of all events.\n\n"
        f"{_table(rows, head)}"
    )


def _quartiles(item: ListedJson) -> tuple[object, ...]:
    return (
        item.get("first_quartile_days"),
        item.get("median_days"),
        item.get("third_quartile_days"),
    )


def _workload(found: WorkloadJson) -> str:
    """Return the alerts per month of the team and of each CSM."""
    if not found:
        return ""
    words = (
        f"At its capacity the team gets {found['per_month']:.1f} alerts a month "
        f"({found['alerts']:,} in {found['months']:.0f} months); the event followed "
        f"{_estimate(found['precision'])} of them."
    )
    each = found.get("per_csm_month")
    if not each:
        return f"{words} Account owners are unknown, so there are no numbers per CSM."
    return (
        f"{words} Over {found['csms']} CSMs, as accounts are owned today, that is "
        f"{each['mean']:.1f} a month each; nine months in ten bring at most {each['busy']:.0f}, "
        f"the busiest brought {each['most']}."
    )


def _slices(evaluation: EvaluationJson) -> str:
    """Return the measures by segment and contract, and for new accounts."""
    parts = (
        evaluation.get("segments", []),
        evaluation.get("contracts", []),
        evaluation.get("newcomers", []),
    )
    rows = [
        (
            item["slice"],
            item["n"],
            item["events"],
            *(_estimate(item[name]) if name in item else "too few" for name in _SLICED),
        )
        for part in parts
        for item in part
    ]
    return _table(rows, ("", "rows", "events", *(_words(name) for name in _SLICED)))


def _folds(evaluation: EvaluationJson) -> str:
    """Return the test periods and their stability."""
    periods = {item["fold"]: item for item in evaluation.get("periods", [])}
    rows = []
    for item in evaluation.get("folds", []):
        period = periods.get(item["fold"])
        rows.append(
            (
                *(_day(item.get(name)) for name in _FOLD),
                period["rate"] if period else None,
                period["mean_p"] if period else None,
                *(_estimate(_of_period(period, item, name)) for name in _PERIOD),
            )
        )
    head = (
        "fold", "cut-off", "tested until", "events before", "events tested", "observed",
        "predicted", *(_words(name) for name in _PERIOD),
    )  # fmt: skip
    words = evaluation.get("stability", {}).get("words", "")
    figure = _picture("folds", "training and test period of each fold over time")
    return _paragraphs(_table(rows, head), _sentence(words), figure if rows else "")


def _of_period(period: PeriodJson | None, fold: FoldJson, name: PeriodMeasure) -> object:
    """Return the estimate of a test period; without one, the point value of the fold."""
    return period[name] if period and name in period else fold.get(name)


def _event_study(manifest: ModelManifest) -> str:
    """Return the difference between accounts with and without the event before the decision."""
    study = manifest.event_study
    if study is None or not study.rows:
        return ""
    steps: dict[str, list[EventStudyRow]] = {}
    for row in study.rows:
        steps.setdefault(row.feature, []).append(row)
    rows = [
        (name, *(_gap(item.gap, item.error) for item in items)) for name, items in steps.items()
    ]
    starts = [item.from_days for item in next(iter(steps.values()))]
    head = ("", *(f"{start} to {start - study.step_days} days" for start in starts))
    words = (
        f"{_cell(study.n_events)} decisions, aligned on their day: the mean of each feature "
        "before it minus the mean of accounts without the event at the same times, in their "
        f"standard deviations (± 95 %). Of {_cell(study.n_features)} features, the {len(rows)} "
        "with the largest last difference. A feature that moves months ahead can warn; one that is "
        "constant and jumps with the decision is a result of the decision (BW-L10)."
    )
    figure = _picture("aligned", "the same differences over the days before the decision")
    return _paragraphs(words, _table(rows, head), figure)


def _gap(gap: float, error: float) -> str:
    """Return a difference with its 95 % interval.

    >>> _gap(-0.5, 0.1)
    '-0.50 ± 0.20'
    """
    return f"{gap:+.2f} ± {1.96 * error:.2f}"


def _day(value: object) -> object:
    """Return the day of an instant; anything else as it is.

    >>> _day("2025-04-01T00:00:00+00:00"), _day(3)
    ('2025-04-01', 3)
    """
    return value[:10] if isinstance(value, str) and value[10:11] == "T" else value


def _growth(manifest: ModelManifest) -> str:
    """Return the backtest of kinds and amounts of growth."""
    found = manifest.growth
    if found is None:
        return ""
    rows = [_growth_row(kind, found.kinds[kind]) for kind in KINDS if kind in found.kinds]
    head = (
        "kind",
        "served",
        "past growths",
        "tested: observed / expected",
        "O/E",
        AUC_WITHIN,
        "Brier / with one share for all",
        "added to revenue: median (P10 to P90)",
        "tested within P10 to P90",
    )
    return _paragraphs(_sentence(found.words), _table(rows, head))


def _growth_row(kind: str, item: GrowthKind) -> tuple[object, ...]:
    tested, uplift = item.backtest, item.uplift
    return (
        kind,
        item.basis,
        item.n_events,
        f"{_cell(tested.events)} / {_cell(tested.expected)}",
        tested.observed_to_expected,
        tested.auc,
        f"{_cell(tested.brier)} / {_cell(tested.brier_flat)}",
        f"{_cell(uplift.get('p50'))} ({_cell(uplift.get('p10'))} to {_cell(uplift.get('p90'))})",
        f"{_cell(tested.n_inside)} of {_cell(tested.n_amounts)}",
    )


def _gates(manifest: ModelManifest) -> str:
    rows = [
        ("met" if gate.passed else "NOT MET", gate.title, gate.threshold, gate.words)
        for gate in manifest.gates
    ]
    if not rows:
        return ""
    table = _table(rows, ("", "gate", "required", "found"))
    return f"{table}\n\nA gate compares the value found, or the limit of its interval it names."


def _checks(manifest: ModelManifest) -> str:
    rows = [
        ("ISSUE" if item.outcome == "issue" else item.outcome, item.code, item.title, item.words)
        for item in manifest.checks
    ]
    return _table(rows, ("", "code", "check", "found"))


def _limits(manifest: ModelManifest, evaluation: EvaluationJson) -> str:
    lines = list(evaluation.get("notes", []))
    lines += [f"Not met: {gate.title}." for gate in manifest.gates if not gate.passed]
    if evaluation.get("over") == "accounts":
        lines.append("Tested on other accounts, not on a later period: the future was not tested.")
    if manifest.labels_known_to and not _is_undated(manifest):
        lines.append(f"Changes after {manifest.labels_known_to} are not included.")
    lines.append(
        "Scores are probabilities, not verdicts; reasons are associated with the outcome, not its "
        "causes."
    )
    lines.append("Accounts that a play saved count as false alarms here.")
    return "\n".join(f"- {line}" for line in lines)
