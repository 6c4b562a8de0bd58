"""Settings of one deployment, read from environment variables that begin with BELLWETHER_.

Addresses and secrets live here, behaviour lives in company.yaml. A settings object holds what its
constructor is given; `from_environment` reads the variables. Empty variables count as not set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from configs.runtime.errors import ConfigError

PREFIX = "BELLWETHER_"

MIN_SECRET = 24
"""Characters of a shared secret that cannot be guessed."""


def _unit(text: str) -> dict[str, Any]:
    return {"unit": text}


class Settings(BaseSettings):
    """Base of all settings: immutable, read from the environment only on request."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        # BELLWETHER_CONNECTION_ERP is the entry "erp" of the connections.
        env_nested_delimiter="_",
        env_nested_max_split=1,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the library passes all five by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the constructor's arguments, so that tests and tools are repeatable."""
        return (init_settings,)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from environment variables.

        Parameters
        ----------
        environment : mapping of str to str, optional
            Variables to read; those of this process by default.

        Raises
        ------
        ConfigError
            A variable has a value that is not allowed.
        """
        source = EnvSettingsSource(cls)
        variables = os.environ if environment is None else environment
        source.env_vars = {name.lower(): value for name, value in variables.items() if value}
        try:
            return cls(**source())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            field = cls.model_fields.get(name)
            raise ConfigError(
                first["msg"],
                where=variable_name(name, field) if field else name,
                fix="correct the environment variable, or unset it to use the default",
            ) from None


class Locations(Settings):
    """Folders of the company that is opened or served."""

    company: str | None = Field(
        None,
        description="company folder, or the name of a shipped example, that the service opens",
        json_schema_extra=_unit("folder"),
    )
    state: str | None = Field(
        None,
        description="state directory: everything derived from the data; default ./state/COMPANY",
        json_schema_extra=_unit("folder"),
    )
    data: str | None = Field(
        None,
        description="folder of the raw files; overrides `data` in company.yaml",
        json_schema_extra=_unit("folder"),
    )


class SignIn(Settings):
    """Sign-in of people to the service: through a trusted proxy or an OpenID Connect issuer."""

    proxy_secret: SecretStr = Field(
        SecretStr(""),
        description="shared secret of the sign-in proxy; the service trusts the user name of "
        "requests that carry it as X-Bellwether-Proxy-Secret",
        json_schema_extra=_unit(f"{MIN_SECRET} characters or more"),
    )
    oidc_issuer: str = Field(
        "",
        description="issuer that people's tokens must carry",
        json_schema_extra=_unit("URL"),
    )
    oidc_audience: str = Field(
        "",
        description="audience that people's tokens must carry",
        json_schema_extra=_unit("text"),
    )
    oidc_jwks: str = Field(
        "",
        description="signing keys of the issuer",
        json_schema_extra=_unit("https URL or file"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse a short secret and an issuer that is configured in part."""
        names = ("oidc_issuer", "oidc_audience", "oidc_jwks")
        missing = [f"{PREFIX}{name.upper()}" for name in names if not getattr(self, name)]
        if 0 < len(missing) < len(names):
            raise ConfigError(
                f"{' and '.join(missing)} not set", where="the environment", fix="set all three"
            )
        size = len(self.proxy_secret.get_secret_value())
        if 0 < size < MIN_SECRET:
            raise ConfigError(
                f"the proxy's secret has {size} characters",
                where=f"{PREFIX}PROXY_SECRET",
                fix=f"take {MIN_SECRET} or more: openssl rand -hex 32",
            )
        return self


