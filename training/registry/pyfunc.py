"""MLflow's generic Python flavor of a bundle: named columns to probability, range and reasons.

``mlflow.pyfunc.load_model("models:/COMPANY-TARGET@champion")`` imports this module by the name that
is written into every registered model, so the module is not to be renamed. The model's data are a
bundle: text and JSON, nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.state_directory import MANIFEST, read_json
from training.model.bundle import Bundle, load
from training.model.reasons import Explanation, explain_alone
from training.tabular.column_kinds import TableReading, parse_dates
from training.tabular.table_frame import UNDATED, features_of

LOADER = __name__


@dataclass(frozen=True)
class InputColumn:
    """One column the model takes.

    Attributes
    ----------
    name : str
        As the catalogue or the ready-made table calls it.
    kind : str
        ``number``, ``text``, or ``any``: a column of a ready-made table as its file has it.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class PublishedModel:
    """A bundle behind MLflow's ``predict``.

    Attributes
    ----------
    bundle : Bundle
        The verified model.
    as_of : str or None
        Of a ready-made table: the column of the moment a row describes.
    currency : str
        The reporting currency, for the words of reasons.
    """

    bundle: Bundle
    as_of: str | None = None
    currency: str = ""

    def predict(
        self,
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,  # noqa: ARG002  MLflow passes it
    ) -> pd.DataFrame:
        """Score rows; each gets what the service serves for the same feature values.

        Parameters
        ----------
        model_input : pandas.DataFrame
            One row per account, with the columns of `input_columns`; others are not looked at, and
            missing values are unknown. Of a ready-made table: rows as its file has them.
        params : mapping, optional
            MLflow's inference parameters; there are none.

        Returns
        -------
        pandas.DataFrame
            The same index. ``probability``, in [0, 1]; ``low`` and ``high``, its 90 % range;
            ``confidence``; ``reasons``, those that raise it first
            (`training.model.reasons.Reason`); and what they add up from: ``base``, ``themes``,
            ``context``, ``unknown`` and ``circumstances``. Without a signal the base rate, and no
            reasons.

        Raises
        ------
        DataError
            A column is missing.
        """
        self._refuse_lacking(model_input)
        matrix = self.bundle.encode(self._features(model_input)).matrix
        scores = self.bundle.predict(matrix)
        why: Sequence[Explanation | None] = [None] * len(matrix)
        if self.bundle.has_reasons:
            why = explain_alone(self.bundle, matrix, currency=self.currency)
        answered = pd.DataFrame(
            {
                "probability": scores.p,
                "low": scores.low,
                "high": scores.high,
                "confidence": scores.confidence,
            }
        )
        rows = [_answer(item, p) for item, p in zip(why, scores.p.tolist(), strict=True)]
        reasons = pd.DataFrame(rows, columns=list(_answer(None, 0.0)))
        return pd.concat([answered, reasons], axis=1)[list(OUTPUTS)].set_axis(model_input.index)

    def _refuse_lacking(self, given: pd.DataFrame) -> None:
        wanted = [column.name for column in input_columns(self.bundle.manifest, self.as_of)]
        lacking = [name for name in wanted if name not in given]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(wanted)} columns the model takes are missing: "
                f"{', '.join(lacking[:5])}",
                where=f"the rows given to the {self.bundle.target} model",
                fix="name every column of the model's signature; unknown values are NaN",
            )

    def _features(self, given: pd.DataFrame) -> pd.DataFrame:
        reading = self.bundle.manifest.get("reading")
        if reading:
            return features_of(given, reading, self._moments(given), self._how())
        return pd.DataFrame(
            {
                name: given[name] if name in self.bundle.encoder.levels else _numbers(given[name])
                for name in self.bundle.encoder.names
            }
        )

    def _how(self) -> TableReading:
        """Return how the columns of the table that was trained on are written."""
        return TableReading(**self.bundle.manifest["label_contract"].get("written", {}))

    def _moments(self, given: pd.DataFrame) -> pd.Series:
        """Return the moment of each row of a ready-made table."""
        if self.as_of is not None and self.as_of in given:
            return parse_dates(given[self.as_of], self._how())
        taken_on = self.bundle.manifest["label_contract"].get("taken_on")
        moment = pd.Timestamp(taken_on, tz="UTC") if taken_on else UNDATED
        return pd.Series(moment, index=given.index, dtype="datetime64[us, UTC]")


OUTPUTS = (
    "probability",
    "low",
    "high",
    "confidence",
    "reasons",
    "base",
    "themes",
    "context",
    "unknown",
    "circumstances",
)
"""Columns of what `PublishedModel.predict` returns."""


def input_columns(manifest: Mapping[str, Any], as_of: str | None = None) -> list[InputColumn]:
    """Return the columns a bundle takes, in the order of its features.

    A column of a ready-made table is taken as its file has it: ``"Yes"``, ``true`` and 1 are the
    same flag. `as_of` is needed where a date is read as days before it.
    """
    levels, reading = manifest["encoder"]["levels"], manifest.get("reading", {})
    names = manifest["encoder"]["names"]
    columns = [InputColumn(name, _kind(name, levels, reading)) for name in names]
    if as_of is not None and as_of not in names and "date" in reading.values():
        columns.append(InputColumn(as_of, "any"))
    return columns


def _kind(name: str, levels: Mapping[str, Sequence[str]], reading: Mapping[str, str]) -> str:
    if name in levels and not all(_is_number(level) for level in levels[name]):
        return "text"
    return "any" if name in reading or name in levels else "number"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column).astype("float64")


def _answer(why: Explanation | None, p: float) -> dict[str, Any]:
    """Return the reasons of one row; a base rate has none."""
    if why is None:
        return {
            "base": p,
            "reasons": [],
            "themes": {},
            "context": 0.0,
            "unknown": 0.0,
            "circumstances": [],
        }
    return {
        "base": why["base"],
        "reasons": [*why["raises"], *why["lowers"]],
        **{name: why[name] for name in ("themes", "context", "unknown", "circumstances")},
    }


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PublishedModel:
    """Load a registered model: MLflow's entry to this flavor.

    Raises
    ------
    ModelError
        The bundle is damaged.
    """
    folder, config = Path(path), model_config or {}
    bundle = load(folder, expected_sha=config.get("sha"))
    return PublishedModel(bundle, config.get("as_of"), config.get("currency", ""))


def read_bundle_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle folder, without loading the model."""
    return dict(read_json(folder / MANIFEST))
