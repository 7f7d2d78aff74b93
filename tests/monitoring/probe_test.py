import math

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.monitoring import probe as probe_lib


class Answers:
    """A method whose corrector gives set answers, and that remembers what it was asked."""

    def __init__(self, pseudo_labels, gate=None):
        self.rows, self.gate, self.seen, self.asked = pseudo_labels, gate, 0, []

    def pseudo_labels(self, images, labels):
        part = slice(self.seen, self.seen + len(labels))
        self.seen += len(labels)
        self.asked.append((images.numpy(), labels.numpy()))
        gate = None if self.gate is None else tf.constant(self.gate[part])
        return {"pseudo_labels": tf.constant(self.rows[part]), "gate": gate}


def test_numbers_by_hand():
    # Likeliest classes 0, 0, 1, 1; given 0, 1, 1, 2; true 0, 0, 1, 2.
    rows = np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0, 1, 0], [0, 0.5, 0.5]])
    probe = probe_lib.Probe(np.zeros((4, 2)), [0, 1, 1, 2], [0, 0, 1, 2])
    result = probe.run(Answers(rows, gate=np.array([0.0, 0.5, 0.5, 1.0])))
    np.testing.assert_array_equal(result.corrected_labels, [0, 0, 1, 1])
    assert result.changed == 0.5
    assert result.pseudo_label_accuracy == 0.75
    assert result.given_label_accuracy == 0.75
    assert result.gate == 0.5
    assert (result.largest_class, result.largest_class_share) == (0, 0.5)
    assert result.given_largest_class_share == 0.5
    # Entropies: 0, 1.5 log 2, 0, log 2.
    assert result.entropy == pytest.approx(2.5 * math.log(2) / 4, rel=1e-12)
    assert result.logs() == {
        "pseudo_label_accuracy": 0.75,
        "given_label_accuracy": 0.75,
        "largest_class_share": 0.5,
    }


def test_accuracies_are_of_the_labels_that_are_known():
    probe = probe_lib.Probe(np.zeros((4, 2)), [0, 1, 1, 2], [0, 0, -1, -1])
    result = probe.run(Answers(np.eye(3)[[0, 0, 1, 1]]))
    assert (result.pseudo_label_accuracy, result.given_label_accuracy) == (1.0, 0.5)
    unknown = probe_lib.Probe(np.zeros((4, 2)), [0, 1, 1, 2], [-1] * 4)
    assert unknown.run(Answers(np.eye(3)[[0, 0, 1, 1]])).given_label_accuracy is None


def test_learned_matrix_has_believed_classes_as_rows():
    # Class 0 is always given as 1; class 1 as itself; class 2 is never believed in.
    rows = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    matrix = probe_lib.learned_transition_matrix(rows, [1, 1, 1])
    np.testing.assert_allclose(matrix, [[0, 1, 0], [0, 1, 0], [np.nan] * 3])
    soft = probe_lib.learned_transition_matrix([[0.75, 0.25], [0.25, 0.75]], [0, 1])
    np.testing.assert_allclose(soft, [[0.75, 0.25], [0.25, 0.75]])


def test_perfect_beliefs_recover_the_noise_matrix():
    rng = np.random.default_rng(1)
    wanted = np.array([[0.5, 0.5, 0.0], [0.1, 0.6, 0.3], [0.0, 0.2, 0.8]])
    true = rng.integers(0, 3, 6000)
    given = np.array([rng.choice(3, p=wanted[label]) for label in true])
    matrix = probe_lib.learned_transition_matrix(np.eye(3)[true], given)
    bound = 5 * np.sqrt(wanted * (1 - wanted) / np.bincount(true).min())
    assert (np.abs(matrix - wanted) <= bound).all()


def test_batches_cover_every_example_once_and_are_preprocessed():
    stored = np.arange(7, dtype=np.uint8).reshape(7, 1)
    method = Answers(np.full((7, 2), 0.5))
    probe = probe_lib.Probe(
        stored,
        np.arange(7) % 2,
        preprocessing=lambda batch: tf.cast(batch, tf.float32) / 2,
        batch_size=3,
    )
    result = probe.run(method)
    assert [len(labels) for _, labels in method.asked] == [3, 3, 1]
    seen = np.concatenate([batch for batch, _ in method.asked])
    np.testing.assert_array_equal(seen, stored / 2)
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in method.asked]), np.arange(7) % 2
    )
    assert result.entropy == pytest.approx(math.log(2))


def test_unknown_truth_leaves_accuracies_out():
    result = probe_lib.Probe(np.zeros((2, 1)), [0, 1]).run(Answers(np.eye(2)))
    assert result.pseudo_label_accuracy is None
    assert result.gate is None
    assert result.logs() == {"largest_class_share": 0.5}


@pytest.mark.parametrize("arrays", [([[0.0]], [0, 1]), ([[0.0]], [0], [0, 1]), ([], [])])
def test_lengths_that_do_not_fit(arrays):
    with pytest.raises(ValueError, match="as many labels as images"):
        probe_lib.Probe(*arrays)
