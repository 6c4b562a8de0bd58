"""Geometry: everything stays inside the drawing and stands where its number says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.reporting import charts
from training.reporting.report_text import OUTCOMES


@given(st.floats(-10, 10))
def test_places_stay_inside(value):
    assert 0.0 <= float(charts.Axis(0.4, 0.9)(value).rstrip("%")) <= 100.0


def test_area_axis_holds_everything():
    axis = charts.area_axis([{"value": 0.33, "low": 0.21, "high": 0.99}])
    assert (axis.low, axis.high) == (0.2, 1.0)
    assert charts.area_axis([{"value": None}]).low == 0.4


def test_area_ticks_name_chance_and_mark():
    ticks = charts.area_ticks(charts.Axis(0.4, 0.8), 0.6)
    assert {tick["text"]: tick["note"] for tick in ticks} == {
        "0.4": "", "0.5": "chance", "0.6": "threshold", "0.7": "", "0.8": "",
    }  # fmt: skip
    assert [ticks[0]["anchor"], ticks[-1]["anchor"]] == ["start", "end"]


def test_difference_is_centred():
    chart = charts.difference_chart({"value": 0.0, "low": -0.21, "high": 0.02}, 0.03)
    assert chart["rows"][0]["x"] == "50.00%"
    assert chart["zones"] == [{"x": "44.00%", "width": "12.00%"}]


def test_lead_chart_without_dates():
    assert charts.lead_chart([{"days": 30, "counted_from": "decision", "events": 2}], 0.6) is None


def test_reliability_stands_on_the_diagonal():
    bins = [
        {"n": 50, "events": 10, "expected": 0.2, "observed": 0.2, "low": 0.1, "high": 0.33},
        {"n": 51, "events": 0, "expected": 0.0, "observed": 0.0, "low": 0.0, "high": 0.07},
    ]
    chart = charts.reliability_chart(bins)
    assert chart["points"][0]["x"] == "50.00%"
    assert chart["points"][0]["y"] == charts.RELIABILITY_HEIGHT / 2
    assert chart["sizes"] == "50 to 51"


def test_folds_do_not_overlap(example):
    chart = charts.fold_chart(example.evaluations["churn"]["folds"])
    for row in chart["rows"]:
        places = [(float(p["x"][:-1]), float(p["width"][:-1])) for p in row["parts"]]
        for (left, width), (right, _) in zip(places, places[1:], strict=False):
            assert left + width == pytest.approx(right, abs=0.02)


def test_bands_show_the_rate_of_all():
    table = {"rows": [{"band": "low", "rate": 0.1, "low": 0.05, "high": 0.2, "n": 9}]}
    chart = charts.band_chart(table, 0.1, OUTCOMES["churn"])
    assert chart["marks"] == ["50.00%"]
    assert "Low risk 10\xa0% of 9" in chart["desc"]
