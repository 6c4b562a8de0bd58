"""A ready-made table becomes the typed frame, or says what is wrong with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import BellwetherError, ConfigError, DataError, SourceError
from training.tabular.table_frame import OPEN, UNLABELLED, build_table_frame


def test_columns_types_and_parts_of_a_static_table(bring, world):
    made = build_table_frame(bring("static", world.static(), {"mrr": "spend"}), world.now)
    frame = made.frame
    assert [item.name for item in frame.info] == [
        "tenureMonths", "tickets", "plan", "auto_renew", "signed_on", "spend",
    ]  # fmt: skip
    assert frame.reading == {
        "tenureMonths": "number", "tickets": "number", "plan": "category", "auto_renew": "flag",
        "signed_on": "date", "spend": "number",
    }  # fmt: skip
    first = world.static().iloc[0]
    assert frame.rows.loc[0, "entity_id"] == "C-0000"
    assert frame.features.loc[0, "signed_on"] == 30 * first["tenureMonths"]
    spend = pd.to_numeric(world.static()["spend"], errors="coerce")
    np.testing.assert_allclose(frame.rows["arr"], 12 * spend)
    assert frame.rows["segment"].tolist() == world.static()["plan"].tolist()
    assert frame.label.sum() == (world.static()["churned"] == "Yes").sum()
    assert set(made.contract["columns_left_out"]) == {"constant", "empty", "row_id"}
    told = {column.name: column for column in made.columns}
    assert told["churned"].part == "label"
    assert told["spend"].part == "feature, mrr"
    assert told["spend"].missing == pytest.approx((world.static()["spend"] == "").mean())
    assert {item.label for item in frame.info} >= {"tenure months", "time since signed on"}


def test_the_order_of_rows_and_the_file_format_do_not_matter(bring, world):
    one = build_table_frame(bring("static", world.static()), world.now).frame
    typed = world.static().assign(spend=lambda t: pd.to_numeric(t["spend"], errors="coerce"))
    shuffled = typed.drop(columns="row_id").sample(frac=1, random_state=3)
    two = build_table_frame(
        bring("static", shuffled, ending="parquet", name="other"), world.now
    ).frame
    assert one.fingerprint() == two.fingerprint()


def test_rows_whose_label_is_open_or_missing_are_counted_and_kept_for_scoring(bring, world):
    table = world.timed()
    table["left"] = table["left"].astype("Int64")
    table.loc[:9, "left"] = pd.NA
    made = build_table_frame(bring("timed", table), world.now)
    known_by = pd.to_datetime(table["month"]) + pd.Timedelta(days=60)
    n_open = int((known_by > world.now.replace(tzinfo=None)).sum())
    assert n_open == 250  # the last month's window ends after now
    assert made.contract["excluded"] == {UNLABELLED: 10, OPEN: n_open}
    assert len(made.open_rows) == 10 + n_open
    assert len(made.frame) == len(table) - 10 - n_open
    assert (made.frame.rows["label_known_at"] <= pd.Timestamp(world.now)).all()
    assert "score" not in made.frame.features
    assert made.frame.rows["health_score"].notna().all()


def test_a_score_that_means_risk_is_turned_round(bring, world):
    health = build_table_frame(bring("timed", world.timed()), world.now).frame.rows["health_score"]
    risk = build_table_frame(
        bring("timed", world.timed(), {"health_score_means": "risk"}), world.now
    ).frame.rows
    np.testing.assert_array_equal(risk["health_score"], -health)


def test_a_label_may_say_itself_when_it_was_known(bring, world):
    table = world.timed().assign(seen=lambda t: pd.to_datetime(t["month"]) + pd.Timedelta(days=45))
    section = {"label_known_at": "seen", "horizon_days": None}
    frame = build_table_frame(bring("timed", table, section), world.now).frame
    wait = frame.rows["label_known_at"] - frame.rows["as_of"]
    assert (wait == pd.Timedelta(days=45)).all()
    assert "seen" not in frame.features


@pytest.mark.parametrize("positive", [True, "Yes", "yes", 1, None])
def test_the_positive_value_may_be_written_in_any_way(bring, world, positive):
    column = ["1" if value == "Yes" else "0" for value in world.static()["churned"]]
    table = world.static().assign(churned=column) if positive == 1 else world.static()
    section = {"label": {"column": "churned", "positive": positive}}
    frame = build_table_frame(bring("static", table, section), world.now).frame
    assert frame.label.sum() == (world.static()["churned"] == "Yes").sum()


def contradicting(table: pd.DataFrame) -> pd.DataFrame:
    again = table.iloc[:2].assign(churned=["No", "Yes"])
    other = table.iloc[:2].assign(churned=["Yes", "No"])
    return pd.concat([table.iloc[2:], again, other], ignore_index=True)


BAD = {
    "id not there": (lambda t: t, {"id": "custmer"}, 'id: no column .custmer. did you mean "cust'),
    "override not there": (lambda t: t, {"columns": {"pln": "drop"}}, "columns.pln: no column"),
    "contradicting": (contradicting, {}, "contradictory labels: 2 accounts.*C-0000, C-0001"),
    "repeated": (lambda t: pd.concat([t, t.iloc[:3]]), {}, "6 rows have the same account"),
    "id missing": (lambda t: t.assign(customer=""), {}, "600 of 600 rows have no"),
    "no such label": (lambda t: t, {"label": {"column": "churned", "positive": "gone"}},
                      "no row has the label 'gone'; there are: no, yes"),
    "many labels": (lambda t: t.assign(churned=["yes", "no", "maybe"] * 200), {},
                    "the label has 3 different values: maybe, no, yes"),
    "no label known": (lambda t: t.assign(churned=""), {}, "none of 600 rows has a label"),
    "no date": (lambda t: t, {"taken_on": None}, "column signed_on holds dates"),
    "all dropped": (lambda t: t[["customer", "churned", "plan"]], {"columns": {"plan": "drop"}},
                    "no column can be a feature"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_place_and_remedy(bring, world, case):
    spoil, change, words = BAD[case]
    with pytest.raises(DataError, match=words) as caught:
        build_table_frame(bring("static", spoil(world.static()), change), world.now)
    assert caught.value.where
    assert caught.value.fix or case == "all dropped"


def test_moments_that_are_none_are_refused(bring, world):
    table = world.timed()
    table.loc[3, "month"] = "soon"
    with pytest.raises(DataError, match="1 of 3,750 rows have no date.*row 4"):
        build_table_frame(bring("timed", table), world.now)


def test_labels_known_before_their_moment_are_refused(bring, world):
    section = {"label_known_at": "seen", "horizon_days": None}
    with pytest.raises(DataError, match="3,750 labels were known before their as_of"):
        build_table_frame(
            bring("timed", world.timed().assign(seen="2020-01-01"), section), world.now
        )


def test_a_file_that_is_not_there_is_told_with_the_closest(bring, world):
    workspace = bring("static", world.static())
    (workspace.data / "table.csv").rename(workspace.data / "tables.csv")
    with pytest.raises(SourceError, match='did you mean "tables.csv"'):
        build_table_frame(workspace, world.now)


@pytest.mark.parametrize(
    ("kind", "section", "words"),
    [
        ("timed", {"horizon_days": None}, "needs `horizon_days` or `label_known_at`"),
        ("static", {"colunms": {}}, 'table.colunms: unknown key; did you mean "columns"'),
        ("static", {"columns": {"plan": "numbr"}}, "table.columns.plan"),
        ("static", {"from": "crm"}, "either `file` or `from`"),
        ("static", {"as_of": "signed_on", "horizon_days": 30}, "`taken_on` is for a table without"),
    ],
)
def test_mistakes_in_the_section_are_named(bring, world, kind, section, words):
    with pytest.raises(ConfigError, match=words):
        bring(kind, world.static(2), section)


def test_infinite_values_are_counted_and_missing_to_the_model(bring, world):
    table = world.static()
    table.loc[:4, "tickets"] = "inf"
    made = build_table_frame(bring("static", table), world.now)
    (column,) = (item for item in made.columns if item.name == "tickets")
    assert column.words == "5 infinite values count as missing"
    assert made.frame.features["tickets"].isna().sum() == 5


def test_every_error_is_of_the_family(bring, world):
    with pytest.raises(BellwetherError):
        build_table_frame(bring("static", world.static().drop(columns="churned")), world.now)
