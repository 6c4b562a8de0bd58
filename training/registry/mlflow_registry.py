"""MLflow tracking server: log of trainings, and a mirror of the published releases.

Bundles are stored in the state directory first, and the release store decides what is published, so
an unavailable server loses nothing and its aliases can be repaired. MLflow takes seconds to import
and is imported on use.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import math
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from numbers import Real
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from configs.runtime.errors import ModelError, UnavailableError
from configs.runtime.hashing import canonical_json
from configs.runtime.state_directory import read_json, write_json_atomically, write_text_atomically
from configs.schema.workspace import Workspace
from training.evaluation.parts import EvaluationJson, FoldJson
from training.fitting.optuna_study import TRIAL_COLUMNS
from training.model.bundle import read_manifest
from training.model.manifest_parts import GateJson
from training.registry.mlflow_artifacts import SCHEME, artifact_repository, artifacts_folder
from training.registry.mlflow_model import ExampleRows, dataset_input, save_model
from training.registry.model_card import FIGURES
from training.registry.releases import Release, check_bundle, plain_json
from training.registry.tracking_store import tracking_uri

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
PENDING = "pending"

MAX_PARAM = 500
MAX_DESCRIPTION = 4_900
_BATCH_PARAMS, _BATCH_METRICS = 100, 1_000

_MODELS = "models:/"
"""Prefix of the source of loadable versions: a logged model of the tracking server."""

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags without which MLflow 3 shows an experiment as generative AI, without its runs."""

_OF_THE_MODEL = ("bundle_sha", "verdict", "mlflow.note.content")
"""Tags of a training that its trials and baselines do not have."""

_TEXT_SUFFIXES = frozenset({".json", ".csv", ".md", ".txt", ".html", ".svg", ".yaml"})
"""Kinds of artifacts that can name an account."""

_STATUSES = {"complete": "FINISHED", "pruned": "KILLED"}
"""MLflow's status of a run by the state of its trial."""


@dataclass(frozen=True)
class TrainingRecord:
    """Record of one training, one per (target, bundle).

    Attributes
    ----------
    target : str
        Name of the target.
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
        Of the search (`training.fitting.optuna_study.trials_table`): one table, and one nested run
        each.
    baselines : sequence of mapping
        name, began_at, seconds and metrics of each baseline: one nested run each.
    label_contract, evaluation : mapping
        Stored as JSON.
    gates, checks : sequence of mapping
        Results, stored as JSON.
    figures : mapping of str to str or bytes
        File name with its suffix (``reliability.svg``) to content.
    card : str
        The model card, Markdown.
    rows : ExampleRows
        Training rows: data set, example, currency.
    began_at, ended_at : str
        Start and end of the training, ISO 8601; empty if unknown.
    """

    target: str
    sha: str
    bundle: Path
    verdict: str
    fingerprint: str
    config_hash: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    folds: Sequence[FoldJson] = ()
    trials: Sequence[Mapping[str, object]] = ()
    label_contract: Mapping[str, Any] = field(default_factory=dict)
    evaluation: EvaluationJson = field(default_factory=EvaluationJson)
    gates: Sequence[GateJson] = ()
    checks: Sequence[Mapping[str, str]] = ()
    figures: Mapping[str, str | bytes] = field(default_factory=dict)
    card: str = ""
    rows: ExampleRows = field(default_factory=ExampleRows)
    baselines: Sequence[Mapping[str, Any]] = ()
    began_at: str = ""
    ended_at: str = ""


@dataclass(frozen=True)
class LoggedRun:
    """Run and model version of a training in the tracking server.

    Attributes
    ----------
    target, sha : str
        Of the bundle.
    run_id : str
        The run.
    model_name, version : str
        The registered model version.
    is_new : bool
        False if the bundle was registered before; bundles are logged once.
    """

    target: str
    sha: str
    run_id: str
    model_name: str
    version: str
    is_new: bool


@dataclass(frozen=True)
class Aliases:
    """Aliases of the registry after mirroring.

    Attributes
    ----------
    champions : dict of str to str
        Target to version.
    missing : dict of str to str
        Target to the sha of a published bundle that is not registered; `relog` registers it.
    """

    champions: dict[str, str]
    missing: dict[str, str]


