"""A student that starts from a stored backbone sees the same images when it trains and serves."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdmlc_tf
from kdmlc_tf.data.pipeline import Preprocessing
from kdmlc_tf.run import Run

RED = np.broadcast_to(np.uint8([255, 0, 0]), (1, 32, 32, 3))


def part(examples, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % 2
    images = rng.integers(0, 128, (examples, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def given(method, run):
    """What the student's backbone is given for a red image: float [3]."""
    student = method.classifiers["student"]
    backbone = next(layer for layer in student.layers if isinstance(layer, keras.Model))
    before = keras.Model(student.inputs[0], backbone._inbound_nodes[-1].input_tensors[0])
    preprocessing = Preprocessing.from_dict(run.data()["preprocessing"])
    return np.asarray(before(preprocessing(RED)))[0, 5, 5]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_run_the_restored_run_and_the_export_see_the_same(tmp_path):
    backbone = keras.applications.MobileNetV2(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    settings = {
        "method": "ce",
        "student": "applications/MobileNetV2",
        "student_weights": str(tmp_path / "backbone.weights.h5"),
        "epochs": 1,
        "batch_size": 8,
        "clean_batch_size": 4,
        "milestones": "",
    }
    quiet = {"announce": lambda text: None, "verbose": 0}
    parts = part(30, 0), part(6, 1), part(10, 2)
    fitted = kdmlc_tf.fit(*parts, run=tmp_path / "run", **settings, **quiet)
    run = fitted.run
    np.testing.assert_allclose(given(fitted.method, run), [1, -1, -1], atol=1e-5)
    np.testing.assert_allclose(given(run.restored_method()[0], run), [1, -1, -1], atol=1e-5)
    served = tf.saved_model.load(str(run.export(fitted.method))).signatures["serving_default"]
    answer = served(images=tf.constant(parts[2][0]))["probabilities"]
    np.testing.assert_allclose(answer, fitted.probabilities(parts[2][0]), atol=1e-5)

    # Of an earlier version, which trained on the images as they came: so it is judged.
    data = json.loads((run.folder / "data.json").read_text())
    del data["stored_weights"]
    (run.folder / "data.json").write_text(json.dumps(data))
    old = Run(run.folder)
    values = data["preprocessing"]
    as_it_came = (RED[0, 5, 5] - np.array(values["mean"])) / values["std"]
    np.testing.assert_allclose(given(old.restored_method()[0], old), as_it_came, rtol=1e-4)
