"""Language of a text: character statistics of py3langid, and known words for short texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from features.text.lexicon import LANGUAGES, lexicon_of
from features.text.prepared import Prepared

SURE = 0.5
"""Probability above which the statistics decide alone."""

LIKELY = 0.2
"""Probability above which the statistics decide when known words do not."""

READ_AS = {"pcm": "en"}
"""Languages that share the words of a supported one; short English texts are taken for them."""

READ = 400
"""Characters that are read for the language."""


def language_of(prepared: Prepared) -> str | None:
    """Return the ISO 639-1 code of the language of a text; None where it is unclear.

    Short texts ("OK", "too slow") say little about their letters. Where the statistics are unsure,
    the supported language that knows more than half of the words decides.

    Examples
    --------
    >>> from features.text.prepared import prepare
    >>> [language_of(prepare(text)) for text in ("zu langsam", "La facture est fausse", "12345")]
    ['de', 'fr', None]
    """
    words = prepared.words
    if not words:
        return None
    found, probability = _identifier().classify(prepared.text[:READ])
    language = READ_AS.get(found, str(found))
    if probability >= SURE:
        return language
    known = _knowing(words)
    if len(known) == 1:
        return known[0]
    return language if probability >= LIKELY or language in known else None


def _knowing(words: Sequence[str]) -> list[str]:
    """Return the supported languages that know most of the words, and more than half of them."""
    counts = {
        name: sum(lexicon_of(name).word(word).is_known for word in words) for name in LANGUAGES
    }
    most = max(counts.values())
    return [name for name in LANGUAGES if counts[name] == most and 2 * most > len(words)]


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
