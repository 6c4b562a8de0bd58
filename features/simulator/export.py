"""Export of a simulation as source files with the names and formats of other systems."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.simulator.data_errors import UNREADABLE
from features.simulator.simulate import Simulation
from features.tables.source_tables import TABLES

TRUTH = "truth"
"""Subfolder of the ground truth, which no source reads."""

LOCAL_ZONE = "Europe/Berlin"
"""Time zone of the call log, which writes local times without a zone."""

_ARROW = {
    "id": pa.string(),
    "text": pa.string(),
    "instant": pa.timestamp("us", tz="UTC"),
    "day": pa.date32(),
    "number": pa.float64(),
    "count": pa.int64(),
    "flag": pa.bool_(),
}


@dataclass(frozen=True)
class Export:
    """Export of one table.

    Attributes
    ----------
    file : str
        File name; its ending decides the format.
    names : dict of str to str
        Canonical column: exported column, where they differ.
    where : tuple of (str, str) or None
        Filter: rows with this value in this column; the column is dropped.
    local : bool
        Write instants as local times of `LOCAL_ZONE` instead of UTC.
    in_percent : str or None
        Share column written as 0 to 100.
    """

    file: str
    names: dict[str, str] = field(default_factory=dict)
    where: tuple[str, str] | None = None
    local: bool = False
    in_percent: str | None = None


_SURVEY_NAMES = {
    "account_id": "company_ref",
    "respondent_id": "person_ref",
    "responded_at": "answered",
    "score": "answer",
    "comment": "remark",
    "known_at": "delivered",
}

EXPORTS: tuple[tuple[str, Export], ...] = (
    (
        "accounts",
        Export(
            "crm_accounts.csv",
            {
                "account_id": "Id",
                "created_at": "CreatedDate",
                "name": "AccountName",
                "segment": "Tier__c",
                "plan": "Plan__c",
                "industry": "Industry",
                "region": "Region__c",
                "parent_account_id": "ParentId",
                "owner_id": "OwnerId",
            },
        ),
    ),
    (
        "contacts",
        Export(
            "crm_contacts.csv",
            {
                "account_id": "AccountId",
                "contact_id": "Id",
                "created_at": "CreatedDate",
                "role": "Title",
                "is_champion": "Champion__c",
                "left_at": "LeftCompany__c",
            },
        ),
    ),
    (
        "opportunities",
        Export(
            "crm_opportunity_history.csv",
            {
                "account_id": "AccountId",
                "opportunity_id": "OpportunityId",
                "changed_at": "CreatedDate",
                "kind": "Type",
                "amount": "Amount",
                "currency": "CurrencyIsoCode",
                "stage": "StageName",
                "commit": "Probability",
                "close_on": "CloseDate",
            },
            in_percent="commit",
        ),
    ),
    ("touches", Export("call_log.csv", local=True)),
    ("subscriptions", Export("billing_subscriptions.csv")),
    ("invoices", Export("billing_invoices.parquet")),
    ("support_tickets", Export("helpdesk_tickets.csv")),
    ("survey_responses", Export("survey_nps.csv", _SURVEY_NAMES, ("kind", "nps"))),
    ("survey_responses", Export("survey_effort.csv", _SURVEY_NAMES, ("kind", "ces"))),
    ("usage_events", Export("usage_events.parquet")),
    ("entitlements", Export("entitlements.parquet")),
    ("milestones", Export("milestones.csv")),
    ("health_scores", Export("health_scores.parquet")),
    ("owners", Export("owners.csv")),
    ("rates", Export("rates.csv")),
)


def write_tables(world: Simulation, folder: Path) -> None:
    """Write a simulation as files, atomically, and its ground truth into ``truth/``.

    Parameters
    ----------
    world : Simulation
        From `features.simulator.simulate`.
    folder : Path
        Created if needed; existing files of the same names are replaced.
    """
    (folder / TRUTH).mkdir(parents=True, exist_ok=True)
    for table, export in EXPORTS:
        frame = _as_text(world, table, export) if export.file.endswith(".csv") else None
        path = folder / export.file
        if frame is None:
            _replace(path, _parquet_writer(_as_arrow(world.tables[table], table)))
        else:
            _replace(path, _csv_writer(frame))
    for name, frame in (("truth", world.truth), ("decisions", world.decisions)):
        _replace(folder / TRUTH / f"{name}.parquet", _parquet_writer(_plain_arrow(frame)))


def _as_arrow(frame: pd.DataFrame, table: str) -> pa.Table:
    """Return a table with the types of the contract."""
    spec = TABLES[table].columns
    columns = {}
    for name in frame:
        kind = spec[str(name)].kind if name in spec else "instant"
        values = pa.Array.from_pandas(frame[name])
        if isinstance(values.type, pa.DictionaryType) is False:
            values = values.cast(_ARROW[kind])
        columns[str(name)] = values
    return pa.table(columns)


def _plain_arrow(frame: pd.DataFrame) -> pa.Table:
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    for place, item in enumerate(table.schema):
        if pa.types.is_timestamp(item.type):
            days = table.column(place).cast(pa.date32())
            table = table.set_column(place, item.name, days)
    return table


def _as_text(world: Simulation, table: str, export: Export) -> pd.DataFrame:
    """Return a table as the text cells of its CSV file."""
    frame, spec = world.tables[table], TABLES[table].columns
    columns = {}
    for name in frame:
        kind = spec[str(name)].kind if name in spec else "instant"
        text = _text(frame[name], kind, local=export.local)
        for place, row in enumerate(world.unreadable.get(table, {}).get(str(name), ())):
            text[row] = UNREADABLE[place % len(UNREADABLE)]
        columns[str(name)] = text
    written = pd.DataFrame(columns)
    if export.in_percent is not None:
        written[export.in_percent] = (100 * frame[export.in_percent]).round()
    if export.where is not None:
        column, value = export.where
        written = written[written[column] == value].drop(columns=column)
    return written.rename(columns=export.names)


def _text(values: pd.Series, kind: str, *, local: bool) -> np.ndarray:
    if kind == "instant":
        moments = values.dt.tz_convert(LOCAL_ZONE if local else "UTC")
        text = moments.dt.strftime("%Y-%m-%d %H:%M:%S" if local else "%Y-%m-%dT%H:%M:%SZ")
    elif kind == "day":
        text = values.dt.strftime("%Y-%m-%d")
    elif kind == "flag":
        text = values.map({True: "yes", False: "no"})
    else:
        text = values
    return text.astype(object).to_numpy(copy=True)


def _csv_writer(frame: pd.DataFrame) -> Callable[[Path], None]:
    return lambda path: frame.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")


def _parquet_writer(table: pa.Table) -> Callable[[Path], None]:
    return lambda path: pq.write_table(table, path, compression="zstd")


def _replace(path: Path, writer: Callable[[Path], None]) -> None:
    """Write a temporary file and rename it, so readers see the old or the new file."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        writer(temporary)
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
