"""Losses: closed forms, shapes, extreme logits, who gets a gradient."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.methods import losses

EXTREME = tf.constant([[1e4, -1e4, 0.0], [-1e30, 1e30, 0.0]])


def test_cross_entropy_of_even_logits_is_log_of_the_classes():
    targets = tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    loss = losses.cross_entropy(targets, tf.zeros([2, 3]))
    assert loss.shape == (2,)
    np.testing.assert_allclose(loss, [math.log(3)] * 2, rtol=1e-6)


def test_cross_entropy_gradient_is_softmax_minus_target():
    targets = tf.constant([[0.2, 0.3, 0.5]])
    logits = tf.Variable([[0.1, -2.0, 1.5]])
    with tf.GradientTape() as tape:
        loss = losses.cross_entropy(targets, logits)
    np.testing.assert_allclose(
        tape.gradient(loss, logits), tf.nn.softmax(logits) - targets, atol=1e-7
    )


def test_cross_entropy_agrees_with_tensorflows_and_stays_finite():
    targets = tf.constant([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    loss = losses.cross_entropy(targets, EXTREME)
    np.testing.assert_allclose(
        loss, tf.nn.softmax_cross_entropy_with_logits(targets, EXTREME), rtol=1e-6
    )
    assert np.isfinite(loss).all()


def test_distillation_loss_by_hand():
    # T = 2: q = softmax([1, 0]) = [e, 1] / (1 + e), p = [1/2, 1/2]; 4 Σ q (log q - log p).
    q = np.array([math.e, 1]) / (1 + math.e)
    expected = 4 * np.sum(q * (np.log(q) - math.log(0.5)))
    loss = losses.distillation_loss([[2.0, 0.0]], [[0.0, 0.0]], temperature=2.0)
    assert loss.shape == (1,)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_distillation_loss_vanishes_where_the_two_agree_up_to_a_constant():
    logits = tf.random.stateless_normal([5, 4], seed=[1, 2])
    loss = losses.distillation_loss(logits, logits + 3.0, temperature=4.0)
    np.testing.assert_allclose(loss, np.zeros(5), atol=1e-5)


def test_the_teacher_gets_no_gradient_from_distillation():
    teacher, student = tf.Variable([[2.0, 0.0]]), tf.Variable([[0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.distillation_loss(teacher, student, temperature=1.0)
    of_teacher, of_student = tape.gradient(loss, [teacher, student])
    assert of_teacher is None
    np.testing.assert_allclose(
        of_student, tf.nn.softmax(student) - tf.nn.softmax(teacher), rtol=1e-6
    )


def test_distillation_loss_refuses_a_temperature_of_zero():
    with pytest.raises(ValueError, match="`temperature` must be positive. Received: 0"):
        losses.distillation_loss([[1.0]], [[1.0]], temperature=0)


def test_entropy_of_certainty_and_of_ignorance():
    values = losses.entropy(tf.constant([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(values, [0.0, math.log(2)], rtol=1e-6)
