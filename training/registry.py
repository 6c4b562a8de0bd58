"""The tracking server: what was tried, and a mirror of what is published. The only room of MLflow.

A bundle lies in the state directory before anything here begins, and the release store decides
what is published; so nothing is lost while the server is away, and whatever it says can be
repaired. MLflow takes seconds to import and is imported when used.
"""

from __future__ import annotations

import base64
import contextlib
import math
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from configs.errors import ModelError, UnavailableError
from configs.hashing import canonical_json
from configs.places import Workspace
from configs.state import read_json, write_json_atomically, write_text_atomically
from training.cards import FIGURES
from training.releases import Release, check_bundle, plain_json

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DATABASE = "mlflow.db"
PENDING = "pending"

MAX_PARAM = 500
MAX_DESCRIPTION = 4_900
_BATCH_PARAMS, _BATCH_METRICS = 100, 1_000


@dataclass(frozen=True)
class TrainingRecord:
    """One training as it is logged, one per (target, bundle).

    Attributes
    ----------
    target : str
        What is predicted.
    sha : str
        The bundle's identity.
    bundle : Path
        Its folder.
    verdict : str
        ``promotable``, ``provisional`` or ``no_signal``.
    fingerprint : str
        Of the training rows.
    config_hash : str
        Of the company's configuration.
    params : mapping
        Settings of the fit; nested values are written as JSON.
    metrics : mapping of str to float or None
        Headline numbers (`flat_metrics`); None and NaN are left out.
    folds : sequence of mapping
        Per fold, in order: numbers become metrics with the fold as step, all of it a table.
    trials : sequence of mapping
        Of the search: one table, not one run each.
    label_contract, evaluation : mapping
        Kept as JSON.
    gates, checks : sequence of mapping
        Their results, kept as JSON.
    figures : mapping of str to str or bytes
        File name with its suffix (``reliability.svg``) to content.
    card : str
        The model card, Markdown.
    """

    target: str
    sha: str
    bundle: Path
    verdict: str
    fingerprint: str
    config_hash: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    folds: Sequence[Mapping[str, Any]] = ()
    trials: Sequence[Mapping[str, Any]] = ()
    label_contract: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()
    checks: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, str | bytes] = field(default_factory=dict)
    card: str = ""


@dataclass(frozen=True)
class LoggedRun:
    """Where a training is found in the tracking server.

    Attributes
    ----------
    target, sha : str
        Of the bundle.
    run_id : str
        The run.
    model_name, version : str
        The registered model version.
    is_new : bool
        False when this bundle was registered before; it is not logged twice.
    """

    target: str
    sha: str
    run_id: str
    model_name: str
    version: str
    is_new: bool


@dataclass(frozen=True)
class Aliases:
    """What the registry's aliases say after they were mirrored.

    Attributes
    ----------
    champions : dict of str to str
        Target to version.
    missing : dict of str to str
        Target to the sha of a published bundle that was never registered (`relog` does).
    """

    champions: dict[str, str]
    missing: dict[str, str]


def log_training(workspace: Workspace, trained: TrainingRecord) -> LoggedRun:
    """Log one training and register its bundle as the challenger.

    The record is put aside in the state directory first and removed when the server has all of
    it. The model version is created last, when every artifact is there.

    Parameters
    ----------
    workspace : Workspace
        The company.
    trained : TrainingRecord
        What was trained; its bundle is complete.

    Returns
    -------
    LoggedRun
        The run and the version.

    Raises
    ------
    ModelError
        The bundle is missing or damaged, or a metric is no number.
    UnavailableError
        The server does not take it. The bundle and the record are kept; `relog` sends them.
    """
    check_bundle(trained.bundle, trained.sha)
    _check_numbers(trained)
    pending = _pending_file(workspace, trained)
    write_json_atomically(pending, plain_json(_as_plain(trained)))
    with _telling(workspace, trained):
        logged = _log(workspace, trained)
    pending.unlink()
    return logged


