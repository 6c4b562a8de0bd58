"""Removal of secrets from the messages of drivers before they are shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION|SAS", re.IGNORECASE)
_SIGNED = re.compile(r"\?[^\s'\"]*(?:sig|signature|token|key)=[^\s'\"]*", re.IGNORECASE)
SHORTEST = 6
"""Characters of a value from which it is removed wherever it occurs."""


def without_secrets(message: str, url: str = "") -> str:
    """Return the first line of a message without secrets.

    Removed are the URL, its password and the values of its options, the values of environment
    variables whose names speak of secrets, and signatures of web addresses.

    >>> without_secrets("no access: me:hunter2@host", "trino://me:hunter2@host/x")
    'no access: me:***@host'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = _SIGNED.sub("?***", lines[0] if lines else "no message")
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text[:400]


def _secrets(url: str) -> Iterable[str]:
    yield from (v for k, v in os.environ.items() if _SECRET_NAME.search(k) and len(v) >= SHORTEST)
    if not url:
        return
    yield url
    try:
        parts = urlsplit(url)
        given = parts.password
    except ValueError:
        return
    options = [item.partition("=")[2] for item in parts.query.split("&")]
    for value in (given or "", *options):
        if value:
            yield value
            yield unquote(value)
