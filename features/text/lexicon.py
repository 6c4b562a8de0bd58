"""Lexicons: rated words, negators and theme words of each supported language.

A lexicon is a YAML file in ``lexicons/``, one per language. English extends the rated words of
VADER (Hutto and Gilbert, 2014), which the package vaderSentiment contains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from configs.runtime.hashing import digest

FOLDER = Path(__file__).parent / "lexicons"
LANGUAGES: tuple[str, ...] = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""Languages with a sentiment, as ISO 639-1 codes."""

THEMES = (
    "price", "product_gap", "bug", "support_quality", "onboarding", "usability", "competitor",
    "leaving", "praise",
)  # fmt: skip
"""Themes of a text. A text can have several, and most have none."""

SHORTEST_STEM = 3
REMEMBERED = 200_000
"""Maximum number of words whose look-up is kept in memory."""

TERM = re.compile(r'"([^"]+)"|(\S+)')
Phrase = tuple[str, ...]
ThemePhrases = dict[str, list[tuple[Phrase, str]]]


class LexiconFile(BaseModel):
    """Content of one lexicon file: words separated by spaces, ``*`` for every ending."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    negators: str
    boosters: str
    dampeners: str
    contrasts: str
    stops: str
    not_negators: list[str]
    neutral: str
    valence: dict[float, str]
    only_negated: str
    negated_after: str = ""
    phrases: dict[float, list[str]]
    common: str
    themes: dict[str, str] = Field(default_factory=dict)


class Word(NamedTuple):
    """Entry of one word in a lexicon.

    Attributes
    ----------
    valence : float
        −4 to 4, the scale of VADER; 0 for unrated words.
    is_negator, is_booster, is_dampener : bool
        Reverses, strengthens or weakens the rated words after it.
    is_contrast, is_stop : bool
        "But", and words that no negation reaches across.
    only_negated : bool
        Neutral, and bad when negated: "working".
    negated_after : bool
        Its negator may follow: "funktioniert nicht".
    is_known : bool
        Belongs to the language, as far as the lexicon goes.
    themes : tuple of str
        Themes it is a word of.
    """

    valence: float
    is_negator: bool
    is_booster: bool
    is_dampener: bool
    is_contrast: bool
    is_stop: bool
    only_negated: bool
    negated_after: bool
    is_known: bool
    themes: tuple[str, ...]


class _Stems:
    """Values of words: exact words first, then the longest stem (``crash*``), else None."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._exact = {word: value for word, value in values.items() if not word.endswith("*")}
        self._stems = {word[:-1]: value for word, value in values.items() if word.endswith("*")}

    def get(self, word: str) -> float | None:
        if word in self._exact:
            return self._exact[word]
        starts = (word[:end] for end in range(len(word), SHORTEST_STEM - 1, -1))
        return next((self._stems[start] for start in starts if start in self._stems), None)

    def __contains__(self, word: str) -> bool:
        return self.get(word) is not None


class Lexicon:
    """Words of one language, ready for look-ups.

    Attributes
    ----------
    phrases : dict of str to list of (tuple of str, float or None)
        Phrases by their first word, the longest first, with their valence; None for phrases that
        only look like a negation ("not only").
    theme_phrases : dict of str to list of (tuple of str, str)
        Phrases of themes by their first word.
    """

    def __init__(self, content: LexiconFile, rated: Mapping[str, float]) -> None:
        values = dict(rated)
        for word in content.neutral.split():
            values = _without(values, word)
        for value, words in content.valence.items():
            values |= dict.fromkeys(words.split(), value)
        self._valences = _Stems(values)
        self.phrases = _by_first_word(content)
        self._themes, self.theme_phrases = _themes_by_word(content)
        self._roles = {
            "is_negator": _listed(content.negators),
            "is_booster": _listed(content.boosters),
            "is_dampener": _listed(content.dampeners),
            "is_contrast": _listed(content.contrasts),
            "is_stop": _listed(f"{content.stops} {content.contrasts}"),
            "only_negated": _listed(content.only_negated),
            "negated_after": _listed(content.negated_after),
        }
        phrases = " ".join(phrase for phrases in content.phrases.values() for phrase in phrases)
        self._common = _listed(f"{content.common} {content.neutral} {phrases}")
        self._remembered: dict[str, Word] = {}

    def word(self, text: str) -> Word:
        """Return what the lexicon says about a lower-case word; remembered."""
        found = self._remembered.get(text)
        if found is None:
            found = self._look_up(text)
            if len(self._remembered) < REMEMBERED:
                self._remembered[text] = found
        return found

    def _look_up(self, text: str) -> Word:
        valence = self._valences.get(text)
        roles = {name: text in words for name, words in self._roles.items()}
        is_known = valence is not None or text in self._common or any(roles.values())
        themes = tuple(name for name, words in self._themes.items() if text in words)
        return Word(valence=valence or 0.0, is_known=is_known, themes=themes, **roles)


@cache
def lexicon_of(language: str) -> Lexicon:
    """Return the lexicon of a supported language."""
    content = yaml.safe_load((FOLDER / f"{language}.yaml").read_text(encoding="utf-8"))
    return Lexicon(LexiconFile.model_validate(content), _vader() if language == "en" else {})


@cache
def lexicon_version() -> str:
    """Return the identity of all lexicons and of the packages with words and profiles."""
    files = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yaml"))]
    return digest(files, version("vaderSentiment"), version("py3langid"))


def _vader() -> dict[str, float]:
    rated = SentimentIntensityAnalyzer().lexicon
    return {word: float(value) for word, value in rated.items() if word.isalpha()}


def _listed(words: str) -> _Stems:
    return _Stems(dict.fromkeys(words.split(), 1.0))


def _without(values: Mapping[str, float], word: str) -> dict[str, float]:
    if word.endswith("*"):
        return {name: value for name, value in values.items() if not name.startswith(word[:-1])}
    return {name: value for name, value in values.items() if name != word}


def _by_first_word(content: LexiconFile) -> dict[str, list[tuple[Phrase, float | None]]]:
    """Return the phrases by first word; None marks phrases that only look like a negation."""
    rated: list[tuple[Phrase, float | None]] = [
        (tuple(phrase.split()), value)
        for value, phrases in content.phrases.items()
        for phrase in phrases
    ]
    rated += [(tuple(phrase.split()), None) for phrase in content.not_negators]
    found: dict[str, list[tuple[Phrase, float | None]]] = {}
    for words, value in sorted(rated, key=lambda item: -len(item[0])):
        found.setdefault(words[0], []).append((words, value))
    return found


def _themes_by_word(content: LexiconFile) -> tuple[dict[str, _Stems], ThemePhrases]:
    """Return the single words of each theme, and the theme phrases by first word."""
    words: dict[str, _Stems] = {}
    phrases: ThemePhrases = {}
    for theme in THEMES:
        terms = TERM.findall(content.themes[theme])
        words[theme] = _listed(" ".join(word for _, word in terms if word))
        for phrase in (tuple(quoted.split()) for quoted, _ in terms if quoted):
            phrases.setdefault(phrase[0], []).append((phrase, theme))
    return words, phrases
