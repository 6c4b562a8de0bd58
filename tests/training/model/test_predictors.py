from dataclasses import replace

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from configs.runtime.errors import ModelError
from training.fitting.fit import (
    TrainingConfig,
    choose_tier,
    composite_design,
    constant_rate,
    fit,
    fit_all_columns,
    fit_encoder,
    full_design,
    tree_names,
    with_draws,
)
from training.model.bundle import sigmoid
from training.model.predictors import (
    MISSING,
    Boosters,
    model_text,
    predictor_from_files,
    tree_contributions,
)

KINDS = ("lightgbm", "linear", "rates")


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, frame):
    return fit(TrainingConfig(request.param, "churn", seeds=(1, 2), rounds=60, threads=1), frame)


def odd_rows(fitted, frame, n=400):
    """Encoded rows, among them all missing, huge, and codes nobody has seen."""
    matrix = fitted.encoder.encode(frame.features.iloc[:n]).matrix
    matrix[0] = np.nan
    matrix[1] = 1e12
    matrix[2] = -1e12
    matrix[3, fitted.encoder.category_positions[0]] = 77.0
    return matrix


def test_contributions_add_up_to_the_raw_log_odds(fitted, frame):
    matrix = odd_rows(fitted, frame)
    base, values = fitted.predictor.contributions(matrix)
    assert values.shape == matrix.shape
    np.testing.assert_allclose(base + values.sum(axis=1), fitted.predictor.raw(matrix), atol=1e-9)


def test_text_files_bring_back_the_same_bits(fitted, frame):
    predictor = fitted.predictor
    seeds = list(getattr(predictor, "seeds", ()))
    again = predictor_from_files(predictor.kind, predictor.files(), seeds)
    matrix = odd_rows(fitted, frame)
    np.testing.assert_array_equal(again.raw(matrix), predictor.raw(matrix))
    np.testing.assert_array_equal(again.spread(matrix), predictor.spread(matrix))
    np.testing.assert_array_equal(
        again.contributions(matrix)[1], predictor.contributions(matrix)[1]
    )
    assert again.files() == predictor.files()


def test_a_row_scores_the_same_alone_and_in_company(fitted, frame):
    matrix = odd_rows(fitted, frame)
    together = fitted.predictor.raw(matrix)
    alone = [fitted.predictor.raw(matrix[i : i + 1])[0] for i in range(20)]
    np.testing.assert_array_equal(alone, together[:20])


def test_spread_is_finite_and_not_negative(fitted, frame):
    spread = fitted.predictor.spread(odd_rows(fitted, frame)[4:])
    assert np.isfinite(spread).all()
    assert (spread >= 0).all()


def test_the_same_inputs_give_the_same_text_with_any_threads(frame):
    recipe = TrainingConfig("lightgbm", "churn", seeds=(1,), rounds=30, threads=1)
    one = fit(recipe, frame).predictor.files()
    two = fit(replace(recipe, threads=2), frame).predictor.files()
    assert one == two
    assert "num_threads" not in one["model_1.txt"]


# shap imports its plots, which call matplotlib functions about to be deprecated
@pytest.mark.filterwarnings("ignore:The set_.* function:PendingDeprecationWarning")
def test_tree_contributions_equal_shap_with_missing_values_and_categories(frame):
    import shap

    fitted = fit(TrainingConfig("lightgbm", "churn", seeds=(1,), rounds=60, threads=1), frame)
    matrix = odd_rows(fitted, frame)
    booster = fitted.predictor.handles[0]
    theirs = shap.TreeExplainer(booster).shap_values(matrix)
    assert np.abs(tree_contributions(booster, matrix)[:, :-1] - theirs).max() < 1e-9
    assert fitted.predictor.contributions(matrix)[1][:, 3].any(), "the category plays a part"


def test_seeds_are_averaged_in_log_odds(frame):
    fitted = fit(TrainingConfig("lightgbm", "churn", seeds=(1, 2, 3), rounds=20, threads=1), frame)
    matrix = odd_rows(fitted, frame, 50)
    each = [booster.predict(matrix, raw_score=True) for booster in fitted.predictor.handles]
    np.testing.assert_allclose(fitted.predictor.raw(matrix), np.mean(each, axis=0), atol=1e-12)
    np.testing.assert_allclose(fitted.predictor.spread(matrix), np.std(each, axis=0, ddof=1))