def log_training(workspace: Workspace, trained: TrainingRecord) -> LoggedRun:
    """Log one training and register its bundle as the challenger.

    The record is first written to the state directory and removed after it was logged completely.
    The model version is created last, after all artifacts.

    Parameters
    ----------
    workspace : Workspace
        The company.
    trained : TrainingRecord
        The training; its bundle is complete.

    Returns
    -------
    LoggedRun
        The run and the version.

    Raises
    ------
    ModelError
        The bundle is missing or damaged, or a metric is no number.
    UnavailableError
        The server is unavailable. The bundle and the record are kept; `relog` sends them.
    """
    check_bundle(trained.bundle, trained.sha)
    _check_numbers(trained)
    pending = _pending_file(workspace, trained)
    write_json_atomically(pending, plain_json(_as_plain(trained)))
    with _converted_errors(workspace, trained):
        logged = _log(workspace, trained)
    pending.unlink()
    return logged


def relog(workspace: Workspace) -> list[LoggedRun]:
    """Send the records that could not be logged after training, oldest first."""
    files = (workspace.state.mlflow / PENDING).glob("*.json")
    ordered = sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [log_training(workspace, _from_plain(read_json(path))) for path in ordered]


def repair_aliases(
    workspace: Workspace, current: Release | None, previous: Release | None = None
) -> Aliases:
    """Set the registry's aliases to the releases of the release store.

    Parameters
    ----------
    workspace : Workspace
        The company.
    current : Release or None
        Current release: its bundles become ``champion``; other targets have none.
    previous : Release, optional
        Previous release: its bundles become ``previous``. By default the replaced champion.

    Returns
    -------
    Aliases
        Champions, and bundles that are not registered.

    Raises
    ------
    UnavailableError
        The server is unavailable; publishing does not depend on it.
    """
    wanted = current.bundles if current else {}
    with _converted_errors(workspace):
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


def scrub_artifacts(
    workspace: Workspace, clean: Callable[[str], str], *, is_trial: bool
) -> list[str]:
    """Rewrite the text artifacts of all trainings on a tracking server; return their names.

    The embedded store lies in the state directory, where its files are changed like all others:
    nothing happens here.

    Parameters
    ----------
    workspace : Workspace
        The company.
    clean : callable
        Returns a text without what is to be removed.
    is_trial : bool
        Only name the artifacts that would change.

    Raises
    ------
    UnavailableError
        The server is unavailable.
    """
    if artifacts_folder(tracking_uri(workspace)) is not None:
        return []
    changed = []
    with _converted_errors(workspace), tempfile.TemporaryDirectory() as folder:
        client = _client(workspace)
        for run_id in _training_runs(client, workspace):
            for path in _text_artifacts(client, run_id, ""):
                local = Path(client.download_artifacts(run_id, path, folder))
                text = local.read_text(encoding="utf-8", errors="replace")
                if clean(text) != text:
                    changed.append(f"{run_id}/{path}")
                    if not is_trial:
                        local.write_text(clean(text), encoding="utf-8")
                        client.log_artifact(run_id, str(local), str(Path(path).parent))
    return changed


def _training_runs(client: Any, workspace: Workspace) -> Iterator[str]:
    for target in workspace.company.targets:
        experiment = client.get_experiment_by_name(model_name(workspace, target))
        token = "" if experiment is not None else None
        while token is not None:
            found = client.search_runs([experiment.experiment_id], page_token=token or None)
            yield from (run.info.run_id for run in found)
            token = found.token or None


def _text_artifacts(client: Any, run_id: str, folder: str) -> Iterator[str]:
    for item in client.list_artifacts(run_id, folder or None):
        if item.is_dir:
            yield from _text_artifacts(client, run_id, item.path)
        elif Path(item.path).suffix in _TEXT_SUFFIXES:
            yield item.path


def flat_metrics(summary: Mapping[str, object]) -> dict[str, float | None]:
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


