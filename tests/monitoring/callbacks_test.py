import keras
import numpy as np
import pytest

from kdmlc_tf.monitoring.callbacks import EpochProbe, EpochTest
from kdmlc_tf.monitoring.probe import Probe


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


def copy_weights(source, target):
    for name in ("teacher", "student"):
        target.networks[name].set_weights(source.networks[name].get_weights())


def test_epoch_test_adds_what_evaluate_gives(make_method, batches):
    method, recorder = make_method(), Recorder()
    test = batches.take(2)
    fitted = method.fit(batches, epochs=1, verbose=0, callbacks=[EpochTest(test), recorder])
    expected = method.evaluate(test, verbose=0, return_dict=True)
    (logs,) = recorder.epochs
    for name, value in expected.items():
        assert logs[f"test_{name}"] == pytest.approx(value)
        assert fitted.history[f"test_{name}"] == [logs[f"test_{name}"]]
    assert logs["student_loss"] != pytest.approx(logs["test_student_loss"])


def test_epoch_test_does_not_disturb_training(make_method, batches):
    plain, tested = make_method(), make_method()
    copy_weights(plain, tested)
    settings = {"epochs": 3, "verbose": 0, "validation_data": batches.take(1)}
    first = plain.fit(batches, **settings).history
    second = tested.fit(batches, callbacks=[EpochTest(batches.take(3))], **settings).history
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    assert set(second) - set(first) == {f"test_{name}" for name in plain.trackers}


def test_epoch_probe_adds_scalars_and_keeps_the_result(make_method, batches, images, labels):
    probing, recorder = EpochProbe(Probe(images, labels, (labels + 1) % 4)), Recorder()
    make_method().fit(batches, epochs=1, verbose=0, callbacks=[probing, recorder])
    assert probing.result.changed == 0
    assert recorder.epochs[0]["pseudo_label_accuracy"] == 0
    assert recorder.epochs[0]["largest_class_share"] == 0.25


def test_epoch_probe_without_a_corrector(make_method, batches, images, labels):
    probing, recorder = EpochProbe(Probe(images, labels)), Recorder()
    make_method(corrector=False).fit(batches, verbose=0, callbacks=[probing, recorder])
    assert probing.result is None
    assert "largest_class_share" not in recorder.epochs[0]
