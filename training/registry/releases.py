"""What is published: one release at a time, switched by one compare-and-swap.

A release names a bundle per target and everything an answer needs with it, so that the risk and
the upsell of one answer never come from different releases. The store is the truth; the JSON
mirror beside it is what serving reads, so a database that is away stops nobody from answering,
and the aliases of the model registry are repaired from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from configs.runtime.database import address, reading, writing
from configs.runtime.errors import ModelError, StateError
from configs.runtime.hashing import canonical_json, digest, file_digest
from configs.runtime.migrate import open_engine
from configs.runtime.state_directory import (
    MANIFEST,
    read_json,
    read_manifest,
    write_json_atomically,
)
from configs.runtime.tables import RELEASE_TABLES, pointer_table, publications_table, releases_table
from configs.schema.workspace import Workspace

VERDICTS = ("promotable", "provisional", "no_signal")
CURRENT = "current.json"
SERVED = "served.json"


@dataclass(frozen=True)
class Release:
    """One immutable release. Its id hashes all of it.

    Attributes
    ----------
    release_id : str
        ``<date>-<hash>``; dates sort, the hash tells a damaged copy from a good one.
    created_at : str
        ISO 8601, UTC.
    bundles : dict
        Per target: ``sha`` of the bundle and ``verdict`` (`VERDICTS`).
    feature_set : dict
        ``hash`` and the ordered ``names`` of the served vector.
    bands : dict
        Per target: probability in [0, 1] at which each band starts, frozen here.
    frozen : dict
        Per target: what the bands were sized by, and the limits of confidence
        (`training.model.bands`). Empty in releases of version 0.1.0, whose bands were multiples of
        the base rate.
    reason_catalogue_version : str
        Of the wording of reasons.
    label_contracts : dict
        Per target: what was predicted, as printed.
    config_hash : str
        Of the company's configuration.
    evidence : dict
        Gate results, who decided and why.
    note : str
        For people.
    """

    release_id: str
    created_at: str
    bundles: dict[str, dict[str, str]]
    feature_set: dict[str, Any]
    bands: dict[str, dict[str, float]]
    reason_catalogue_version: str
    label_contracts: dict[str, dict[str, Any]]
    config_hash: str
    evidence: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    frozen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping that is stored and mirrored."""
        return asdict(self)


@dataclass(frozen=True)
class Publication:
    """One switch of the current release, as it happened.

    Attributes
    ----------
    sequence : int
        1, 2, 3 … per company, without gaps.
    release_id : str
        Current from here on.
    previous : str or None
        Current until then.
    action : str
        ``publish`` or ``rollback``.
    published_at : datetime
        UTC.
    published_by, note : str
        Who, and why.
    """

    sequence: int
    release_id: str
    previous: str | None
    action: str
    published_at: datetime
    published_by: str
    note: str


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class ReleaseStore:
    """The releases of one company.

    Attributes
    ----------
    engine : sqlalchemy.Engine
        SQLite or PostgreSQL.
    company : str
        Several companies may share one database.
    bundles : Path
        Where ``<sha>/`` lies for every bundle.
    mirror_folder : Path
        Where the JSON copies go.
    clock : callable
        When a publication happened; never pinned, unlike the company's.
    """

    engine: Engine
    company: str
    bundles: Path
    mirror_folder: Path
    clock: Callable[[], datetime] = _now


def open_store(workspace: Workspace) -> ReleaseStore:
    """Open the release store of a company: `Places.ledger_url`, or SQLite in the state directory.

    Raises
    ------
    UnavailableError
        The database does not answer; `read_current` still does.
    """
    state = workspace.state
    engine = open_engine(
        workspace.places.ledger_url, state.releases / "releases.db", RELEASE_TABLES
    )
    store = ReleaseStore(engine, workspace.company.name, state.bundles, state.releases)
    with writing(engine) as connection:
        connection.execute(
            _insert_missing(engine, pointer_table),
            {"company": store.company, "release_id": None, "sequence": 0},
        )
    return store


