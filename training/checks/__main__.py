"""Writes the catalogue of checks to ``README.md``: ``python -m training.checks``."""

from __future__ import annotations

from pathlib import Path

from training.checks.registry import markdown

if __name__ == "__main__":
    Path(__file__).with_name("README.md").write_text(markdown(), encoding="utf-8")
