"""The weights that a partial look-ahead goes through: of all layers, the last stage, the head."""

import itertools

import keras


def _all(model):
    return model.trainable_variables


def _head(model):
    """The weights that the features do not depend on."""
    below = keras.Model(model.inputs, model.output["features"])
    return _without(model.trainable_variables, below.trainable_variables)


def _last_stage(model):
    """The weights of the layers from the first one at the last resolution on.

    Without feature maps, those of the last hidden layer with a kernel and of what follows it.
    """
    # Images that no weights have met are no feature map: an mlp on images has none.
    layers = list(itertools.dropwhile(lambda layer: not layer.weights, _in_order(model)))
    sizes = [_size(layer) for layer in layers]
    last = next((size for size in reversed(sizes) if size), None)
    if last:
        first = sizes.index(last)
    else:
        hidden = keras.Model(model.inputs, model.output["features"]).trainable_variables
        kernels = {id(variable) for variable in hidden if len(variable.shape) > 1}
        with_kernel = [
            k for k, layer in enumerate(layers) if kernels & set(map(id, layer.trainable_variables))
        ]
        first = max(with_kernel, default=0)
    below = [variable for layer in layers[:first] for variable in layer.trainable_variables]
    return _without(model.trainable_variables, below)


_PARTS = {"all": _all, "last_stage": _last_stage, "head": _head}


def positions(model, part):
    """Positions, in `model.trainable_variables`, of the weights of a part of a classifier.

    Args:
      model: functional keras.Model from images [b, h, w, c], or vectors [b, f], to {"logits",
        "features"} (see `as_classifier`).
      part: "all"; "last_stage": the layers from the first one on whose output has the resolution
        of the last feature map, without feature maps (mlp) from the last hidden layer on; "head":
        those that make the logits of the features.

    Returns:
      Tuple of ints, rising.

    Raises:
      ValueError: there is no such part, nothing in it is trainable, or the model does not tell its
        layers.
    """
    if part not in _PARTS:
        raise ValueError(f"`lookahead` must be one of {', '.join(_PARTS)}. Received: {part!r}.")
    if part != "all" and not getattr(model, "inputs", None):
        raise ValueError(
            f"`lookahead`={part} needs a functional or Sequential model, whose layers are known. "
            f"Received: {model.name}; use all."
        )
    chosen = {id(variable) for variable in _PARTS[part](model)}
    if not chosen:
        raise ValueError(
            f"{model.name} has no weights in `lookahead`={part} that are trainable, and the "
            "network whose labels are corrected has to learn: unfreeze layers, or use all."
        )
    return tuple(k for k, v in enumerate(model.trainable_variables) if id(v) in chosen)


def _without(variables, others):
    left_out = {id(variable) for variable in others}
    return [variable for variable in variables if id(variable) not in left_out]


def _in_order(model):
    """The layers in the order of computation; of a model within a model, its layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _in_order(layer)
        else:
            yield layer


def _size(layer):
    """(h, w) of a layer's output of images, None of other outputs."""
    shape = layer._inbound_nodes[0].output_tensors[0].shape
    return tuple(shape[1:-1]) if len(shape) == 4 else None