def new_release(
    *,
    created_at: datetime,
    bundles: Mapping[str, Mapping[str, str]],
    feature_set: Mapping[str, Any],
    bands: Mapping[str, Mapping[str, float]],
    reason_catalogue_version: str,
    label_contracts: Mapping[str, Mapping[str, Any]],
    config_hash: str,
    evidence: Mapping[str, Any] | None = None,
    note: str = "",
    frozen: Mapping[str, Mapping[str, Any]] | None = None,
) -> Release:
    """Check the parts of a release and give it its id.

    Parameters
    ----------
    created_at : datetime
        With a zone.
    bundles, feature_set, bands, reason_catalogue_version, label_contracts, config_hash, note
        As in `Release`, as is `frozen`.
    evidence : mapping, optional
        Gate results, who and why.

    Raises
    ------
    ModelError
        A part is missing or contradicts another; every mistake is listed.
    """
    body = {
        "created_at": created_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "bundles": {target: dict(part) for target, part in bundles.items()},
        "feature_set": dict(feature_set),
        "bands": {target: dict(cuts) for target, cuts in bands.items()},
        "reason_catalogue_version": reason_catalogue_version,
        "label_contracts": {target: dict(part) for target, part in label_contracts.items()},
        "config_hash": config_hash,
        "evidence": dict(evidence or {}),
        "note": note,
        "frozen": {target: dict(part) for target, part in (frozen or {}).items()},
    }
    mistakes = _mistakes(body)
    if mistakes:
        raise ModelError("this is no release:\n" + "\n".join(f"  {line}" for line in mistakes))
    # What is stored is what a reader gets back: plain JSON, no tuples or dates.
    return release_from_dict({"release_id": _identity(body), **plain_json(body)})


def release_from_dict(value: Mapping[str, Any]) -> Release:
    """Read a stored release and check that it is whole.

    Raises
    ------
    StateError
        Its content does not hash to its id: damaged or edited by hand.
    """
    try:
        release = Release(**value)
        body = {key: part for key, part in release.as_dict().items() if key != "release_id"}
        is_whole = _identity(body) == release.release_id
    except (TypeError, KeyError, ValueError) as error:
        raise StateError(f"not a release: {error}") from error
    if not is_whole:
        raise StateError(
            f"release {release.release_id} was changed after it was made",
            fix="bellwether score COMPANY   writes it from the store again",
        )
    return release


def publish(
    store: ReleaseStore,
    release: Release,
    expected_current: str | None,
    *,
    by: str = "",
    note: str = "",
) -> None:
    """Make `release` the current one, if `expected_current` still is.

    The bundles are read and compared with their checksums first; then one transaction stores the
    release, swaps the pointer and records the publication; then the mirror is written.

    Parameters
    ----------
    store : ReleaseStore
        Where.
    release : Release
        What.
    expected_current : str or None
        Id of the release this one was compared with; None when nothing was published.
    by, note : str
        Who, and why.

    Raises
    ------
    StateError
        Somebody published meanwhile: nothing was changed.
    ModelError
        A bundle is missing or damaged: nothing was changed.
    """
    check_bundles(store, release)
    with writing(store.engine) as connection:
        keep_release(store, connection, release)
        _switch(store, connection, release.release_id, expected_current, "publish", by, note)
    mirror(store, store.mirror_folder)


def rollback(
    store: ReleaseStore, to: str | None = None, *, by: str = "", note: str = ""
) -> Release:
    """Return to an earlier release; itself a recorded publication.

    Parameters
    ----------
    store : ReleaseStore
        Where.
    to : str, optional
        Id of a release that was published once; by default the one before the current one.
        Rolling back again goes further back, not forth.
    by, note : str
        Who, and why.

    Returns
    -------
    Release
        The one that is current now.

    Raises
    ------
    StateError
        There is nothing to return to, or somebody published meanwhile.
    """
    past = history(store)
    target = to or _before_current(past)
    if target not in {item.release_id for item in past}:
        raise StateError(f"release {target} was never published", fix="bellwether releases")
    release = get(store, target)
    check_bundles(store, release)
    with writing(store.engine) as connection:
        _switch(store, connection, target, past[-1].release_id, "rollback", by, note)
    mirror(store, store.mirror_folder)
    return release


def current(store: ReleaseStore) -> Release | None:
    """Return the current release, or None when nothing was published."""
    with reading(store.engine) as connection:
        pointer = _pointer(store, connection)
        return _load(store, connection, pointer["release_id"]) if pointer["release_id"] else None


def get(store: ReleaseStore, release_id: str) -> Release:
    """Return one release by its id."""
    with reading(store.engine) as connection:
        return _load(store, connection, release_id)


def history(store: ReleaseStore) -> list[Publication]:
    """Return every publication, oldest first; the last one is current."""
    table = publications_table
    query = select(table).where(table.c.company == store.company).order_by(table.c.sequence)
    with reading(store.engine) as connection:
        rows = connection.execute(query).mappings().all()
    return [Publication(**{key: row[key] for key in row if key != "company"}) for row in rows]