class Environment(Settings):
    """Addresses and secrets of other systems. The repr hides them."""

    ledger_url: str | None = Field(
        None,
        repr=False,
        description="database of releases, API keys and the score ledger; default SQLite in the "
        "state directory",
        json_schema_extra=_unit("postgresql:// URL"),
    )
    redis_url: str | None = Field(
        None,
        repr=False,
        validation_alias=f"{PREFIX}REDIS",
        description="online store of Feast, also read by feature_store.yaml; default SQLite in "
        "the state directory",
        json_schema_extra=_unit("host:port[,db=…,password=…]"),
    )
    registry_url: str | None = Field(
        None,
        repr=False,
        validation_alias=f"{PREFIX}FEAST_REGISTRY_URL",
        description="registry of Feast, also read by feature_store.yaml; default a file in the "
        "state directory",
        json_schema_extra=_unit("postgresql:// URL"),
    )
    tracking_url: str | None = Field(
        None,
        repr=False,
        validation_alias=f"{PREFIX}MLFLOW_URL",
        description="MLflow tracking server; default SQLite in the state directory",
        json_schema_extra=_unit("http:// or database URL"),
    )
    optuna_url: str | None = Field(
        None,
        repr=False,
        description="storage of the hyperparameter search; default SQLite in the state directory",
        json_schema_extra=_unit("database URL"),
    )
    sign_in: SignIn = Field(default_factory=SignIn, description="how people sign in")
    smtp_url: SecretStr = Field(
        SecretStr(""),
        description="mail server of the digests",
        json_schema_extra=_unit("smtp:// or smtps:// URL"),
    )
    webhook_secrets: Mapping[str, SecretStr] = Field(
        {},
        validation_alias=f"{PREFIX}WEBHOOK_SECRET",
        description="secret that signs the messages of the webhook NAME in company.yaml",
        json_schema_extra=_unit("whsec_ and base64"),
    )
    connections: Mapping[str, SecretStr] = Field(
        {},
        validation_alias=f"{PREFIX}CONNECTION",
        description="database that inputs with `connection: NAME` in company.yaml are read from",
        json_schema_extra=_unit("URL of a database or warehouse"),
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read every address and secret once; see `Settings.from_environment`."""
        found = super().from_environment(environment)
        return found.model_copy(update={"sign_in": SignIn.from_environment(environment)})

    def webhook_secret(self, name: str) -> str:
        """Return the secret of a webhook; empty when the environment has none."""
        secret = self.webhook_secrets.get(name)
        return secret.get_secret_value() if secret else ""


class ServiceSettings(Settings):
    """Settings of the service's processes."""

    hosts: str = Field(
        "",
        description="host names that the service answers to, separated by commas; default the "
        "names of this machine's loopback address",
        json_schema_extra=_unit("host names"),
    )
    workers: int = Field(
        1, ge=1, description="processes of the service", json_schema_extra=_unit("processes")
    )
    start_root: str | None = Field(
        None,
        description="folder below which administrators may propose mappings and upload exports on "
        "the page /start; without it that page only shows the mapping of the served company",
        json_schema_extra=_unit("folder"),
    )
    check_seconds: float = Field(
        5.0,
        gt=0,
        description="time between two checks for a new release, in each process",
        json_schema_extra=_unit("seconds"),
    )
    log_level: str = Field(
        "INFO",
        description="least severe level that the service logs",
        json_schema_extra=_unit("DEBUG, INFO, WARNING or ERROR"),
    )


def variable_name(name: str, field: FieldInfo) -> str:
    """Return the environment variable of a setting; of a group of variables, with ``<NAME>``."""
    variable = str(field.validation_alias or f"{PREFIX}{name.upper()}")
    return f"{variable}_<NAME>" if _is_group(field) else variable


def _is_group(field: FieldInfo) -> bool:
    return str(field.annotation).startswith(("typing.Mapping", "collections.abc.Mapping"))


def settings_table() -> str:
    """Return every setting as a Markdown table, for the documentation.

    >>> print(settings_table().splitlines()[2])
    | `BELLWETHER_COMPANY` | not set | folder | company folder, or the name of a shipped example, \
that the service opens |
    """
    lines = ["| variable | default | value | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows()]) + "\n"


def _rows() -> Iterator[str]:
    for group in (Locations, Environment, SignIn, ServiceSettings):
        for name, field in group.model_fields.items():
            if name == "sign_in":
                continue  # its variables are rows of their own
            extra = field.json_schema_extra
            unit = extra["unit"] if isinstance(extra, dict) else ""
            is_shown = isinstance(field.default, (int, float)) or field.default == "INFO"
            default = f"{field.default}" if is_shown else "not set"
            yield f"| `{variable_name(name, field)}` | {default} | {unit} | {field.description} |"
