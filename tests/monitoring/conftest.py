"""A small stand-in for a method: what the callbacks may rely on, and nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

CLASSES = 4
SHAPE = (6, 6, 1)


def classifier(name, units):
    inputs = keras.Input(SHAPE)
    features = keras.layers.Dense(units, "relu")(keras.layers.Flatten()(inputs))
    logits = keras.layers.Dense(CLASSES)(features)
    return keras.Model(inputs, {"logits": logits, "features": features}, name=name)


class FakeCorrector(keras.Model):
    """Pseudo-label = given label, mixed with 1/K; `answer` overrides it."""

    def call(self, inputs):
        return 0.9 * tf.one_hot(inputs["labels"], CLASSES) + 0.1 / CLASSES


class FakeMethod(keras.Model):
    """Teacher and student learn by cross-entropy from (images, labels)."""

    def __init__(self, corrector=True):
        super().__init__()
        self.networks = {"teacher": classifier("big", 8), "student": classifier("small", 3)}
        if corrector:
            self.networks["corrector"] = FakeCorrector()
        self.optimizers_by_name = {
            "teacher": keras.optimizers.SGD(0.1),
            "student": keras.optimizers.SGD(
                keras.optimizers.schedules.ExponentialDecay(0.2, 3, 0.5)
            ),
        }
        self.trackers = {
            f"{net}_{what}": keras.metrics.Mean(name=f"{net}_{what}")
            for net in ("teacher", "student")
            for what in ("loss", "accuracy")
        }
        self.broken_from = None
        self.answer = None
        self.built = True
        self.compile(run_eagerly=True)

    @property
    def has_corrector(self):
        return "corrector" in self.networks

    @property
    def metrics(self):
        return list(self.trackers.values())

    def pseudo_labels(self, images, labels):
        if self.answer is not None:
            return self.answer(images, labels)
        return {"pseudo_labels": self.networks["corrector"]({"labels": labels}), "gate": None}

    def fit(self, *args, **kwargs):
        return super().fit(*args, shuffle=False, **kwargs)

    def train_step(self, batch):
        images, labels = batch
        for net in ("teacher", "student"):
            weights = self.networks[net].trainable_variables
            with tf.GradientTape() as tape:
                loss, hits = self.judge(net, images, labels)
            self.optimizers_by_name[net].apply(tape.gradient(loss, weights), weights)
            if int(self.optimizers_by_name[net].iterations) == self.broken_from:
                loss = loss * np.nan
            self.track(net, loss, hits)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def test_step(self, batch):
        for net in ("teacher", "student"):
            self.track(net, *self.judge(net, *batch))
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def judge(self, net, images, labels):
        logits = self.networks[net](images)["logits"]
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        hits = tf.argmax(logits, 1, output_type=tf.int32) == labels
        return tf.reduce_mean(loss), tf.cast(hits, tf.float32)

    def track(self, net, loss, hits):
        self.trackers[f"{net}_loss"].update_state(loss)
        self.trackers[f"{net}_accuracy"].update_state(hits)


@pytest.fixture(scope="session")
def make_method():
    return FakeMethod


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="session")
def labels():
    return np.tile(np.arange(CLASSES, dtype=np.int32), 5)


@pytest.fixture(scope="session")
def batches(images, labels):
    return tf.data.Dataset.from_tensor_slices((images / np.float32(255), labels)).batch(5)