def _client(workspace: Workspace) -> Any:
    # Read by MLflow on import: no telemetry, no unpickling.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    # Otherwise MLflow copies the lock file of the working directory next to the model.
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # The defaults wait for minutes on an unavailable server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    uri = tracking_uri(workspace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own use of SQLAlchemy 2.1
        from mlflow import MlflowClient
        from mlflow.store.artifact import artifact_repository_registry as repositories

        # Same as the entry point of an installed package; a source tree has none.
        repositories._artifact_repository_registry.register(SCHEME, artifact_repository)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Make a store the default of this process for the duration of the context.

    MLflow looks up the model of a new version in the default store, not in that of its client, and
    otherwise creates an empty database in the working directory.
    """
    from mlflow.environment_variables import MLFLOW_TRACKING_URI
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    before = MLFLOW_TRACKING_URI.get_raw()
    try:
        with _use_tracking_uri(uri):
            yield
    finally:
        if before is not None:
            MLFLOW_TRACKING_URI.set(before)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress MLflow's advice on signatures and its own deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _converted_errors(
    workspace: Workspace, trained: TrainingRecord | None = None
) -> Iterator[None]:
    """Convert errors of the server into `UnavailableError`."""
    try:
        yield
    except Exception as error:
        if not _is_outage(error):
            raise
        stored = f"; bundle {trained.sha} of {trained.target} is kept" if trained else ""
        raise UnavailableError(
            f"the tracking server is unavailable: {_first_line(error)}{stored}",
            where="BELLWETHER_MLFLOW_URL"
            if workspace.places.tracking_url
            else str(workspace.state.mlflow),
            fix="start the server or free the disk, then: bellwether relog",
        ) from error


def _is_outage(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # Errors of requests are OSErrors.
    return isinstance(error, (MlflowException, SQLAlchemyError, OSError))


def _first_line(error: Exception) -> str:
    """Return the first line of the server's message, without a password.

    >>> _first_line(OSError("POST https://ci:secret@host/api failed"))
    'POST https://***@host/api failed'
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return re.sub(r"://[^/@\s]+@", "://***@", line)


def _log(workspace: Workspace, trained: TrainingRecord) -> LoggedRun:
    client = _client(workspace)
    name = _ensure_model(client, workspace, trained.target)
    known = _version_of(client, name, trained.sha)
    is_known = known is not None and _is_loadable(known)
    if is_known:
        version, run_id = str(known.version), str(known.run_id)
        client.set_model_version_tag(name, version, "verdict", trained.verdict)
    else:
        run_id, model_id = _log_run(client, workspace, trained)
        with _default_store(tracking_uri(workspace)):
            version = _register(client, name, trained, run_id, model_id)
    client.set_registered_model_alias(name, CHALLENGER, version)
    return LoggedRun(trained.target, trained.sha, run_id, name, version, not is_known)


def _log_run(client: Any, workspace: Workspace, trained: TrainingRecord) -> tuple[str, str]:
    """Log everything but the version; return the run and the logged model."""
    experiment = _experiment(client, workspace, model_name(workspace, trained.target))
    tags = _tags(workspace, trained)
    run = client.create_run(
        experiment,
        start_time=_milliseconds(trained.began_at),
        run_name=f"{trained.target}-{trained.sha[:8]}",
        tags=tags,
    )
    run_id: str = run.info.run_id
    try:
        model_id = _log_model(client, experiment, run_id, trained)
        _log_numbers(client, run_id, trained, model_id)
        _log_tables(client, run_id, trained)
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(Path(folder), trained)
            client.log_artifacts(run_id, folder)
        _log_children(client, experiment, run_id, trained, tags)
        client.finalize_logged_model(model_id, "READY")
        client.set_terminated(run_id, end_time=_milliseconds(trained.ended_at))
    except BaseException:
        # Report the first error; an unavailable server cannot record the second.
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, status="FAILED")
        raise
    return run_id, model_id


