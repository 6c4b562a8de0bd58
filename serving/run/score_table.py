"""New rows of a ready-made table to scores with reasons, as Parquet and CSV."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.errors import ConfigError, DataError, StateError, did_you_mean
from configs.runtime.hashing import digest
from configs.runtime.state_directory import new_folder
from configs.schema.workspace import Workspace
from features.sources.files.single_table import SingleTable, read_single_table
from serving.http.score_text import MEASURES, estimate_text
from serving.run.release import published
from serving.scoring.export_rows import cell, fact_texts
from serving.scoring.scorer import Scorer, ScoringModel
from training.model.bundle import Scores
from training.model.reasons import Explanation, explain_alone, points
from training.promote import promote
from training.registry.releases import Release
from training.tabular.column_kinds import is_text_column, table_format, text_of
from training.tabular.table_frame import UNDATED, build_table_frame, entity_rows, features_of
from training.train_table import table_feature_set, train_table

Progress = Callable[[str], None]

SCORES, SCORES_CSV, POINTS = "scores.parquet", "scores.csv", "points.parquet"

NO_ROWS = "every row of the table has a label, so there is no row to score"


@dataclass(frozen=True)
class TableScores:
    """One scored table.

    Attributes
    ----------
    folder : Path
        ``scores/<run>/``: scores.parquet, scores.csv, and points.parquet: the points of
        probability of every column, which add up with the base to the probability.
    n : int
        Rows scored.
    notes : tuple of str
        What of the rows could not be read as in training.
    """

    folder: Path
    n: int
    notes: tuple[str, ...]


def run_table(workspace: Workspace, now: datetime, progress: Progress) -> TableScores | None:
    """Train, publish, and score the rows that have no label yet, if there are any."""
    trained = train_table(workspace, now, progress)
    features = table_feature_set(workspace, trained)
    promote(workspace, features, trained, created_at=now, progress=progress)
    open_rows = build_table_frame(workspace, now).open_rows
    if open_rows.empty:
        progress(f"{NO_ROWS}: `bellwether score --rows FILE` takes new ones")
        return None
    return _score(workspace, SingleTable(open_rows, "rows without a label", 0), now, progress)


def score_table(
    workspace: Workspace, rows: Path | None, out: Path | None, now: datetime, progress: Progress
) -> TableScores:
    """Score rows with the published release.

    Parameters
    ----------
    workspace : Workspace
        A company with a ``table`` section; the caller holds the lock.
    rows : Path or None
        CSV, Excel, JSON or Parquet with the columns of the table; by default its rows without a
        label.
    out : Path or None
        A copy of the scores goes here, as Parquet or CSV by its ending.
    now : datetime
        The clock, UTC.
    progress : callable
        Receives messages about the result.

    Raises
    ------
    DataError
        Columns are missing, or there is no row.
    """
    _refuse_ending(out)
    if rows is None:
        flat = SingleTable(build_table_frame(workspace, now).open_rows, "rows without a label", 0)
        if flat.rows.empty:
            raise DataError(
                NO_ROWS,
                where="table in company.yaml",
                fix="name a table of new rows:  bellwether score COMPANY --rows FILE",
            )
    else:
        flat = read_single_table(workspace, rows)
    scored = _score(workspace, flat, now, progress)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scored.folder / (SCORES_CSV if _is_csv(out) else SCORES), out)
        progress(f"wrote {out}")
    return scored


def _is_csv(out: Path) -> bool:
    return out.suffix.lower() == ".csv"


def _refuse_ending(out: Path | None) -> None:
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(
            f"scores are written as .csv or .parquet, not as {out.suffix!r}",
            where=f"--out {out}",
            fix="name a file that ends in .csv or .parquet",
        )


def _score(
    workspace: Workspace, flat: SingleTable, now: datetime, progress: Progress
) -> TableScores:
    release = published(workspace)
    model = Scorer.load(workspace, release).models[0]
    keys, values, notes = _rows(workspace, model, flat)
    encoded = model.bundle.encoder.encode(values)
    scores = model.bundle.predict(encoded.matrix)
    why = _explained(workspace, model, encoded.matrix)
    table = _answers(release, model, keys, scores, why, values)
    run_id = digest(release.release_id, _content(keys, values), length=16)
    folder = workspace.state.scores / run_id
    manifest = {
        "run_id": run_id,
        "release_id": release.release_id,
        "bundle_sha": model.sha,
        "rows": flat.place,
        "served_at": now.isoformat(),
        "n": len(keys),
        "notes": list(notes),
    }
    with new_folder(folder, manifest) as aside:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), aside / SCORES)
        _write_csv(aside / SCORES_CSV, table)
        moved = _points(model, keys, encoded.matrix)
        pq.write_table(pa.Table.from_pandas(moved, preserve_index=False), aside / POINTS)
    for note in notes:
        progress(note)
    progress(f"scored {len(keys):,} rows: {folder / SCORES_CSV} and {SCORES}")
    return TableScores(folder, len(keys), notes)


def _content(keys: pd.DataFrame, values: pd.DataFrame) -> str:
    hashed = pd.util.hash_pandas_object(pd.concat([keys, values], axis=1), index=False)
    return digest(hashed.tolist())


def _rows(
    workspace: Workspace, model: ScoringModel, flat: SingleTable
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return keys, feature values read as in training, and what did not fit."""
    table = workspace.company.table
    reading: Mapping[str, str] = model.bundle.manifest.column_kinds
    if table is None or not reading:
        raise StateError(
            "the published model was not trained on a ready-made table",
            where=str(workspace.state.root),
            fix="bellwether train COMPANY, then bellwether promote COMPANY",
        )
    if flat.rows.empty:
        raise DataError("there is no row to score", where=flat.place)
    named = [name for name in (table.id, table.as_of) if name is not None]
    _refuse_lacking([*named, *reading], [str(name) for name in flat.rows], flat.place)
    how = table_format(table, flat.rows)
    keys = entity_rows(table, flat.rows, flat.place, how)
    values = features_of(flat.rows, reading, keys["as_of"], how)
    return keys.reset_index(drop=True), values, tuple(_unfit(flat, values, model))


