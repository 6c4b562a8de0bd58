"""Comparison of scores with the ground truth of a simulated company.

The ground truth is never input of a model. On rows without a known outcome, the comparison measures
the error of the probabilities and whether the reasons name the true drivers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from configs.runtime.errors import StateError
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild
from features.simulator.export import TRUTH
from training.evaluation.metrics import AUC_WITHIN, auc, log_loss, none_if_nan
from training.evaluation.sampling import sample_of
from training.model.bundle import Bundle, Scores, load, logit_of
from training.model.reasons import MAX_RAISES, explain_rows
from training.model.rule_model import AppliedRules, rules_of
from training.pipeline import TrainedCandidate
from training.validation.served_scores import OPEN

COMPARED = ("truth", "model", "constant", "calendar", "rules", "health_score", "logistic")

MOMENTS = 3
"""Number of latest as_of whose rows without a known outcome are explained."""

CLEAR = 0.25
"""Smallest log-odds of the strongest true theme that counts as a driver."""

STATED = 0.9
"""Nominal coverage of the ranges of scores."""

ALIKE, MOST_GROUPS = 30, 10
"""Smallest number of rows in a group of similar accounts, and largest number of groups."""

SETTLED = 1e-4
"""Distance from 0 and 1 within which probabilities are left out of comparisons of log-odds."""


AgainstTruth = dict[str, float | None]
"""Measures of one score against outcomes and the truth by name; see `probabilities`."""


class Probabilities(TypedDict):
    """Result of `probabilities`."""

    n: int
    events: int
    models: dict[str, AgainstTruth]


class LevelError(TypedDict):
    """Error of the scores of one confidence level; see `scores_against_truth`."""

    n: int
    range_width: float
    level_error: float


class ScoresAgainstTruth(TypedDict):
    """Result of `scores_against_truth`."""

    n: int
    mean_absolute_error: float
    correlation: float | None
    mean_ratio: float
    stated: float
    n_groups: int
    alike_hold: float
    single_hold: float
    by_confidence: dict[str, LevelError]


class DriverNamed(TypedDict):
    """Naming of one driver; see `drivers`."""

    n: int
    named: float
    by_chance: float


class RulesAgainstTruth(TypedDict):
    """Result of `rules_against_truth`."""

    n: int
    n_rules: float
    correlation: float | None
    drivers: dict[str, DriverNamed]


class Hits(TypedDict, total=False):
    """Result of `hits`; shares are absent without a clear driver."""

    n_clear: int
    first: float
    first_by_chance: float
    among_three: float
    among_three_by_chance: float
    right_way: float
    right_way_by_chance: float


class ReasonsAgainstTruth(Hits):
    """Result of `reasons_against_truth`."""

    n: int
    drivers: dict[str, DriverNamed]
    theme_correlation: dict[str, float | None]


class TruthComparison(TypedDict):
    """Result of `model_against_truth`."""

    target: str
    tier: str
    why: str
    verdict: str
    probability: Probabilities
    book: ScoresAgainstTruth
    reasons: ReasonsAgainstTruth | None
    rules: RulesAgainstTruth | None


def read_truth(workspace: Workspace) -> pd.DataFrame:
    """Return the true probabilities stored with the data of a simulated company.

    Returns
    -------
    pandas.DataFrame
        `features.simulator.ground_truth.truth_table`, keyed entity_id and as_of.

    Raises
    ------
    StateError
        There is no ground truth: the company is real.
    """
    path = workspace.data / TRUTH / "truth.parquet"
    if not path.is_file():
        raise StateError(
            "no ground truth; only simulated companies have one",
            where=str(path),
            fix="bellwether simulate FOLDER, then pass --data FOLDER",
        )
    table = pq.read_table(path).to_pandas()
    as_of = pd.to_datetime(table["as_of_on"]).dt.tz_localize("UTC").astype("datetime64[us, UTC]")
    return table.rename(columns={"account_id": "entity_id"}).assign(as_of=as_of)


def compare_with_truth(
    workspace: Workspace, built: FeatureBuild, candidate: TrainedCandidate
) -> TruthComparison:
    """Compare the latest training of a target with the truth; see `model_against_truth`."""
    bundle = load(workspace.state.bundles / candidate.sha, candidate.sha)
    return model_against_truth(workspace, built, bundle, candidate.predictions)


def model_against_truth(
    workspace: Workspace, built: FeatureBuild, bundle: Bundle, predictions: pd.DataFrame
) -> TruthComparison:
    """Compare a model and its out-of-time predictions with the truth.

    Returns
    -------
    dict
        target, tier, why (reason for the tier, and what is missing), verdict, probability
        (`probabilities`), book (`scores_against_truth`), reasons (`reasons_against_truth`; None for
        base rates and pooled rates, which have no reasons) and rules (`rules_against_truth`; None
        except in the lowest model tier).
    """
    truth = true_probabilities(read_truth(workspace), bundle.outcome)
    unseen = unseen_rows(built, bundle.target, truth)
    matrix = bundle.encode(built.store.historical(unseen, bundle.target, bundle.info)).matrix
    has_reasons = bundle.has_reasons and bundle.predictor.kind != "rates"
    return {
        "target": bundle.target,
        "tier": bundle.model_tier,
        "why": bundle.evidence,
        "verdict": bundle.verdict,
        "probability": probabilities(predictions, truth, workspace.company),
        "book": scores_against_truth(
            bundle.predict(matrix), unseen["p_true"].to_numpy(dtype=np.float64)
        ),
        "reasons": reasons_against_truth(bundle, matrix, unseen) if has_reasons else None,
        "rules": rules_against_truth(rules_of(bundle), matrix, unseen)
        if bundle.model_tier == "rates"
        else None,
    }


def true_probabilities(truth: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """Return, per entity and as_of, the true probability of the label, and its themes.

    Termination after failed payments of a monthly account counts as churn.

    Returns
    -------
    pandas.DataFrame
        entity_id, as_of, p_true in [0, 1], and ``theme_<theme>`` in log-odds.
    """
    chance = truth[f"p_{outcome}"]
    if outcome == "churn":
        chance = chance + truth["p_payment_failure"]
    prefix = f"{outcome}_"
    themes = {
        f"theme_{name.removeprefix(prefix)}": truth[name]
        for name in map(str, truth)
        if name.startswith(prefix) and name != f"{outcome}_driver"
    }
    return truth[["entity_id", "as_of"]].assign(p_true=chance.clip(0.0, 1.0), **themes)


def probabilities(
    predictions: pd.DataFrame, truth: pd.DataFrame, company: Company
) -> Probabilities:
    """Compare out-of-time probabilities with true ones, each account once per test period.

    Returns
    -------
    dict
        n, events, and per model (``truth`` is the upper limit): auc, log_loss,
        observed_to_expected (events over the sum of probabilities), and against the truth:
        correlation (Spearman), log_odds_correlation, mean_absolute_error, mean_ratio (mean
        probability over mean truth, ideal 1) and slope (of the true on the predicted log-odds,
        ideal 1).
    """
    rows = predictions[predictions["is_headline"]].merge(truth, on=["entity_id", "as_of"])
    rows = rows.assign(p_truth=rows["p_true"].clip(1e-6, 1.0 - 1e-6)).reset_index(drop=True)
    names = [name for name in COMPARED if f"p_{name}" in rows]
    return {
        "n": len(rows),
        "events": int(rows["label"].sum()),
        "models": {name: _with_truth(rows, name, company) for name in names},
    }


def _with_truth(rows: pd.DataFrame, name: str, company: Company) -> AgainstTruth:
    sample = sample_of(rows, name, company.serving.capacity_per_month)
    equal = np.ones((1, len(rows)))
    p, true = sample.p, rows["p_true"].to_numpy(dtype=np.float64)
    is_open = (true > SETTLED) & (true < 1.0 - SETTLED)  # a signed renewal has no finite log-odds
    x, y = logit_of(p[is_open]), logit_of(true[is_open])
    varies = bool(np.ptp(p) > 1e-9 and len(x) > 1 and np.ptp(x) > 1e-9)
    return {
        "auc": none_if_nan(auc(sample, equal)[0]),
        "log_loss": none_if_nan(log_loss(sample, equal)[0]),
        "observed_to_expected": float(rows["label"].sum() / p.sum()),
        "correlation": none_if_nan(spearmanr(p, true).statistic) if varies else None,
        "log_odds_correlation": none_if_nan(np.corrcoef(x, y)[0, 1]) if varies else None,
        "mean_absolute_error": float(np.abs(p - true).mean()),
        "mean_ratio": float(p.mean() / true.mean()),
        "slope": none_if_nan(np.cov(x, y)[0, 1] / x.var(ddof=1)) if varies else None,
    }


def unseen_rows(built: FeatureBuild, target: str, truth: pd.DataFrame) -> pd.DataFrame:
    """Return scored rows of the latest as_of, whose outcome is unknown and not in training data.

    Accounts that are too new to be scored, or have an overdue renewal, are left out.

    Returns
    -------
    pandas.DataFrame
        entity_id, as_of and the columns of `true_probabilities`.
    """
    labels = built.labels[target].frame
    open_rows = labels.loc[labels["excluded"] == OPEN, ["entity_id", "as_of"]]
    rows = open_rows.merge(truth, on=["entity_id", "as_of"])
    latest = np.sort(rows["as_of"].unique())[-MOMENTS:]
    return rows[rows["as_of"].isin(latest)].reset_index(drop=True)


def scores_against_truth(scores: Scores, true: np.ndarray) -> ScoresAgainstTruth:
    """Compare the served probabilities and their ranges with the truth.

    A range refers to the rate of accounts with the same features, which differ by factors that are
    not in the data. So coverage is tested on the means of groups of similar accounts; coverage of
    single accounts is also returned.

    Parameters
    ----------
    scores : Scores
        Of the rows.
    true : numpy.ndarray
        True probabilities of the rows.

    Returns
    -------
    dict
        n, mean_absolute_error, correlation, mean_ratio; stated, the nominal coverage; alike_hold,
        the coverage of n_groups groups of at least `ALIKE` accounts with similar probabilities;
        single_hold, the coverage of single accounts; and by_confidence, per level n, range_width
        (mean) and level_error, the mean absolute difference of the log-odds of a group's mean
        probability and mean truth.
    """
    frame = pd.DataFrame({"p": scores.p, "low": scores.low, "high": scores.high, "true": true})
    groups = frame.groupby(_alike(scores.p)).mean()
    return {
        "n": len(frame),
        "mean_absolute_error": float(np.abs(scores.p - true).mean()),
        "correlation": _rank_correlation(scores.p, true),
        "mean_ratio": float(scores.p.mean() / true.mean()),
        "stated": STATED,
        "n_groups": len(groups),
        "alike_hold": float(groups["true"].between(groups["low"], groups["high"]).mean()),
        "single_hold": float(frame["true"].between(frame["low"], frame["high"]).mean()),
        "by_confidence": _by_confidence(frame, np.array(scores.confidence)),
    }


def _alike(p: np.ndarray) -> np.ndarray:
    """Return the group of each row: at most tenths by probability, at least `ALIKE` rows."""
    n_groups = int(np.clip(len(p) // ALIKE, 1, MOST_GROUPS))
    ranks = pd.Series(p).rank(method="average", pct=True).to_numpy()
    return np.ceil(ranks * n_groups - 1e-9)


def _by_confidence(frame: pd.DataFrame, level: np.ndarray) -> dict[str, LevelError]:
    found: dict[str, LevelError] = {}
    for name in ("high", "medium", "low"):
        here = frame[level == name]
        if len(here) < ALIKE:
            continue
        groups = here.groupby(_alike(here["p"].to_numpy())).mean()
        error = np.abs(logit_of(groups["p"].to_numpy()) - logit_of(groups["true"].to_numpy()))
        found[name] = {
            "n": len(here),
            "range_width": float((here["high"] - here["low"]).mean()),
            "level_error": float(error.mean()),
        }
    return found


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    varies = np.ptp(a) > 1e-9 and np.ptp(b) > 1e-9
    return none_if_nan(spearmanr(a, b).statistic) if varies else None


def _true_themes(rows: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in rows if str(name).startswith("theme_")]
    return rows[names].rename(columns=lambda name: str(name).removeprefix("theme_"))


def reasons_against_truth(
    bundle: Bundle, matrix: np.ndarray, rows: pd.DataFrame
) -> ReasonsAgainstTruth:
    """Return how often the true drivers are among the reasons shown.

    Parameters
    ----------
    bundle : Bundle
        The model.
    matrix : numpy.ndarray
        The rows, encoded.
    rows : pandas.DataFrame
        From `unseen_rows`.

    Returns
    -------
    dict
        n, `hits`, drivers (`drivers`), and theme_correlation: rank correlation of a theme's points
        with its true contribution.
    """
    explained = explain_rows(
        bundle.explain(matrix),
        matrix,
        bundle.info,
        outcome=bundle.outcome,
        levels=bundle.encoder.levels,
    )
    shown = [[reason["theme"] for reason in item["raises"]] for item in explained]
    points = pd.DataFrame([item["themes"] for item in explained])
    true = _true_themes(rows)
    return {
        "n": len(rows),
        **hits(shown, true),
        "drivers": drivers(shown, true),
        "theme_correlation": {
            str(theme): _rank_correlation(points[theme].to_numpy(), true[theme].to_numpy())
            for theme in true
            if theme in points
        },
    }


def rules_against_truth(
    rules: AppliedRules, matrix: np.ndarray, rows: pd.DataFrame
) -> RulesAgainstTruth:
    """Return how well unmeasured rules agree with the truth.

    Returns
    -------
    dict
        n; n_rules (mean per row); correlation of their number with the true probability; and
        drivers (`drivers`, of the themes of the rules that hold).
    """
    matches = rules.matches(matrix)
    themes = np.array([rule.theme for rule in rules.rules.values()])
    shown = [list(dict.fromkeys(themes[row].tolist())) for row in matches]
    number = matches.sum(axis=1).astype(np.float64)
    return {
        "n": len(rows),
        "n_rules": float(number.mean()),
        "correlation": _rank_correlation(number, rows["p_true"].to_numpy(dtype=np.float64)),
        "drivers": drivers(shown, _true_themes(rows)),
    }


def drivers(shown: Sequence[Sequence[str]], true: pd.DataFrame) -> dict[str, DriverNamed]:
    """Return, per simulated driver, how often reasons name it where it is the strongest.

    Parameters
    ----------
    shown : sequence of sequence of str
        Per row, the themes shown to raise the score; may be empty.
    true : pandas.DataFrame
        Per row and theme, its true contribution in log-odds.

    Returns
    -------
    dict
        Per theme that is the strongest of any account, by at least `CLEAR`: n, those accounts;
        named, share of them with the theme among the reasons; by_chance, the same share of all
        accounts.

    Notes
    -----
    A driver is named if the data contain it and it has an effect on events. Over six simulated
    companies of 1,000 accounts (about 280 events each): adoption 69 % (by chance 40 %), breadth 57
    % (25 %), sentiment 52 % (27 %), relationship 26 % (14 %), support 17 % (7 %), commercial 10 %
    (7 %). Tickets predict the support driver well (out of sample, trees on them reach a correlation
    of 0.6), but its effect is a third of a log-odd, so it has little weight in the model and is
    rarely named; budget pressure is hardly visible in the data.

    Examples
    --------
    >>> true = pd.DataFrame({"adoption": [1.0, -1.0], "support": [-1.0, 1.0]})
    >>> drivers([["adoption"], []], true)["adoption"]
    {'n': 1, 'named': 1.0, 'by_chance': 0.5}
    """
    values = true.to_numpy(dtype=np.float64)
    named = _membership(shown, {str(name): i for i, name in enumerate(true.columns)})
    strongest = np.where(values.max(axis=1) >= CLEAR, values.argmax(axis=1), -1)
    return {
        str(theme): {
            "n": int(here.sum()),
            "named": float(named[here, i].mean()),
            "by_chance": float(named[:, i].mean()),
        }
        for i, theme in enumerate(true.columns)
        for here in [strongest == i]
        if here.any()
    }


def hits(shown: Sequence[Sequence[str]], true: pd.DataFrame) -> Hits:
    """Return how often the reasons shown are the true drivers.

    Parameters
    ----------
    shown : sequence of sequence of str
        Per row, the themes shown to raise the score, strongest first; may be empty.
    true : pandas.DataFrame
        Per row and theme, its true contribution in log-odds.

    Returns
    -------
    dict
        n_clear: rows with a clear true driver (`CLEAR`) and at least one reason. Among them: first,
        the strongest true theme is the first reason; among_three, it is one of the three shown;
        right_way, share of all reasons whose theme truly raises the score. Each with
        ``_by_chance``: the same with the reasons of a random other account.

    Examples
    --------
    >>> true = pd.DataFrame({"adoption": [1.0, -1.0], "support": [-1.0, 1.0]})
    >>> found = hits([["adoption"], ["support"]], true)
    >>> found["first"], found["first_by_chance"], found["right_way"]
    (1.0, 0.5, 1.0)
    """
    values = true.to_numpy(dtype=np.float64)
    clear = np.array([bool(part) for part in shown]) & (values.max(axis=1) >= CLEAR)
    kept = [list(part)[:MAX_RAISES] for part, take in zip(shown, clear, strict=True) if take]
    if not kept:
        return {"n_clear": 0}
    values = values[clear]
    place = {str(name): i for i, name in enumerate(true.columns)}
    first = _membership([part[:1] for part in kept], place)
    three = _membership(kept, place)
    driver = np.eye(len(place))[values.argmax(axis=1)]
    counts = np.array([len(part) for part in kept])
    found: dict[str, float] = {"n_clear": len(kept)}
    for name, named, wanted, per in (
        ("first", first, driver, len(kept)),
        ("among_three", three, driver, len(kept)),
        ("right_way", three, values > 0, counts.sum()),
    ):
        found[name] = float((named * wanted).sum() / per)
        found[f"{name}_by_chance"] = float(named.sum(axis=0) @ wanted.mean(axis=0) / per)
    return cast("Hits", found)


def _membership(named: Sequence[Sequence[str]], place: Mapping[str, int]) -> np.ndarray:
    """Return (rows, themes): 1 where a theme is named; only true themes have a column."""
    table = np.zeros((len(named), len(place)))
    for row, themes in enumerate(named):
        for theme in themes:
            if theme in place:
                table[row, place[theme]] = 1.0
    return table


_CELLS = {
    AUC_WITHIN: ("auc", len(AUC_WITHIN) + 2),
    "log-loss": ("log_loss", 10),
    "O/E": ("observed_to_expected", 7),
    "rank corr": ("correlation", 11),
    "MAE": ("mean_absolute_error", 8),
    "mean ratio": ("mean_ratio", 12),
    "slope": ("slope", 8),
}


def as_text(found: TruthComparison) -> str:
    """Return a comparison as text for the terminal."""
    probability = found["probability"]
    lines = [
        f"{found['target']}: model tier {found['tier']}, {found['verdict']}",
        f"  {found['why']}",
        f"  out of time: {probability['n']:,} rows, {probability['events']:,} events",
        f"  {'':14}" + "".join(f"{title:>{width}}" for title, (_, width) in _CELLS.items()),
    ]
    for name, part in probability["models"].items():
        cells = (f"{_shown(part[key]):>{width}}" for key, width in _CELLS.values())
        lines.append(f"  {name.replace('_', ' '):14}" + "".join(cells))
    return "\n".join(
        [
            *lines,
            *_book_lines(found["book"]),
            *_reason_lines(found["reasons"]),
            *_rule_lines(found["rules"]),
        ]
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _book_lines(found: ScoresAgainstTruth) -> list[str]:
    levels = (
        f"{name} {part['n']:,} (off by {part['level_error']:.2f} log-odds)"
        for name, part in found["by_confidence"].items()
    )
    return [
        f"  the latest book, {found['n']:,} unseen rows: rank corr {_shown(found['correlation'])}, "
        f"MAE {found['mean_absolute_error']:.3f}, mean ratio {found['mean_ratio']:.2f}",
        f"    a range of {found['stated']:.0%} holds for {found['alike_hold']:.0%} of "
        f"{found['n_groups']} groups of alike accounts, for {found['single_hold']:.0%} of single "
        "ones",
        f"    confidence of the model: {', '.join(levels)}",
    ]


def _driver_lines(found: Mapping[str, DriverNamed]) -> list[str]:
    return [
        f"    {theme:14}{part['n']:>6,} driven by it, named for {part['named']:.0%} "
        f"({part['by_chance']:.0%})"
        for theme, part in found.items()
    ]


def _rule_lines(found: RulesAgainstTruth | None) -> list[str]:
    if found is None:
        return []
    return [
        f"  rules, not measured: {found['n_rules']:.1f} hold per account, rank corr of "
        f"their number {_shown(found['correlation'])}; drivers named (by chance):",
        *_driver_lines(found["drivers"]),
    ]


def _reason_lines(found: ReasonsAgainstTruth | None) -> list[str]:
    if found is None:
        return ["  a rate is served, without reasons"]
    if not found["n_clear"]:
        return [f"  reasons: none of {found['n']:,} unseen rows has a clear driver and a reason"]
    shares = cast("dict[str, float]", found)
    pairs = (
        ("first", "the strongest true driver is the first reason"),
        ("among_three", "it is among the three shown"),
        ("right_way", "a reason shown truly raises the score"),
    )
    return [
        f"  reasons on {found['n_clear']:,} of {found['n']:,} unseen rows (by chance):",
        *(
            f"    {words}: {shares[key]:.0%} ({shares[f'{key}_by_chance']:.0%})"
            for key, words in pairs
        ),
        *_driver_lines(found["drivers"]),
        "    rank correlation of a theme's points with its true contribution: "
        + ", ".join(
            f"{theme} {value:.2f}"
            for theme, value in found["theme_correlation"].items()
            if value is not None
        ),
    ]