def _log_model(client: Any, experiment: str, run_id: str, trained: TrainingRecord) -> str:
    """Log the bundle as a loadable MLflow model, with its training rows."""
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        experiment,
        name=trained.target,
        source_run_id=run_id,
        tags={"sha": trained.sha, "verdict": trained.verdict},
        params={_metric_name(name): _param(value) for name, value in trained.params.items()},
        model_type="bellwether",
    )
    model_id: str = model.model_id
    with tempfile.TemporaryDirectory() as aside, _no_warnings():
        folder = Path(aside) / "model"
        save_model(
            folder, trained.bundle, trained.sha, trained.rows, run_id=run_id, model_id=model_id
        )
        client.log_model_artifacts(model_id, str(folder))
        _check_upload(client, model_id, folder)
    manifest = read_manifest(trained.bundle)
    rows = dataset_input(trained.target, trained.fingerprint, trained.rows, manifest)
    client.log_inputs(run_id, datasets=[rows])
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    return model_id


def _log_children(
    client: Any, experiment: str, run_id: str, trained: TrainingRecord, tags: Mapping[str, str]
) -> None:
    """Log every trial and every baseline as a nested run, with its real start and duration."""
    shared = {name: value for name, value in tags.items() if name not in _OF_THE_MODEL}
    shared["mlflow.parentRunId"] = run_id
    for child in (*map(_trial, trained.trials), *map(_baseline, trained.baselines)):
        if child.began_at:
            _log_child(client, experiment, child, shared)


@dataclass(frozen=True)
class _Child:
    """Nested run of a trial or a baseline."""

    name: str
    kind: str
    began_at: str
    seconds: float
    status: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]


def _trial(row: Mapping[str, Any]) -> _Child:
    settings = {name: value for name, value in row.items() if name not in TRIAL_COLUMNS}
    state = str(row.get("state", ""))
    return _Child(
        f"trial-{row['number']}",
        "trial",
        began_at if isinstance(began_at := row.get("began_at"), str) else "",
        row["seconds"] if _is_number(row.get("seconds")) else 0.0,
        _STATUSES.get(state, "FAILED"),
        {**settings, "state": state},
        {"log_loss": row.get("value"), "rounds": row.get("rounds"), "seconds": row.get("seconds")},
    )


def _baseline(row: Mapping[str, Any]) -> _Child:
    return _Child(
        f"baseline-{row['name']}",
        "baseline",
        row["began_at"],
        row["seconds"],
        "FINISHED",
        {"baseline": row["name"]},
        {**flat_metrics(row["metrics"]), "seconds": row["seconds"]},
    )


