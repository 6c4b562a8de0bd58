"""MLflow Python model of a bundle: from named columns to probability, range and reasons.

``mlflow.pyfunc.load_model("models:/COMPANY-TARGET@champion")`` imports this module by the name
written into every registered model, so the module must not be renamed. The model's data are a
bundle of text and JSON; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from configs.runtime.errors import DataError
from training.model.bundle import Bundle, load
from training.model.manifest import ModelManifest
from training.model.reasons import Explanation, explain_alone
from training.tabular.column_kinds import TableReading, parse_dates
from training.tabular.table_frame import UNDATED, features_of

LOADER = __name__


@dataclass(frozen=True)
class InputColumn:
    """Input column of a model.

    Attributes
    ----------
    name : str
        Name in the catalogue or the ready-made table.
    kind : str
        ``number``, ``text``, or ``any`` for a column with the values of a ready-made table.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class PublishedModel:
    """Bundle with MLflow's ``predict``.

    Attributes
    ----------
    bundle : Bundle
        The verified model.
    as_of : str or None
        Name of the as_of column of a ready-made table.
    currency : str
        Reporting currency in the texts of reasons.
    """

    bundle: Bundle
    as_of: str | None = None
    currency: str = ""

    def predict(
        self,
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,  # noqa: ARG002  MLflow passes it
    ) -> pd.DataFrame:
        """Score rows, with the same results as the service for the same feature values.

        Parameters
        ----------
        model_input : pandas.DataFrame
            One row per account, with the columns of `input_columns`; other columns are ignored and
            missing values are unknown. For a ready-made table: rows as in its file.
        params : mapping, optional
            MLflow's inference parameters; not used.

        Returns
        -------
        pandas.DataFrame
            Same index. ``probability``, in [0, 1]; ``low`` and ``high``, its 90 % range;
            ``confidence``; ``reasons`` (`training.model.reasons.Reason`), those that raise the
            probability first; and the parts of their sum: ``base``, ``themes``, ``context``,
            ``unknown`` and ``circumstances``. Without a signal: the base rate, no reasons.

        Raises
        ------
        DataError
            A column is missing.
        """
        self._check_columns(model_input)
        matrix = self.bundle.encode(self._features(model_input)).matrix
        scores = self.bundle.predict(matrix)
        explanations: Sequence[Explanation | None] = [None] * len(matrix)
        if self.bundle.has_reasons:
            explanations = explain_alone(self.bundle, matrix, currency=self.currency)
        result = pd.DataFrame(
            {
                "probability": scores.p,
                "low": scores.low,
                "high": scores.high,
                "confidence": scores.confidence,
            }
        )
        rows = [
            _explanation_row(item, p)
            for item, p in zip(explanations, scores.p.tolist(), strict=True)
        ]
        reasons = pd.DataFrame(rows, columns=list(_explanation_row(None, 0.0)))
        return pd.concat([result, reasons], axis=1)[list(OUTPUTS)].set_axis(model_input.index)

    def _check_columns(self, given: pd.DataFrame) -> None:
        expected = [column.name for column in input_columns(self.bundle.manifest, self.as_of)]
        missing = [name for name in expected if name not in given]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(expected)} input columns of the model are missing: "
                f"{', '.join(missing[:5])}",
                where=f"input of the {self.bundle.target} model",
                fix="add the columns of the model's signature; unknown values are NaN",
            )

    def _features(self, given: pd.DataFrame) -> pd.DataFrame:
        kinds = self.bundle.manifest.column_kinds
        if kinds:
            return features_of(given, kinds, self._as_of(given), self._table_format())
        return pd.DataFrame(
            {
                name: given[name] if name in self.bundle.encoder.levels else _numbers(given[name])
                for name in self.bundle.encoder.names
            }
        )

    def _table_format(self) -> TableReading:
        """Return the date and number formats of the training table."""
        return TableReading(**self.bundle.manifest.label_contract.get("written", {}))

    def _as_of(self, given: pd.DataFrame) -> pd.Series:
        """Return the as_of of each row of a ready-made table."""
        if self.as_of is not None and self.as_of in given:
            return parse_dates(given[self.as_of], self._table_format())
        taken_on = self.bundle.manifest.label_contract.get("taken_on")
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
"""Columns of the result of `PublishedModel.predict`."""


def input_columns(manifest: ModelManifest, as_of: str | None = None) -> list[InputColumn]:
    """Return the input columns of a bundle, in the order of its features.

    A column of a ready-made table has the values of its file: ``"Yes"``, ``true`` and 1 are the
    same flag. `as_of` is required if a date column is converted to days before it.
    """
    levels, kinds = manifest.encoder.levels, manifest.column_kinds
    names = manifest.encoder.names
    columns = [InputColumn(name, _kind(name, levels, kinds)) for name in names]
    if as_of is not None and as_of not in names and "date" in kinds.values():
        columns.append(InputColumn(as_of, "any"))
    return columns


def _kind(name: str, levels: Mapping[str, Sequence[str]], kinds: Mapping[str, str]) -> str:
    if name in levels and not all(_is_number(level) for level in levels[name]):
        return "text"
    return "any" if name in kinds or name in levels else "number"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column).astype("float64")


def _explanation_row(explanation: Explanation | None, p: float) -> dict[str, Any]:
    """Return the explanation columns of one row; a base rate has none."""
    if explanation is None:
        return {
            "base": p,
            "reasons": [],
            "themes": {},
            "context": 0.0,
            "unknown": 0.0,
            "circumstances": [],
        }
    return {
        "base": explanation["base"],
        "reasons": [*explanation["raises"], *explanation["lowers"]],
        **{name: explanation[name] for name in ("themes", "context", "unknown", "circumstances")},
    }


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PublishedModel:
    """Load a registered model; MLflow calls this function by name.

    Raises
    ------
    ModelError
        The bundle is damaged.
    """
    folder, config = Path(path), model_config or {}
    bundle = load(folder, expected_sha=config.get("sha"))
    return PublishedModel(bundle, config.get("as_of"), config.get("currency", ""))
