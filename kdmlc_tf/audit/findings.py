"""What an audit finds: how good each label is, which are selected, and what to expect of that."""

import dataclasses

import numpy as np

from kdmlc_tf.audit.predictions import Predictions
from kdmlc_tf.monitoring.probe import learned_transition_matrix

THRESHOLDS = tuple(step / 20 for step in range(1, 20))


@dataclasses.dataclass(frozen=True)
class Findings:
    """An audit of n examples.

    Attributes:
      predictions: `Predictions`.
      quality: float64 [n] in [0, 1], how likely each given label is right.
      suggested_labels: int [n], the likeliest class of each example by the same probabilities.
      selected: bool [n], whose labels are to be replaced.
      indices: int64 [n], places of the examples among the data set's training examples, as it
        orders them before any is left out.
      ids: bytes [n], what the data set calls them.
      class_names: a name per class.
      true_labels: int [n], -1 where one is not known; None where none is.
    """

    predictions: Predictions
    quality: np.ndarray
    suggested_labels: np.ndarray
    selected: np.ndarray
    indices: np.ndarray
    ids: np.ndarray
    class_names: tuple
    true_labels: np.ndarray | None = None

    def __len__(self):
        """n, the number of examples."""
        return len(self.quality)

    @property
    def order(self):
        """The examples' positions, worst first; equal qualities in the data set's order."""
        return np.argsort(self.quality, kind="stable")

    @property
    def corrected_labels(self):
        """Int64 [n]: the suggested label of a selected example, the given label of the others."""
        given, suggested = self.predictions.given_labels, self.suggested_labels
        return np.where(self.selected, suggested, given)

    def precision(self, chosen):
        """What share of the chosen examples' labels is wrong.

        Args:
          chosen: bool [n].

        Returns:
          Dict of "count"; "expected", the mean of 1 - quality; "measured", of those whose true
          label is known, where some are. Shares of no example are None.
        """
        count = int(chosen.sum())
        found = {"count": count, "expected": _mean(1 - self.quality[chosen])}
        if self.true_labels is not None:
            wrong = self.predictions.given_labels != self.true_labels
            found["measured"] = _mean(wrong[chosen & (self.true_labels >= 0)])
        return found

    def summary(self):
        """The findings in numbers, as summary.json and the page have them."""
        given, matrix = self.predictions.given_labels, self.noise_matrix()
        changed = self.corrected_labels != given
        return {
            "examples": len(self),
            "expected_noise_rate": _mean(1 - self.quality),
            "selected": {**self.precision(self.selected), "changed": int(changed.sum())},
            "thresholds": [
                {"threshold": threshold, **self.precision(self.quality < threshold)}
                for threshold in THRESHOLDS
            ],
            "class_names": list(self.class_names),
            "noise_matrix": [[_number(share) for share in row] for row in matrix],
            "noise_matrix_from": "corrector" if self.predictions.noise_matrix is None else "run",
            "classes": [
                {
                    "noise_rate": _number(1 - matrix[k, k]),
                    **{f"given_{key}": v for key, v in self.precision(given == k).items()},
                }
                for k in range(len(self.class_names))
            ],
        }

    def noise_matrix(self):
        """Float64 [K, K], rows are classes: the run's estimate, or else what the corrector says."""
        if self.predictions.noise_matrix is not None:
            return self.predictions.noise_matrix
        predictions = self.predictions
        return learned_transition_matrix(predictions.pseudo_labels, predictions.given_labels)


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def _number(value):
    """A float for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None