def relog(workspace: Workspace) -> list[LoggedRun]:
    """Send what the tracking server could not take when it was trained, oldest first."""
    files = (workspace.state.mlflow / PENDING).glob("*.json")
    ordered = sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [log_training(workspace, _from_plain(read_json(path))) for path in ordered]


def repair_aliases(
    workspace: Workspace, current: Release | None, previous: Release | None = None
) -> Aliases:
    """Make the registry's aliases say what the release store says.

    Parameters
    ----------
    workspace : Workspace
        The company.
    current : Release or None
        The current release: its bundles become ``champion``; targets without one have none.
    previous : Release, optional
        The one before: its bundles become ``previous``. By default the champion that was replaced.

    Returns
    -------
    Aliases
        The champions, and the bundles that were never registered.

    Raises
    ------
    UnavailableError
        The server does not answer; publishing does not depend on it.
    """
    wanted = current.bundles if current else {}
    with _telling(workspace):
        client = _client(workspace)
        models = {model.tags["target"]: model for model in _models_of(client, workspace)}
        champions, missing = {}, {}
        for target in sorted({*wanted, *models}):
            version = _mirror_target(client, models.get(target), wanted.get(target), previous)
            if version is not None:
                champions[target] = version
            elif target in wanted:
                missing[target] = wanted[target]["sha"]
    return Aliases(champions, missing)


