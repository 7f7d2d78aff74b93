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
      `model` itself in the first case, unless its logits are of 16 bits; otherwise a new model of
      the same layers and weights.

    Raises:
      ValueError: the model is not built, ends in another layer or in softmax, or its logits are
        not of shape [batch, classes].
    """
    inputs, outputs = _symbolic(model)
    if isinstance(outputs, dict) and set(OUTPUTS) <= set(outputs):
        logits, features = (outputs[name] for name in OUTPUTS)
        _check_rank(logits)
        return _model(inputs, logits, features, model.name) if _is_half(logits) else model
    features, logits = _ends(model)
    _check_rank(logits)
    if isinstance(model, keras.Sequential):  # its own input may hold the batch size of a call
        inputs = features = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
        for layer in model.layers[:-1]:
            features = layer(features)
        logits = model.layers[-1](features)
    return _model(inputs, logits, features, model.name)


def symbolic_outputs(classifier):
    """What a classifier gives, as symbolic tensors: {"logits": [None, K], "features": [None, f]}.

    Args:
      classifier: what `as_classifier` returned.
    """
    return _symbolic(classifier)[1]


def _model(inputs, logits, features, name):
    """A model from symbolic inputs to {"logits", "features"}, logits float32 at least."""
    if _is_half(logits):
        logits = keras.layers.Activation("linear", dtype="float32")(logits)
    return keras.Model(inputs, {"logits": logits, "features": features}, name=name)


def _is_half(tensor):
    """Whether a tensor is of 16 bits."""
    return tensor.dtype in ("float16", "bfloat16")


def _symbolic(model):
    """(input, output) of `model` as symbolic tensors; ValueError where it is no built model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {model!r}.")
    if not model.built:
        raise ValueError(
            f"`model` must be built: give it an Input or call it once. Received: {model.name}."
        )
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    if getattr(model, "inputs", None):
        return model.inputs[0], model.output
    shape = (model.get_build_config() or {}).get("input_shape")
    if not (shape and all(size is None or isinstance(size, int) for size in shape)):
        raise ValueError(
            f"`model` must take one tensor of images, and be called once with it before. "
            f"Received: {model.name}."
        )
    inputs = image_input(shape[1:])
    return inputs, model(inputs)


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