@pytest.mark.parametrize(
    ("feature", "outcome", "sign"),
    [("users_28d", "churn", -1), ("tickets_28d", "churn", 1), ("users_28d", "expansion", 1)],
)
def test_where_the_sign_is_agreed_more_never_moves_the_other_way(frame, feature, outcome, sign):
    # rows labelled the other way round: the data would teach the wrong sign
    opposed = sign != (-1 if feature == "users_28d" else 1)
    rows = frame.rows.assign(label=1 - frame.rows["label"]) if opposed else frame.rows
    taught = replace(frame, rows=rows.assign(label=1 - rows["label"]))
    for rows_of in (frame, taught):
        fitted = fit(TrainingConfig("lightgbm", outcome, seeds=(1,), rounds=60, threads=1), rows_of)
        matrix = odd_rows(fitted, frame, 60)[4:]
        position = fitted.encoder.names.index(feature)
        path = []
        for value in np.linspace(0.0, 100.0, 25):
            matrix[:, position] = value
            path.append(fitted.predictor.raw(matrix))
        assert (sign * np.diff(path, axis=0) >= -1e-12).all()


def test_only_the_named_feature_moves_the_score(frame):
    fitted = fit(TrainingConfig("lightgbm", "churn", seeds=(1,), rounds=30, threads=1), frame)
    noise = frame.rows.assign(arr=0.0, segment="other", health_score=1.0)
    np.testing.assert_array_equal(fitted.raw(frame), fitted.raw(replace(frame, rows=noise)))


def test_full_linear_model_equals_scikit_learn_on_its_derived_columns(frame):
    fitted = fit_all_columns(frame, strength=0.1)
    matrix = fitted.encoder.encode(frame.features).matrix
    design = full_design(matrix, fitted.encoder)
    derived = design.derive(matrix)
    np.testing.assert_allclose(derived.mean(axis=0), 0, atol=1e-9)
    assert (design.column_kind == MISSING).sum() == 1, "a flag for nps alone"
    model = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000)
    model.fit(derived, frame.label, sample_weight=frame.weight)
    apart = fitted.predictor.raw(matrix) - model.decision_function(derived)
    np.testing.assert_allclose(apart, apart.mean(), atol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "lightgbm"])
def test_weights_move_differences_and_not_the_level(small, kind):
    """An account that leaves early has few rows, which weigh more: no more leavers for that."""
    frame = small.make_frame(accounts=150, months=12)
    weighted = float(frame.weight @ frame.label / frame.weight.sum())
    assert weighted > 1.1 * frame.label.mean()
    p = sigmoid(fit(TrainingConfig(kind, "churn", seeds=(1, 2), threads=1), frame).raw(frame))
    assert p.mean() == pytest.approx(frame.label.mean(), rel=1e-6)


def test_composites_are_few_and_turned_towards_the_outcome(frame):
    encoder = fit_encoder(frame)
    matrix = encoder.encode(frame.features).matrix
    composites = composite_design(matrix, encoder, frame.info, "churn")
    assert composites.composition.shape[1] <= 2 * 7 + 3
    users = np.flatnonzero(composites.design.feature == 0)[0]
    assert composites.composition[users].min() < 0 <= composites.composition[users].max()
    spread = (composites.design.derive(matrix) @ composites.composition).std(axis=0)
    np.testing.assert_allclose(spread, 1.0)


def test_linear_intervals_are_wider_with_fewer_accounts(small):
    few, many = (small.make_frame(accounts=n, months=14) for n in (60, 600))
    spreads = []
    for rows in (few, many):
        fitted = fit(TrainingConfig("linear", "churn"), rows)
        spreads.append(
            np.median(fitted.predictor.spread(fitted.encoder.encode(many.features).matrix))
        )
    assert spreads[0] > 1.5 * spreads[1]


def test_rates_are_pooled_by_the_context_category_and_shrunk(frame):
    fitted = fit(TrainingConfig("rates", "churn"), frame)
    rows = pd.DataFrame({name: [np.nan] * 4 for name in fitted.encoder.names})
    rows["plan"] = ["basic", "pro", "enterprise", "never seen"]
    raw = fitted.predictor.raw(fitted.encoder.encode(rows).matrix)
    overall = np.log(frame.label.mean() / (1 - frame.label.mean()))
    assert raw[0] > raw[1], "the basic plan leaves more"
    assert raw[3] == pytest.approx(overall, abs=0.01)
    observed = frame.label[(frame.features["plan"] == "basic").to_numpy()].mean()
    assert overall < raw[0] < np.log(observed / (1 - observed))


