"""The estimated noise matrix: a step by hand, the posterior, and that it finds the true matrix."""

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.config import PRESETS, with_presets
from kdmlc_tf.experiment import Builder
from kdmlc_tf.methods import losses
from kdmlc_tf.methods.noise_matrix import NoiseMatrix, floored

CLASSES = 4


def calibrated(count, sharpness, seed):
    """(logits of a calibrated belief [n, K], true classes [n] drawn from it)."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(count, CLASSES)).astype("float32")
    uniform = rng.gumbel(size=logits.shape)
    return logits, np.argmax(logits + uniform, axis=1)


def noisy(labels, matrix, seed):
    """Labels drawn from the rows of the matrix that belong to the true ones."""
    rng = np.random.default_rng(seed)
    return (matrix[labels].cumsum(axis=1) < rng.random((len(labels), 1))).sum(axis=1)


def test_one_step_by_hand():
    # p = (3/4, 1/4) and (1/2, 1/2), labels 0 and 1. Equal rows at first: q = p, so that
    # the batch's matrix is [[3/8, 1/4], [1/8, 1/4]].
    made = NoiseMatrix(2, 0.9, start=0)
    logits = tf.constant([[np.log(3.0), 0.0], [0.0, 0.0]], tf.float32)
    made.update(logits, tf.constant([0, 1]), tf.constant(8))
    expected = 0.9 * np.full((2, 2), 0.25) + 0.1 * np.array([[3 / 8, 1 / 4], [1 / 8, 1 / 4]])
    np.testing.assert_allclose(made.mass, expected, rtol=1e-6)
    np.testing.assert_allclose(made.matrix(), expected / expected.sum(1, keepdims=True), rtol=1e-6)


def test_the_posterior_is_bayes_rule():
    made = NoiseMatrix(2, 0.99, start=0)
    made.mass.assign([[0.45, 0.05], [0.1, 0.4]])
    logits = tf.constant([[0.0, np.log(3.0)]], tf.float32)
    posterior = tf.nn.softmax(made.posterior_logits(logits, tf.constant([0])))
    joint = np.array([0.25 * (0.9 + 0.005), 0.75 * (0.2 + 0.005)])  # a hundredth for all labels
    np.testing.assert_allclose(posterior[0], joint / joint.sum(), rtol=1e-6)


def test_from_equal_rows_labels_say_nothing_at_first():
    made, logits = NoiseMatrix(3, 0.99, start=0), tf.constant([[1.0, 2.0, -1.0]])
    for label in range(3):
        posterior = tf.nn.softmax(made.posterior_logits(logits, tf.constant([label])))
        np.testing.assert_allclose(posterior, tf.nn.softmax(logits), rtol=1e-6)


def test_it_starts_with_a_share_of_the_labels_right_beyond_chance():
    matrix = NoiseMatrix(4, 0.99, start=0.2).matrix()
    np.testing.assert_allclose(matrix, 0.2 * np.eye(4) + 0.2, rtol=1e-6)


def test_the_first_batch_counts_most_with_the_ramp():
    ramp, none = NoiseMatrix(2, 0.99, 0.2, ramp=True), NoiseMatrix(2, 0.99, 0.2)
    before = none.mass.numpy()
    logits, labels = tf.constant([[2.0, 0.0], [0.0, 1.0]]), tf.constant([0, 1])
    for made in (ramp, none):
        made.update(logits, labels, tf.constant(1))
    batch = (ramp.mass.numpy() - before * 2 / 11) * 11 / 9
    np.testing.assert_allclose(none.mass, 0.99 * before + 0.01 * batch, rtol=1e-6)


def test_without_the_ramp_early_mistakes_do_not_swap_classes():
    # All labels are right; the belief is sure of classes that it swaps, then of none.
    labels, mistaken = tf.constant([0, 1, 2] * 10), tf.constant([1, 0, 2] * 10)
    sure, unsure = 3 * tf.one_hot(mistaken, 3), tf.zeros((30, 3))
    own = {}
    for ramp in (True, False):
        made = NoiseMatrix(3, 0.99, start=0.2, ramp=ramp)
        for step in range(1, 201):
            made.update(sure if step <= 10 else unsure, labels, tf.constant(step))
        own[ramp] = np.argmax(made.matrix(), axis=1).tolist()
    assert own == {True: [1, 0, 2], False: [0, 1, 2]}


def test_a_runs_settings_are_where_it_starts_and_how_it_moves():
    for ramp in (True, False):
        given = {"dataset": "digits", "matrix_start": 0.4, "matrix_ramp": ramp}
        config = with_presets(PRESETS["digits"], given)
        builder = Builder(config, input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=5)
        found = builder.build().belief.noise_matrix
        np.testing.assert_allclose(found.matrix(), 0.4 * np.eye(10) + 0.06, rtol=1e-6)
        assert found.ramp == ramp


@pytest.mark.parametrize("classes", [10, 100])
def test_a_belief_that_tells_nothing_apart_leaves_the_start(classes):
    made, step = NoiseMatrix(classes, 0.99, start=0.2), tf.constant(10_000)
    labels = tf.range(classes)
    for _ in range(300):
        made.update(tf.zeros((classes, classes)), labels, step)
    # But for the floor: s (1 - 0.01 / 1.01) after every 100 steps, or nearly so.
    left = 0.2 * np.exp(-3 * 0.01 / 1.01)
    expected = left * np.eye(classes) + (1 - left) / classes
    np.testing.assert_allclose(made.matrix(), expected, rtol=2e-3)


def test_the_start_bears_labels_of_unequal_shares():
    made, labels = NoiseMatrix(3, 0.9, start=0.2), tf.constant([0, 0, 0, 0, 1, 1, 2])
    for step in range(200):
        made.update(tf.zeros((7, 3)), labels, tf.constant(step))
    matrix = made.matrix().numpy()
    assert (np.argmax(matrix, axis=0) == range(3)).all()  # each label speaks for its own class
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-5)


def test_the_start_keeps_classes_from_being_swapped():
    # A belief that takes class 0 for 1 and 1 for 0, a little; 40% uniform noise.
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 2000)
    given = np.where(rng.random(2000) < 0.6, true, rng.integers(0, 3, 2000))
    logits = 0.1 * np.eye(3, dtype="float32")[np.array([1, 0, 2])[true]]
    diagonal = {}
    for start in (0, 0.2):
        made = NoiseMatrix(3, 0.9, start)
        for step in range(20):
            made.update(tf.constant(logits), tf.constant(given), tf.constant(step))
        diagonal[start] = np.diag(made.matrix())
    assert max(diagonal[0][:2]) < 1 / 3 < min(diagonal[0.2])


def test_learning_from_the_posterior_is_the_forward_corrected_loss():
    # ∇ H(q, z) with q constant equals ∇ -log Σ_i softmax(z)_i T[i, y'].
    made = NoiseMatrix(3, 0.99, start=0)
    rng = np.random.default_rng(0)
    made.mass.assign(rng.random((3, 3)))
    logits, labels = tf.constant(rng.normal(size=(5, 3)), tf.float32), tf.constant([0, 1, 2, 2, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        posterior = tf.nn.softmax(made.posterior_logits(logits, labels))
        plain = tf.reduce_sum(losses.cross_entropy(posterior, logits))
        matrix = floored(made.matrix())
        corrected = tf.reduce_sum(losses.corrected_cross_entropy(matrix, labels, logits))
    expected = tape.gradient(corrected, logits)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(tape.gradient(plain, logits), expected, atol=1e-6)


@pytest.mark.parametrize("start", [0, 0.2])
@pytest.mark.parametrize("kind, rate", [("uniform", 0.8), ("pairflip", 0.4)])
def test_it_finds_the_matrix_from_a_calibrated_belief_full_of_doubt(kind, rate, start):
    other = np.roll(np.eye(CLASSES), 1, axis=1) if kind == "pairflip" else 1 / CLASSES
    true = (1 - rate) * np.eye(CLASSES) + rate * other
    logits, labels = calibrated(40_000, 2.0, seed=1)
    given = noisy(labels, true, seed=2)
    made = NoiseMatrix(CLASSES, 0.99, start)
    for step in range(800):
        part = slice(step % 200 * 200, step % 200 * 200 + 200)
        made.update(tf.constant(logits[part]), tf.constant(given[part]), tf.constant(step))
    error = np.abs(made.matrix() - true).max()
    # What is smeared by the doubts in p: T̂ = Σ p(i) 1[y' = j] / Σ p(i).
    p = tf.nn.softmax(logits).numpy()
    smeared = p.T @ np.eye(CLASSES)[given] / p.sum(axis=0)[:, None]
    assert error < 0.06
    assert error < 0.6 * np.abs(smeared - true).max()


def test_what_it_gives_is_a_constant():
    made, logits = NoiseMatrix(2, 0.9, 0), tf.constant([[0.3, 0.1]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        posterior = made.posterior_logits(logits, tf.constant([1]))
    assert tape.gradient(posterior, [logits, made.mass.value]) == [None, None]


def test_a_batch_whose_logits_overflowed_changes_nothing():
    made = NoiseMatrix(2, 0.9, start=0)
    made.update(tf.constant([[2.0, 0.0]]), tf.constant([0]), 0)
    before = made.matrix().numpy()
    made.update(tf.constant([[np.inf, 0.0]]), tf.constant([1]), 1)
    np.testing.assert_array_equal(made.matrix(), before)


def test_a_decay_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="below 1. Received: 1.0"):
        NoiseMatrix(2, 1.0, start=0)
    with pytest.raises(ValueError, match="`start` must be at least 0 and below 1. Received: -0.1"):
        NoiseMatrix(2, 0.9, start=-0.1)