def flat_metrics(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of an evaluation's summary by name; intervals as ``_low`` and ``_high``.

    >>> flat_metrics({"n_folds": 4, "over": "time", "auc": {"value": 0.7, "low": 0.6}})
    {'n_folds': 4.0, 'auc': 0.7, 'auc_low': 0.6, 'auc_high': None}
    """
    flat: dict[str, float | None] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            suffixes = {"value": "", "low": "_low", "high": "_high"}
            flat |= {f"{name}{end}": value.get(key) for key, end in suffixes.items()}
        elif isinstance(value, Real):
            flat[name] = float(value)
    return flat


def model_name(workspace: Workspace, target: str) -> str:
    """Return the name of the registered model of a target."""
    return f"{workspace.company.name}-{target}"


def tracking_uri(workspace: Workspace) -> str:
    """Return where MLflow keeps its records: the configured server, or SQLite."""
    embedded = workspace.state.mlflow.resolve() / DATABASE
    return workspace.places.tracking_url or f"sqlite:///{embedded}"


def _client(workspace: Workspace) -> Any:
    # Read by MLflow when it is imported: nothing leaves the machine, nothing is unpickled.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Its defaults keep a training waiting for minutes on a server that is down.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    uri = tracking_uri(workspace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own use of SQLAlchemy 2.1
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def _telling(workspace: Workspace, trained: TrainingRecord | None = None) -> Iterator[None]:
    """Turn the server's complaints into ours."""
    try:
        yield
    except Exception as error:
        if not _is_outage(error):
            raise
        kept = f"; bundle {trained.sha} of {trained.target} is kept" if trained else ""
        raise UnavailableError(
            f"the tracking server did not take it: {_first_line(error)}{kept}",
            where="BELLWETHER_MLFLOW_URL"
            if workspace.places.tracking_url
            else str(workspace.state.mlflow),
            fix="start the server or free the disk, then: bellwether relog",
        ) from error


def _is_outage(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, (MlflowException, RequestException, SQLAlchemyError, OSError))


def _first_line(error: Exception) -> str:
    """Return the server's own words, one line of them, without a password.

    >>> _first_line(OSError("POST https://ci:secret@host/api failed"))
    'POST https://***@host/api failed'
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return re.sub(r"://[^/@\s]+@", "://***@", line)


def _log(workspace: Workspace, trained: TrainingRecord) -> LoggedRun:
    client = _client(workspace)
    name = _ensure_model(client, workspace, trained.target)
    known = _version_of(client, name, trained.sha)
    if known is not None:
        version, run_id = known
        client.set_model_version_tag(name, version, "verdict", trained.verdict)
    else:
        run_id, source = _log_run(client, workspace, trained)
        version = _register(client, name, trained, run_id, source)
    client.set_registered_model_alias(name, CHALLENGER, version)
    return LoggedRun(trained.target, trained.sha, run_id, name, version, known is None)


def _log_run(client: Any, workspace: Workspace, trained: TrainingRecord) -> tuple[str, str]:
    """Log everything but the version; return the run and where the bundle lies in it."""
    experiment = _experiment(client, workspace, model_name(workspace, trained.target))
    run = client.create_run(
        experiment, run_name=f"{trained.target}-{trained.sha[:8]}", tags=_tags(workspace, trained)
    )
    run_id: str = run.info.run_id
    try:
        _log_numbers(client, run_id, trained)
        _log_tables(client, run_id, trained)
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(Path(folder), trained)
            client.log_artifacts(run_id, folder)
        client.log_artifacts(run_id, str(trained.bundle), "bundle")
        _check_upload(client, run_id, trained)
        client.set_terminated(run_id)
    except BaseException:
        # The first error is the one to tell; a server that is away cannot note the second.
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, status="FAILED")
        raise
    return run_id, f"{run.info.artifact_uri}/bundle"


def _register(client: Any, name: str, trained: TrainingRecord, run_id: str, source: str) -> str:
    version = client.create_model_version(
        name,
        source=source,
        run_id=run_id,
        tags={
            "sha": trained.sha,
            "config_hash": trained.config_hash,
            "verdict": trained.verdict,
        },
        description=_shortened(trained.card, MAX_DESCRIPTION),
    )
    return str(version.version)


def _experiment(client: Any, workspace: Workspace, name: str) -> str:
    """Return the experiment's id; in the embedded store its artifacts lie beside the database.

    MLflow keeps the absolute path it was made with. After the state directory was moved, the old
    experiment keeps its runs under another name, so that nothing is written to the old place.
    """
    embedded = workspace.places.tracking_url is None
    place = (workspace.state.mlflow.resolve() / "artifacts").as_uri() if embedded else None
    found = client.get_experiment_by_name(name)
    if found is not None and place is not None and found.artifact_location != place:
        client.rename_experiment(found.experiment_id, f"{name}-moved-{found.experiment_id}")
        found = None
    if found is None:
        return str(client.create_experiment(name, artifact_location=place))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _ensure_model(client: Any, workspace: Workspace, target: str) -> str:
    from mlflow.exceptions import MlflowException

    name = model_name(workspace, target)
    try:
        client.create_registered_model(
            name, tags={"company": workspace.company.name, "target": target}
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return name


def _version_of(client: Any, name: str, sha: str) -> tuple[str, str] | None:
    """Return the version that holds a bundle, and its run."""
    found = client.search_model_versions(f"name = '{name}' and tags.sha = '{sha}'")
    first = min(found, key=lambda version: int(version.version), default=None)
    return None if first is None else (str(first.version), str(first.run_id))


def _tags(workspace: Workspace, trained: TrainingRecord) -> dict[str, str]:
    return {
        "company": workspace.company.name,
        "target": trained.target,
        "bundle_sha": trained.sha,
        "config_hash": trained.config_hash,
        "data_fingerprint": trained.fingerprint,
        "verdict": trained.verdict,
        "mlflow.note.content": _shortened(trained.card, MAX_DESCRIPTION),
    }


def _log_numbers(client: Any, run_id: str, trained: TrainingRecord) -> None:
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(_metric_name(name), float(value), now, 0)
        for name, value in trained.metrics.items()
        if _is_number(value)
    ]
    metrics += [
        Metric(_metric_name(f"fold/{name}"), float(value), now, step)
        for step, row in enumerate(trained.folds)
        for name, value in row.items()
        if _is_number(value)
    ]
    params = [Param(_metric_name(name), _param(value)) for name, value in trained.params.items()]
    for start in range(0, len(params), _BATCH_PARAMS):
        client.log_batch(run_id, params=params[start : start + _BATCH_PARAMS])
    for start in range(0, len(metrics), _BATCH_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH_METRICS])


def _log_tables(client: Any, run_id: str, trained: TrainingRecord) -> None:
    for name, rows in (("trials.json", trained.trials), ("folds.json", trained.folds)):
        if rows:
            client.log_table(run_id, _columns(rows), name)


def _write_artifacts(folder: Path, trained: TrainingRecord) -> None:
    write_text_atomically(folder / "model_card.md", trained.card)
    for name in ("evaluation", "label_contract", "gates", "checks", "params"):
        write_json_atomically(folder / f"{name}.json", plain_json(getattr(trained, name)))
    for name, content in trained.figures.items():
        path = folder / FIGURES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _check_upload(client: Any, run_id: str, trained: TrainingRecord) -> None:
    """Compare names and sizes of what arrived with the bundle."""
    arrived = {
        item.path.removeprefix("bundle/"): item.file_size
        for item in client.list_artifacts(run_id, "bundle")
    }
    sent = {path.name: path.stat().st_size for path in trained.bundle.iterdir()}
    if arrived != sent:
        raise OSError(f"of {len(sent)} bundle files, {len(arrived)} arrived whole")


def _models_of(client: Any, workspace: Workspace) -> list[Any]:
    company = workspace.company.name
    return list(client.search_registered_models(f"tags.company = '{company}'", max_results=1_000))


def _mirror_target(
    client: Any, model: Any, wanted: Mapping[str, str] | None, previous: Release | None
) -> str | None:
    """Set the aliases of one registered model; return the version of its champion."""
    if model is None:
        return None
    aliases = {alias: str(version) for alias, version in (model.aliases or {}).items()}
    found = _version_of(client, model.name, wanted["sha"]) if wanted else None
    version = found[0] if found else None
    _set_alias(client, model.name, aliases, CHAMPION, version)
    before = aliases.get(CHAMPION)
    if previous is not None:
        part = previous.bundles.get(model.tags["target"])
        past = _version_of(client, model.name, part["sha"]) if part else None
        _set_alias(client, model.name, aliases, PREVIOUS, past[0] if past else None)
    elif before is not None and before != version:
        _set_alias(client, model.name, aliases, PREVIOUS, before)
    if version is not None and wanted is not None:
        client.set_model_version_tag(model.name, version, "verdict", wanted["verdict"])
        if aliases.get(CHALLENGER) == version:
            _set_alias(client, model.name, aliases, CHALLENGER, None)
    return version


def _set_alias(
    client: Any, name: str, aliases: Mapping[str, str], alias: str, version: str | None
) -> None:
    if aliases.get(alias) == version:
        return
    if version is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, version)


def _pending_file(workspace: Workspace, trained: TrainingRecord) -> Path:
    return workspace.state.mlflow / PENDING / f"{trained.target}-{trained.sha}.json"


def _as_plain(trained: TrainingRecord) -> dict[str, Any]:
    figures = {
        name: base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
        for name, content in trained.figures.items()
    }
    return {**asdict(trained), "bundle": str(trained.bundle.resolve()), "figures": figures}


def _from_plain(plain: Mapping[str, Any]) -> TrainingRecord:
    figures = {name: base64.b64decode(content) for name, content in plain["figures"].items()}
    return TrainingRecord(**{**plain, "bundle": Path(plain["bundle"]), "figures": figures})


def _check_numbers(trained: TrainingRecord) -> None:
    wrong = [
        name
        for name, value in trained.metrics.items()
        if value is not None and not isinstance(value, Real)
    ]
    if wrong:
        raise ModelError(f"these metrics are no numbers: {', '.join(wrong)}", where=trained.target)
    paths = [name for name in trained.figures if Path(name).name != name]
    if paths:
        raise ModelError(f"figures have plain file names, not {paths}", where=trained.target)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(float(value))


def _metric_name(name: str) -> str:
    """Return a name MLflow accepts.

    >>> _metric_name("auc@90d (new accounts)")
    'auc_90d _new accounts_'
    """
    return re.sub(r"[^\w\-. :/]", "_", name)


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return _shortened(text, MAX_PARAM)


def _shortened(text: str, length: int) -> str:
    """Return `text`, cut to `length` characters with an ellipsis.

    >>> _shortened("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as columns of plain values, in order of first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    plain = plain_json([dict(row) for row in rows])
    return {name: [row.get(name) for row in plain] for name in names}
