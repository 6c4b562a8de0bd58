"""A report as PDF, by the browser that is installed."""

import os
import shutil

import pytest

from configs.runtime.errors import UnavailableError
from training.reporting.pdf import BROWSERS, print_pdf

PAGE = "<!doctype html><html lang='en'><title>Report</title><h1>Valid?</h1></html>"


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "report.html"
    file.write_text(PAGE, encoding="utf-8")
    return file


@pytest.mark.browser
def test_a_page_is_printed_beside_itself(page, absent):
    if not any(shutil.which(name) for name in BROWSERS):
        absent("no Chromium", "apt-get install chromium")
    made = print_pdf(page)
    assert made == page.with_suffix(".pdf")
    assert made.read_bytes().startswith(b"%PDF-")
    assert sorted(item.name for item in page.parent.iterdir()) == ["report.html", "report.pdf"]


def test_without_a_browser_it_says_what_to_do(page, monkeypatch):
    monkeypatch.setenv("PATH", str(page.parent))
    with pytest.raises(UnavailableError, match="no installed browser") as caught:
        print_pdf(page)
    assert "print it" in caught.value.fix


@pytest.mark.parametrize(
    ("script", "words"), [("echo broken >&2", "broken"), ("exec sleep 5", "within")]
)
def test_a_browser_that_does_not_print_leaves_an_earlier_file(
    page, tmp_path, monkeypatch, script, words
):
    browser = tmp_path / "bin" / "chromium"
    browser.parent.mkdir()
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(browser.parent), os.environ["PATH"]]))
    page.with_suffix(".pdf").write_bytes(b"earlier")
    with pytest.raises(UnavailableError, match=words):
        print_pdf(page, seconds=1)
    assert page.with_suffix(".pdf").read_bytes() == b"earlier"
