"""Qualities of given labels: Bayes by hand, a head in closed form, no label seen, calibration."""

import types

import numpy as np
import pytest
from scipy.special import log_softmax

from kdmlc_tf.audit import quality as lib

CLASSES = 3
NOISE = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6]])


def drawn(rows, seed):
    """A number for each row of probabilities."""
    uniform = np.random.default_rng(seed).random((len(rows), 1))
    return np.minimum((rows.cumsum(axis=1) < uniform).sum(axis=1), rows.shape[1] - 1)


def simulated(count=3000, seed=0, sharpness=1.0):
    """(predictions, true classes): features tell more of the class than the logits do."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 4)).astype("float32")
    known = features[:, :CLASSES].astype("float64")
    true = drawn(np.exp(log_softmax(3.0 * known, axis=1)), seed + 1)
    found = types.SimpleNamespace(
        teacher_logits=sharpness * known * [1.0, 1.0, 0.0],
        features=features,
        given_labels=drawn(NOISE[true], seed + 2),
        noise_matrix=NOISE,
    )
    return found, true


def auroc(wrong, values):
    """Share of pairs of a wrong and a right label in which the wrong one has less."""
    return np.mean(values[wrong][:, None] < values[~wrong][None, :])


def test_the_posterior_is_bayes_rule():
    # 0.25 · 0.9 : 0.75 · 0.2 with the floor on both rows
    likely = lib.likelihood(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0]))
    joint = np.array([0.25 * (0.9 + 0.005), 0.75 * (0.2 + 0.005)])
    found = lib.posterior(np.log([[0.25, 0.75]]), likely)
    np.testing.assert_allclose(found[0], joint / joint.sum(), rtol=1e-12)


def test_a_head_that_has_only_its_offset_finds_the_classes_shares():
    # Of the labels 30% are 1, of either class 10% are wrong: p · 0.8 + 0.1 = 0.3.
    likely = np.array([[0.9, 0.1], [0.1, 0.9]])[:, [0] * 7 + [1] * 3].T
    head = lib.fitted_head(np.zeros((10, 1), "float32"), np.log(np.full((10, 2), 0.5)), likely, 0.1)
    np.testing.assert_allclose(head[0], 0, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_softmax(head[1:], axis=1))[0], [0.75, 0.25], atol=1e-3)


def test_a_head_climbs_the_penalised_likelihood():
    found, _ = simulated(300)
    belief, likely = (
        log_softmax(found.teacher_logits, axis=1),
        lib.likelihood(NOISE, found.given_labels),
    )

    def loss(head):
        adapted = lib.applied(head, found.features, belief)
        return lib.label_loss(adapted, likely) + 0.01 * np.sum(head[:-1] ** 2)

    head = lib.fitted_head(found.features, belief, likely, 0.01).astype("float64")
    for place in np.ndindex(head.shape):
        step = np.zeros_like(head)
        step[place] = 1e-3
        assert abs(loss(head + step) - loss(head - step)) / 2e-3 < 1e-3
    assert loss(head) < loss(0 * head) - 0.01


def test_no_head_has_seen_the_label_that_it_judges(monkeypatch):
    monkeypatch.setattr(lib, "PENALTIES", (1e-2,))
    found, _ = simulated(2000)
    belief, likely = (
        log_softmax(found.teacher_logits, axis=1),
        lib.likelihood(NOISE, found.given_labels),
    )
    before = lib.sharpened(belief, found.features, likely)
    likely[7] = np.roll(likely[7], 1)
    after = lib.sharpened(belief, found.features, likely)
    np.testing.assert_array_equal(before[7], after[7])
    assert 0.5 < np.mean(np.any(before != after, axis=1)) < 0.8  # the other two folds


def test_features_that_say_nothing_change_nothing():
    found, _ = simulated(600, sharpness=3.0)
    belief, likely = (
        log_softmax(found.teacher_logits, axis=1),
        lib.likelihood(NOISE, found.given_labels),
    )
    useless = np.random.default_rng(5).normal(size=(600, 200))
    np.testing.assert_array_equal(lib.sharpened(belief, useless, likely), belief)


def test_quality_finds_more_than_bayes_rule_alone_and_is_calibrated():
    found, true = simulated()
    given = found.given_labels
    wrong, everyone = given != true, np.arange(len(true))
    likely = lib.likelihood(NOISE, given)
    alone = lib.posterior(log_softmax(found.teacher_logits, axis=1), likely)[everyone, given]
    known = lib.posterior(log_softmax(3.0 * found.features[:, :CLASSES], axis=1), likely)
    best = auroc(wrong, known[everyone, given])
    values, _ = lib.quality(found)
    assert auroc(wrong, alone) + 0.015 < auroc(wrong, values) < best + 0.005
    assert best - auroc(wrong, values) < 0.01
    for low in (0.0, 0.25, 0.5, 0.75):
        within = (values >= low) & (values < low + 0.25)
        assert within.sum() > 100
        assert np.mean(~wrong[within]) == pytest.approx(values[within].mean(), abs=0.06)


def test_posteriors_are_distributions_and_the_seed_decides():
    found, _ = simulated(2000)
    rows = lib.posteriors(found, seed=1)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    np.testing.assert_array_equal(rows, lib.posteriors(found, seed=1))
    assert np.any(rows != lib.posteriors(found, seed=2))
    values, suggested = lib.quality(found, seed=1)
    np.testing.assert_array_equal(values, rows[range(2000), found.given_labels])
    np.testing.assert_array_equal(suggested, np.argmax(rows, axis=1))


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e37])
def test_extreme_logits_and_features_stay_in_range(scale):
    found, _ = simulated(90)
    found.teacher_logits = np.float32(scale) * found.teacher_logits.astype("float32")
    found.features = np.concatenate([found.features * 1e6, np.full((90, 1), 7.0)], axis=1)
    for matrix in (NOISE, np.eye(CLASSES), None):
        found.noise_matrix = matrix
        values, _ = lib.quality(found)
        assert np.all(np.isfinite(values)) and values.min() >= 0 and values.max() <= 1


def test_the_noise_matrix_is_found_from_calibrated_beliefs():
    found, _ = simulated(20_000, seed=3)
    belief = log_softmax(3.0 * found.features[:, :CLASSES].astype("float64"), axis=1)
    start = 0.5 * np.eye(CLASSES) + 0.5 / CLASSES
    matrix = lib.estimated_matrix(belief, found.given_labels, start)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix, NOISE, atol=0.04)


def test_without_a_matrix_it_is_the_teachers_probability():
    found, _ = simulated(600)
    found.noise_matrix = None
    probabilities = np.exp(log_softmax(found.teacher_logits, axis=1))
    np.testing.assert_allclose(lib.posteriors(found), probabilities, rtol=1e-9)


def test_few_examples_do_not_overturn_the_matrix():
    # 100 examples of each class behind the start; 4 of class 0, of class 1 none.
    belief = np.log(np.array([[1.0 - 1e-15, 1e-15]] * 4))
    start = np.array([[0.8, 0.2], [0.3, 0.7]])
    matrix = lib.estimated_matrix(belief, np.array([0, 0, 0, 1]), start)
    np.testing.assert_allclose(matrix, [[83 / 104, 21 / 104], [0.3, 0.7]], atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_handful_of_examples_is_judged_by_bayes_rule(count):
    found, _ = simulated(count, sharpness=2.0)
    belief, given = log_softmax(found.teacher_logits, axis=1), found.given_labels
    expected = lib.posterior(belief, lib.likelihood(NOISE, given))[range(count), given]
    np.testing.assert_allclose(lib.quality(found)[0], expected, atol=0.03)
