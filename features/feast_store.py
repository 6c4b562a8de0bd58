"""Feast, and the only importer of it: views over snapshots, point-in-time joins, online reads.

Two views of one truth. Training joins named columns, one view per signal family; online serving
reads one vector view per feature set, because Feast's cost is per value read. The family views are
online too, for notebooks and the `feast` command, which find the store by its
``feature_store.yaml``.
"""

from __future__ import annotations

import io
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import orjson
import yaml

from configs.runtime.errors import StateError, UnavailableError
from configs.runtime.state_directory import write_text_atomically
from configs.schema.workspace import Workspace
from features.tables.catalog import FeatureInfo, is_kept

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureService, FeatureStore, FeatureView

    from features.online_vectors import FeatureSet
    from features.snapshots.grid import Snapshots, SnapshotSet

REGISTRY, ONLINE = "registry.db", "online.db"
"""The embedded registry and online store, below the state's ``feast``: both can be made again."""

CONFIG = "feature_store.yaml"
"""The file that Feast's own tools read, below the state's ``feast``."""

CONFIG_HEAD = """\
# The feature store of this company, for notebooks and the `feast` command:
#   feast -c STATE/feast feature-views list
#   feast.FeatureStore(repo_path="STATE/feast").get_online_features(...)
# `bellwether features` writes this file, declares the views and loads them. `feast apply` would
# delete every view here, because no file of this folder declares one. Addresses of servers come
# from the environment. After the state directory was moved, run `bellwether features` once: the
# sources are declared with their full paths.
"""

CACHE_SECONDS = 60
"""Longest time Feast's own tools cache the registry: loads note their start and end there."""

JOIN_KEY = "entity_id"

KEY_VERSION = 3
"""Feast's format of entity keys in the online store."""

FOREVER = timedelta(days=36500)
RETRY_AFTER_SECONDS = (0.01, 0.03, 0.1, 0.3)

VECTOR = "vector_"
"""Prefix of the names of vector views; no family has it."""

VECTOR_FIELDS = ("values", "past", "facts", "answer")
"""Fields of the vector view. Loading a book empties `answer`; a score run fills it."""

_Found = tuple[datetime | None, dict[str, Any] | None]
"""Answer of Feast's online stores per entity: the moment, and Feast's values by field."""


class OnlineRow(NamedTuple):
    """One entity's row of the online store, in bytes.

    Attributes
    ----------
    as_of : datetime
        The moment the values describe, UTC.
    values, past : bytes
        Little-endian float64.
    facts : bytes
        JSON.
    answer : bytes
        The stored answer (`FeastStore.store_answers`); empty when there is none.
    """

    as_of: datetime
    values: bytes
    past: bytes
    facts: bytes
    answer: bytes = b""


@dataclass(frozen=True)
class OnlineRows:
    """Rows of the online store for some entities, in the order asked.

    Attributes
    ----------
    is_known : numpy.ndarray
        bool, whether the entity is in the store.
    values, past : numpy.ndarray
        float64 (n, features), NaN where unknown; `past` is about 12 weeks older.
    facts : list of dict
        Facts shown with a score; empty for unknown entities.
    as_of : list of datetime or None
        The moment the values describe, UTC.
    """

    is_known: np.ndarray
    values: np.ndarray
    past: np.ndarray
    facts: list[dict[str, Any]]
    as_of: list[datetime | None]


