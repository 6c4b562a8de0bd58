"""Figures stand alone, say in words what they show, and escape what they are given."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from training.registry.figures import aligned_svg, folds_svg, reliability_svg

SVG = "{http://www.w3.org/2000/svg}"
BINS = [
    {"n": 200, "events": 4, "expected": 0.03, "observed": 0.02, "low": 0.008, "high": 0.05},
    {"n": 100, "events": 15, "expected": 0.14, "observed": 0.15, "low": 0.09, "high": 0.23},
]
FOLDS: list[dict[str, Any]] = [
    {
        "fold": 1,
        "train_from": "2024-01-01T00:00:00+00:00",
        "cutoff": datetime(2025, 1, 1, tzinfo=UTC),
        "test_until": date(2025, 4, 1),
        "n_train": 1000,
        "n_headline": 90,
        "n_headline_events": 12,
    },
    {"cutoff": datetime(2025, 4, 1), "test_until": "2025-07-01"},  # noqa: DTZ001 - naive is UTC
]
ALIGNED = [
    {"feature": name, "from_days": days, "gap": gap * (150 - days) / 120, "error": 0.1}
    for name, gap in (("users_28d", -1.2), ("tickets_28d", 0.4), ("noise", 0.02))
    for days in (120, 90, 60, 30)
]


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)


@pytest.mark.parametrize(
    "svg",
    [
        reliability_svg(BINS), reliability_svg([]), folds_svg(FOLDS), folds_svg([]),
        aligned_svg(ALIGNED), aligned_svg([]),
    ],
)  # fmt: skip
def test_every_figure_is_accessible_and_stands_alone(svg: str) -> None:
    root = parse(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    for tag in ("title", "desc"):
        element = root.find(f"{SVG}{tag}")
        assert element is not None
        assert element.text
    references = [name for element in root.iter() for name in element.attrib if "href" in name]
    assert references == []
    assert "url(" not in svg
    assert not any(element.tag.endswith(("script", "image", "style")) for element in root.iter())


def test_text_is_escaped() -> None:
    svg = reliability_svg(BINS, title='<script>"&')
    title = parse(svg).find(f"{SVG}title")
    assert title is not None
    assert title.text == '<script>"&'
    assert "<script>" not in svg


def test_a_bin_lies_where_its_rates_say() -> None:
    root = parse(reliability_svg(BINS))
    dots = root.findall(f"{SVG}circle")
    assert len(dots) == 2
    # Both axes run to 40 %, over 384 units across and 360 up.
    assert float(dots[1].get("cx", "")) == pytest.approx(64 + 384 * 0.14 / 0.4, abs=0.01)
    assert float(dots[1].get("cy", "")) == pytest.approx(416 - 360 * 0.15 / 0.4, abs=0.01)


def test_the_description_holds_the_numbers() -> None:
    about = parse(reliability_svg(BINS)).findtext(f"{SVG}desc") or ""
    assert "300 rows with 19 events" in about
    assert "predicted 14.0%, observed 15.0% of 100" in about


def test_folds_lie_in_time() -> None:
    root = parse(folds_svg(FOLDS))
    bars = [bar for bar in root.findall(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    train, test, later = (
        (float(bar.get("x", "")), float(bar.get("x", "")) + float(bar.get("width", "")))
        for bar in bars
    )
    assert train[1] == pytest.approx(test[0])
    assert test[1] == pytest.approx(later[0], abs=0.02)
    assert train[0] == pytest.approx(72)
    assert later[1] == pytest.approx(560, abs=0.02)
    about = root.findtext(f"{SVG}desc") or ""
    assert "fold 1: test 2025-01-01 to 2025-04-01" in about
    assert "1,000 training rows, 90 tested accounts, 12 events" in about


def test_features_are_drawn_in_the_order_given_the_first_as_wide_as_can_be() -> None:
    root = parse(aligned_svg(ALIGNED))
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 3
    heights = [float(point.split(",")[1]) for point in (lines[0].get("points") or "").split()]
    assert heights == sorted(heights), "users fall: downwards"
    assert heights[-1] == pytest.approx(88 + 16)
    about = root.findtext(f"{SVG}desc") or ""
    assert about.startswith("users_28d: -0.30 from 120 days")
