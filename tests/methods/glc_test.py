"""GLC: the corrected loss in closed form, the estimated matrix, who learns when."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdmlc_tf
from kdmlc_tf.methods import losses

CLASSES = 3


def classifier(seed):
    """A small classifier of 8 features."""
    init = keras.initializers.GlorotUniform(seed)
    layers = [
        keras.layers.Dense(16, "relu", kernel_initializer=init),
        keras.layers.Dense(CLASSES, kernel_initializer=init),
    ]
    return keras.Sequential([keras.Input((8,)), *layers])


def glc(estimator_steps=3, **kwargs):
    """A compiled GLC."""
    method = kdmlc_tf.GLC(classifier(1), classifier(2), estimator_steps=estimator_steps, **kwargs)
    method.compile(kdmlc_tf.SGD(0.1, momentum=0.9), kdmlc_tf.SGD(0.1, momentum=0.9))
    return method


def batch(seed=0):
    """Twenty noisy, six clean and four meta examples."""
    rng = np.random.default_rng(seed)
    return tuple(
        {
            "images": tf.constant(rng.normal(size=(size, 8)), tf.float32),
            "labels": tf.constant(rng.integers(0, CLASSES, size), tf.int32),
        }
        for size in (20, 6, 4)
    )


def test_the_corrected_loss_by_hand():
    matrix = [[0.5, 0.5], [0.1, 0.9]]
    logits = np.log([[0.2, 0.8], [0.6, 0.4]])
    expected = -np.log([0.2 * 0.5 + 0.8 * 0.1, 0.6 * 0.5 + 0.4 * 0.9])
    found = losses.corrected_cross_entropy(matrix, [0, 1], tf.constant(logits))
    assert found.shape == (2,)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_without_noise_the_corrected_loss_is_cross_entropy_even_for_extreme_logits():
    logits = tf.constant([[0.3, -1.0, 2.0], [90.0, -90.0, 0.0]])
    found = losses.corrected_cross_entropy(np.eye(3), [2, 1], logits)
    expected = losses.cross_entropy(tf.one_hot([2, 1], 3), logits)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert 20 < found[1] < 200  # the logarithm of nothing is cut off


def test_the_matrix_is_the_mean_answer_to_each_true_class():
    method, (_, clean, meta) = glc(matrix_decay=0.0), batch()
    images = tf.concat([clean["images"], meta["images"]], 0)
    labels = np.concatenate([clean["labels"], meta["labels"]])
    method.estimate(images, tf.constant(labels))
    logits = method.networks["estimator"](images)["logits"]
    answers = tf.nn.softmax(logits).numpy()
    expected = [answers[labels == true].mean(axis=0) for true in range(CLASSES)]
    np.testing.assert_allclose(method.noise_matrix(), expected, rtol=1e-5)


def test_a_class_without_trusted_examples_keeps_a_finite_row():
    method, (_, clean, _) = glc(matrix_decay=0.01), batch()
    labels = tf.minimum(clean["labels"], CLASSES - 2)
    for _ in range(200):
        method.optimizers_by_name["estimator"].iterations.assign(10_000)
        method.estimate(clean["images"], labels)
    assert not np.any(method.mass[-1])  # nothing is left of its mass
    np.testing.assert_allclose(method.noise_matrix()[-1], [1 / CLASSES] * CLASSES)
    assert np.isfinite(method.student_step(batch())["student_loss"])


def test_the_estimator_learns_first_and_from_noisy_labels_alone():
    method, (noisy, clean, meta) = glc(), batch()
    student = method.networks["student"].get_weights()
    method.estimator_step((noisy, clean, meta))
    moved = method.networks["estimator"].get_weights()
    other = glc()
    blank = {**clean, "images": 0 * clean["images"]}
    other.estimator_step((noisy, blank, meta))
    for one, two in zip(moved, other.networks["estimator"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(student, method.networks["student"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_student_descends_the_stated_loss_and_the_matrix_stays():
    method, parts = glc(), batch()
    method.estimator_step(parts)
    matrix, estimator = method.noise_matrix().numpy(), method.networks["estimator"].get_weights()
    student = method.networks["student"]
    logits = [tf.nn.softmax(student(part["images"])["logits"]).numpy() for part in parts]
    labels = [part["labels"].numpy() for part in parts]
    expected = list(-np.log((logits[0] @ matrix)[np.arange(20), labels[0]]))
    for part in (1, 2):
        expected += list(-np.log(logits[part][np.arange(len(labels[part])), labels[part]]))
    logs = method.student_step(parts)
    np.testing.assert_allclose(logs["student_loss"], np.mean(expected), rtol=1e-5)
    np.testing.assert_array_equal(matrix, method.noise_matrix())
    for one, two in zip(estimator, method.networks["estimator"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_stages_follow_each_other_under_fit():
    method = glc(estimator_steps=3)
    method.fit(tf.data.Dataset.from_tensors(batch()).repeat(), steps_per_epoch=5, verbose=0)
    assert int(method.optimizers_by_name["estimator"].iterations) == 3
    assert int(method.optimizers_by_name["student"].iterations) == 2
    assert method.steps_taken() == 5


def test_numbers_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="`estimator_steps` must be positive. Received: 0."):
        glc(estimator_steps=0)
    with pytest.raises(ValueError, match="`matrix_decay` must be"):
        glc(matrix_decay=1.0)
    with pytest.raises(ValueError, match="`noisy_steps` must be positive. Received: 0."):
        kdmlc_tf.FineTune(classifier(1), noisy_steps=0)