def test_the_constant_rate_is_the_same_for_everybody(frame):
    encoder = fit_encoder(frame)
    rate = constant_rate(frame, encoder)
    matrix = encoder.encode(frame.features).matrix
    assert len(set(rate.raw(matrix))) == 1
    assert not rate.contributions(matrix)[1].any()


def test_the_ladder_says_why():
    for n, kind in (
        (0, "rates"),
        (39, "rates"),
        (149, "linear"),
        (150, "lightgbm"),
        (5000, "lightgbm"),
    ):
        tier = choose_tier(n)
        assert tier.kind == kind
        assert f"{n} events" in tier.reason


def test_an_unknown_kind_and_a_broken_file_are_named():
    with pytest.raises(ModelError, match="forest"):
        predictor_from_files("forest", {}, [])
    with pytest.raises(ModelError, match="linear"):
        predictor_from_files("linear", {"linear.json": "{}"}, [])
    with pytest.raises(ModelError, match="LightGBM"):
        predictor_from_files("lightgbm", {"model_1.txt": "no tree"}, [1])


def test_model_text_without_parameters_predicts_the_same(frame):
    rows = lightgbm.Dataset(frame.features[["users_28d", "nps"]].to_numpy(), frame.label)
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, rows, 5)
    again = lightgbm.Booster(model_str=model_text(booster.model_to_string()))
    matrix = frame.features[["users_28d", "nps"]].to_numpy()
    np.testing.assert_array_equal(again.predict(matrix), booster.predict(matrix))


ODD_NAMES = (
    "a b", 'a"b', "a,b", "a\\b", "a\nb", "a\u2028b", "{a}: [b]", "", "Größe", "x=y", "Tree=0",
    "end of trees", "a_b", "a_b_2", "tree_sizes", "🚀", "x" * 400,
)  # fmt: skip


def test_the_model_text_names_its_features(frame):
    recipe = TrainingConfig("lightgbm", "churn", seeds=(1,), rounds=3, threads=1)
    fitted = with_draws(recipe, fit(recipe, frame), frame)
    assert "draw_0.txt" in fitted.predictor.files()
    for text in fitted.predictor.files().values():
        (line,) = [line for line in text.splitlines() if line.startswith("feature_names=")]
        assert line.removeprefix("feature_names=").split(" ") == list(fitted.encoder.names)
        assert lightgbm.Booster(model_str=text).feature_name() == list(fitted.encoder.names)


def test_columns_of_any_name_are_fitted_and_read_back_by_lightgbm_and_the_explainer():
    names = tree_names(ODD_NAMES)
    assert len(set(names)) == len(ODD_NAMES)
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(600, len(names)))
    label = (matrix[:, 0] + matrix[:, 3] - matrix[:, -1] > 0).astype(float)
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    grown = lightgbm.train(settings, lightgbm.Dataset(matrix, label, feature_name=names), 5)
    assert grown.dump_model()["feature_names"] == names
    text = model_text(grown.model_to_string())
    again = lightgbm.Booster(model_str=text)
    assert again.feature_name() == names
    np.testing.assert_array_equal(again.predict(matrix), grown.predict(matrix))
    base, values = Boosters((1,), (text,)).contributions(matrix)
    np.testing.assert_allclose(
        base + values.sum(axis=1), grown.predict(matrix, raw_score=True), atol=1e-9
    )


def test_a_bundle_without_feature_names_is_read_as_before(frame):
    """Bundles of version 0.1.0 call their features Column_0, Column_1, …"""
    fitted = fit(TrainingConfig("lightgbm", "churn", seeds=(1,), rounds=5, threads=1), frame)
    names = " ".join(fitted.encoder.names)
    unnamed = " ".join(f"Column_{i}" for i in range(len(fitted.encoder.names)))
    files = {
        name: text.replace(f"feature_names={names}", f"feature_names={unnamed}")
        for name, text in fitted.predictor.files().items()
    }
    assert "Column_0" in files["model_1.txt"]
    old = predictor_from_files("lightgbm", files, [1])
    matrix = odd_rows(fitted, frame)
    np.testing.assert_array_equal(old.raw(matrix), fitted.predictor.raw(matrix))
    np.testing.assert_array_equal(
        old.contributions(matrix)[1], fitted.predictor.contributions(matrix)[1]
    )
