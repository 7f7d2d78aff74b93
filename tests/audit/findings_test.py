import numpy as np
import pytest

from kdmlc_tf.audit import findings
from kdmlc_tf.audit.predictions import Predictions

QUALITY = np.array([0.9, 0.2, 0.5, 0.2, 0.4])


def found(noise_matrix=None, true_labels=None, selected=QUALITY < 0.5):
    pseudo_labels = np.float32([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]])
    predictions = Predictions(
        teacher_logits=np.log(pseudo_labels),
        features=np.zeros((5, 1), np.float32),
        student_logits=np.log(pseudo_labels[:, ::-1]),
        pseudo_labels=pseudo_labels,
        given_labels=np.int32([0, 1, 1, 1, 1]),
        noise_matrix=noise_matrix,
    )
    return findings.Findings(
        predictions,
        QUALITY,
        np.array([0, 0, 1, 1, 0]),
        selected,
        indices=np.arange(5),
        ids=np.arange(5).astype("S"),
        class_names=("cat", "dog"),
        true_labels=true_labels,
    )


def test_worst_first_and_equals_in_order():
    assert found().order.tolist() == [1, 3, 4, 2, 0]


def test_what_is_suggested_replaces_the_selected_alone():
    results = found()
    assert results.corrected_labels.tolist() == [0, 0, 1, 1, 0]
    assert found(selected=np.zeros(5, bool)).corrected_labels.tolist() == [0, 1, 1, 1, 1]


def test_expected_precision_is_the_mean_of_one_less_quality():
    summary = found().summary()
    assert summary["selected"]["count"] == 3 and summary["selected"]["changed"] == 2
    assert summary["selected"]["expected"] == pytest.approx((0.8 + 0.8 + 0.6) / 3)
    assert summary["expected_noise_rate"] == pytest.approx(1 - QUALITY.mean())
    rows = {row["threshold"]: row for row in summary["thresholds"]}
    assert rows[0.2] == {"threshold": 0.2, "count": 0, "expected": None}
    assert rows[0.25]["count"] == 2 and rows[0.25]["expected"] == pytest.approx(0.8)


def test_precision_is_measured_only_where_the_truth_is_known():
    assert "measured" not in str(found().summary())
    summary = found(true_labels=np.array([0, 0, 1, 1, 0])).summary()
    assert summary["selected"]["measured"] == pytest.approx(2 / 3)
    partly = found(true_labels=np.array([0, 0, -1, -1, 1])).summary()
    assert partly["selected"]["measured"] == pytest.approx(1 / 2)


def test_noise_rates_class_by_class():
    matrix = np.array([[0.7, 0.3], [0.1, 0.9]])
    cat, dog = found(matrix).summary()["classes"]
    assert cat["noise_rate"] == pytest.approx(0.3) and dog["noise_rate"] == pytest.approx(0.1)
    assert cat["given_count"] == 1 and cat["given_expected"] == pytest.approx(0.1)
    assert dog["given_count"] == 4
    assert dog["given_expected"] == pytest.approx((0.8 + 0.5 + 0.8 + 0.6) / 4)


def test_without_an_estimate_the_corrector_gives_the_matrix():
    summary = found().summary()
    assert summary["noise_matrix_from"] == "corrector"
    # Mass of class cat: 0.9 is given as cat, 0.8 + 0.3 + 0.1 + 0.6 as dog.
    np.testing.assert_allclose(summary["noise_matrix"][0], [0.9 / 2.7, 1.8 / 2.7], rtol=1e-6)
