"""Where things run: read from the environment, never from the company folder, never logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State
from configs.schema.company import Company

MIN_SECRET = 24
"""Characters of a shared secret nobody guesses."""


@dataclass(frozen=True)
class SignIn:
    """Whom to trust with naming people. Secrets: the repr hides them.

    Attributes
    ----------
    proxy_secret : str
        What the trusted proxy sends beside the name (``BELLWETHER_PROXY_SECRET``).
    oidc_issuer, oidc_audience : str
        What a token must carry (``BELLWETHER_OIDC_ISSUER``, ``BELLWETHER_OIDC_AUDIENCE``).
    oidc_jwks : str
        File or address of the issuer's signing keys (``BELLWETHER_OIDC_JWKS``).
    """

    proxy_secret: str = field(default="", repr=False)
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_jwks: str = ""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> SignIn:
        """Read it once; a half-told issuer is an error, not a door ajar."""
        told = {
            name: env.get(f"BELLWETHER_{name.upper()}", "")
            for name in ("proxy_secret", "oidc_issuer", "oidc_audience", "oidc_jwks")
        }
        oidc = [f"BELLWETHER_{name.upper()}" for name in told if name != "proxy_secret"]
        missing = [name for name in oidc if not env.get(name)]
        if 0 < len(missing) < len(oidc):
            raise ConfigError(
                f"{' and '.join(missing)} not set", where="the environment", fix="set all three"
            )
        if 0 < len(told["proxy_secret"]) < MIN_SECRET:
            raise ConfigError(
                f"the proxy's secret has {len(told['proxy_secret'])} characters",
                where="BELLWETHER_PROXY_SECRET",
                fix=f"take {MIN_SECRET} or more: openssl rand -hex 32",
            )
        return cls(**told)


@dataclass(frozen=True)
class Environment:
    """Addresses of the parts that can move off this machine. Secrets: the repr hides them.

    Attributes
    ----------
    ledger_url : str or None
        SQLAlchemy URL of the score ledger and releases (``BELLWETHER_LEDGER_URL``); SQLite in
        the state directory when absent.
    redis_url : str or None
        ``host:port[,db=..,password=..]`` of Feast's online store (``BELLWETHER_REDIS``); SQLite
        when absent.
    registry_url : str or None
        SQLAlchemy URL of Feast's registry (``BELLWETHER_FEAST_REGISTRY_URL``); a file when absent.
    tracking_url : str or None
        MLflow tracking URI (``BELLWETHER_MLFLOW_URL``); SQLite when absent.
    optuna_url : str or None
        Optuna storage (``BELLWETHER_OPTUNA_URL``); SQLite when absent.
    sign_in : SignIn
        Who names people.
    webhook_secrets : mapping of str to str
        What messages are signed with (``BELLWETHER_WEBHOOK_SECRET_<NAME>``), names in lower case.
    connections : mapping of str to str
        Named source databases (``BELLWETHER_CONNECTION_<NAME>``), names in lower case.
    """

    ledger_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    registry_url: str | None = field(default=None, repr=False)
    tracking_url: str | None = field(default=None, repr=False)
    optuna_url: str | None = field(default=None, repr=False)
    sign_in: SignIn = field(default_factory=SignIn)
    webhook_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Environment:
        """Read every address once."""
        env = os.environ if environment is None else environment
        return cls(
            ledger_url=env.get("BELLWETHER_LEDGER_URL"),
            redis_url=env.get("BELLWETHER_REDIS"),
            registry_url=env.get("BELLWETHER_FEAST_REGISTRY_URL"),
            tracking_url=env.get("BELLWETHER_MLFLOW_URL"),
            optuna_url=env.get("BELLWETHER_OPTUNA_URL"),
            sign_in=SignIn.from_environment(env),
            webhook_secrets=_named(env, "BELLWETHER_WEBHOOK_SECRET_"),
            connections=_named(env, "BELLWETHER_CONNECTION_"),
        )


def _named(env: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the variables that begin alike by what follows, in lower case."""
    return {
        key.removeprefix(prefix).lower(): value
        for key, value in env.items()
        if key.startswith(prefix)
    }


@dataclass(frozen=True)
class Workspace:
    """One company, its data and its state: what every step is given.

    Attributes
    ----------
    company : Company
        The configuration.
    folder : Path
        The company folder.
    data : Path
        Where the raw files lie.
    state : State
        Where everything derived lies.
    places : Places
        Addresses of the other systems.
    """

    company: Company
    folder: Path
    data: Path
    state: State
    places: Environment = field(default_factory=Environment)


def data_folder(company: Company, folder: Path, override: str | None) -> Path:
    """Resolve the folder of the raw files: the option, then the environment, then the YAML."""
    chosen = override or os.environ.get("BELLWETHER_DATA") or company.data
    path = Path(chosen).expanduser()
    resolved = (
        path
        if path.is_absolute() or override or os.environ.get("BELLWETHER_DATA")
        else (folder / path)
    )
    if any(item.file for item in company.inputs.values()) and not resolved.is_dir():
        raise ConfigError(
            "the data folder does not exist",
            where=str(resolved),
            fix="name it with --data FOLDER or BELLWETHER_DATA=FOLDER",
        )
    return resolved
