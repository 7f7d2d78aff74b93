"""A small network of inverted residuals for 32x32 images: a student for weak devices."""

import keras

from kdmlc_tf.networks.classifier import classifier, image_input
from kdmlc_tf.networks.resnet import batch_norm, convolution, relu

STEM = 16
EXPANSION = 4
STAGES = ((24, 2, 2), (40, 2, 2), (64, 1, 2))  # channels, blocks, strides of the first block
TOP = 160


def mobile(*, input_shape, num_classes, width=1.0, name="mobile"):
    """MobileNetV2's blocks at CIFAR's size; under 100,000 parameters at width 1.

    Plain rectifiers instead of ReLU6, which serves 8-bit arithmetic; the first stage keeps the
    resolution, the three after it halve it.

    Args:
      input_shape: (h, w, c).
      num_classes: K.
      width: factor on the channels.
      name: the model's name.

    Returns:
      Keras model giving {"logits": [batch, K], "features": [batch, 160 width]}.

    Source: Sandler et al. 2018, arXiv:1801.04381, sections 3 and 4.
    """

    def scaled(channels):
        return max(1, round(channels * width))

    inputs = image_input(input_shape)
    x = relu(batch_norm(convolution(inputs, scaled(STEM))))
    x = _inverted_residual(x, scaled(STEM), expansion=1, strides=1)
    for channels, blocks, strides in STAGES:
        for block in range(blocks):
            x = _inverted_residual(
                x, scaled(channels), expansion=EXPANSION, strides=1 if block else strides
            )
    x = relu(batch_norm(convolution(x, scaled(TOP), size=1)))
    features = keras.layers.GlobalAveragePooling2D()(x)
    return classifier(inputs, features, num_classes=num_classes, name=name)


def _inverted_residual(x, channels, *, expansion, strides):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without rectifier; shortcut."""
    residual = x
    if expansion > 1:
        residual = relu(batch_norm(convolution(x, x.shape[-1] * expansion, size=1)))
    residual = keras.layers.DepthwiseConv2D(
        3, strides, padding="same", use_bias=False, depthwise_initializer="he_normal"
    )(residual)
    residual = convolution(relu(batch_norm(residual)), channels, size=1)
    residual = batch_norm(residual)
    if strides > 1 or x.shape[-1] != channels:
        return residual
    return keras.layers.Add()([residual, x])
