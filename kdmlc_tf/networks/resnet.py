"""Residual networks for small images: the CIFAR ResNets and the wide ResNets."""

import keras
import tensorflow as tf

from kdmlc_tf.networks.classifier import classifier, image_input


@keras.saving.register_keras_serializable(package="kdmlc_tf")
class ZeroPaddedShortcut(keras.layers.Layer):
    """Option A of He et al.: every `strides`-th pixel, and zeros for the channels that are new.

    Args:
      channels: channels of the output, at least those of the input.
      strides: 1 or more, pixels.
      **kwargs: for keras.layers.Layer.
    """

    def __init__(self, channels, strides, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.strides = strides

    def call(self, images):
        """[batch, h, w, c] to [batch, ceil(h / strides), ceil(w / strides), channels]."""
        # images[:, ::s, ::s], which takes a CPU several times as long
        kept = tf.nn.avg_pool2d(images, 1, self.strides, padding="SAME")
        return tf.pad(kept, [[0, 0]] * 3 + [[0, self.channels - images.shape[-1]]])

    def compute_output_shape(self, input_shape):
        """The shape that `call` gives."""
        batch, *pixels, _ = input_shape
        rows, columns = (None if n is None else -(-n // self.strides) for n in pixels)
        return (batch, rows, columns, self.channels)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "strides": self.strides}


def resnet(depth, *, input_shape, num_classes, width=1.0, stem_strides=1, name=None):
    """CIFAR ResNet with parameter-free shortcuts: three stages of (depth - 2) / 6 blocks.

    Args:
      depth: 6 n + 2, layers with weights: 8, 14, 20, 32, 56, ...
      input_shape: (h, w, c).
      num_classes: K.
      width: factor on the channels, 16, 32 and 64.
      stem_strides: pixels from one output of the first convolution to the next; 2 computes every
        stage at half the resolution, with the same parameters and a quarter of the operations.
      name: the model's name.

    Returns:
      Keras model giving {"logits": [batch, K], "features": [batch, 64 width]}.

    Raises:
      ValueError: `depth` is not 6 n + 2, or `width` is so small that a stage has no channels.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"`depth` must be 6 n + 2, e.g. 8 or 32. Received: {depth}.")
    stages = [max(1, round(channels * width)) for channels in (16, 32, 64)]
    inputs = image_input(input_shape)
    x = relu(batch_norm(convolution(inputs, stages[0], strides=stem_strides)))
    for stage, channels in enumerate(stages):
        for block in range((depth - 2) // 6):
            x = _basic_block(x, channels, strides=2 if stage and not block else 1)
    features = keras.layers.GlobalAveragePooling2D()(x)
    return classifier(inputs, features, num_classes=num_classes, name=name or f"resnet{depth}")


def wide_resnet(depth, widening, *, input_shape, num_classes, width=1.0, name=None):
    """Wide ResNet, pre-activation: three stages of (depth - 4) / 6 blocks.

    Args:
      depth: 6 n + 4: 10, 16, 22, 28, ...
      widening: factor k on the stages' channels, 16, 32 and 64.
      input_shape: (h, w, c).
      num_classes: K.
      width: a further factor on every layer's channels.
      name: the model's name.

    Returns:
      Keras model giving {"logits": [batch, K], "features": [batch, 64 widening width]}.

    Raises:
      ValueError: `depth` is not 6 n + 4.

    Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146; no dropout.
    """
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"`depth` must be 6 n + 4, e.g. 16 or 28. Received: {depth}.")
    stages = [max(1, round(channels * widening * width)) for channels in (16, 32, 64)]
    inputs = image_input(input_shape)
    x = convolution(inputs, max(1, round(16 * width)))
    for stage, channels in enumerate(stages):
        for block in range((depth - 4) // 6):
            x = _pre_activation_block(x, channels, strides=2 if stage and not block else 1)
    features = keras.layers.GlobalAveragePooling2D()(relu(batch_norm(x)))
    return classifier(
        inputs, features, num_classes=num_classes, name=name or f"wrn_{depth}_{widening}"
    )


def convolution(x, channels, *, size=3, strides=1):
    """Convolution without bias, centred on the pixels 0, strides, 2 strides, ..."""
    if strides > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2)(x)
    return keras.layers.Conv2D(
        channels,
        size,
        strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)


def batch_norm(x):
    """Batch norm over the global batch, with the constants of the CIFAR papers."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=True)(x)


def relu(x):
    """max(x, 0) as a layer."""
    return keras.layers.ReLU()(x)


def _basic_block(x, channels, *, strides):
    """Two convolutions beside a shortcut, rectified after the sum."""
    residual = relu(batch_norm(convolution(x, channels, strides=strides)))
    residual = batch_norm(convolution(residual, channels))
    if strides > 1 or x.shape[-1] != channels:
        x = ZeroPaddedShortcut(channels, strides)(x)
    return relu(keras.layers.Add()([residual, x]))


def _pre_activation_block(x, channels, *, strides):
    """Normalised and rectified before each convolution; a 1x1 shortcut where the shape changes."""
    activated = relu(batch_norm(x))
    if strides > 1 or x.shape[-1] != channels:
        x = convolution(activated, channels, size=1, strides=strides)
    residual = relu(batch_norm(convolution(activated, channels, strides=strides)))
    return keras.layers.Add()([convolution(residual, channels), x])