class FeastStore:
    """One company's feature store."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._views: dict[str, FeatureView] = {}

    @cached_property
    def _feast(self) -> FeatureStore:
        from sqlalchemy import NullPool

        store, config = _import_feast()
        folder = self._workspace.state.feast.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        settings = self._settings()
        # 0 is for ever: a handle sees what was declared before it was made, and nothing later.
        settings["registry"]["cache_ttl_seconds"] = 0
        if self._workspace.places.registry_url:
            # read once per handle: no connection is worth keeping, or sharing with a fork
            settings["registry"]["sqlalchemy_config_kwargs"] = {"poolclass": NullPool}
        else:
            # Feast looks for the registry of a configuration in the folder a command is run in.
            settings["registry"]["path"] = str(folder / REGISTRY)
        feast = store(config=config(**settings, repo_path=folder))
        # Without it, requests fail while a materialisation runs.
        feast.registry.serve_features_while_materializing = True
        return feast

    def _settings(self) -> dict[str, Any]:
        """Return Feast's settings; paths are below the store's folder."""
        places = self._workspace.places
        registry: dict[str, Any] = {"path": REGISTRY, "cache_ttl_seconds": CACHE_SECONDS}
        if places.registry_url:
            registry |= {
                "registry_type": "sql",
                "path": _with_driver(places.registry_url),
                # For a file, Feast heeds it too and warns that it has no effect.
                "serve_features_while_materializing": True,
            }
        online: dict[str, Any] = {"type": "sqlite", "path": ONLINE}
        if places.redis_url:
            online = {
                "type": "redis",
                "connection_string": _patient_for_seconds(places.redis_url),
                # Else a book that is loaded again for the same day would keep its old values.
                "skip_dedup": True,
            }
        return {
            "project": self._workspace.company.name,
            "provider": "local",
            "registry": registry,
            "offline_store": {"type": "duckdb"},
            "online_store": online,
            "entity_key_serialization_version": KEY_VERSION,
        }

    def write_config(self) -> None:
        """Write ``feature_store.yaml``, which holds the names of addresses and not their values."""
        places = self._workspace.places
        settings = self._settings()
        if places.registry_url:
            settings["registry"]["path"] = _Literal("${BELLWETHER_FEAST_REGISTRY_URL}")
        if places.redis_url:
            limits = settings["online_store"]["connection_string"].removeprefix(places.redis_url)
            settings["online_store"]["connection_string"] = _Literal("${BELLWETHER_REDIS}" + limits)
        text = CONFIG_HEAD + yaml.dump(settings, Dumper=_Dumper, sort_keys=False)
        path = self._workspace.state.feast / CONFIG
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text_atomically(path, text)

    def drop_damaged(self) -> list[str]:
        """Remove embedded files that cannot be read; return the names of those that were.

        The caller holds the state directory's lock, and declares and loads again what is gone.
        """
        folder = self._workspace.state.feast
        readable = {REGISTRY: _is_registry, ONLINE: _is_database}
        damaged = [
            name
            for name, is_readable in readable.items()
            if (folder / name).exists() and not is_readable(folder / name)
        ]
        for name in damaged:
            for path in folder.glob(f"{name}*"):  # SQLite's journals with it
                path.unlink()
        return damaged

    def apply(
        self,
        snapshots: Snapshots,
        features: FeatureSet,
        targets: Iterable[str],
        *,
        is_named: bool = True,
    ) -> None:
        """Declare entity, views and one feature service per target.

        Of what was declared before, family views are removed that are built no more or online no
        more, with their online values; vector views stay, for releases that read them.

        Parameters
        ----------
        snapshots : Snapshots
            The sets the family views read.
        features : FeatureSet
            Names the vector view.
        targets : iterable of str
            One feature service each.
        is_named : bool
            Whether family views are online.
        """
        with _telling("the feature registry"):
            feast = self._feast  # imports it in our way, before any part of it
            gone = [
                view
                for view in self._family_views()
                if view.name not in features.versions or view.online != is_named
            ]
            if gone:
                feast.apply([], objects_to_delete=gone, partial=False)
            feast.apply(self._declared(snapshots, features, targets, is_named))

    def _family_views(self) -> list[FeatureView]:
        """Return the family views as they are declared at present."""
        views: list[FeatureView] = self._feast.list_feature_views()
        return [view for view in views if not view.name.startswith(VECTOR)]

    def _declared(
        self, snapshots: Snapshots, features: FeatureSet, targets: Iterable[str], is_named: bool
    ) -> list[Any]:
        from feast import Entity, ValueType

        entity = Entity(
            name=self._workspace.company.entity, join_keys=[JOIN_KEY], value_type=ValueType.STRING
        )
        views = [
            self._family_view(entity, snapshots.sets[name], is_named) for name in features.versions
        ]
        services = [self._training_service(target, views) for target in targets]
        return [entity, *views, self._vector_view(entity, features), *services]

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

    def _family_view(self, entity: Any, snapshot_set: SnapshotSet, is_named: bool) -> FeatureView:
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
            online=is_named,
        )

    def _training_service(self, target: str, views: Sequence[FeatureView]) -> FeatureService:
        """Return the service a model of the target trains through: the features it may use."""
        from feast import FeatureService

        exclude = self._workspace.company.exclude_features
        kept = {
            view: [name for name in (field.name for field in view.schema) if is_kept(name, exclude)]
            for view in views
        }
        return FeatureService(
            name=training_service(target),
            features=[view[names] for view, names in kept.items() if names],
        )

    def _vector_view(self, entity: Any, features: FeatureSet) -> FeatureView:
        from feast import FeatureView, Field
        from feast.types import Array, Bytes, Float64, String

        from features.snapshots.grid import DAY_PATTERN

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
                Field(name="answer", dtype=Bytes),
            ],
            source=self._source(name, f"{folder}/part.parquet"),
            online=True,
        )

    def historical(
        self, rows: pd.DataFrame, target: str, info: Sequence[FeatureInfo]
    ) -> pd.DataFrame:
        """Join the features of a target's service to (entity_id, as_of) rows, as known then.

        Parameters
        ----------
        rows : pandas.DataFrame
            Columns ``entity_id`` and ``as_of`` (UTC), unique together; not changed.
        target : str
            Its service was declared by `apply`.
        info : sequence of FeatureInfo
            The features wanted, of those the service offers.

        Returns
        -------
        pandas.DataFrame
            The features in the order of `info`, float64, aligned with `rows`.

        Raises
        ------
        StateError
            The service offers less than what is wanted, or answers for other rows.
        """
        asked = rows[["entity_id", "as_of"]].rename(columns={"as_of": "event_timestamp"})
        asked = asked.reset_index(drop=True).assign(_row=np.arange(len(rows)))
        with _telling("the feature registry"):
            found = self._feast.get_historical_features(
                entity_df=asked,
                features=self._feast.get_feature_service(training_service(target)),
                # without it, values restated later would leak into the past
                filter_by_created_timestamp=True,
            ).to_df()
        names = [item.name for item in info]
        if len(found) != len(rows) or not set(names) <= set(found.columns):
            raise StateError(
                f"the service {training_service(target)} returned {len(found):,} rows for "
                f"{len(rows):,}, without {len(set(names) - set(found.columns))} features",
                where=str(self._workspace.state.feast),
                fix="delete this folder and run the same command again: it is rebuilt",
            )
        ordered = found.sort_values("_row")[names]
        return ordered.astype("float64").set_index(rows.index)

    def materialize(self, features: FeatureSet, day: date) -> None:
        """Load one book into the online store: its vectors, then family views that are online."""
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        is_embedded = not self._workspace.places.redis_url
        with _telling("the online store"):
            if is_embedded:
                # Feast keeps the rollback journal, which blocks reads while a large book is loaded
                _order(self._workspace.state.feast / ONLINE, "journal_mode=WAL")
            self._feast.materialize(
                start_date=moment - timedelta(hours=1),
                end_date=moment + timedelta(seconds=1),
                feature_views=[
                    vector_view(features.hash),  # first: it is what is served
                    *(view.name for view in self._family_views() if view.online),
                ],
            )
            if is_embedded:
                _order(self._workspace.state.feast / ONLINE, "wal_checkpoint(TRUNCATE)")

    def online(self, feature_hash: str, width: int, entities: Sequence[str]) -> OnlineRows:
        """Read the vectors of some entities, unknown ones included, in the order asked.

        Raises
        ------
        UnavailableError
            When the online store does not answer or was never filled for this feature set.
        StateError
            It holds vectors of another length.
        """
        return online_row_frame(self.held(feature_hash, entities), width)

    def held(self, feature_hash: str, entities: Sequence[str]) -> list[OnlineRow | None]:
        """Read what `online` reads, as it lies there; None for unknown entities.

        Raises
        ------
        UnavailableError
            As `online`.
        """
        view = vector_view(feature_hash)
        try:
            found = self._read(view, entities)
        except Exception as error:  # Feast raises whatever its store's driver raises
            raise _unavailable(view, error) from error
        return [_held(item) for item in found]

    def store_answers(
        self, feature_hash: str, answers: Mapping[str, bytes], as_of: datetime
    ) -> None:
        """Store answers next to the vectors they were computed from.

        Parameters
        ----------
        feature_hash : str
            Identity of the vectors' feature set.
        answers : mapping of str to bytes
            Entity to its answer, of entities the online store holds as of `as_of`.
        as_of : datetime
            The moment the vectors describe, UTC.

        Raises
        ------
        UnavailableError
            As `online`.
        """
        view = vector_view(feature_hash)
        try:
            declared = self._view(view)  # first: it imports Feast as it is to be imported
            from feast.protos.feast.types.Value_pb2 import Value

            rows = [
                (_entity_key(entity), {"answer": Value(bytes_val=answer)}, as_of, None)
                for entity, answer in answers.items()
            ]
            self._provider.online_write_batch(self._feast.config, declared, rows, None)
        except Exception as error:  # Feast raises whatever its store's driver raises
            raise _unavailable(view, error) from error

    def forget(self, entity: str, *, is_trial: bool = False) -> int:
        """Remove an entity from every view of the online store; return its values there.

        Parameters
        ----------
        entity : str
            The entity.
        is_trial : bool
            Only count.

        Raises
        ------
        UnavailableError
            The online store does not answer.
        """
        file = self._workspace.state.feast / ONLINE
        with _telling("the online store"):
            if self._workspace.places.redis_url:
                return self._forget_in_redis(entity, is_trial=is_trial)
            return _forget_in_file(file, self._stored_key(entity), is_trial=is_trial)

    def _stored_key(self, entity: str) -> bytes:
        _import_feast()
        from feast.infra.key_encoding_utils import serialize_entity_key

        found: bytes = serialize_entity_key(
            _entity_key(entity), entity_key_serialization_version=KEY_VERSION
        )
        return found

    def _forget_in_redis(self, entity: str, *, is_trial: bool) -> int:
        _import_feast()
        from feast.infra.online_stores.helpers import _redis_key

        config = self._feast.config
        client = self._provider.online_store._get_client(config.online_store)
        key = _redis_key(
            config.project, _entity_key(entity), entity_key_serialization_version=KEY_VERSION
        )
        n = int(client.hlen(key))
        if n and not is_trial:
            client.delete(key)
        return n

    def replace_facts(self, feature_hash: str, facts: Mapping[str, str], as_of: datetime) -> None:
        """Replace the facts of some entities and drop their stored answers.

        Parameters
        ----------
        feature_hash : str
            Identity of the vectors' feature set; nothing happens where it was never declared.
        facts : mapping of str to str
            Entity to its facts as JSON, of entities the online store holds as of `as_of`.
        as_of : datetime
            The moment the vectors describe, UTC.

        Raises
        ------
        UnavailableError
            As `online`.
        """
        _import_feast()
        from feast.errors import FeatureViewNotFoundException
        from feast.protos.feast.types.Value_pb2 import Value

        view = vector_view(feature_hash)
        rows = [
            (
                _entity_key(entity),
                {"facts": Value(string_val=text), "answer": Value(bytes_val=b"")},
                as_of,
                None,
            )
            for entity, text in facts.items()
        ]
        try:
            self._provider.online_write_batch(self._feast.config, self._view(view), rows, None)
        except FeatureViewNotFoundException:
            return
        except Exception as error:  # Feast raises whatever its store's driver raises
            raise _unavailable(view, error) from error
        if not self._workspace.places.redis_url:
            _overwrite_free_space(self._workspace.state.feast / ONLINE)

    def _read(self, view: str, entities: Sequence[str]) -> list[_Found]:
        """Read from the online store's provider.

        `get_online_features` reads the same and then builds a message of the answer and Python
        values of the message, number by number: three quarters of the time for a batch.
        """
        declared = self._view(view)  # first: it imports Feast as it is to be imported
        keys = [_entity_key(entity) for entity in entities]
        found: list[_Found] = self._provider.online_read(
            self._feast.config, declared, keys, list(VECTOR_FIELDS)
        )
        return found

    @cached_property
    def _provider(self) -> Any:
        from feast.infra.provider import get_provider

        return get_provider(self._feast.config)

    def _view(self, name: str) -> FeatureView:
        """Return a view as declared; it is looked up once per handle."""
        from feast.errors import FeatureViewNotFoundException

        if name in self._views:
            return self._views[name]
        for pause_seconds in RETRY_AFTER_SECONDS:
            try:
                self._views[name] = self._feast.get_feature_view(name)
                return self._views[name]
            except FeatureViewNotFoundException:
                # While it notes a load, Feast takes the view out of the registry of this handle
                # and puts it back: another thread's load is over in a moment.
                time.sleep(pause_seconds)
        return self._feast.get_feature_view(name)

    def holds(self, features: FeatureSet, entity: str, day: date) -> bool:
        """Say whether the online store can be read and has this entity as of this book.

        It has it as a vector, and by name in every family view that is online.
        """
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        try:
            rows = self.online(features.hash, len(features.names), [entity])
            by_name = self._moments_by_name(entity)
        except Exception:  # Feast raises whatever its store's driver raises
            return False
        return rows.as_of[0] == moment and all(at == moment.timestamp() for at in by_name)

    def _moments_by_name(self, entity: str) -> list[float]:
        """Return what moment each family view that is online has of an entity; 0 for none."""
        first = {view.name: view.features[0].name for view in self._family_views() if view.online}
        if not first:
            return []
        found = self._feast.get_online_features(
            features=[f"{family}:{name}" for family, name in first.items()],
            entity_rows=[{JOIN_KEY: entity}],
        ).to_dict(include_event_timestamps=True)
        return [found[f"{name}__ts"][0] for name in first.values()]

    def declares(self, targets: Iterable[str]) -> bool:
        """Say whether the registry can be read and has a service for each target."""
        try:
            names = {item.name for item in self._feast.list_feature_services()}
        except Exception:  # the next declaration reports the error
            return False
        return names >= {training_service(target) for target in targets}

    def is_ready(self, feature_hash: str) -> bool:
        """Say whether the online store holds a whole book of this feature set."""
        try:
            view = self._feast.get_feature_view(vector_view(feature_hash))
            self.online(feature_hash, 0, [""])
        except Exception:  # any failure means: not ready
            return False
        return bool(view.materialization_intervals)  # while the first book is loaded there is none


class _Literal(str):
    """A value that holds a variable: written so that any character may come of it."""


class _Dumper(yaml.SafeDumper):
    """YAML with such values as blocks."""


_Dumper.add_representer(
    _Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
)


def _with_driver(url: str) -> str:
    """Name the PostgreSQL driver that is installed where the URL names none."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url


