"""Warm-up requests: what TF Serving replays on loading, so that no user waits for first calls."""

import pathlib

import numpy as np
import tensorflow as tf
from absl import logging

BATCH_SIZES = (1, 8)
PATH = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"


def requests(input_spec, input_shape) -> list[dict[str, np.ndarray]]:
    """Example inputs for every path through the graph: some batch sizes, and an image to resize.

    Args:
      input_spec: tf.TensorSpec of the signature's one input, with its name.
      input_shape: (height, width, channels) or (features,), as the network takes them.

    Returns:
      List of {input name: array [batch, *input_shape] of zeros}; for images, one more of twice
      the network's height and width.
    """
    shapes = [(batch, *input_shape) for batch in BATCH_SIZES]
    if len(input_shape) == 3:
        height, width, channels = input_shape
        shapes.append((1, 2 * height, 2 * width, channels))
    return [{input_spec.name: np.zeros(s, input_spec.dtype.as_numpy_dtype)} for s in shapes]


def write_requests(version_folder, inputs, *, model_name="student", signature="serving_default"):
    """Writes `inputs` as a TFRecord file of PredictionLog messages into a SavedModel's folder.

    Args:
      version_folder: folder of the SavedModel.
      inputs: list of {input name: array}, at most 1,000 (TF Serving refuses more).
      model_name: name under which the model is served.
      signature: name of the signature to call.

    Returns:
      Path of the file; None where tensorflow-serving-api is not installed: this is logged, and the
      model serves all the same, its first calls being slower.

    Source: "SavedModel Warmup", TensorFlow Serving's guide.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        logging.info("No warm-up requests were written: tensorflow-serving-api is not installed.")
        return None
    path = pathlib.Path(version_folder) / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in inputs:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, value in example.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
    return path
