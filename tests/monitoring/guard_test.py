import logging
import math

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.monitoring.callbacks import EpochProbe
from kdmlc_tf.monitoring.guard import (
    CollapseGuard,
    NaNGuard,
    SwapGuard,
    TrainingStopped,
    swapped_pairs,
)
from kdmlc_tf.monitoring.probe import Probe


def test_nan_stops_with_its_step_and_advice(make_method, batches):
    method = make_method()
    method.broken_from = 6  # four steps an epoch
    with pytest.raises(TrainingStopped, match="_loss became nan at step 2 of epoch 2.*Try a lower"):
        method.fit(batches, epochs=5, verbose=0, callbacks=[NaNGuard()])


def test_step_range_when_several_steps_run_at_once():
    guard = NaNGuard()
    guard.on_epoch_begin(0)
    guard.on_train_batch_end(9, {"student_loss": 1.0})
    with pytest.raises(
        TrainingStopped, match="student_loss became inf in steps 11 to 20 of epoch 1"
    ):
        guard.on_train_batch_end(19, {"student_loss": math.inf})


@pytest.mark.parametrize("name", ["meta_loss", "val_student_loss"])
def test_every_loss_of_an_epoch_is_checked_and_nothing_else(name):
    guard = NaNGuard()
    guard.on_epoch_begin(0)
    guard.on_epoch_end(0, {"student_loss": 1.0, "gate": math.nan})
    with pytest.raises(TrainingStopped, match=f"{name} became nan by the end of epoch 1"):
        guard.on_epoch_end(0, {name: math.nan})


def test_a_healthy_run_goes_through(make_method, batches):
    history = make_method().fit(batches, epochs=2, verbose=0, callbacks=[NaNGuard()])
    assert len(history.epoch) == 2


@pytest.fixture
def warnings_logged(caplog):
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    yield lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)


def answer_of_class(label):
    def answer(images, labels):
        del images
        return {"pseudo_labels": tf.one_hot(tf.fill(labels.shape, label), 4), "gate": None}

    return answer


def test_collapse_warns_once_per_collapse(make_method, images, labels, warnings_logged):
    method, probing = make_method(), EpochProbe(Probe(images, labels))
    guard = CollapseGuard(probing)
    probing.set_model(method)
    for epoch, collapsed in enumerate([False, True, True, False, True]):
        method.answer = answer_of_class(2) if collapsed else None
        probing.on_epoch_end(epoch, {})
        guard.on_epoch_end(epoch)
    assert guard.collapsed_epochs == [2, 3, 5]
    first, second = dict.fromkeys(warnings_logged())
    assert "at epoch 2: class 2 is its answer for 100.0%" in first
    assert "given label has 25.0%" in first and "--corrector_learning_rate" in first
    assert "at epoch 5" in second


@pytest.mark.parametrize("share, collapsed", [(0.98, False), (0.99, True)])
def test_threshold(make_method, share, collapsed):
    answers = np.eye(4)[[1] * round(100 * share) + [0] * round(100 * (1 - share))]
    method = make_method()
    method.answer = lambda images, labels: {"pseudo_labels": tf.constant(answers), "gate": None}
    probing = EpochProbe(Probe(np.zeros((100, 2)), np.arange(100) % 4))
    probing.set_model(method)
    guard = CollapseGuard(probing)
    probing.on_epoch_end(0, {})
    guard.on_epoch_end(0)
    assert bool(guard.collapsed_epochs) == collapsed


def test_labels_of_one_class_are_no_collapse(make_method, images):
    method, probing = make_method(), EpochProbe(Probe(images, np.full(20, 3)))
    probing.set_model(method)
    guard = CollapseGuard(probing)
    probing.on_epoch_end(0, {})
    guard.on_epoch_end(0)
    assert probing.result.largest_class_share == 1
    assert guard.collapsed_epochs == []


def test_no_corrector_no_verdict(make_method, images, labels):
    probing = EpochProbe(Probe(images, labels))
    probing.set_model(make_method(corrector=False))
    guard = CollapseGuard(probing)
    probing.on_epoch_end(0, {})
    guard.on_epoch_end(0)
    assert guard.collapsed_epochs == []


def test_pairs_that_have_each_others_labels_are_found():
    matrix = np.array([[0.1, 0.0, 0.9], [0.6, 0.4, 0.0], [0.5, 0.1, 0.4]])
    assert swapped_pairs(matrix) == [(0, 2)]  # 1 has more of 0's labels, but not the other way
    assert swapped_pairs(np.eye(3)) == swapped_pairs(np.full((3, 3), 1 / 3)) == []


class Estimating:
    """A model with an estimated noise matrix that is set from outside."""

    def __init__(self, matrix):
        self.belief = self.noise_matrix = self
        self.matrix = lambda: tf.constant(matrix)


def test_swapped_classes_are_told_once_when_they_last(caplog):
    guard = SwapGuard(["airplane", "bird", "ship"])
    swapped = Estimating([[0.1, 0.0, 0.9], [0.0, 1.0, 0.0], [0.8, 0.0, 0.2]])
    for epoch, model in enumerate([swapped, Estimating(np.eye(3)), swapped, swapped, swapped]):
        guard.set_model(model)
        with caplog.at_level(logging.WARNING):
            guard.on_epoch_end(epoch)
        assert guard.swapped == ([(0, 2)] if epoch >= 3 else [])
    (record,) = caplog.records
    assert "takes airplane and ship for each other at epoch 4" in record.getMessage()
    assert "without --matrix_ramp, or with a larger --matrix_start" in record.getMessage()


def test_a_method_without_an_estimate_has_no_swapped_classes(caplog):
    guard = SwapGuard(["a", "b"])
    guard.set_model(object())
    guard.on_epoch_end(0)
    assert guard.swapped == [] and not caplog.records
