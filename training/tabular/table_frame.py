"""Converts a ready-made table to the typed training frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pandas as pd

from configs.runtime.errors import BellwetherError, DataError, combined_error, did_you_mean
from configs.schema.company import Company
from configs.schema.ready_table import ReadyTable
from configs.schema.workspace import Workspace
from features.sources.files.single_table import SingleTable, read_input
from features.sources.parsing.text_values import MISSING
from features.tables.catalog import FeatureInfo
from features.tables.source_tables import MOST
from training.data.training_frame import ROW_COLUMNS, TrainingFrame, check_unique
from training.tabular.column_kinds import (
    ColumnSummary,
    Kind,
    TableReading,
    convert,
    dates_of,
    detect_kind,
    is_text_column,
    parse_dates,
    table_format,
    text_of,
)
from training.tabular.outcome_column import read_label

UNDATED = pd.Timestamp("1970-01-01", tz="UTC")
"""as_of of a static table without a date."""

DATED = frozenset({"as_of", "label_known_at", "decided_at"})
ALSO_FEATURES = ("segment", "arr", "mrr")
"""Keys of columns that are also features."""

ONE_ROW = (
    "keep one row per account and as_of; if rows describe different times, name their column "
    "as table.as_of"
)
UNLABELLED, OPEN = "no label given", "window not yet observed"


@dataclass(frozen=True)
class TableColumn:
    """Role of one column.

    Attributes
    ----------
    name : str
        Name in the table.
    part : str
        ``feature``, ``left out``, or its key in the ``table`` section.
    kind : str
        Kind of the column; empty if it is not a feature.
    missing : float
        Share of labelled rows without a value.
    different : int
        Different values.
    words : str
        Reason for leaving it out, or a note.
    """

    name: str
    part: str
    kind: str
    missing: float
    different: int
    words: str


@dataclass(frozen=True)
class ParsedTable:
    """Parsed ready-made table.

    Attributes
    ----------
    frame : TrainingFrame
        Labelled rows.
    columns : tuple of TableColumn
        Every column of the table, in its order.
    contract : dict
        Definition of the label, with counts of excluded rows.
    open_rows : pandas.DataFrame
        Rows without a usable label, which a released model can score.
    """

    frame: TrainingFrame
    columns: tuple[TableColumn, ...]
    contract: dict[str, Any]
    open_rows: pd.DataFrame


def build_table_frame(workspace: Workspace, now: datetime) -> ParsedTable:
    """Read the company's table and convert it to a training frame.

    Parameters
    ----------
    workspace : Workspace
        A company with a ``table`` section.
    now : datetime
        Clock, UTC: labels known later are not used.

    Raises
    ------
    SourceError
        The table cannot be read.
    DataError
        A column is missing or unclear, or labels are contradictory.
    """
    company = workspace.company
    flat = read_input(workspace, _section(company).input_name)
    return table_of(company, flat, now)


def table_of(company: Company, flat: SingleTable, now: datetime) -> ParsedTable:
    """Convert a table to the typed training frame; see `build_table_frame`."""
    table, raw = _section(company), flat.rows
    check_columns(table, raw.columns, flat.place)
    how = table_format(table, raw)
    keys = entity_rows(table, raw, flat.place, how)
    label = read_label(table, raw[table.label.column], flat.place)
    check_unique(keys.assign(label=label.values), flat.place, fix=ONE_ROW)
    rows = _rows(table, raw, keys, label.values, how)
    excluded = _excluded(table, rows, now)
    used = excluded.isna()
    if not used.any():
        raise DataError(
            f"none of {len(raw):,} rows has a label that is known",
            where=flat.place,
            fix="check table.label, and that `now` is not before the labels were known",
        )
    seen = _detect_kinds(company, raw[used], how)
    reading: dict[str, Kind] = {name: item.kind for name, item in seen.items() if item.kind}
    if not reading:
        raise DataError("no column can be a feature", where=flat.place)
    order = rows[used].sort_values(["as_of", "entity_id"]).index
    contract = _contract(company, rows, excluded, flat.malformed) | {
        "label_words": label.words,
        "file_notes": list(flat.notes),
        "written": {"told": dict(how.told), "day_first": how.day_first},
        "columns_left_out": {name: item.words for name, item in seen.items() if item.kind is None},
    }
    frame = TrainingFrame(
        next(iter(company.targets)),
        rows.loc[order, list(ROW_COLUMNS)].astype({"label": "int8"}).reset_index(drop=True),
        features_of(raw.loc[order], reading, rows.loc[order, "as_of"], how),
        tuple(_info(table, name, kind) for name, kind in reading.items()),
        reading,
        contract,
    )
    columns = tuple(_column(table, raw[used], str(name), seen, how) for name in raw.columns)
    return ParsedTable(frame, columns, contract, raw[~used].reset_index(drop=True))


def _section(company: Company) -> ReadyTable:
    if company.table is None:
        raise DataError("the company has no ready-made table", where="table in company.yaml")
    return company.table


def check_columns(table: ReadyTable, columns: Iterable[str], place: str) -> None:
    """Raise for configured names that are not columns, for all of them at once.

    Raises
    ------
    DataError
        With the key, the column and the closest one.
    """
    known = [str(name) for name in columns]
    wanted = list(table.named.items())
    for key in ("columns", "written", "words", "signs"):
        wanted += [(f"{key}.{name}", name) for name in getattr(table, key)]
    lost = [(key, name) for key, name in wanted if name not in known]
    if lost:
        lines = [f"  {key}: no column {name!r} {did_you_mean(name, known)}" for key, name in lost]
        raise DataError(
            "the table has no such column:\n" + "\n".join(line.rstrip() for line in lines),
            where=f"table in company.yaml, {place}",
            fix="its columns are: " + ", ".join(known[:30]) + (" …" if len(known) > 30 else ""),
        )


def entity_rows(
    table: ReadyTable, raw: pd.DataFrame, place: str, how: TableReading | None = None
) -> pd.DataFrame:
    """Return the key of every row: entity_id and as_of.

    Raises
    ------
    DataError
        A key is missing, or an as_of is not a time.
    """
    if table.id is None:
        entity = pd.Series([f"row {i}" for i in range(1, len(raw) + 1)], index=raw.index)
    else:
        entity = text_of(raw[table.id], MISSING)
        _refuse_missing(entity, table.id, "name of the account", place)
    if table.as_of is None:
        moment = UNDATED if table.taken_on is None else pd.Timestamp(table.taken_on, tz="UTC")
        as_of = pd.Series(moment, index=raw.index, dtype="datetime64[us, UTC]")
    else:
        as_of = parse_dates(raw[table.as_of], how or table_format(table, raw))
        _refuse_missing(as_of, table.as_of, "date like 2024-01-31", place)
    return pd.DataFrame({"entity_id": entity, "as_of": as_of})


def _refuse_missing(values: pd.Series, column: str, what: str, place: str) -> None:
    missing = np.flatnonzero(values.isna())
    if len(missing):
        raise DataError(
            f"{len(missing):,} of {len(values):,} rows have no {what} in column {column}, "
            f"the first is row {missing[0] + 1}",
            where=place,
            fix="fill it, or remove these rows",
        )


def _rows(
    table: ReadyTable, raw: pd.DataFrame, keys: pd.DataFrame, label: pd.Series, how: TableReading
) -> pd.DataFrame:
    """Return the columns of `ROW_COLUMNS`, one row per row of the table."""
    nothing = pd.Series(np.nan, index=raw.index)
    decided = parse_dates(raw[table.decided_at], how) if table.decided_at else None
    never = pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us, UTC]")
    segment = text_of(raw[table.segment]).fillna("unknown") if table.segment else "all"
    return keys.assign(
        label=label,
        label_known_at=_known_at(table, raw, keys["as_of"], how),
        decision_at=never if decided is None else decided.where(label == 1),
        arr=_yearly(table, raw, keys["as_of"], how),
        segment=segment,
        is_under_contract=False,
        days_to_renewal=nothing,
        health_score=_health(table, raw, keys["as_of"], how),
    )


def _known_at(
    table: ReadyTable, raw: pd.DataFrame, as_of: pd.Series, how: TableReading
) -> pd.Series:
    if table.label_known_at is None:
        return as_of + pd.Timedelta(days=table.horizon_days or 0)
    known = parse_dates(raw[table.label_known_at], how)
    early = known < as_of
    if early.any():
        raise DataError(
            f"{int(early.sum()):,} labels were known before their as_of",
            where=f"columns {table.label_known_at} and {table.as_of}",
            fix="a label describes events after as_of; check both columns",
        )
    return known


def _yearly(table: ReadyTable, raw: pd.DataFrame, as_of: pd.Series, how: TableReading) -> pd.Series:
    name = table.arr or table.mrr
    if name is None:
        return pd.Series(np.nan, index=raw.index)
    values = convert(raw[name], "number", as_of, how)
    absurd = values[values.abs() > MOST]
    if len(absurd):
        raise DataError(
            f"{len(absurd):,} of {len(values):,} amounts are implausibly large, such as "
            f"{raw.loc[absurd.index[0], name]}",
            where=f"column {name}",
            fix="correct them in the source, or leave them empty",
        )
    return values * (1.0 if table.arr else 12.0)


def _health(table: ReadyTable, raw: pd.DataFrame, as_of: pd.Series, how: TableReading) -> pd.Series:
    if table.health_score is None:
        return pd.Series(np.nan, index=raw.index)
    score = convert(raw[table.health_score], "number", as_of, how)
    return score if table.health_score_means == "health" else -score


def _excluded(table: ReadyTable, rows: pd.DataFrame, now: datetime) -> pd.Series:
    """Return the reason for excluding a row, None for training rows."""
    why = pd.Series(None, index=rows.index, dtype="object")
    if table.as_of is not None:
        is_open = rows["label_known_at"].isna() | (rows["label_known_at"] > pd.Timestamp(now))
        why[is_open] = OPEN
    why[rows["label"].isna()] = UNLABELLED
    return why


def _detect_kinds(
    company: Company, raw: pd.DataFrame, how: TableReading
) -> dict[str, ColumnSummary]:
    """Return the kind of every possible feature; raise for all unclear ones at once."""
    table = _section(company)
    mistakes: list[BellwetherError] = []
    named = {name for key, name in table.named.items() if key not in ALSO_FEATURES}
    seen = {}
    for column in raw.columns:
        name = str(column)
        if name in named:
            continue
        wanted = table.columns.get(name)
        if wanted == "drop" or any(fnmatch(name, shape) for shape in company.exclude_features):
            seen[name] = ColumnSummary(None, "excluded by the configuration")
        elif wanted is not None:
            seen[name] = ColumnSummary(wanted, "kind set in the configuration")
        else:
            try:
                seen[name] = detect_kind(raw[name], how)
            except DataError as error:
                mistakes.append(error)
    mistakes += _undated(table, seen)
    if mistakes:
        raise combined_error(mistakes)
    return seen


def _undated(table: ReadyTable, seen: Mapping[str, ColumnSummary]) -> list[BellwetherError]:
    """Return the error of date columns in a table without as_of."""
    names = [name for name, item in seen.items() if item.kind == "date"]
    if not names or table.as_of is not None or table.taken_on is not None:
        return []
    dropped = ", ".join(f"{name}: drop" for name in names)
    many = f"columns {', '.join(names)} hold" if len(names) > 1 else f"column {names[0]} holds"
    return [
        DataError(
            f"{many} dates, and the table has no date",
            where="table in company.yaml",
            fix="give `taken_on: 2024-01-31`, so that they are read as days before that day, or "
            f"leave them out:  columns: {{{dropped}}}",
        )
    ]


def features_of(
    raw: pd.DataFrame, reading: Mapping[str, str], as_of: pd.Series, how: TableReading
) -> pd.DataFrame:
    """Return the feature columns: float64, and text for categories."""
    columns = {
        name: convert(raw[name], kind, as_of, how)  # type: ignore[arg-type]  # checked in the YAML
        for name, kind in reading.items()
    }
    return pd.DataFrame(columns, index=raw.index).reset_index(drop=True)


def _info(table: ReadyTable, name: str, kind: Kind) -> FeatureInfo:
    """Return the description of a column; every column is a theme of its own."""
    label = table.words.get(name) or in_words(name)
    sign = table.signs.get(name, 0)
    flipped = sign if table.outcome == "expansion" else 0
    return FeatureInfo(
        name=name,
        family="table",
        label=f"time since {label}" if kind == "date" and name not in table.words else label,
        meaning=f"column {name} of the table",
        unit="flag" if kind == "flag" else "days" if kind == "date" else "score",
        window_days=None,
        theme=f"column:{name}",
        churn_sign=0 if flipped else sign,
        expansion_sign=flipped,
    )


def in_words(name: str) -> str:
    """Return a column's name as words.

    >>> in_words("MonthlyCharges"), in_words("nps_score"), in_words("customerID")
    ('monthly charges', 'nps score', 'customer ID')
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"[_\-.\s]+", " ", name)).strip()
    return " ".join(word if word.isupper() else word.lower() for word in apart.split()) or name


