"""Deletion of an account or a person in the files of the state directory.

Each file is rewritten next to the old one and renamed into place, so a reader has the old or the
new content. Files with a checksum of their own (bundles, releases) hold no ids and are not changed;
`Finding` names any that do.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime.hashing import canonical_json, file_digest
from configs.runtime.state_directory import (
    HAS_FORGOTTEN,
    MANIFEST,
    State,
    read_manifest,
    write_json_atomically,
)
from features.sources.build_table import QUARANTINE
from serving.privacy.subject import Subject

EVIDENCE = ("training",)
"""Folders whose rows are kept under the pseudonym: the measures of a model are computed again from
them (`bellwether verify`)."""

REPORTS = "reports"
"""Folder of texts that name accounts: they are searched for names, too."""

SEALED = ("bundles", "releases", "privacy")
"""Folders with checksums, or without ids: never rewritten."""

DATABASES = (".db", ".db-wal", ".db-shm", ".lock", ".key")
"""Suffixes of files that hold no text, or are changed through their database."""

KEPT_IN_QUARANTINE = ("quarantine_row", "quarantine_reasons", "quarantine_source")


@dataclass(frozen=True)
class Finding:
    """Traces of a subject in one place.

    Attributes
    ----------
    place : str
        File below the state directory, or database table.
    deleted : int
        Rows or objects that are deleted.
    changed : int
        Values that are replaced by the pseudonym or emptied.
    """

    place: str
    deleted: int = 0
    changed: int = 0


def scrub_files(state: State, subject: Subject, *, is_trial: bool) -> list[Finding]:
    """Remove a subject from every file of the state directory; with `is_trial` only count."""
    found: list[Finding] = []
    touched: set[Path] = set()
    for path in _files(state.root):
        deleted, changed = _scrub(state.root, path, subject, is_trial=is_trial)
        if deleted or changed:
            place = path.relative_to(state.root).as_posix()
            found.append(Finding(place, deleted, changed))
            touched.add(path.parent)
            if not is_trial:
                _correct_manifest(path, deleted)
    if not is_trial:
        for folder in touched:
            _seal_again(folder)
    return found


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        is_skipped = parts[0] in SEALED or path.name.endswith(DATABASES)
        if path.is_file() and not path.is_symlink() and not is_skipped:
            yield path


def _scrub(root: Path, path: Path, subject: Subject, *, is_trial: bool) -> tuple[int, int]:
    """Return how many rows and values of a file concern a subject, and remove them."""
    top = path.relative_to(root).parts[0]
    if top == REPORTS:
        subject = replace(subject, searches_names=True)
    if path.suffix == ".parquet":
        is_evidence = top in EVIDENCE
        return _scrub_parquet(path, subject, is_evidence=is_evidence, is_trial=is_trial)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return 0, 0
    if not _may_hold(text, subject):
        return 0, 0
    clean, deleted, changed = _TEXT.get(path.suffix, _clean_text)(text, subject)
    if (deleted or changed) and not is_trial:
        with replaced(path) as aside:
            aside.write_bytes(clean.encode())
    return deleted, changed


def _may_hold(text: str, subject: Subject) -> bool:
    lowered = text.lower()
    return any(word.lower() in lowered for word in (subject.value, *subject.names))


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path next to a file, and rename it over the file on success."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    aside = Path(name)
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _scrub_parquet(
    path: Path, subject: Subject, *, is_evidence: bool, is_trial: bool
) -> tuple[int, int]:
    file = pq.ParquetFile(path)
    names = [field.name for field in file.schema_arrow if _holds_text(field.type)]
    if not names:
        return 0, 0
    is_raw = path.name == QUARANTINE
    row_keys: tuple[str, ...] = () if is_evidence or is_raw else subject.row_keys
    if subject.kind == "person" and path.parent.name == "owners":
        row_keys += ("owner_id",)
    deleted = changed = 0
    for batch in file.iter_batches(columns=names):
        _, gone, other = _clean_batch(batch, subject, row_keys=row_keys, is_raw=is_raw)
        deleted, changed = deleted + gone, changed + other
    if (deleted or changed) and not is_trial:
        with (
            replaced(path) as aside,
            pq.ParquetWriter(aside, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches():
                clean, _, _ = _clean_batch(batch, subject, row_keys=row_keys, is_raw=is_raw)
                writer.write_batch(clean)
    return deleted, changed


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _clean_batch(
    batch: pa.RecordBatch, subject: Subject, *, row_keys: Sequence[str], is_raw: bool
) -> tuple[pa.RecordBatch, int, int]:
    """Return a batch without the subject, and the numbers of deleted rows and changed values."""
    deleted = 0
    if row_keys:
        own = _own_rows(batch, subject, row_keys)
        deleted = int(pc.sum(own).as_py() or 0)
        if deleted:
            batch = batch.filter(pc.invert(own))
    if is_raw:
        return *_emptied_rows(batch, subject), 0
    changed = 0
    for position, item in enumerate(batch.schema):
        if _holds_text(item.type) and _is_suspect(batch, position, subject):
            values = batch.column(position).to_pylist()
            clean = [_clean_cell(value, subject) for value in values]
            changed += sum(a != b for a, b in zip(values, clean, strict=True))
            batch = batch.set_column(position, item, pa.array(clean, item.type))
    return batch, deleted, changed


def _own_rows(batch: pa.RecordBatch, subject: Subject, row_keys: Sequence[str]) -> pa.Array:
    own = pa.array([False] * len(batch))
    for name in row_keys:
        if name in batch.schema.names and _holds_text(batch.schema.field(name).type):
            column = batch.column(batch.schema.get_field_index(name))
            hits = [subject.equals(v) for v in column.dictionary_encode().dictionary.to_pylist()]
            if any(hits):
                own = pc.or_(own, pa.array([subject.equals(v) for v in column.to_pylist()]))
    return own


def _is_suspect(batch: pa.RecordBatch, position: int, subject: Subject) -> bool:
    """Whether a column holds the subject anywhere; a quick test on its distinct texts."""
    column = batch.column(position)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    text = column.cast(pa.large_string())
    return any(
        pc.any(pc.match_substring(text, word, ignore_case=True)).as_py()
        for word in (subject.value, *subject.names)
    )


def _clean_cell(value: Any, subject: Subject) -> Any:
    if isinstance(value, str):
        return subject.cleaned(value)
    if isinstance(value, list):
        return [_clean_cell(item, subject) for item in value]
    return value


def _emptied_rows(batch: pa.RecordBatch, subject: Subject) -> tuple[pa.RecordBatch, int]:
    """Return raw rows, emptied where any of their values is or mentions the subject."""
    rows = batch.to_pylist()
    n = 0
    for row in rows:
        held = [v for k, v in row.items() if k not in KEPT_IN_QUARANTINE and isinstance(v, str)]
        if any(subject.equals(value) or subject.cleaned(value) != value for value in held):
            row.update({k: None for k in row if k not in KEPT_IN_QUARANTINE})
            n += 1
    return (pa.RecordBatch.from_pylist(rows, batch.schema) if n else batch), n


def _clean_csv(text: str, subject: Subject) -> tuple[str, int, int]:
    lines = list(csv.reader(io.StringIO(text, newline="")))
    header, out, deleted, changed = lines[0], io.StringIO(newline=""), 0, 0
    own = [i for i, name in enumerate(header) if name in subject.row_keys]
    writer = csv.writer(out, lineterminator="\r\n" if "\r\n" in text else "\n")
    writer.writerow(header)
    for cells in lines[1:]:
        if any(i < len(cells) and subject.equals(cells[i]) for i in own):
            deleted += 1
            continue
        clean = [subject.cleaned(cell) for cell in cells]
        changed += sum(a != b for a, b in zip(cells, clean, strict=True))
        writer.writerow(clean)
    return out.getvalue(), deleted, changed


def _clean_json(text: str, subject: Subject) -> tuple[str, int, int]:
    value = orjson.loads(text)
    clean = _without_ids(subject.cleaned_value(value), subject)
    if clean == value:
        return text, 0, 0
    return canonical_json(clean) + "\n", 0, 1


def _without_ids(value: Any, subject: Subject) -> Any:
    """Return lists of ids without the pseudonym: an account that is gone is not counted."""
    if isinstance(value, list):
        return [_without_ids(item, subject) for item in value if item != subject.pseudonym]
    if isinstance(value, dict):
        return {key: _without_ids(item, subject) for key, item in value.items()}
    return value


def _clean_json_lines(text: str, subject: Subject) -> tuple[str, int, int]:
    kept, deleted, changed = [], 0, 0
    for line in text.splitlines():
        value = orjson.loads(line)
        if isinstance(value, dict) and any(subject.equals(value.get(k)) for k in subject.row_keys):
            deleted += 1
            continue
        clean = subject.cleaned_value(value)
        changed += clean != value
        kept.append(line if clean == value else orjson.dumps(clean).decode())
    return "".join(f"{line}\n" for line in kept), deleted, changed


def _clean_text(text: str, subject: Subject) -> tuple[str, int, int]:
    clean = subject.removed_from(text)
    return clean, 0, int(clean != text)


_TEXT: dict[str, Callable[[str, Subject], tuple[str, int, int]]] = {
    ".csv": _clean_csv,
    ".json": _clean_json,
    ".jsonl": _clean_json_lines,
}


def _correct_manifest(path: Path, deleted: int) -> None:
    """Correct the counts of a source table or a score run after rows were deleted."""
    manifest = read_manifest(path.parent)
    if manifest is None or not deleted:
        return
    if path.name == "data.parquet" and "rows_quarantined" in manifest:
        reasons = dict(manifest["quarantined"])
        reasons["forgotten"] = reasons.get("forgotten", 0) + deleted
        manifest |= {
            "rows": manifest["rows"] - deleted,
            "rows_quarantined": manifest["rows_quarantined"] + deleted,
            "quarantined": reasons,
        }
    elif path.name == "scores.parquet" and "statuses" in manifest:
        counts = pq.read_table(path, columns=["status"])["status"].value_counts().to_pylist()
        manifest["statuses"] = {item["values"]: item["counts"] for item in counts}
    else:
        return
    write_json_atomically(path.parent / MANIFEST, manifest)


def _seal_again(folder: Path) -> None:
    """Renew the checksums of a training's files after one was changed."""
    for place in (folder, folder.parent):
        manifest = read_manifest(place)
        if manifest is not None and isinstance(manifest.get("files"), dict):
            manifest["files"] = {
                name: file_digest(place / name)
                for name in manifest["files"]
                if (place / name).is_file()
            }
            manifest[HAS_FORGOTTEN] = True
            write_json_atomically(place / MANIFEST, manifest)
