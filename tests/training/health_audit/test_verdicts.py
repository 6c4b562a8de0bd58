"""Every verdict is reached by a company made to deserve it; odd files are answered in words."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from configs.runtime.errors import DataError, SourceError


def verdict(made, folder, scores, outcomes, **options):
    return target(made, folder, scores, outcomes, **options)["verdict"]


def target(made, folder, scores, outcomes, **options):
    return made.run(folder, scores, outcomes, **options).content["targets"]["churn"]


def notes(done) -> dict[str, str]:
    return {item["code"]: item["words"] for item in done.content["notes"]}


class TestVerdicts:
    def test_proven(self, good):
        found = good.content["targets"]["churn"]
        assert found["verdict"]["word"] == "PROVEN"
        assert found["verdict"]["grade"] == "B"
        assert {item["status"] for item in found["criteria"]} <= {"met", "does not apply"}

    def test_promising(self, made, tmp_path):
        scores, outcomes = made.company(accounts=250, strength=1.0)
        found = verdict(made, tmp_path, scores, outcomes)
        assert found["word"] == "PROMISING"
        assert found["lacking"]

    def test_not_proven(self, made, tmp_path):
        assert verdict(made, tmp_path, *made.company(strength=0.0))["word"] == "NOT PROVEN"

    def test_inconclusive(self, made, tmp_path):
        found = target(made, tmp_path, *made.company(accounts=60, base=-5.6))
        assert found["verdict"]["word"] == "INCONCLUSIVE"
        assert found["test"]["events"] < 20
        assert "below 20 there is no verdict" in found["verdict"]["sentence"]

    def test_suspect_when_scores_were_edited_after_churn(self, made, tmp_path):
        scores, outcomes = made.company(accounts=250)
        decided = pd.to_datetime(
            scores["account_id"].map(outcomes.set_index("account_id")["decided_on"])
        )
        before = (decided - pd.to_datetime(scores["scored_on"])).dt.days
        scores.loc[before.between(0, 200), "health_score"] = 5.0
        scores.loc[before.between(0, 200), "band"] = "red"
        found = target(made, tmp_path, scores, outcomes)
        assert found["verdict"]["word"] == "SUSPECT"
        assert "use no score until it is explained" in found["verdict"]["sentence"]
        failed = {item["code"] for item in found["checks"] if item["passed"] is False}
        assert "only_leavers" in failed


class TestNumbers:
    def test_auc_is_that_of_scikit_learn_within_quarters(self, made, good):
        found = good.content["targets"]["churn"]
        scores, outcomes = made.company()
        rows = by_hand(scores, outcomes)
        pairs, right = 0.0, 0.0
        for _, part in rows.groupby("quarter"):
            n = part.label.sum() * (len(part) - part.label.sum())
            pairs += n
            right += n * roc_auc_score(part.label, -part.health_score)
        assert found["models"][0]["auc"]["value"] == pytest.approx(right / pairs, abs=1e-9)
        assert found["test"]["rows"] == len(rows)
        assert found["test"]["event_rows"] == rows.label.sum()

    def test_bands_count_every_row(self, good):
        found = good.content["targets"]["churn"]
        assert sum(row["n"] for row in found["bands"]["rows"]) == found["test"]["rows"]
        assert [row["band"] for row in found["bands"]["rows"]] == ["green", "yellow", "red"]

    def test_flow_adds_up(self, good):
        flow = good.content["targets"]["churn"]["flow"]
        whole = next(item["rows"] for item in flow if item["step"] == "whole")
        assert whole == sum(item["rows"] for item in flow if item["step"] != "whole")

    def test_losses_by_name(self, made, good):
        found = good.content["targets"]["churn"]["warned"]
        _, outcomes = made.company()
        when = pd.to_datetime(outcomes["decided_on"])
        until = pd.Timestamp(found["until"]).tz_localize(None)
        recent = outcomes[(when > until - pd.Timedelta(days=365)) & (when <= until)]
        named = {item["entity_id"] for item in found["losses"]}
        assert named <= set(recent["account_id"])
        assert len(named) >= 0.9 * len(recent)
        told = found["scores"]["model"]
        assert told["warned"] + told["missed"] == len(named)
        assert told["alerts"] == told["true_alerts"] + len(told["false_alarms"])

    def test_the_page_says_which_auc(self, good):
        page = re.sub(r"<style.*?</style>|<[^>]+>", " ", good.html.read_text(), flags=re.DOTALL)
        text = re.sub(r"\s+", " ", page)
        assert text.count("AUC within test periods") > 5
        assert text.count("AUC over all periods together") >= 1
        named = r"AUC(?! within test periods| over all periods together| The share of pairs|s? "
        r"of 0\.75)"
        rises = r"AUC rises"  # the finding of a check, of the same score at two distances
        left = [text[at.start() : at.end() + 40] for at in re.finditer(named, text)]
        assert [words for words in left if not re.match(rises, words)] == []

    def test_same_files_same_bytes(self, made, good, tmp_path):
        again = made.run(tmp_path, *made.company())
        assert again.html.read_bytes() == good.html.read_bytes()
        assert again.json.read_bytes() == good.json.read_bytes()
        assert json.loads(good.json.read_text()) == good.content


def by_hand(scores: pd.DataFrame, outcomes: pd.DataFrame, horizon: int = 91) -> pd.DataFrame:
    """The rows of the audit, worked out the long way: a loop over month starts."""
    lost = pd.to_datetime(outcomes.set_index("account_id")["decided_on"])
    stood = scores.assign(known=pd.to_datetime(scores["scored_on"]) + pd.Timedelta(days=1))
    through = max(stood["known"].max(), lost.max() + pd.Timedelta(days=1))
    taken = []
    for name, mine in stood.sort_values("known").groupby("account_id"):
        gone, quarters = lost.get(name), set()
        for moment in pd.date_range("2024-01-01", through - pd.Timedelta(days=horizon), freq="MS"):
            last = np.searchsorted(mine["known"].to_numpy(), moment.to_datetime64(), "right") - 1
            is_old = last < 0 or moment - mine["known"].iloc[last] > pd.Timedelta(days=45)
            is_gone = gone is not None and gone <= moment
            if is_old or is_gone or moment.to_period("Q") in quarters:
                continue
            quarters.add(moment.to_period("Q"))
            label = gone is not None and gone <= moment + pd.Timedelta(days=horizon)
            score = mine["health_score"].iloc[last]
            taken.append((moment.to_period("Q"), int(label), score))
    return pd.DataFrame(taken, columns=["quarter", "label", "health_score"])


class TestDirections:
    def test_a_risk_score_runs_the_other_way(self, made, good, tmp_path):
        scores, outcomes = made.company()
        oriented = scores.assign(risk_score=100 - scores["health_score"]).drop(
            columns=["health_score", "band"]
        )
        done = made.run(tmp_path, oriented, outcomes)
        assert done.content["reading"]["higher"] == "riskier"
        ours = done.content["targets"]["churn"]["models"][0]["auc"]["value"]
        assert ours == pytest.approx(good.content["targets"]["churn"]["models"][0]["auc"]["value"])
        assert [row["band"] for row in done.content["targets"]["churn"]["bands"]["rows"]][
            0
        ] == "best fifth"

    def test_told_the_wrong_way_round(self, made, tmp_path):
        scores, outcomes = made.company(accounts=250)
        found = verdict(made, tmp_path, scores, outcomes, higher="riskier")
        assert found["word"] == "NOT PROVEN"

    def test_a_probability_is_held_to_its_word(self, made, tmp_path):
        scores, outcomes = made.company(accounts=250)
        p = 1 / (1 + np.exp(2.9 + 0.11 * (scores["health_score"] - 60)))
        scores = scores[["account_id", "scored_on"]].assign(churn_probability=p)
        found = target(made, tmp_path, scores, outcomes)
        assert found["calibration"]["bins"]
        level = next(item for item in found["criteria"] if item["code"] == "level")
        assert level["value"] == pytest.approx(
            found["calibration"]["after"]["observed_to_expected"]["value"]
        )
        calendar = next(item for item in found["criteria"] if item["code"] == "calendar")
        assert calendar["status"] == "not measured"

    def test_bands_alone(self, made, tmp_path):
        scores, outcomes = made.company(accounts=250)
        done = made.run(tmp_path, scores[["account_id", "scored_on", "band"]], outcomes)
        assert done.content["reading"]["bands"] == ["green", "yellow", "red"]
        assert done.content["targets"]["churn"]["models"][0]["auc"]["value"] > 0.7

    def test_unknown_bands_are_refused_and_told(self, made, tmp_path):
        scores, outcomes = made.company(accounts=120)
        named = {"green": "sunny", "yellow": "cloudy", "red": "stormy"}
        scores = scores[["account_id", "scored_on"]].assign(band=scores["band"].map(named))
        with pytest.raises(DataError, match="the order of the bands is unknown") as refused:
            made.run(tmp_path / "a", scores, outcomes)
        assert "--bands" in refused.value.fix
        done = made.run(tmp_path / "b", scores, outcomes, bands=(("sunny", "cloudy", "stormy"),))
        assert done.content["reading"]["bands"] == ["sunny", "cloudy", "stormy"]


@pytest.fixture(scope="module")
def odd(made, tmp_path_factory):
    """One company with many things wrong at once."""
    scores, outcomes = made.company(accounts=250, segments=1)
    day = pd.to_datetime(scores["scored_on"])
    renamed = {"green": "healthy", "yellow": "watch", "red": "critical"}
    later = day >= "2025-03-01"
    scores["band"] = scores["band"].where(~later, scores["band"].map(renamed))
    scores = scores[~day.between("2024-07-15", "2024-11-15")].reset_index(drop=True)
    scores["currency"] = np.where(np.arange(len(scores)) % 2, "EUR", "USD")
    scores.loc[30, "arr"] = -500.0
    copy = scores.iloc[[5]].assign(health_score=1.0)
    small = scores.iloc[[9]].assign(account_id=scores.loc[9, "account_id"].lower())
    scores = pd.concat([scores, scores.iloc[:10], copy, small], ignore_index=True)
    outcomes = outcomes[outcomes["decided_on"].astype(str) < "2025-06-01"]
    outcomes = pd.concat([outcomes, outcomes.iloc[:4]], ignore_index=True)
    return made.run(tmp_path_factory.mktemp("odd"), scores, outcomes)


class TestOddFiles:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("renamed", "green, yellow, red became healthy, watch, critical"),
            ("gaps", "few or no scores in"),
            ("outcomes_end", "They count as not yet recorded"),
            ("currencies", "EUR and USD and is not added up"),
            ("negative_arr", "1 row of 1 account have a negative ARR"),
            ("copies", "exact duplicates"),
            ("contradictions", "two scores for one account and time"),
            ("case", "1 account with two spellings"),
            ("same_event", "4 outcomes of an account within 90 days"),
            ("one_segment", "only one segment"),
        ],
    )
    def test_each_is_told(self, odd, code, words):
        assert words in notes(odd)[code]

    def test_the_silent_quarters_are_not_tested(self, odd):
        flow = odd.content["targets"]["churn"]["flow"]
        assert any(item["words"] == "window not yet observed" for item in flow)
        assert odd.content["reading"]["through"] < "2025-06-03"

    def test_money_is_not_added(self, odd):
        assert odd.content["currency"] == ""
        assert odd.content["targets"]["churn"]["value"]["profit"] is None

    def test_no_common_account(self, made, tmp_path):
        scores, outcomes = made.company(accounts=60)
        with pytest.raises(DataError, match="no outcome belongs to an account"):
            made.run(tmp_path, scores, outcomes.assign(account_id="Z"))

    def test_ids_that_lost_their_zeros(self, made, tmp_path):
        scores, outcomes = made.company(accounts=60)
        number = scores["account_id"].str[1:].str.lstrip("0").replace("", "0")
        theirs = outcomes.assign(account_id=outcomes["account_id"].str[1:])
        with pytest.raises(DataError, match="no outcome belongs") as refused:
            made.run(tmp_path, scores.assign(account_id=number), theirs)
        assert "leading zeros are missing" in str(refused.value.fix)

    def test_nobody_left(self, made, tmp_path):
        scores, outcomes = made.company(accounts=60)
        with pytest.raises(DataError, match="every outcome says that the account stayed"):
            made.run(tmp_path, scores, outcomes.assign(outcome="renewed"))

    def test_no_score_column(self, made, tmp_path):
        scores, outcomes = made.company(accounts=60)
        with pytest.raises(SourceError, match="looks like a score or a band") as refused:
            made.run(tmp_path, scores[["account_id", "scored_on"]], outcomes)
        assert "--column scores.score=NAME" in refused.value.fix

    def test_unknown_column_told(self, made, tmp_path):
        scores, outcomes = made.company(accounts=60)
        with pytest.raises(SourceError, match="no column 'healthscore'") as refused:
            made.run(tmp_path, scores, outcomes, columns={"scores.score": "healthscore"})
        assert "health_score" in refused.value.fix

    def test_too_short_for_the_horizon(self, made, tmp_path):
        with pytest.raises(DataError, match="no score has a completely observed label window"):
            made.run(tmp_path, *made.company(accounts=60, months=3), horizon_days=300)
