"""The model card: what a model was made from, what it promises and where it ends, as Markdown.

Everything is read from the bundle's manifest and the evaluation; a part that is absent is left
out, or said to be unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VERDICTS = {
    "promotable": "Every gate was met.",
    "provisional": "A gate was not met: every score shows that it is provisional.",
    "no_signal": "No signal was found: the base rate is served, without reasons.",
}
MEASURES = {
    "auc": "AUC",
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
_COMPARED = ("auc", "average_precision", "log_loss", "capture_at_capacity")
UNKNOWN = "–"


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
        `training.evaluate.Evaluation.as_dict`; estimates are {value, low, high}, 95 %.
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
        _section("Model", _table(_model(manifest))),
        _section("How good it is", _measures(evaluation, manifest)),
        _section("Beside the baselines", _baselines(evaluation)),
        _section("By time before the decision", _lead_times(evaluation)),
        _section("By test period", _folds(evaluation)),
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


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ("", "")) -> str:
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    rule = "|" + "|".join(" --- " for _ in head) + "|"
    return "\n".join(["| " + " | ".join(head) + " |", rule, *lines])


def _cell(value: Any) -> str:
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
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3f}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _pairs(mapping: Any) -> list[tuple[str, Any]]:
    if not isinstance(mapping, Mapping):
        return []
    return [(_words(name), value) for name, value in mapping.items()]


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
            ("labels known to", manifest.get("labels_known_to")),
            ("base rate out of time", evaluation.get("base_rate", manifest.get("base_rate"))),
            ("training data", manifest.get("training_fingerprint")),
            ("configuration", manifest.get("config_hash")),
        ]
    )


def _range(mapping: Mapping[str, Any], low: str, high: str) -> str | None:
    if low not in mapping or high not in mapping:
        return None
    return f"{mapping[low]} to {mapping[high]}"


def _model(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rung, calibration = _part(manifest, "rung"), _part(manifest, "calibration")
    features = manifest.get("features")
    return _known(
        [
            ("kind", manifest.get("kind", rung.get("kind"))),
            ("rung of the ladder", rung.get("name")),
            ("why", rung.get("reason")),
            ("features", len(features) if isinstance(features, Sequence) else None),
            ("calibration", calibration.get("rule")),
            ("calibration slope applied", calibration.get("slope")),
            ("calibration intercept applied", calibration.get("intercept")),
        ]
    )


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
    return f"Out of time, {about}each account counted once per test period.\n\n{table}"


def _estimate(value: Any) -> str:
    """Return an estimate with its interval, or a bare number.

    >>> _estimate({"value": 0.71, "low": 0.65, "high": 0.77}), _estimate(0.5), _estimate({})
    ('0.710 (0.650 to 0.770)', '0.500', '–')
    """
    if not isinstance(value, Mapping):
        return _cell(value)
    middle, low, high = (value.get(name) for name in ("value", "low", "high"))
    interval = f" ({_cell(low)} to {_cell(high)})" if None not in (low, high) else ""
    return _cell(middle) + interval


def _baselines(evaluation: Mapping[str, Any]) -> str:
    models, differences = _part(evaluation, "models"), _part(evaluation, "differences")
    names = [name for name in models if name not in ("model", "model_raw")]
    shown = [name for name in ("model", *names) if name in models]
    head = ("", *(_words(name) for name in _COMPARED))
    rows = [(_words(name), *(_estimate(models[name].get(m)) for m in _COMPARED)) for name in shown]
    if len(rows) < 2:
        return ""
    gains = [
        (f"model − {_words(name)}", *(_estimate(differences[name].get(m)) for m in _COMPARED))
        for name in differences
    ]
    parts = [_table(rows, head), _table(gains, head)]
    return "\n\nDifferences on the same draws:\n\n".join(part for part in parts if part)


def _lead_times(evaluation: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{item.get('from_days')} to {item.get('to_days')} days",
            item.get("events"),
            item.get("capture_at_capacity"),
            _estimate(_part(item, "auc").get("model")),
        )
        for item in _list(evaluation, "lead_times")
    ]
    return _table(rows, ("before the decision", "events", "caught at capacity", "AUC"))


def _folds(evaluation: Mapping[str, Any]) -> str:
    names = ("fold", "cutoff", "test_until", "n_train_events", "n_headline_events", "auc")
    rows = [tuple(item.get(name) for name in names) for item in _list(evaluation, "folds")]
    head = ("fold", "cut-off", "tested until", "events before", "events tested", "AUC")
    return _table(rows, head)


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
    return _table(rows, ("", "gate", "required", "found"))


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
    if "labels_known_to" in manifest:
        lines.append(f"What changed after {manifest['labels_known_to']} is not in it.")
    lines.append(
        "Scores are chances, not verdicts; reasons are associated with the outcome, not its causes."
    )
    lines.append("Accounts that were saved by a play look like wrong alarms here.")
    return "\n".join(f"- {line}" for line in lines)
