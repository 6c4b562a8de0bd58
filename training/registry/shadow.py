"""A release in the shadow: scored next to the published one into the ledger, never shown."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from sqlalchemy import delete, insert, select

from configs.runtime.database import reading, writing
from configs.runtime.errors import StateError
from configs.runtime.state_directory import read_json, write_json_atomically
from configs.runtime.tables import shadow_table
from training.registry.releases import (
    Release,
    ReleaseStore,
    check_bundles,
    keep_release,
    mirror_release,
    release_from_dict,
)

SHADOW_FILE = "shadow.json"


def publish_shadow(store: ReleaseStore, release: Release, *, by: str = "", note: str = "") -> None:
    """Score a release into the ledger from here on; it takes the place of an earlier shadow.

    Raises
    ------
    ModelError
        A bundle is missing or damaged: nothing was changed.
    """
    check_bundles(store, release)
    row = {
        "company": store.company,
        "release_id": release.release_id,
        "published_at": store.clock().astimezone(UTC),
        "published_by": by,
        "note": note,
    }
    with writing(store.engine) as connection:
        keep_release(store, connection, release)
        connection.execute(delete(shadow_table).where(shadow_table.c.company == store.company))
        connection.execute(insert(shadow_table), row)
    mirror_shadow(store, store.mirror_folder)


def withdraw_shadow(store: ReleaseStore) -> str | None:
    """End the shadow; return which release it was, None when there was none."""
    release_id = shadow_of(store)
    with writing(store.engine) as connection:
        connection.execute(delete(shadow_table).where(shadow_table.c.company == store.company))
    mirror_shadow(store, store.mirror_folder)
    return release_id


def shadow_of(store: ReleaseStore) -> str | None:
    """Return the id of the release in the shadow."""
    query = select(shadow_table.c.release_id).where(shadow_table.c.company == store.company)
    with reading(store.engine) as connection:
        found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def mirror_shadow(store: ReleaseStore, folder: Path) -> None:
    """Write the shadow as JSON, which is what serving reads."""
    release_id = shadow_of(store)
    if release_id is None:
        (folder / SHADOW_FILE).unlink(missing_ok=True)
        return
    mirror_release(store, folder / f"{release_id}.json", release_id)
    write_json_atomically(folder / SHADOW_FILE, {"release_id": release_id})


def read_shadow(folder: Path) -> Release | None:
    """Return the release in the shadow from the mirror; None when there is none.

    Raises
    ------
    StateError
        The mirror is damaged.
    """
    try:
        release_id = read_json(folder / SHADOW_FILE)["release_id"]
    except FileNotFoundError:
        return None
    try:
        return release_from_dict(read_json(folder / f"{release_id}.json"))
    except FileNotFoundError as error:
        raise StateError(
            f"release {release_id} is in the shadow, and not kept here",
            where=str(folder),
            fix="bellwether promote --shadow COMPANY   publishes one again",
        ) from error