def mirror(store: ReleaseStore, folder: Path) -> str | None:
    """Write every published release and the pointer as JSON; repair what is there.

    Parameters
    ----------
    store : ReleaseStore
        The truth.
    folder : Path
        Gets ``<release_id>.json`` per release, shadows included, and `CURRENT`, written last. Each
        is replaced atomically. A late mirror of an early publication cannot turn the pointer back:
        the current release is read again under the folder's lock.

    Returns
    -------
    str or None
        The current release.

    Raises
    ------
    StateError
        The store knows no release but the folder does (another or an empty database), or the
        folder cannot be written; the publication itself stands.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".mirror.lock"):
            return _write_mirror(store, folder)
    except OSError as error:
        raise StateError(
            f"the store is right, but its mirror cannot be written: {error}",
            where=str(folder),
            fix="free the disk or correct the permissions, then mirror again",
        ) from error


def read_current(folder: Path) -> Release | None:
    """Read the current release from a mirror, without the database.

    Parameters
    ----------
    folder : Path
        As given to `mirror`.

    Returns
    -------
    Release or None
        None when nothing was published.

    Raises
    ------
    StateError
        The mirror is damaged.
    """
    try:
        pointer = read_json(folder / CURRENT)
    except FileNotFoundError:
        return None
    try:
        path = folder / f"{pointer['release_id']}.json"
        return release_from_dict(read_json(path))
    except (FileNotFoundError, TypeError, KeyError, StateError) as error:
        raise StateError(
            f"the mirror of the releases is damaged: {error}",
            where=str(folder),
            fix="bellwether score COMPANY   writes it from the store again",
        ) from error


def mark_served(folder: Path, release: Release) -> None:
    """Note which release was taken up last, for a process that starts while none other can be."""
    path = folder / SERVED
    wanted = {"release_id": release.release_id}
    if not path.is_file() or read_json(path) != wanted:
        write_json_atomically(path, wanted)


def read_served(folder: Path) -> Release | None:
    """Return the release that was taken up last; None when there is none, or it is damaged."""
    try:
        release_id = read_json(folder / SERVED)["release_id"]
        return release_from_dict(read_json(folder / f"{release_id}.json"))
    except (FileNotFoundError, TypeError, KeyError, StateError):
        return None


def plain_json(value: Any) -> Any:
    """Return `value` as it reads back from strict JSON: no tuples, dates or NaN.

    >>> plain_json({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    return json.loads(canonical_json(value), parse_constant=lambda _: None)


def undo_stack(publications: Sequence[Publication]) -> list[str]:
    """Return the releases one could roll back through, the current one last.

    Publishing puts on top; rolling back takes off, down to the release it names.

    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> steps = [("A", "publish"), ("B", "publish"), ("C", "publish"), ("B", "rollback")]
    >>> undo_stack([Publication(0, id, None, what, at, "", "") for id, what in steps])
    ['A', 'B']
    """
    stack: list[str] = []
    for item in publications:
        if item.action == "rollback":
            while stack and stack[-1] != item.release_id:
                stack.pop()
        if not stack or stack[-1] != item.release_id:
            stack.append(item.release_id)
    return stack


def _before_current(past: Sequence[Publication]) -> str:
    stack = undo_stack(past)
    if len(stack) < 2:
        raise StateError(
            "there is no earlier release to return to",
            fix="name one with --to RELEASE" if past else "publish one first",
        )
    return stack[-2]


def _identity(body: Mapping[str, Any]) -> str:
    # Releases of before bands were sized have no such part, and keep their identity.
    parts = {name: part for name, part in body.items() if name != "frozen" or part}
    return f"{body['created_at'][:10].replace('-', '')}-{digest(plain_json(parts), length=10)}"


def _mistakes(body: Mapping[str, Any]) -> list[str]:
    targets = body["bundles"]
    lines = [] if targets else ["it has no bundle"]
    for target, part in targets.items():
        if not part.get("sha"):
            lines.append(f"bundles.{target}: no sha")
        if part.get("verdict") not in VERDICTS:
            lines.append(f"bundles.{target}: verdict {part.get('verdict')!r} is none of {VERDICTS}")
        if target not in body["label_contracts"]:
            lines.append(f"label_contracts: nothing for {target}")
        lines += _band_mistakes(target, body["bands"].get(target))
    names = body["feature_set"].get("names", ())
    if not body["feature_set"].get("hash") or len(set(names)) != len(names):
        lines.append("feature_set: needs a hash and names without repeats")
    return lines


def _band_mistakes(target: str, cuts: Mapping[str, float] | None) -> list[str]:
    if cuts is None:
        return [f"bands: nothing for {target}"]
    values = list(cuts.values())
    if any(not 0 <= cut <= 1 for cut in values):
        return [f"bands.{target}: cuts are probabilities in [0, 1], not {values}"]
    if {"elevated", "high"} <= set(cuts) and cuts["elevated"] > cuts["high"]:
        return [f"bands.{target}: elevated starts above high ({values})"]
    return []


def check_bundle(folder: Path, sha: str) -> None:
    """Read every byte of a bundle and compare it with its checksums.

    The manifest holds the checksum of every file, and the bundle's name is the manifest's own.

    Raises
    ------
    ModelError
        The bundle is missing, is another one, or a file of it changed.
    """
    manifest = read_manifest(folder)
    if manifest is None or _sum(folder / MANIFEST) != sha:
        raise ModelError(
            f"bundle {sha} is missing, unfinished or another one",
            where=str(folder),
            fix="restore it from a copy, or train again",
        )
    wrong = [name for name, known in manifest["files"].items() if _sum(folder / name) != known]
    if wrong:
        raise ModelError(
            f"bundle {sha} does not match its checksums: {', '.join(wrong)}",
            where=str(folder),
            fix="restore it from a copy, or train again",
        )


def _sum(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def check_bundles(store: ReleaseStore, release: Release) -> None:
    """Read every bundle of a release and compare it with its checksum."""
    for part in release.bundles.values():
        check_bundle(store.bundles / part["sha"], part["sha"])


def _insert_missing(engine: Engine, table: Table) -> Any:
    dialect: Any = sqlite if engine.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()


def keep_release(store: ReleaseStore, connection: Connection, release: Release) -> None:
    """Store a release under its id; it is never changed."""
    row = {
        "company": store.company,
        "release_id": release.release_id,
        "created_at": datetime.fromisoformat(release.created_at),
        "body": canonical_json(release.as_dict()),
    }
    connection.execute(_insert_missing(store.engine, releases_table), row)
    if _load(store, connection, release.release_id) != release:
        raise StateError(
            f"another release is stored as {release.release_id}", where=address(store.engine)
        )


def _switch(
    store: ReleaseStore,
    connection: Connection,
    release_id: str,
    expected: str | None,
    action: str,
    by: str,
    note: str,
) -> None:
    table = pointer_table
    swapped = connection.execute(
        update(table)
        .where(
            table.c.company == store.company,
            table.c.release_id.is_not_distinct_from(expected),
        )
        .values(release_id=release_id, sequence=table.c.sequence + 1)
    )
    pointer = _pointer(store, connection)
    if swapped.rowcount != 1:
        raise StateError(
            f"somebody published {pointer['release_id']} meanwhile; this one was compared with "
            f"{expected or 'nothing published'}, so nothing was changed",
            where=address(store.engine),
            fix="compare with the current release, then publish again",
        )
    connection.execute(
        insert(publications_table),
        {
            "company": store.company,
            "sequence": pointer["sequence"],
            "release_id": release_id,
            "previous": expected,
            "action": action,
            "published_at": store.clock(),
            "published_by": by,
            "note": note,
        },
    )


def _pointer(store: ReleaseStore, connection: Connection) -> dict[str, Any]:
    query = select(pointer_table).where(pointer_table.c.company == store.company)
    return dict(connection.execute(query).mappings().one())


def _load(store: ReleaseStore, connection: Connection, release_id: str) -> Release:
    table = releases_table
    query = select(table.c.body).where(
        table.c.company == store.company, table.c.release_id == release_id
    )
    body = connection.execute(query).scalar_one_or_none()
    if body is None:
        raise StateError(f"no release {release_id}", where=address(store.engine))
    return release_from_dict(json.loads(body))


def _write_mirror(store: ReleaseStore, folder: Path) -> str | None:
    past = history(store)
    if not past:
        if (folder / CURRENT).exists():
            raise StateError(
                "the store knows no release, but this mirror does: is it the right database?",
                where=f"{address(store.engine)} and {folder}",
                fix="correct BELLWETHER_LEDGER_URL; or delete the mirror to start anew",
            )
        return None
    for release_id in _known(store):
        mirror_release(store, folder / f"{release_id}.json", release_id)
    last = past[-1]
    write_json_atomically(
        folder / CURRENT,
        {
            "release_id": last.release_id,
            "sequence": last.sequence,
            "published_at": last.published_at.isoformat(),
        },
    )
    return last.release_id


def _known(store: ReleaseStore) -> list[str]:
    """Return the ids of all releases, those never shown included: the ledger names them."""
    query = select(releases_table.c.release_id).where(releases_table.c.company == store.company)
    with reading(store.engine) as connection:
        return sorted(connection.execute(query).scalars())


def mirror_release(store: ReleaseStore, path: Path, release_id: str) -> None:
    """Write one release as JSON, unless its copy is whole."""
    try:
        is_whole = release_from_dict(read_json(path)).release_id == release_id
    except (FileNotFoundError, StateError, TypeError):
        is_whole = False
    if not is_whole:
        write_json_atomically(path, get(store, release_id).as_dict())
