"""What every classifier here gives, {"logits", "features"}, and how a caller's model gets there."""

import keras

OUTPUTS = ("logits", "features")


def precise_dtype():
    """The global policy's type for numbers that need precision: float64, otherwise float32."""
    return "float64" if keras.config.dtype_policy().compute_dtype == "float64" else "float32"


def image_input(input_shape):
    """Symbolic input [batch, *input_shape] that keeps the precision of float64 policies."""
    return keras.Input(shape=tuple(input_shape), dtype=precise_dtype(), name="images")


def classifier(inputs, features, *, num_classes, name):
    """Keras model from `inputs` to the features and a linear layer of logits on top.

    Args:
      inputs: symbolic tensor [batch, ...].
      features: symbolic tensor [batch, f], computed from `inputs`.
      num_classes: K.
      name: the model's name.

    Returns:
      Model giving {"logits": [batch, K], "features": [batch, f]}; logits are float32 at least.
    """
    logits = keras.layers.Dense(num_classes, dtype=precise_dtype(), name="logits")(features)
    return keras.Model(inputs, {"logits": logits, "features": features}, name=name)


def as_classifier(model):
    """A model that gives {"logits", "features"}, sharing the layers of the caller's model.

    Args:
      model: a keras.Model that gives such a dict already, or a Sequential or functional one
        whose last layer is Dense without activation: the features are that layer's input.

    Returns:
      `model` itself in the first case; otherwise a new model of the same layers and weights.

    Raises:
      ValueError: the model is not built, ends in another layer or in softmax, or its logits are
        not of shape [batch, classes].
    """
    outputs = _symbolic_outputs(model)
    if isinstance(outputs, dict) and set(OUTPUTS) <= set(outputs):
        _check_rank(outputs["logits"])
        return model
    features, logits = _ends(model)
    _check_rank(logits)
    inputs = model.inputs[0]
    if isinstance(model, keras.Sequential):  # its own input may hold the batch size of a call
        inputs = features = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
        for layer in model.layers[:-1]:
            features = layer(features)
        logits = model.layers[-1](features)
    if logits.dtype in ("float16", "bfloat16"):
        logits = keras.layers.Activation("linear", dtype="float32")(logits)
    return keras.Model(inputs, {"logits": logits, "features": features}, name=model.name)


def _symbolic_outputs(model):
    """What `model` gives, as symbolic tensors; ValueError where it is no built model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {model!r}.")
    if not model.built:
        raise ValueError(
            f"`model` must be built: give it an Input or call it once. Received: {model.name}."
        )
    if isinstance(model, keras.Sequential):
        return model.outputs[0]
    if getattr(model, "inputs", None):
        return model.output
    shape = (model.get_build_config() or {}).get("input_shape")
    if not (shape and all(size is None or isinstance(size, int) for size in shape)):
        raise ValueError(
            f"`model` must take one tensor of images, and be called once with it before. "
            f"Received: {model.name}."
        )
    return model(keras.KerasTensor((None, *shape[1:]), dtype=precise_dtype()))


def _ends(model):
    """(features, logits): what the last Dense layer takes and gives; ValueError without one."""
    if not getattr(model, "inputs", None) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            '`model` must give {"logits", "features"}, or be a Sequential or functional model '
            f"with one input and one output. Received: {model.name}."
        )
    # Not model.layers[-1].input: a layer used twice has two, and an operation is no layer.
    last, call, _ = model.outputs[0]._keras_history
    activation = getattr(last, "activation", None)
    if type(last).__name__ == "Softmax" or activation is keras.activations.softmax:
        raise ValueError(
            "`model` must end in logits, not in probabilities: leave out the softmax (in "
            f"keras.applications: classifier_activation=None). Received: {model.name}."
        )
    if not isinstance(last, keras.layers.Dense) or activation is not keras.activations.linear:
        raise ValueError(
            '`model` must end in a Dense layer without activation, or give {"logits", '
            f'"features"}} itself. Received: {model.name}, ending in {last.name}.'
        )
    return last._inbound_nodes[call].input_tensors[0], model.outputs[0]


def _check_rank(logits):
    """ValueError unless the logits are [batch, classes]."""
    if len(logits.shape) != 2:
        raise ValueError(
            f"The logits must be of shape [batch, classes]. Received: {tuple(logits.shape)}."
        )
