"""Findings made by hand."""

import numpy as np
import pytest

from kdmlc_tf.audit import corrected
from kdmlc_tf.audit.findings import Findings
from kdmlc_tf.audit.predictions import Predictions
from kdmlc_tf.audit.selection import select


@pytest.fixture
def make_findings():
    """Function from labels and qualities to `Findings`; those below 0.5 are selected."""

    def make(given, suggested, quality, class_names=("cat", "dog"), **changes):
        quality = np.asarray(quality, float)
        pseudo_labels = np.eye(len(class_names), dtype=np.float32)[suggested] * 0.8
        pseudo_labels += 0.2 / len(class_names)
        predictions = Predictions(
            teacher_logits=np.log(pseudo_labels),
            features=np.zeros((len(given), 2), np.float32),
            student_logits=2 * np.log(pseudo_labels),
            pseudo_labels=pseudo_labels,
            given_labels=np.int32(given),
        )
        places = {"indices": np.arange(len(given)), "ids": np.arange(len(given)).astype("S")}
        settings = {"selected": select(quality), **places, "class_names": class_names, **changes}
        return Findings(predictions, quality, np.asarray(suggested), **settings)

    return make


@pytest.fixture
def every_third(make_findings):
    """Function from `Prepared` to findings that move every third noisy example one class on."""

    def make(prepared):
        noisy = prepared.splits.noisy
        given = prepared.noise.labels[noisy]
        return make_findings(
            given,
            (given + 1) % prepared.source.num_classes,
            np.where(np.arange(len(noisy)) % 3 == 0, 0.1, 0.9),
            class_names=prepared.source.class_names,
            indices=corrected.places(prepared)[noisy],
            ids=corrected.ids(prepared)[noisy],
        )

    return make
