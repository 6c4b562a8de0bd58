"""One account or person to forget, and how its traces are recognised in cells and texts."""

from __future__ import annotations

import html
import re
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from features.sources.cleaning.forget_list import REMOVED, SubjectKind

MIN_WORD = 5
"""Fewest characters of an id or a name that is searched for within texts: shorter ones occur by
chance, and are compared with whole values only."""

ACCOUNT_KEYS = ("account_id", "entity_id", "_bw_account", "top")
"""Columns and JSON keys with the account that a row is about."""

PERSON_KEYS = ("user_id", "respondent_id", "contact_id")
"""Columns with the person that a row is about."""

WORD_EDGE = r"(?<![\w.@+-]){}(?![\w@+-]|\.\w)"


@dataclass(frozen=True)
class Subject:
    """An account or a person.

    Attributes
    ----------
    kind : {"account", "person"}
        What it is.
    value : str
        Its id, or the e-mail address of a person.
    names : tuple of str
        Display names of an account or an owner. Those of an owner are replaced as whole values.
    pseudonym : str
        Random name that replaces it where a row is kept as evidence; not derived from the id.
    searches_names : bool
        Also search for the names within texts: for reports. A name can be a common word, so texts
        of other accounts are not searched for it.
    """

    kind: SubjectKind
    value: str
    names: tuple[str, ...] = ()
    pseudonym: str = field(default_factory=lambda: f"forgotten-{secrets.token_hex(8)}")
    searches_names: bool = False

    @property
    def row_keys(self) -> tuple[str, ...]:
        """Columns whose rows are deleted where they equal the value."""
        return ACCOUNT_KEYS if self.kind == "account" else PERSON_KEYS

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Texts that are searched for within longer texts, the longest first."""
        names = self.names if self.searches_names else ()
        found = {word for word in (self.value, *names) if len(word) >= MIN_WORD}
        return tuple(sorted(found, key=lambda word: (-len(word), word)))

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        spelled = {form for word in self.words for form in (word, html.escape(word))}
        if not spelled:
            return None
        ordered = sorted(spelled, key=len, reverse=True)
        return re.compile(WORD_EDGE.format("(?:" + "|".join(map(re.escape, ordered)) + ")"))

    def equals(self, value: object) -> bool:
        """Whether a whole value is this subject; case counts for ids, not for e-mail addresses."""
        if not isinstance(value, str):
            return False
        if "@" in self.value:
            return value.strip().lower() == self.value.lower()
        return value.strip() == self.value

    def is_in(self, text: str) -> bool:
        """Whether a text mentions it."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def removed_from(self, text: str) -> str:
        """Return a text without its mentions."""
        return text if self._pattern is None else self._pattern.sub(REMOVED, text)

    def cleaned(self, text: str) -> str:
        """Return a value: the pseudonym in place of the id, JSON cleaned, mentions removed."""
        if self.equals(text) or (self.kind == "person" and text in self.names):
            return self.pseudonym
        if text[:1] in "{[" and text[-1:] in "}]":
            return self._cleaned_json(text)
        return self.removed_from(text)

    def _cleaned_json(self, text: str) -> str:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self.removed_from(text)
        clean = self.cleaned_value(value)
        if clean == value:
            return text
        return orjson.dumps(clean, option=orjson.OPT_SORT_KEYS).decode()

    def cleaned_value(self, value: Any) -> Any:
        """Return a JSON value without the subject: its own objects leave lists and mappings."""
        if isinstance(value, str):
            return self.cleaned(value)
        if isinstance(value, list):
            return [self.cleaned_value(item) for item in value if not self._is_own(item)]
        if isinstance(value, dict):
            return {
                self.removed_from(key): None if self._is_own(item) else self.cleaned_value(item)
                for key, item in value.items()
                if not self.equals(key)
            }
        return value

    def _is_own(self, item: object) -> bool:
        """Whether an object is about the subject, or is its id in a list of ids."""
        if isinstance(item, dict):
            return any(self.equals(item.get(key)) for key in self.row_keys)
        return False
