"""MLflow model of a bundle, with signature and example, and the data set it was trained on.

The model's files are the bundle's text and JSON next to MLflow's ``MLmodel``; nothing is pickled.
MLflow is imported on use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.data.training_frame import TrainingFrame
from training.model.bundle import read_manifest
from training.model.manifest import ModelManifest
from training.registry.pyfunc import LOADER, InputColumn, input_columns

DISTRIBUTION = "bellwether-cs"
EXAMPLE_ROWS = 3

_FACT = {
    "feature": "string",
    "label": "string",
    "unit": "string",
    "window_days": "long?",
    "value": "any?",
    "own_past": "any?",
    "peer": "any?",
    "points": "double",
    "text": "string",
}
_REASON = {
    "code": "string",
    "theme": "string",
    "direction": "string",
    "points": "double",
    "text": "string",
}
"""Fields of `training.model.reasons.Fact` and `training.model.reasons.Reason`; ``?`` marks
optional ones."""


@dataclass(frozen=True)
class ExampleRows:
    """Description of the rows a model was trained on, as plain JSON.

    Attributes
    ----------
    source : str
        Origin of the rows, in words.
    n_rows, n_events : int
        Number of rows, and of rows with the outcome.
    example : sequence of mapping
        A few input rows of the model, without the account; unknown values are None.
    as_of : str or None
        Name of the as_of column of a ready-made table.
    currency : str
        The reporting currency.
    """

    source: str = ""
    n_rows: int = 0
    n_events: int = 0
    example: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    as_of: str | None = None
    currency: str = ""


def example_rows(
    frame: TrainingFrame, *, source: str, as_of: str | None, currency: str
) -> ExampleRows:
    """Return the description of a training frame.

    Parameters
    ----------
    frame : TrainingFrame
        The rows.
    source : str
        Origin of its features.
    as_of : str or None
        Name of the as_of column of a ready-made table.
    currency : str
        The reporting currency.
    """
    head = frame.take(np.arange(min(EXAMPLE_ROWS, len(frame))))
    example = head.features.copy()
    for name, kind in frame.reading.items():
        if kind == "date":  # stored as days before as_of; the model's input is the date
            days = pd.to_timedelta(head.features[name], unit="D")
            example[name] = (head.rows["as_of"] - days).dt.strftime("%Y-%m-%d")
    if as_of is not None:
        example[as_of] = head.rows["as_of"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    records = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in example.to_dict("records")
    ]
    return ExampleRows(source, len(frame), int(frame.label.sum()), records, as_of, currency)


def save_model(folder: Path, bundle: Path, sha: str, rows: ExampleRows, **identity: str) -> None:
    """Write a bundle as an MLflow model.

    Parameters
    ----------
    folder : Path
        New folder.
    bundle : Path
        The bundle's folder.
    sha : str
        Its identity, verified on loading.
    rows : ExampleRows
        Training rows.
    identity : str
        ``run_id`` and ``model_id`` in the tracking server.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    manifest = read_manifest(bundle)
    columns = input_columns(manifest, rows.as_of)
    config = {"sha": sha, "as_of": rows.as_of, "currency": rows.currency}
    mlflow.pyfunc.save_model(
        path=str(folder),
        loader_module=LOADER,
        data_path=str(bundle),
        mlflow_model=Model(**identity),
        signature=_signature(columns),
        input_example=_example(columns, rows.example),
        pip_requirements=[_requirement()],
        model_config={key: value for key, value in config.items() if value},
        metadata={
            "target": manifest.target,
            "outcome": manifest.outcome,
            "verdict": manifest.verdict,
            "kind": manifest.kind,
        },
    )


def _requirement() -> str:
    try:
        return f"{DISTRIBUTION}=={version(DISTRIBUTION)}"
    except PackageNotFoundError:  # run from a source tree that was never installed
        return DISTRIBUTION


def _signature(columns: Sequence[InputColumn]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    return ModelSignature(Schema([_input(column) for column in columns]), Schema(_outputs()))


def _input(column: InputColumn) -> Any:
    from mlflow.types import ColSpec
    from mlflow.types.schema import AnyType

    kinds = {"number": "double", "text": "string"}
    return ColSpec(kinds.get(column.kind) or AnyType(), column.name)


def _outputs() -> list[Any]:
    from mlflow.types import ColSpec
    from mlflow.types.schema import AnyType, Array, Map, Object, Property

    def record(fields: Mapping[str, str], *more: Any) -> Any:
        return Object([*(_property(name, kind) for name, kind in fields.items()), *more])

    def _property(name: str, kind: str) -> Any:
        plain = kind.removesuffix("?")
        return Property(name, AnyType() if plain == "any" else plain, required=plain == kind)

    facts = Array(record(_FACT))
    kinds = {
        "probability": "double",
        "low": "double",
        "high": "double",
        "confidence": "string",
        "reasons": Array(record(_REASON, Property("facts", facts))),
        "base": "double",
        "themes": Map("double"),
        "context": "double",
        "unknown": "double",
        "circumstances": facts,
    }
    return [ColSpec(kind, name) for name, kind in kinds.items()]


def _example(columns: Sequence[InputColumn], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return the input example, with the types of the signature; None without rows."""
    if not rows:
        return None
    names = [column.name for column in columns]
    table = pd.DataFrame(list(rows)).reindex(columns=names)
    numbers = [column.name for column in columns if column.kind == "number"]
    return table.astype(dict.fromkeys(numbers, "float64"))


def dataset_input(target: str, fingerprint: str, rows: ExampleRows, manifest: ModelManifest) -> Any:
    """Return the training rows as an MLflow data set: name, digest, source, schema and profile.

    Their content is not copied; the digest is the fingerprint in the bundle.
    """
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types import ColSpec, Schema

    columns = input_columns(manifest, rows.as_of)
    schema = Schema([*(_input(column) for column in columns), ColSpec("double", "label")])
    source = CodeDatasetSource({"mlflow.source.name": rows.source})
    profile = {"num_rows": rows.n_rows, "num_events": rows.n_events, "num_features": len(columns)}
    dataset = Dataset(
        name=f"{target} training rows",
        digest=fingerprint,
        source_type=source._get_source_type(),
        source=json.dumps(source.to_dict()),
        schema=json.dumps({"mlflow_colspec": schema.to_dict()}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
