"""Connections of database inputs: their URLs in the environment, their kinds, and table names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from configs.runtime.errors import ConfigError, SourceError, did_you_mean
from configs.schema.source_mapping import Input
from configs.schema.workspace import Workspace

EXAMPLES: dict[str, str] = {
    "duckdb": "duckdb:///FILE",
    "sqlite": "sqlite:///FILE",
    "postgresql": "postgresql://USER@HOST/DATABASE",
    "mysql": "mysql://USER@HOST/DATABASE",
    "snowflake": "snowflake://USER@ACCOUNT/DATABASE/SCHEMA?warehouse=NAME",
    "bigquery": "bigquery://PROJECT/DATASET",
    "redshift": "redshift://USER@HOST:5439/DATABASE",
    "databricks": "databricks://HOST/CATALOG/SCHEMA?http_path=PATH",
    "trino": "trino://USER@HOST:443/CATALOG/SCHEMA",
}
"""Kind of connection → form of its URL."""

_ALIASES = {"postgres": "postgresql", "mariadb": "mysql"}


@dataclass(frozen=True)
class Connection:
    """A database connection of an input.

    Attributes
    ----------
    kind : str
        Key of `EXAMPLES`.
    url : str
        URL, which may hold a password: never part of a message.
    variable : str
        Environment variable of the URL.
    """

    kind: str
    url: str
    variable: str

    @property
    def example(self) -> str:
        """Form of a valid URL."""
        return EXAMPLES[self.kind]


def variable_of(item: Input) -> str:
    """Return the environment variable with the URL of an input's connection."""
    return f"BELLWETHER_CONNECTION_{str(item.connection).upper()}"


def connection_of(workspace: Workspace, name: str, item: Input) -> Connection:
    """Return the connection of an input.

    Raises
    ------
    ConfigError
        The environment has no URL for it, or one with another scheme.
    """
    connections = workspace.places.connections
    address = connections.get(str(item.connection))
    if address is None:
        hint = did_you_mean(str(item.connection), connections)
        raise ConfigError(
            f"input {name} uses the connection {item.connection}, which has no URL; "
            f"known: {', '.join(sorted(connections)) or 'none'}" + (f"; {hint}" if hint else ""),
            where=f"inputs.{name}.connection",
            fix=f"export {variable_of(item)}={EXAMPLES['postgresql']}   (or "
            + ", ".join(f"{kind}://" for kind in EXAMPLES if kind != "postgresql")
            + ")",
        )
    url = address.get_secret_value()
    scheme = url.partition(":")[0].split("+")[0].lower()
    kind = _ALIASES.get(scheme, scheme)
    if kind not in EXAMPLES:
        raise ConfigError(
            f"connection {item.connection} has the scheme {scheme!r}"
            if "://" in url
            else f"the URL of connection {item.connection} has no scheme",
            where=variable_of(item),
            fix="use one of: " + ", ".join(EXAMPLES.values()),
        )
    return Connection(kind, url, variable_of(item))


def invalid_url(item: Input, connection: Connection) -> ConfigError:
    """Return the error for a URL that cannot be read; it does not repeat the URL."""
    return ConfigError(
        f"the URL of connection {item.connection} is not valid",
        where=connection.variable,
        fix=f"write it as {connection.example}",
    )


def database_file(workspace: Workspace, item: Input, connection: Connection) -> Path:
    """Return the file of a DuckDB or SQLite connection.

    Raises
    ------
    SourceError
        It does not exist; the error lists where it was looked for.
    """
    rest = urlsplit(connection.url).path.removeprefix("/")
    candidates = [Path(rest).expanduser(), workspace.data / rest, Path("/") / rest]
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        title = {"duckdb": "DuckDB", "sqlite": "SQLite"}[connection.kind]
        raise SourceError(
            f"the {title} file of connection {item.connection} does not exist",
            where="looked at, in order: " + ", ".join(str(path) for path in candidates),
            fix=f"correct {connection.variable}",
        )
    return file


def schema_and_table(item: Input, default: str) -> tuple[str, str]:
    """Return the schema and the table of an input; the schema is `default` if it names none."""
    schema, _, table = str(item.table).rpartition(".")
    return schema or default, table


def no_table(name: str, item: Input, wanted: str, known: list[str]) -> SourceError:
    """Return the error for a table that a connection does not have, with the tables it has."""
    hint = did_you_mean(wanted, known)
    return SourceError(
        f"connection {item.connection} has no table {wanted}; "
        + (hint or f"it has {len(known)}: {', '.join(known[:8])}"),
        where=f"inputs.{name}.table",
        fix="correct `table` in company.yaml, as schema.table",
    )


def package_missing(item: Input, kind: str, extra: str, package: str | None) -> ConfigError:
    """Return the error for a driver that is not installed; it names the extra."""
    return ConfigError(
        f"connection {item.connection} ({kind}) needs the package {package or extra}, which is not "
        "installed",
        where=variable_of(item),
        fix=f"pip install 'bellwether-cs[{extra}]'",
    )
