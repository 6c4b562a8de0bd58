"""Feast, and the only importer of it: views over snapshots, point-in-time joins, online reads.

Two views of one truth. Training joins named columns, one view per signal family; online serving
reads one vector view per feature set, because Feast's cost is per value read.
"""

from __future__ import annotations

import io
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from configs.errors import StateError, UnavailableError
from configs.places import Workspace
from features.catalog import FeatureInfo

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore, FeatureView

    from features.snapshots import Snapshots, SnapshotSet
    from features.vector import FeatureSet

JOIN_KEY = "entity_id"
FOREVER = timedelta(days=36500)
RETRY_AFTER_SECONDS = (0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class OnlineRows:
    """What the online store knows of some entities, in the order asked.

    Attributes
    ----------
    is_known : numpy.ndarray
        bool, whether the entity is in the store.
    values, past : numpy.ndarray
        float64 (n, features), NaN where unknown; `past` as it stood about 12 weeks before.
    facts : list of dict
        What is shown beside a score; empty for unknown entities.
    as_of : list of datetime or None
        The moment the values stand for, UTC.
    """

    is_known: np.ndarray
    values: np.ndarray
    past: np.ndarray
    facts: list[dict[str, Any]]
    as_of: list[datetime | None]


class Store:
    """One company's feature store."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def _feast(self) -> FeatureStore:
        store, config = _import_feast()
        folder = self._workspace.state.feast.absolute()  # Feast puts relative paths below this
        folder.mkdir(parents=True, exist_ok=True)
        feast = store(config=config(**self._settings(folder)))
        # Without it, requests fail while a materialisation runs. As a setting, Feast takes it for
        # SQL registries alone; it is heeded on any.
        feast.registry.serve_features_while_materializing = True
        return feast

    def _settings(self, folder: Path) -> dict[str, Any]:
        from sqlalchemy import NullPool

        places = self._workspace.places
        # 0 is for ever: a handle sees what was declared before it was made, and nothing later.
        registry: dict[str, Any] = {"path": str(folder / "registry.db"), "cache_ttl_seconds": 0}
        if places.registry_url:
            registry |= {
                "registry_type": "sql",
                "path": _with_driver(places.registry_url),
                # read once per handle: no connection is worth keeping, or sharing with a fork
                "sqlalchemy_config_kwargs": {"poolclass": NullPool},
            }
        online: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
        if places.redis_url:
            online = {"type": "redis", "connection_string": _patient_for_seconds(places.redis_url)}
        return {
            "project": self._workspace.company.name,
            "provider": "local",
            "registry": registry,
            "offline_store": {"type": "duckdb"},
            "online_store": online,
            "entity_key_serialization_version": 3,
            "repo_path": str(folder),
        }

    def apply(self, snapshots: Snapshots, features: FeatureSet, targets: Iterable[str]) -> None:
        """Declare entity, views and one feature service per target; remove nothing else.

        Parameters
        ----------
        snapshots : Snapshots
            The sets the family views read.
        features : FeatureSet
            Names the vector view.
        targets : iterable of str
            One feature service each.
        """
        from feast import Entity, FeatureService, ValueType

        entity = Entity(
            name=self._workspace.company.entity, join_keys=[JOIN_KEY], value_type=ValueType.STRING
        )
        views = [self._family_view(entity, snapshots.sets[name]) for name in features.versions]
        services = [FeatureService(name=f"{target}_training", features=views) for target in targets]
        vector = self._vector_view(entity, features)
        with _telling("the feature registry"):
            self._feast.apply([entity, *views, vector, *services])

    def _source(self, name: str, pattern: str) -> Any:
        """Return where a view's snapshots lie; the one place that knows the offline engine."""
        from feast import FileSource
        from feast.data_format import ParquetFormat

        return FileSource(
            name=name,
            path=str(Path(pattern).absolute()),  # read from whatever folder a command is run in
            timestamp_field="as_of",
            created_timestamp_column="created_at",
            file_format=ParquetFormat(),
        )

    def _family_view(self, entity: Any, snapshot_set: SnapshotSet) -> FeatureView:
        from feast import FeatureView, Field
        from feast.types import Float64

        return FeatureView(
            name=snapshot_set.family,
            entities=[entity],
            ttl=FOREVER,
            schema=[
                Field(name=item.name, dtype=Float64, description=item.meaning)
                for item in snapshot_set.info
            ],
            source=self._source(snapshot_set.family, snapshot_set.glob),
            online=False,
        )

    def _vector_view(self, entity: Any, features: FeatureSet) -> FeatureView:
        from feast import FeatureView, Field
        from feast.types import Array, Float64, String

        from features.snapshots import DAY_PATTERN

        name = vector_view(features.hash)
        folder = self._workspace.state.snapshots / "vector" / features.hash / DAY_PATTERN
        return FeatureView(
            name=name,
            entities=[entity],
            ttl=FOREVER,
            schema=[
                Field(name="values", dtype=Array(Float64)),
                Field(name="past", dtype=Array(Float64)),
                Field(name="facts", dtype=String),
            ],
            source=self._source(name, f"{folder}/part.parquet"),
            online=True,
        )

    def historical(self, rows: pd.DataFrame, info: Sequence[FeatureInfo]) -> pd.DataFrame:
        """Join feature values to (entity_id, as_of) rows as they were known then.

        Parameters
        ----------
        rows : pandas.DataFrame
            Columns ``entity_id`` and ``as_of`` (UTC), unique together; not changed.
        info : sequence of FeatureInfo
            The features wanted.

        Returns
        -------
        pandas.DataFrame
            The features in the order of `info`, float64, aligned with `rows`.
        """
        asked = rows[["entity_id", "as_of"]].rename(columns={"as_of": "event_timestamp"})
        asked = asked.reset_index(drop=True).assign(_row=np.arange(len(rows)))
        with _telling("the feature registry"):
            found = self._feast.get_historical_features(
                entity_df=asked,
                features=[f"{item.family}:{item.name}" for item in info],
                # without it, values restated later would leak into the past
                filter_by_created_timestamp=True,
            ).to_df()
        if len(found) != len(rows):
            raise StateError(
                f"Feast returned {len(found):,} rows for {len(rows):,}",
                where=str(self._workspace.state.feast),
                fix="bellwether features --rebuild",
            )
        ordered = found.sort_values("_row")[[item.name for item in info]]
        return ordered.astype("float64").set_index(rows.index)

    def materialize(self, features: FeatureSet, day: date) -> None:
        """Load the vectors of one book into the online store."""
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        with _telling("the online store"):
            self._feast.materialize(
                start_date=moment - timedelta(hours=1),
                end_date=moment + timedelta(seconds=1),
                feature_views=[vector_view(features.hash)],
            )

    def online(self, feature_hash: str, width: int, entities: Sequence[str]) -> OnlineRows:
        """Read the vectors of some entities, unknown ones included, in the order asked.

        Raises
        ------
        UnavailableError
            When the online store does not answer or was never filled for this feature set.
        """
        view = vector_view(feature_hash)
        try:
            answer = self._read(view, entities)
        except Exception as error:  # Feast raises whatever its store's driver raises
            raise UnavailableError(
                f"the online store does not answer: {type(error).__name__}",
                where=f"view {view}",
                fix="check the store, then run `bellwether features`",
            ) from error
        return _online_rows(answer, width)

    def _read(self, view: str, entities: Sequence[str]) -> dict[str, list[Any]]:
        from feast.errors import FeatureViewNotFoundException

        for pause_seconds in RETRY_AFTER_SECONDS:
            try:
                return self._ask(view, entities)
            except FeatureViewNotFoundException:
                # While it notes a load, Feast takes the view out of the registry of this handle
                # and puts it back: another thread's load is over in a moment.
                time.sleep(pause_seconds)
        return self._ask(view, entities)

    def _ask(self, view: str, entities: Sequence[str]) -> dict[str, list[Any]]:
        answer: dict[str, list[Any]] = self._feast.get_online_features(
            features=[f"{view}:values", f"{view}:past", f"{view}:facts"],
            entity_rows={JOIN_KEY: list(entities)},
            full_feature_names=False,
        ).to_dict(include_event_timestamps=True)
        return answer

    def holds(self, features: FeatureSet, entity: str, day: date) -> bool:
        """Say whether the online store can be read and has this entity as of this book."""
        try:
            rows = self.online(features.hash, len(features.names), [entity])
        except UnavailableError:
            return False
        return rows.as_of[0] == datetime(day.year, day.month, day.day, tzinfo=UTC)

    def is_ready(self, feature_hash: str) -> bool:
        """Say whether the online store holds a whole book of this feature set."""
        try:
            view = self._feast.get_feature_view(vector_view(feature_hash))
            self.online(feature_hash, 0, [""])
        except Exception:  # any failure means: not ready
            return False
        return bool(view.materialization_intervals)  # while the first book is loaded there is none


def _with_driver(url: str) -> str:
    """Name the PostgreSQL driver that is installed where the URL names none."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url


def _patient_for_seconds(connection: str) -> str:
    """Add limits to a Redis connection that sets none: its driver waits for ever, and retries."""
    limits = {
        "socket_connect_timeout": "1",
        "socket_timeout": "2",
        "retry": "null",  # its own policy takes seconds to say that nobody listens
    }
    given = {part.split("=", 1)[0] for part in connection.split(",")}
    added = [f"{name}={value}" for name, value in limits.items() if name not in given]
    return ",".join([connection, *added])


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Silence what Feast prints, and tell a connection that failed in our words."""
    import redis
    import sqlalchemy

    lost = (redis.ConnectionError, redis.TimeoutError, sqlalchemy.exc.OperationalError)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    except lost as error:
        raise UnavailableError(
            f"{what} does not answer: {type(error).__name__}",
            where="BELLWETHER_REDIS, BELLWETHER_FEAST_REGISTRY_URL",
            fix="check the address and that the server runs, then run the same command again",
        ) from error


def vector_view(feature_hash: str) -> str:
    """Return the name of the vector view of a feature set."""
    return f"vector_{feature_hash}"


def _online_rows(answer: dict[str, list[Any]], width: int) -> OnlineRows:
    found = answer["values"]
    known = np.array([item is not None for item in found], dtype=bool)
    stamps = answer["values__ts"]
    return OnlineRows(
        is_known=known,
        values=_stack(found, width),
        past=_stack(answer["past"], width),
        facts=[json.loads(item) if item else {} for item in answer["facts"]],
        as_of=[
            datetime.fromtimestamp(stamp, UTC) if is_known else None
            for stamp, is_known in zip(stamps, known, strict=True)
        ],
    )


def _stack(lists: list[list[float] | None], width: int) -> np.ndarray:
    nothing = [np.nan] * width
    return np.array([nothing if item is None else item for item in lists], dtype=np.float64)


def _import_feast() -> tuple[Any, Any]:
    """Import Feast with its run-time type instrumentation off: 3 s instead of 9."""
    import prometheus_client  # noqa: F401  imported first, it keeps its values in this process
    import typeguard

    multiprocess = {"PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR"} - set(os.environ)

    def leave_alone(target: Any = None, **_: Any) -> Any:
        return target if target else (lambda item: item)

    # Feast changes which warnings of all libraries are shown.
    with patch.object(typeguard, "typechecked", leave_alone), warnings.catch_warnings():
        from feast import FeatureStore, RepoConfig
    for name in multiprocess:  # Feast sets them for its own server; they would change ours
        os.environ.pop(name, None)
    return FeatureStore, RepoConfig