def _contract(
    company: Company, rows: pd.DataFrame, excluded: pd.Series, malformed: int
) -> dict[str, Any]:
    table, used = _section(company), rows[excluded.isna()]
    events = used[used["label"] == 1]
    left_out = {str(why): int(n) for why, n in excluded.value_counts().sort_index().items()}
    if malformed:
        left_out["malformed lines"] = malformed
    target = next(iter(company.targets))
    horizon = f" within {table.horizon_days} days of as_of" if table.horizon_days else ""
    positive = table.label.positive or "1, true or yes"
    return {
        "target": target,
        "outcome": table.outcome,
        "observed_in": "table",
        "words": f"{table.outcome}: column {table.label.column} is {positive}{horizon}",
        "horizon_days": table.horizon_days,
        "lead_time_days": 0,
        "until_renewal": False,
        "is_static": table.as_of is None,
        "taken_on": None if table.taken_on is None else str(table.taken_on),
        "rows": len(rows),
        "used_rows": len(used),
        "entities": int(used["entity_id"].nunique()),
        "event_rows": len(events),
        "event_entities": int(events["entity_id"].nunique()),
        "excluded": left_out,
    }


def _column(
    table: ReadyTable,
    raw: pd.DataFrame,
    name: str,
    seen: Mapping[str, ColumnSummary],
    how: TableReading,
) -> TableColumn:
    values = text_of(raw[name]) if is_text_column(raw[name]) else raw[name]
    parts = [key for key, column in table.named.items() if column == name]
    found = seen.get(name)
    kind = (found.kind if found else None) or ""
    if found is not None:
        parts = ["feature" if kind else "left out", *parts]
    words = found.words if found else ""
    if set(parts) & DATED:
        words = dates_of(raw[name], how).words
    if kind == "number":
        words = _and_infinite(words, raw[name])
    return TableColumn(
        name,
        ", ".join(parts),
        kind,
        float(values.isna().mean()),
        int(values.nunique()),
        words,
    )


def _and_infinite(words: str, column: pd.Series) -> str:
    infinite = int(np.isinf(pd.to_numeric(column, errors="coerce").astype("float64")).sum())
    if not infinite:
        return words
    return "; ".join(
        [*([words] if words else []), f"{infinite:,} infinite values count as missing"]
    )
