import dataclasses

import numpy as np
import pytest

from kdmlc_tf.audit.predictions import Predictions
from kdmlc_tf.audit.quality import quality

MATRIX = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.3, 0.3, 0.4]])


def predictions(beliefs, given, noise_matrix=None):
    """What networks say that believe in `beliefs` [n, K]; the corrector and the student, too."""
    logits = np.log(np.float32(beliefs))
    return Predictions(
        teacher_logits=logits,
        features=np.zeros((len(given), 2), np.float32),
        student_logits=logits,
        pseudo_labels=np.float32(beliefs),
        given_labels=np.int32(given),
        noise_matrix=noise_matrix,
    )


def test_it_is_the_posterior_of_the_given_label():
    # Class 1 is believed in with 0.5; the label says 0: 0.3·0.9 against 0.5·0.2 and 0.2·0.3.
    found = quality(predictions([[0.3, 0.5, 0.2]] * 2, [0, 1], MATRIX))
    expected = [0.27 / (0.27 + 0.10 + 0.06), 0.40 / (0.03 + 0.40 + 0.06)]
    np.testing.assert_allclose(found, expected, atol=2e-3)  # every entry has FLOOR added to it
    assert found.shape == (2,) and found.dtype == np.float64


def test_without_a_matrix_it_is_the_teachers_probability():
    found = quality(predictions([[0.3, 0.5, 0.2], [0.1, 0.1, 0.8]], [1, 0]))
    np.testing.assert_allclose(found, [0.5, 0.1], rtol=1e-6)


def test_equal_rows_say_nothing():
    found = quality(predictions([[0.3, 0.5, 0.2]], [1], np.full((3, 3), 1 / 3)))
    np.testing.assert_allclose(found, [0.5], rtol=1e-6)


def test_where_it_is_calibrated_it_is_the_share_of_right_labels():
    rng = np.random.default_rng(0)
    beliefs = rng.dirichlet([0.5] * 3, 20_000)
    true = (rng.random((len(beliefs), 1)) > beliefs.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    given = (rng.random((len(beliefs), 1)) > MATRIX[true].cumsum(axis=1)).sum(axis=1).clip(0, 2)
    found = quality(predictions(np.maximum(beliefs, 1e-9), given, MATRIX))
    for low in (0.0, 0.25, 0.5, 0.75):
        some = (found >= low) & (found < low + 0.25)
        assert some.sum() > 500
        assert np.mean(given[some] == true[some]) == pytest.approx(found[some].mean(), abs=0.03)


def test_extreme_logits_and_a_label_that_was_never_seen_stay_in_range():
    certain = predictions(np.ones((4, 3)), [0, 1, 2, 2], np.eye(3))
    logits = np.float32([[3e38, -3e38, 0], [-3e38, 3e38, 0], [1e4, 0, 0], [0, 0, 0]])
    found = quality(dataclasses.replace(certain, teacher_logits=logits))
    assert np.all((found >= 0) & (found <= 1))
    np.testing.assert_allclose(found[:3], [1, 1, 0], atol=1e-12)
