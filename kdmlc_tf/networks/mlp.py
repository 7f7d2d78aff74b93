"""Two small networks: a CNN for images from 8x8 pixels up, and an MLP for images and vectors."""

import keras

from kdmlc_tf.networks.classifier import classifier, image_input


def cnn(*, input_shape, num_classes, width=1.0, name="cnn"):
    """Four 3x3 convolutions with batch norm, one pooling, and global average pooling.

    Args:
      input_shape: (h, w, c).
      num_classes: K.
      width: factor on the channels, 32 and 64.
      name: the model's name.

    Returns:
      Keras model giving {"logits": [batch, K], "features": [batch, 64 width]}.
    """
    inputs = x = image_input(input_shape)
    for stage, channels in enumerate((32, 64)):
        if stage:
            x = keras.layers.MaxPooling2D(2, padding="same")(x)
        for _ in range(2):
            x = keras.layers.Conv2D(
                max(1, round(channels * width)),
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
            )(x)
            x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=True)(x)
            x = keras.layers.ReLU()(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    return classifier(inputs, features, num_classes=num_classes, name=name)


def mlp(*, input_shape, num_classes, width=1.0, name="mlp"):
    """Two hidden layers of rectified units; no batch norm.

    Args:
      input_shape: (h, w, c), flattened, or (f,).
      num_classes: K.
      width: factor on the hidden sizes, 64 and 32.
      name: the model's name.

    Returns:
      Keras model giving {"logits": [batch, K], "features": [batch, 32 width]}.
    """
    inputs = x = image_input(input_shape)
    if len(input_shape) > 1:
        x = keras.layers.Flatten()(x)
    for units in (64, 32):
        x = keras.layers.Dense(
            max(1, round(units * width)), activation="relu", kernel_initializer="he_normal"
        )(x)
    return classifier(inputs, x, num_classes=num_classes, name=name)