def _patient_for_seconds(connection: str) -> str:
    """Add limits to a Redis connection that sets none: its driver waits for ever, and retries."""
    limits = {
        "socket_connect_timeout": "1",
        "socket_timeout": "2",
        "retry": "null",  # its own policy takes seconds to report that no server answers
    }
    given = {part.split("=", 1)[0] for part in connection.split(",")}
    added = [f"{name}={value}" for name, value in limits.items() if name not in given]
    return ",".join([connection, *added])


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Silence what Feast prints, and raise failures below it as errors of this package."""
    import redis
    import sqlalchemy
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    lost = (
        redis.ConnectionError,
        redis.TimeoutError,
        sqlalchemy.exc.OperationalError,
        sqlite3.OperationalError,
    )
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    except lost as error:
        raise UnavailableError(
            f"{what} does not answer: {type(error).__name__}",
            where="BELLWETHER_REDIS, BELLWETHER_FEAST_REGISTRY_URL",
            fix="check the address and that the server runs, then run the same command again",
        ) from error
    except (DecodeError, sqlite3.DatabaseError) as error:
        raise StateError(
            f"{what} is damaged: {error}",
            where="the folder feast of the state directory, or the store configured in its place",
            fix="delete the folder STATE/feast and run the same command again: it is rebuilt",
        ) from error


def _order(path: Path, pragma: str) -> None:
    """Have SQLite change how it keeps a file; when it is in use it stays as it is until later."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path, timeout=5)) as database:
        database.execute(f"PRAGMA {pragma}")


