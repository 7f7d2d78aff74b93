"""Warm-up requests: readable as TF Serving reads them, and accepted by the model."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.serving import saved_model, warmup


def export(directory, input_shape):
    flat = keras.layers.Flatten()
    network = keras.Sequential([keras.Input(input_shape), flat, keras.layers.Dense(2)])
    return saved_model.export_classifier(
        network,
        directory,
        preprocessing=lambda x: x,
        class_names=["a", "b"],
        input_shape=input_shape,
    )


@pytest.mark.parametrize(
    ("input_shape", "shapes"),
    [
        ((6, 4, 1), [(1, 6, 4, 1), (8, 6, 4, 1), (1, 12, 8, 1)]),
        ((5,), [(1, 5), (8, 5)]),
    ],
)
def test_the_model_answers_its_own_warmup_requests(tmp_path, input_shape, shapes):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    folder = export(tmp_path, input_shape)
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    requests = [prediction_log_pb2.PredictionLog.FromString(r).predict_log.request for r in records]
    loaded = tf.saved_model.load(str(folder))
    received = []
    for request in requests:
        assert request.model_spec.name == "student"
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        outputs = loaded.signatures[request.model_spec.signature_name](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        (value,) = inputs.values()
        assert outputs["probabilities"].shape == (len(value), 2)
        received.append(value.shape)
    assert received == shapes


def test_without_the_serving_api_the_export_only_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(warmup.logging, "info", lambda text, *args: said.append(text % args))
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    spec = tf.TensorSpec([None, 2], tf.float32, name="features")
    assert warmup.write_requests(tmp_path, warmup.requests(spec, (2,))) is None
    assert not list(tmp_path.iterdir())
    assert len(said) == 1 and "tensorflow-serving-api is not installed" in said[0]


def test_requests_have_the_signatures_type():
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    assert {r["images"].dtype for r in warmup.requests(spec, (4, 4, 3))} == {np.dtype(np.uint8)}
