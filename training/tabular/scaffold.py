"""Scaffold of a company folder for a ready-made table, with the reason of each guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State
from configs.schema.company import COMPANY_FILE, parse_company
from configs.schema.ready_table import ReadyTable
from configs.schema.workspace import Workspace
from features.sources.files.single_table import read_single_table
from features.sources.scaffold import NOTE_AT, company_name
from training.tabular.guess_columns import TableGuess, guess_table

MAX_OTHERS = 4
_IN_LABEL = ("label", "positive")


def scaffold_table(folder: Path, table: Path) -> list[TableGuess]:
    """Write ``company.yaml`` for a ready-made table and return the guesses.

    Parameters
    ----------
    folder : Path
        Created if missing; its name becomes the company's.
    table : Path
        CSV, Excel, JSON or Parquet, one row per account, or per account and as_of; not copied.

    Raises
    ------
    ConfigError
        The folder already contains a company.
    SourceError
        The table cannot be read.
    DataError
        No column qualifies as label.
    """
    path = folder / COMPANY_FILE
    if path.exists():
        raise ConfigError(
            "the folder already contains a company; nothing was written",
            where=str(path),
            fix="use another folder, or delete the file first",
        )
    name = company_name(folder.resolve().name)
    guesses = guess_table(read_single_table(_empty_workspace(name, folder), table).rows)
    text = _text(name, folder, table, guesses)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return guesses


def _empty_workspace(name: str, folder: Path) -> Workspace:
    """Return an empty workspace, to read a file by its path."""
    raw = {"name": name, "table": {"file": "table", "label": "label"}}
    return Workspace(parse_company(raw, where="table"), folder, folder, State(folder / "state"))


def _text(name: str, folder: Path, table: Path, guesses: Sequence[TableGuess]) -> str:
    home = table.resolve().parent
    data = "." if home == folder.resolve() else str(home)
    given = {guess.key: guess for guess in guesses}
    lines = [
        "# A ready-made table: the roles of its columns were guessed. Correct them where needed;",
        "# `bellwether check FOLDER` lists the kind of each column.",
        "config_version: 1",
        f"name: {name}",
        f"data: {json.dumps(data)}",
        "",
        "table:",
        f"  file: {json.dumps(table.name)}",
        *_label_lines(given),
        *(_line(guess) for guess in guesses if guess.key not in _IN_LABEL),
        *(
            _with_comment(f"#{key}: ", f"{field.description}")
            for key, field in ReadyTable.model_fields.items()
            if key not in given and key not in ("file", "source", "label")
        ),
        "",
        "reporting_currency: USD",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _label_lines(given: dict[str, TableGuess]) -> list[str]:
    label, positive = given["label"], given.get("positive")
    if positive is None:
        return [_line(label)]
    parts = f"{{column: {json.dumps(label.value)}, positive: {json.dumps(positive.value)}}}"
    both = TableGuess("label", "", f"{label.why}; {positive.value}: {positive.why}", label.others)
    return [_with_comment(f"label: {parts}", _why(both))]


def _line(guess: TableGuess) -> str:
    return _with_comment(f"{guess.key}: {json.dumps(guess.value)}", _why(guess))


def _why(guess: TableGuess) -> str:
    others = ", ".join(guess.others[:MAX_OTHERS])
    more = " …" if len(guess.others) > MAX_OTHERS else ""
    return f"guessed from {guess.why}" + (f"; or: {others}{more}" if others else "")


def _with_comment(text: str, note: str) -> str:
    return f"  {text:<{NOTE_AT}}  # {' '.join(note.split())}"