def _refuse_lacking(wanted: Sequence[str], known: Sequence[str], place: str) -> None:
    lacking = [name for name in wanted if name not in known]
    if lacking:
        hints = [f"  {name} {did_you_mean(name, known)}".rstrip() for name in lacking]
        raise DataError(
            f"{len(lacking)} of {len(wanted)} columns the model needs are not there:\n"
            + "\n".join(hints[:20]),
            where=place,
            fix="give the rows the columns of the table the model was trained on",
        )


def _unfit(flat: SingleTable, values: pd.DataFrame, model: ScoringModel) -> list[str]:
    """Return in words what of the rows could not be read as in training."""
    notes = [f"{flat.malformed:,} malformed lines are not scored"] if flat.malformed else []
    for name in values:
        raw = flat.rows[name]
        given = (text_of(raw) if is_text_column(raw) else raw).notna().to_numpy()
        levels = model.bundle.encoder.levels.get(str(name))
        fits = values[name].notna() if levels is None else values[name].isin(levels)
        n = int((given & ~fits.to_numpy()).sum())
        if n:
            what = "were not learned from" if levels is not None else "cannot be read"
            notes.append(f"{name}: {n:,} of {len(values):,} values {what} and count as missing")
    return notes


def _explained(
    workspace: Workspace, model: ScoringModel, matrix: np.ndarray
) -> Sequence[Explanation | None]:
    if not model.bundle.has_reasons:
        return [None] * len(matrix)
    return explain_alone(model.bundle, matrix, currency=workspace.company.reporting_currency)


def _answers(
    release: Release,
    model: ScoringModel,
    keys: pd.DataFrame,
    scores: Scores,
    why: Sequence[Explanation | None],
    values: pd.DataFrame,
) -> pd.DataFrame:
    """Return one row per scored row, highest probability first."""
    bundle, p = model.bundle, scores.p
    dated = keys["as_of"].where(keys["as_of"] != UNDATED)
    table = pd.DataFrame(
        {
            "account_id": keys["entity_id"],
            "as_of": dated.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            MEASURES[bundle.outcome]: p,
            "low": scores.low,
            "high": scores.high,
            "band": [model.band(value) for value in p],
            "confidence": model.confidence(scores),
            "verdict": bundle.verdict,
            "text": [estimate_text(model.contract, False, value) for value in p],
            "reasons": [_facts(item, "raises") for item in why],
            "protections": [_facts(item, "lowers") for item in why],
            "reason_codes": [_codes(item) for item in why],
            "base": [None if item is None else item["base"] for item in why],
            "n_missing": values.isna().sum(axis=1),
            "release_id": release.release_id,
            "bundle_sha": model.sha,
        }
    )
    order = np.lexsort((keys["entity_id"].to_numpy(dtype=str), -p))
    ranked = table.iloc[order].reset_index(drop=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked


def _facts(item: Explanation | None, side: str) -> list[str]:
    return [] if item is None else fact_texts(item[side])  # type: ignore[literal-required]


def _codes(item: Explanation | None) -> list[str]:
    return [] if item is None else [reason["code"] for reason in item["raises"]]


def _points(model: ScoringModel, keys: pd.DataFrame, matrix: np.ndarray) -> pd.DataFrame:
    """Return per row the base and the points of every column: they sum to the probability."""
    names = list(model.bundle.encoder.names)
    if not model.bundle.has_reasons:
        return keys.assign(base=model.bundle.predict(matrix).p)
    contributions = model.bundle.explain(matrix)
    base = 1.0 / (1.0 + np.exp(-contributions.base))
    moved = pd.DataFrame(points(contributions), columns=names)
    return pd.concat([keys.assign(base=base), moved], axis=1)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\r\n")
        writer.writerow([cell(str(name)) for name in table.columns])
        for row in pa.Table.from_pandas(table, preserve_index=False).to_pylist():
            writer.writerow([cell(value) for value in row.values()])
