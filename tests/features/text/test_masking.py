"""Masking of personal data, and snippets."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.text.masking import SNIPPET, mask_personal_data, snippet


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jo.doe+x@mail.acme.example please", "write to [e-mail] please"),
        ("call +49 30 1234567", "call [phone]"),
        ("call +1 555 0100 now", "call [phone] now"),
        ("call (555) 123-4567", "call [phone]"),
        ("card 4111 1111 1111 1111", "card [card number]"),
        ("card 4111-1111-1111-1111", "card [card number]"),
        ("to DE89 3704 0044 0532 0130 00", "to [account number]"),
        ("to GB82WEST12345698765432", "to [account number]"),
        ("https://app.example/reset?token=s3cret now", "https://app.example/… now"),
        ("https://jo:pw@app.example/x", "https://app.example/…"),
        ("https://app.example", "https://app.example"),
        ("password: hunter2!", "password: [secret]"),
        ("Hi Mia, it is slow", "Hi [name], it is slow"),
        ("Sehr geehrte Frau Dr. Meier,", "Sehr geehrte [name],"),
        ("It is slow.\nRegards,\nAnna-Lena Müller\nACME", "It is slow.\nRegards,\n[name]\nACME"),
        ("Viele Grüße, Jörg", "Viele Grüße, [name]"),
        ("Thanks, Jonas", "Thanks, [name]"),
    ],
)
def test_personal_data_is_masked(text, masked):
    assert mask_personal_data(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Error 500 in T-000123 since 2026-06-29 12:30:00",
        "order 1234567890123",  # no card: the check digit is wrong
        "DE00370400440532013000",  # no IBAN: the check digits are wrong
        "Hello team, hi there",
        "Thanks for the quick answer",
        "We have 1,234,567.89 EUR and 40 seats",
        "version 10.11.12",
    ],
)
def test_what_is_not_personal_remains(text):
    assert mask_personal_data(text) == text


def test_a_snippet_is_one_plain_line_of_limited_length():
    text = (
        "<p onclick='x()'>It is <b>slow</b></p>\x00\n\n\u202ereally &lt;script&gt; " + "word " * 99
    )
    found = snippet(text)
    assert found.startswith("It is slow really word word")
    assert len(found) <= SNIPPET
    assert found.endswith("…")
    assert snippet(None) == snippet("") == ""
    assert snippet("short") == "short"


def test_a_number_at_the_cut_is_masked_before_it_is_cut():
    text = "x" * (SNIPPET - 10) + " 4111 1111 1111 1111"
    assert "4111" not in snippet(text)


@pytest.mark.parametrize(
    "text",
    [
        "a@" * 100_000,
        "1 " * 100_000,
        "Hi " + "A" * 200_000,
        "https://" * 50_000,
        "regards " * 50_000,
        "<" * 200_000,
        "DE89 " * 50_000,
    ],
)
def test_hostile_texts_are_cut_in_bounded_time(text):
    began = time.process_time()
    assert len(snippet(text)) <= SNIPPET
    assert time.process_time() - began < 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_gives_a_short_line(text):
    found = snippet(text)
    assert len(found) <= SNIPPET
    assert "\n" not in found
