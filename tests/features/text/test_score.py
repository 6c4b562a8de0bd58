"""Language, sentiment and themes of texts: negation, two labelled sets, hostile texts."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from features.text.lexicon import LANGUAGES, THEMES, lexicon_version
from features.text.score import SCHEMA, score_text, score_texts, scores_version

DATA = Path(__file__).parent / "data"
PLAIN = 0.05
"""From this sentiment on a text counts as happy, and below its negative as unhappy: as in VADER."""


def rows(name: str) -> list[list[str]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def mood(sentiment: float | None) -> int | None:
    if sentiment is None:
        return None
    return int(sentiment >= PLAIN) - int(sentiment <= -PLAIN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is slow", -1),
        ("It is not slow", 1),
        ("not too slow at all", 1),
        ("We can't complain", 1),
        ("We are not happy", -1),
        ("not very happy", -1),
        ("never had a problem", 1),
        ("We have never had a single problem with it", 1),
        ("It is broken", -1),
        ("Export not working", -1),
        ("It isn't really annoying", 1),
        ("It isn’t broken", 1),
        ("nothing is broken", 1),
        ("we are no longer unhappy", 1),
        ("without any frustration", 1),
        ("not broken, but terrible support", -1),
        ("terrible support, but the product is excellent", 1),
        ("not only broken", -1),
        ("no answer, and it is broken", -1),
        ("it does not help that it is broken", -1),
        ("Support has never been better", 1),
        ("Die Suche funktioniert nicht", -1),
        ("Das ist nicht langsam", 1),
        ("Ce n'est pas lent", 1),
        ("Ça ne marche pas", -1),
        ("No estamos contentos", -1),
        ("Nunca tuvimos un problema", 1),
    ],
)
def test_negation(text, expected):
    assert mood(score_text(text).sentiment) == expected


def test_degree_words_strengthen_and_weaken():
    values = [
        score_text(f"The app is {words}slow").sentiment for words in ("very ", "", "slightly ")
    ]
    assert values == sorted(values)
    assert len(set(values)) == 3


def test_words_about_leaving_move_no_sentiment():
    texts = ("How do we cancel our subscription?", "We are leaving in May, please confirm.")
    assert [score_text(text).sentiment for text in texts] == [0.0, 0.0]
    assert "leaving" in score_text(texts[0]).themes
    assert "leaving" not in score_text("We do not want to cancel.").themes


@pytest.mark.parametrize(
    ("text", "themes"),
    [
        ("The price is too high", {"price"}),
        ("We are missing an integration", {"product_gap"}),
        ("It crashes every morning", {"bug"}),
        ("It never crashes", set()),
        ("No problem", set()),
        ("Nobody answers our mails", {"support_quality"}),
        ("When does the onboarding start?", {"onboarding"}),
        ("The interface is confusing", {"usability"}),
        ("We are looking at alternatives", {"competitor"}),
        ("We love it", {"praise"}),
        ("We do not love it", set()),
        ("Der Preis ist zu hoch", {"price"}),
        ("Il manque une intégration", {"product_gap"}),
        ("La factura tiene errores", {"price", "bug"}),
        ("The meeting is on Tuesday", set()),
    ],
)
def test_themes(text, themes):
    assert score_text(text).themes == themes


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Exporten stannar halvvägs varje gång", "sv"),
        ("エクスポートが途中で止まります", "ja"),
        ("Eksport zatrzymuje się w połowie", "pl"),
        ("12345 !!!", None),
        ("🎉", None),
        ("", None),
        ("OK", None),
    ],
)
def test_without_a_lexicon_the_sentiment_is_unknown_and_never_zero(text, language):
    score = score_text(text)
    assert (score.language, score.sentiment, score.themes) == (language, None, frozenset())


def test_columns_in_the_order_of_the_texts_and_each_distinct_text_once(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(
        "features.text.score.score_text", lambda text: asked.append(text) or score_text(text)
    )
    texts = ["It is broken", None, "We love it", "It is broken", "Exporten stannar varje gång"]
    table = score_texts(pa.chunked_array([texts[:2], texts[2:]]))
    assert sorted(asked) == sorted({text for text in texts if text})
    assert table.schema == SCHEMA
    assert [mood(value) for value in table["sentiment"].to_pylist()] == [-1, None, 1, -1, None]
    assert table["bug"].to_pylist() == [True, None, False, True, None]
    assert score_texts(pd.Series(texts)).equals(table.combine_chunks())
    assert score_texts([]).num_rows == 0


def test_changed_words_change_the_version(monkeypatch, tmp_path):
    assert LANGUAGES == ("de", "en", "es", "fr")
    before = scores_version()
    (tmp_path / "en.yaml").write_text("changed")
    monkeypatch.setattr("features.text.lexicon.FOLDER", tmp_path)
    lexicon_version.cache_clear()
    assert scores_version() != before
    lexicon_version.cache_clear()


def test_product_reviews_rated_by_twenty_people():
    """The public set: Hutto and Gilbert, 2014. VADER itself has 0.59 and 0.86 on all 3,708."""
    labelled = rows("amazon_review_snippets.tsv")
    truth = np.array([float(value) for value, _ in labelled])
    found = score_texts([text for _, text in labelled])["sentiment"].to_pandas().to_numpy()
    known = ~np.isnan(found)
    assert known.mean() > 0.95
    assert np.corrcoef(found[known], truth[known])[0, 1] > 0.57
    clear = known & (np.abs(truth) >= 1)
    ranks, good = rankdata(found[clear]), truth[clear] > 0
    n_good, n_bad = good.sum(), (~good).sum()
    auc = (ranks[good].sum() - n_good * (n_good + 1) / 2) / (n_good * n_bad)
    assert auc > 0.85


def test_sentences_of_customers_in_four_languages():
    """Our own set, in the words of support; its authors also wrote the lexicons."""
    labelled = rows("customer_sentences.tsv")
    assert len(labelled) >= 180
    scores = [score_text(text) for _, _, text in labelled]
    for language in LANGUAGES:
        own = [
            mood(score.sentiment) == int(label)
            for (name, label, _), score in zip(labelled, scores, strict=True)
            if name == language
        ]
        assert np.mean(own) > 0.9, language
    is_found = [s.language == name for (name, _, _), s in zip(labelled, scores, strict=True)]
    assert np.mean(is_found) > 0.97


HOSTILE = {
    "tags": "<script>alert(1)</script>" * 20_000,
    "open tags": "<a " * 200_000,
    "controls": "\x00\x07\u202e\ufeff" * 100_000,
    "one word": "a" * 1_000_000,
    "negators": "not " * 250_000,
    "addresses": "a.b" * 300_000 + "@",
    "entities": "&lt;" * 200_000,
    "lone surrogate": "broken \ud800 text",
    "quotes": "> " * 100_000,
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_texts_are_harmless_and_fast(name):
    began = time.process_time()
    score = score_text(HOSTILE[name])
    assert score.sentiment is None or -1 <= score.sentiment <= 1
    assert time.process_time() - began < 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_valid_score(text):
    score = score_text(text)
    assert score == score_text(text)
    assert score.sentiment is None or -1 <= score.sentiment <= 1
    assert score.themes <= set(THEMES)


def test_ten_thousand_texts_cost_seconds():
    texts = [f"Ticket {n}: the export is not working, please help us soon." for n in range(10_000)]
    score_text("loads the profiles")
    began = time.process_time()
    score_texts(texts)
    assert time.process_time() - began < 20
