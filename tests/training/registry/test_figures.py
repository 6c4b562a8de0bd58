"""Figures are deterministic SVG whose title holds the numbers and whose marks follow them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from training.model.manifest_parts import EventStudyRow
from training.registry import figures
from training.registry.figures import event_study_svg, folds_svg, reliability_svg

SVG = "{http://www.w3.org/2000/svg}"
BINS: list[Any] = [
    {"n": 200, "events": 4, "expected": 0.03, "observed": 0.02, "low": 0.008, "high": 0.05},
    {"n": 100, "events": 15, "expected": 0.14, "observed": 0.15, "low": 0.09, "high": 0.23},
]
FOLDS: list[Any] = [
    {
        "fold": 1,
        "train_from": "2024-01-01T00:00:00+00:00",
        "cutoff": "2025-01-01T00:00:00+00:00",
        "test_until": "2025-04-01T00:00:00+00:00",
        "n_train": 1000,
        "n_headline": 90,
        "n_headline_events": 12,
    },
    {"fold": 2, "cutoff": "2025-04-01", "test_until": "2025-07-01"},
]
STUDY = [
    EventStudyRow(feature=name, from_days=days, gap=gap * (150 - days) / 120, error=0.1)
    for name, gap in (("users_28d", -1.2), ("tickets_28d", 0.4), ("noise", 0.02))
    for days in (120, 90, 60, 30)
]


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The matplotlib figures behind the SVG."""
    kept: list[Figure] = []
    save = figures._svg
    monkeypatch.setattr(
        figures, "_svg", lambda figure, title: kept.append(figure) or save(figure, title)
    )
    return kept


def title_of(svg: str) -> str:
    return ET.fromstring(svg).findtext(f"{SVG}title") or ""


@pytest.mark.parametrize(
    "svg",
    [
        reliability_svg(BINS), reliability_svg([]), folds_svg(FOLDS), folds_svg([]),
        event_study_svg(STUDY), event_study_svg([]),
    ],
)  # fmt: skip
def test_every_figure_is_self_contained_and_titled(svg: str) -> None:
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert title_of(svg)
    references = [
        value for element in root.iter() for name, value in element.attrib.items() if "href" in name
    ]
    assert all(value.startswith("#") for value in references)
    assert not any(element.tag.endswith(("script", "image")) for element in root.iter())
    assert "date" not in {element.tag.rpartition("}")[2] for element in root.iter()}


def test_equal_inputs_give_equal_bytes_in_another_process() -> None:
    code = (
        "from tests.training.registry.test_figures import BINS, FOLDS, STUDY\n"
        "from training.registry.figures import *\n"
        "print(reliability_svg(BINS) + folds_svg(FOLDS) + event_study_svg(STUDY), end='')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    here = reliability_svg(BINS) + folds_svg(FOLDS) + event_study_svg(STUDY)
    assert found.stdout.decode() == here


def test_text_is_escaped() -> None:
    svg = reliability_svg(BINS, title='<script>"&')
    assert title_of(svg).startswith('<script>"&. ')
    assert "<script>" not in svg


def test_bins_are_drawn_at_their_rates(drawn) -> None:
    svg = reliability_svg(BINS)
    (axes,) = drawn[0].axes
    points = axes.containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(points, [[0.03, 0.02], [0.14, 0.15]])
    assert axes.get_xlim() == axes.get_ylim() == (0.0, 0.4)
    assert "300 rows with 19 events" in title_of(svg)
    assert "predicted 14.0%, observed 15.0% of 100" in title_of(svg)


def test_an_interval_whose_end_is_rounded_past_the_rate_is_drawn() -> None:
    none = {"n": 90, "events": 0, "expected": 0.02, "observed": 0.0, "low": 7e-18, "high": 0.04}
    assert "90 rows with 0 events" in title_of(reliability_svg([none]))  # type: ignore[list-item]


def test_folds_are_drawn_over_time(drawn) -> None:
    svg = folds_svg(FOLDS)
    (axes,) = drawn[0].axes
    bars = [bar for part in axes.containers if isinstance(part, BarContainer) for bar in part]
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]
    (train_from, cutoff), (test_from, until), (_, _), (later, _) = spans
    assert cutoff - train_from == 366
    assert (test_from, until) == (cutoff, later)
    assert "fold 1: test 2025-01-01 to 2025-04-01" in title_of(svg)
    assert "1,000 training rows, 90 tested accounts, 12 events" in title_of(svg)


def test_features_are_drawn_in_the_given_order_on_one_scale(drawn) -> None:
    svg = event_study_svg(STUDY)
    panels = drawn[0].axes
    assert [axes.get_ylabel() for axes in panels] == ["users_28d", "tickets_28d", "noise"]
    assert len({axes.get_ylim() for axes in panels}) == 1
    gaps = panels[0].containers[0].lines[0].get_ydata()
    assert gaps[-1] == pytest.approx(-1.2)
    assert list(gaps) == sorted(gaps, reverse=True)
    assert "users_28d: -0.30 from 120 days" in title_of(svg)


def test_an_interval_may_end_a_rounding_error_beyond_a_rate_of_zero() -> None:
    none = {"n": 40, "events": 0, "expected": 0.02, "observed": 0.0, "low": 1e-18, "high": 0.09}
    assert title_of(reliability_svg([none, BINS[1]]))