def _forget_in_file(path: Path, key: bytes, *, is_trial: bool) -> int:
    """Remove an entity from every table of the embedded online store; return its rows."""
    if not path.is_file():
        return 0
    n = 0
    with closing(sqlite3.connect(path, timeout=30)) as database:
        for (table,) in database.execute(
            "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c "
            "WHERE m.type = 'table' AND c.name = 'entity_key'"
        ).fetchall():
            quoted = '"' + table.replace('"', '""') + '"'
            where = f"FROM {quoted} WHERE entity_key = ?"  # noqa: S608  a table name of Feast
            n += database.execute(f"SELECT count(*) {where}", [key]).fetchone()[0]
            if not is_trial:
                database.execute(f"DELETE {where}", [key])
        database.commit()
    if n and not is_trial:
        _overwrite_free_space(path)
    return n


def _overwrite_free_space(path: Path) -> None:
    """Rewrite an SQLite file without the space of deleted rows, which holds their content."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path, timeout=30)) as database:
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _is_registry(path: Path) -> bool:
    _import_feast()  # before any part of it
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    try:
        Registry.FromString(path.read_bytes())
    except DecodeError:
        return False
    return True


def _is_database(path: Path) -> bool:
    """Say whether SQLite finds every page of a file in order; it takes 50 ms for 20 MB."""
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            return database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError:  # another process uses it, so it is not damaged
        return True
    except sqlite3.DatabaseError:
        return False


def training_service(target: str) -> str:
    """Return the name of the feature service the models of a target train through."""
    return f"{target}_training"


def vector_view(feature_hash: str) -> str:
    """Return the name of the vector view of a feature set."""
    return f"{VECTOR}{feature_hash}"


def _entity_key(entity: str) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=[JOIN_KEY], entity_values=[Value(string_val=entity)])


def _unavailable(view: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the online store does not answer: {type(error).__name__}",
        where=f"view {view}",
        fix="check the store, then run `bellwether features`",
    )


def _held(found: _Found) -> OnlineRow | None:
    as_of, row = found
    # SQLite returns nothing for an unknown entity, Redis empty values.
    if as_of is None or row is None or not all(name in row for name in VECTOR_FIELDS[:3]):
        return None
    if not row["values"].HasField("double_list_val"):
        return None
    answer = row.get("answer")
    return OnlineRow(
        as_of,
        _float64(row["values"]),
        _float64(row["past"]),
        row["facts"].string_val.encode(),
        answer.bytes_val if answer is not None else b"",
    )


def _float64(value: Any) -> bytes:
    """Return a list of doubles in their memory layout.

    Serialised, it is a head and then the doubles: taken over whole, it costs less than reading the
    numbers one by one.
    """
    doubles = value.double_list_val
    serialised: bytes = doubles.SerializeToString()
    return serialised[len(serialised) - 8 * len(doubles.val) :]


def online_row_frame(held: Sequence[OnlineRow | None], width: int) -> OnlineRows:
    """Return what the store holds of some entities as `OnlineRows` of `width` features.

    Raises
    ------
    StateError
        It holds vectors of another length.
    """
    return OnlineRows(
        is_known=np.array([item is not None for item in held], dtype=bool),
        values=_matrix([item and item.values for item in held], width),
        past=_matrix([item and item.past for item in held], width),
        facts=[orjson.loads(item.facts) if item else {} for item in held],
        as_of=[item.as_of if item else None for item in held],
    )


def _matrix(vectors: Sequence[bytes | None], width: int) -> np.ndarray:
    """Return stored vectors as rows, NaN where there is none."""
    nothing = np.full(width, np.nan).tobytes()
    parts = [nothing if item is None else item for item in vectors]
    if any(len(part) != 8 * width for part in parts):
        raise StateError(
            f"the online store holds vectors of another length than {width}",
            fix="delete the folder STATE/feast, then: bellwether features COMPANY",
        )
    return np.frombuffer(b"".join(parts), dtype="<f8").reshape(len(parts), width)


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
    # Feast's engines call DuckDB through ibis, which still uses its older name of one method; what
    # is imported later (a tracking server's client) may turn on the printing of that.
    warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
    for name in multiprocess:  # Feast sets them for its own server; they would change ours
        os.environ.pop(name, None)
    return FeatureStore, RepoConfig
