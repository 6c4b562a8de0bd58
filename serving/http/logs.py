"""Structured logs: one JSON object per line with the request id, no account ids or secrets."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from serving.http.personal_data import mask_e_mails

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@|(password=)[^,\s]+", re.IGNORECASE)

FIELDS = ("request_id", "method", "route", "status", "seconds")
"""Additional fields of a log record."""


class JsonLines(logging.Formatter):
    """Formatter of log records as JSON lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; passwords in addresses and e-mail addresses are masked.

        >>> record = logging.LogRecord("x", 30, "", 0, "lost %s", ("redis://me:secret@h",), None)
        >>> orjson.loads(JsonLines().format(record))["message"]
        'lost redis://me:***@h'
        """
        line: dict[str, Any] = {
            "at": _instant(int(1_000 * record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = record.__dict__
        line |= {name: given[name] for name in FIELDS if name in given}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return mask_e_mails(without_passwords(orjson.dumps(line, default=str).decode()))


def without_passwords(text: str) -> str:
    """Return a text with masked passwords of addresses.

    >>> without_passwords("host:6379,password=secret,db=1 postgresql://me:secret@host/db")
    'host:6379,password=***,db=1 postgresql://me:***@host/db'
    """
    return _PASSWORD.sub(lambda m: f"{m[1]}***@" if m[1] else f"{m[2]}***", text)


def _instant(milliseconds: int) -> str:
    """Return milliseconds since 1970 as ISO 8601, UTC.

    >>> _instant(1_771_234_567_089)
    '2026-02-16T09:36:07.089+00:00'
    """
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{_second(seconds)}.{rest:03d}+00:00"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def log_as_json(level: str = "INFO") -> None:
    """Write the logs of Bellwether to standard error as JSON lines; call once per process."""
    logger = logging.getLogger("bellwether")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