def _log_child(client: Any, experiment: str, child: _Child, tags: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, Param

    began = datetime.fromisoformat(child.began_at)
    ended = _milliseconds((began + timedelta(seconds=child.seconds)).isoformat())
    run = client.create_run(
        experiment,
        start_time=_milliseconds(child.began_at),
        run_name=child.name,
        tags={**tags, "kind": child.kind},
    )
    client.log_batch(
        run.info.run_id,
        metrics=[
            Metric(_metric_name(name), float(value), ended, 0)
            for name, value in child.metrics.items()
            if _is_number(value)
        ],
        params=[Param(_metric_name(name), _param(value)) for name, value in child.params.items()],
    )
    client.set_terminated(run.info.run_id, status=child.status, end_time=ended)


def _milliseconds(text: str) -> int | None:
    """Return an ISO time in milliseconds since 1970; None for an empty text.

    >>> _milliseconds("1970-01-01T00:00:02.5+00:00")
    2500
    """
    return round(datetime.fromisoformat(text).timestamp() * 1_000) if text else None


def _register(client: Any, name: str, trained: TrainingRecord, run_id: str, model_id: str) -> str:
    version = client.create_model_version(
        name,
        source=f"{_MODELS}{model_id}",
        run_id=run_id,
        model_id=model_id,
        tags={
            "sha": trained.sha,
            "config_hash": trained.config_hash,
            "verdict": trained.verdict,
        },
        description=_shortened(trained.card, MAX_DESCRIPTION),
    )
    return str(version.version)


def _experiment(client: Any, workspace: Workspace, name: str) -> str:
    """Return the experiment's id, with the tags of model training.

    In the embedded store, artifact URIs do not contain the path of the state directory, which can
    be moved. Experiments of version 0.1.0 with an absolute path are renamed.
    """
    embedded = artifacts_folder(tracking_uri(workspace)) is not None
    place = f"{SCHEME}:/{quote(name)}" if embedded else None
    found = client.get_experiment_by_name(name)
    if found is not None and place is not None and found.artifact_location != place:
        client.rename_experiment(found.experiment_id, f"{name}-earlier-{found.experiment_id}")
        found = None
    if found is None:
        return str(client.create_experiment(name, artifact_location=place, tags=_EXPERIMENT_TAGS))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for tag, value in _EXPERIMENT_TAGS.items():
        if tag not in found.tags:
            client.set_experiment_tag(found.experiment_id, tag, value)
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


def _version_of(client: Any, name: str, sha: str) -> Any:
    """Return the version of a bundle; None without one.

    Versions of 0.1.0, which MLflow cannot load, are returned only if there is no other.
    """
    found = client.search_model_versions(f"name = '{name}' and tags.sha = '{sha}'")
    return min(found, key=lambda item: (not _is_loadable(item), int(item.version)), default=None)


def _is_loadable(version: Any) -> bool:
    return str(version.source).startswith(_MODELS)


def _tags(workspace: Workspace, trained: TrainingRecord) -> dict[str, str]:
    from mlflow.utils.git_utils import get_git_commit

    commit = get_git_commit(str(Path(__file__).parent))
    return {
        "mlflow.source.name": f"bellwether train {workspace.company.name}",
        "mlflow.source.type": "LOCAL",
        **({"mlflow.source.git.commit": commit} if commit else {}),
        **_user(),
        "company": workspace.company.name,
        "target": trained.target,
        "bundle_sha": trained.sha,
        "config_hash": trained.config_hash,
        "data_fingerprint": trained.fingerprint,
        "verdict": trained.verdict,
        "mlflow.note.content": _shortened(trained.card, MAX_DESCRIPTION),
    }


def _user() -> dict[str, str]:
    """Return the name of the user as an MLflow tag; empty for a user id without a name."""
    with contextlib.suppress(KeyError, OSError):
        return {"mlflow.user": getpass.getuser()}
    return {}


def _log_numbers(client: Any, run_id: str, trained: TrainingRecord, model_id: str) -> None:
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(_metric_name(name), float(value), now, 0, model_id=model_id)
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


def _check_upload(client: Any, model_id: str, folder: Path) -> None:
    """Compare names and sizes of the uploaded files with the model's files."""
    uploaded = dict(_uploaded(client, model_id, None))
    sent = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    if uploaded != sent:
        raise OSError(f"{len(uploaded)} of {len(sent)} model files were uploaded completely")


def _uploaded(client: Any, model_id: str, path: str | None) -> Iterator[tuple[str, int]]:
    for item in client.list_logged_model_artifacts(model_id, path):
        if item.is_dir:
            yield from _uploaded(client, model_id, item.path)
        else:
            yield item.path, item.file_size


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
    version = str(found.version) if found else None
    _set_alias(client, model.name, aliases, CHAMPION, version)
    before = aliases.get(CHAMPION)
    if previous is not None:
        part = previous.bundles.get(model.tags["target"])
        past = _version_of(client, model.name, part["sha"]) if part else None
        _set_alias(client, model.name, aliases, PREVIOUS, str(past.version) if past else None)
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
    read = {"bundle": Path(plain["bundle"]), "figures": figures}
    return TrainingRecord(**{**plain, **read, "rows": ExampleRows(**plain.get("rows", {}))})


def _check_numbers(trained: TrainingRecord) -> None:
    wrong = [
        name
        for name, value in trained.metrics.items()
        if value is not None and not isinstance(value, Real)
    ]
    if wrong:
        raise ModelError(f"these metrics are not numbers: {', '.join(wrong)}", where=trained.target)
    paths = [name for name in trained.figures if Path(name).name != name]
    if paths:
        raise ModelError(f"figures need plain file names, not {paths}", where=trained.target)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and math.isfinite(float(value))


def _metric_name(name: str) -> str:
    """Return a name that is valid in MLflow.

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


def _columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[Any]]:
    """Return rows as columns of plain values, in order of first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    plain = plain_json([dict(row) for row in rows])
    return {name: [row.get(name) for row in plain] for name in names}
