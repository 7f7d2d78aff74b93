"""What the corrector makes of a fixed sample of the noisy set: its health in a few numbers."""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """The corrector's answers on the probe's n examples, and what they amount to.

    Attributes:
      pseudo_labels: float64 [n, classes], rows sum to 1.
      entropy: mean entropy of the pseudo-labels, in nats.
      changed: share of examples whose likeliest class is not the given label.
      pseudo_label_accuracy: share whose likeliest class is the true one, of those with a known
        one; None without.
      given_label_accuracy: share whose given label is the true one, likewise.
      gate: mean trust in the given label, in [0, 1]; None without a gate.
      largest_class: the class that is likeliest for most examples.
      largest_class_share: the share of examples it is likeliest for.
      given_largest_class_share: share of the most frequent given label.
      learned_matrix: float64 [classes, classes]; see `learned_transition_matrix`.
    """

    pseudo_labels: np.ndarray
    entropy: float
    changed: float
    pseudo_label_accuracy: float | None
    given_label_accuracy: float | None
    gate: float | None
    largest_class: int
    largest_class_share: float
    given_largest_class_share: float
    learned_matrix: np.ndarray

    @property
    def corrected_labels(self):
        """The likeliest class of each example, int64 [n]."""
        return self.pseudo_labels.argmax(axis=1)

    def logs(self):
        """The scalars that training does not log by itself, where they are known."""
        names = ("pseudo_label_accuracy", "given_label_accuracy", "largest_class_share")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


class Probe:
    """A fixed sample of the noisy set on which the corrector is looked at.

    Args:
      images: array [n, h, w, c] or [n, features] as stored, uint8 or float.
      given_labels: int [n], as the training sees them.
      true_labels: int [n], -1 where one is not known; or None.
      preprocessing: callable from a stored batch to the networks' float input; default: a cast.
      batch_size: examples per forward pass.

    Raises:
      ValueError: no example, or arrays of different lengths.
    """

    def __init__(
        self, images, given_labels, true_labels=None, *, preprocessing=None, batch_size=250
    ):
        self.images = np.asarray(images)
        self.given_labels = np.asarray(given_labels)
        self.true_labels = None if true_labels is None else np.asarray(true_labels)
        lengths = [
            len(array)
            for array in (self.images, self.given_labels, self.true_labels)
            if array is not None
        ]
        if min(lengths) == 0 or len(set(lengths)) > 1:
            raise ValueError(
                "A probe needs as many labels as images, at least one. "
                f"Received arrays of lengths {lengths}."
            )
        self._preprocessing = preprocessing or (lambda images: tf.cast(images, tf.float32))
        self._batch_size = batch_size

    def __len__(self):
        """Number of examples."""
        return len(self.images)

    def inputs(self, start, stop):
        """The networks' input for examples start..stop-1, a float tensor."""
        return self._preprocessing(tf.convert_to_tensor(self.images[start:stop]))

    def run(self, method):
        """Asks the method's corrector for the pseudo-labels of every example.

        Args:
          method: has `pseudo_labels(images, labels)` -> {"pseudo_labels": [b, classes],
            "gate": [b] or None}, in inference mode.

        Returns:
          A `ProbeResult`.
        """
        rows, gates = [], []
        for start in range(0, len(self), self._batch_size):
            stop = start + self._batch_size
            labels = tf.convert_to_tensor(self.given_labels[start:stop])
            answer = method.pseudo_labels(self.inputs(start, stop), labels)
            rows.append(np.asarray(answer["pseudo_labels"], dtype=np.float64))
            if answer["gate"] is not None:
                gates.append(np.asarray(answer["gate"], dtype=np.float64).reshape(-1))
        gate = float(np.concatenate(gates).mean()) if gates else None
        return self._summarise(np.concatenate(rows), gate)

    def _summarise(self, pseudo_labels, gate):
        """The numbers of a `ProbeResult` from pseudo-labels [n, classes]."""
        given = self.given_labels
        num_classes = pseudo_labels.shape[1]
        corrected = pseudo_labels.argmax(axis=1)
        shares = np.bincount(corrected, minlength=num_classes) / len(self)
        given_shares = np.bincount(given, minlength=num_classes) / len(self)
        return ProbeResult(
            pseudo_labels=pseudo_labels,
            entropy=mean_entropy(pseudo_labels),
            changed=float(np.mean(corrected != given)),
            pseudo_label_accuracy=self._accuracy(corrected),
            given_label_accuracy=self._accuracy(given),
            gate=gate,
            largest_class=int(shares.argmax()),
            largest_class_share=float(shares.max()),
            given_largest_class_share=float(given_shares.max()),
            learned_matrix=learned_transition_matrix(pseudo_labels, given),
        )

    def _accuracy(self, labels):
        """Share of labels [n] that are the true ones, where these are known; None if none is."""
        if self.true_labels is None or np.all(self.true_labels < 0):
            return None
        return float(np.mean((labels == self.true_labels)[self.true_labels >= 0]))


def mean_entropy(probabilities):
    """Mean entropy of the rows, -Σ_k p_k log p_k with 0 log 0 = 0.

    Args:
      probabilities: float [n, classes], rows sum to 1.

    Returns:
      Float, in nats.

    >>> round(mean_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])), 4)
    0.3466
    """
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return float(-np.sum(probabilities * logs, axis=1).mean())


def learned_transition_matrix(pseudo_labels, given_labels):
    """The noise matrix that the corrector must believe in.

        T̂[i, j] = Σ_n p_n[i] · 1[y'_n = j] / Σ_n p_n[i]

    Args:
      pseudo_labels: float [n, classes], the belief in each true class.
      given_labels: int [n], y'.

    Returns:
      Float64 [classes, classes], rows are (believed) true classes and sum to 1; the row of a
      class that no example is believed to have is NaN.

    >>> learned_transition_matrix(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
    array([[0.66666667, 0.33333333],
           [0.        , 1.        ]])
    """
    pseudo_labels = np.asarray(pseudo_labels, dtype=np.float64)
    given = np.eye(pseudo_labels.shape[1])[np.asarray(given_labels)]
    mass = pseudo_labels.T @ given
    totals = mass.sum(axis=1, keepdims=True)
    return np.where(totals > 1e-12, mass / np.maximum(totals, 1e-12), np.nan)
