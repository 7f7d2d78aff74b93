"""A classifier as a versioned SavedModel with its preprocessing and class names inside."""

import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

from kdmlc_tf.errors import InputError
from kdmlc_tf.serving import warmup

SIGNATURE = "serving_default"
CLASS_NAMES_FILE = "class_names.txt"
# What TensorFlow makes of a full disk and of a folder that may not be written.
_UNWRITABLE = (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)


def export_classifier(
    network, directory, *, preprocessing, class_names, input_shape, version=1
) -> pathlib.Path:
    """Writes `network` as a SavedModel that TF Serving can load: DIRECTORY/VERSION.

    The signature `serving_default` takes one tensor,

        images    uint8 [batch, height, width, channels], 0..255, of any height and width, or
        features  float32 [batch, features], where the network takes vectors,

    and gives `probabilities` float32 [batch, classes], `class_id` int64 [batch] and `class_name`
    string [batch] (UTF-8). Images of the network's own size are not resampled; others are resized
    to it bilinearly, with antialiasing where they shrink. An empty batch and another number of
    channels are errors.

    The folder appears under its final name only when it is complete, so that a server watching
    `directory` never loads half of one.

    Args:
      network: keras.Model; preprocessed inputs -> logits [batch, classes], or a dict with "logits".
      directory: the folder of all versions; made if missing.
      preprocessing: callable on a float32 tensor in the inputs' raw units (images: 0..255), applied
        after resizing; its constants go into the graph.
      class_names: one string per class, in the order of the logits.
      input_shape: (height, width, channels) or (features,), as the network takes them.
      version: positive integer; None for one more than the highest there is.

    Returns:
      Path of the version's folder.

    Raises:
      InputError: the version exists, a class name does not fit on a line, or the folder cannot be
        written.
      ValueError: `input_shape`, `class_names` and the network do not fit together.

    Source: "Using the SavedModel format" and "SavedModel Warmup", TensorFlow's guides.
    """
    check_class_names(class_names)
    directory = pathlib.Path(directory)
    version = next_version(directory) if version is None else version
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: {version!r}.")
    target = directory / str(version)
    if target.exists():
        raise InputError(f"{target} already exists: delete it, or export another version.")
    # TF Serving only looks at folders whose names are numbers, so this one is invisible to it.
    partial = directory / f".{version}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        _write(partial, network, preprocessing, class_names, tuple(input_shape))
        partial.rename(target)
    except (OSError, *_UNWRITABLE) as error:
        said = str(error).partition("\n")[0]
        raise InputError(f"The export cannot be written to {target}: {said}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def next_version(directory) -> int:
    """One more than the highest version number in `directory`; 1 where there is none."""
    return max(versions(directory), default=0) + 1


def versions(directory) -> list[int]:
    """The version numbers in `directory`, rising; empty where it does not exist."""
    folder = pathlib.Path(directory)
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(e.name) for e in entries if e.is_dir() and e.name.isdecimal())


def check_class_names(class_names):
    """Raises InputError for a name that one line of UTF-8 text cannot hold."""
    for number, name in enumerate(class_names):
        if not name or "\n" in name or "\r" in name or not _is_utf8(name):
            raise InputError(
                "A class name must be one line of UTF-8 text, and not empty, to be exported with "
                f"the model. Received: {name!r} for class {number}. Rename it in the data."
            )


def read_class_names(version_folder) -> tuple[str, ...]:
    """The class names stored in an exported version, in the order of its class ids.

    Raises:
      InputError: the folder has no such asset.
    """
    path = pathlib.Path(version_folder) / "assets" / CLASS_NAMES_FILE
    try:
        return tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{version_folder} has no readable assets/{CLASS_NAMES_FILE}: "
            "it is not a classifier exported by kdmlc_tf."
        ) from None


def input_spec(input_shape) -> tf.TensorSpec:
    """Shape, type and name of the signature's one input; see `export_classifier`."""
    if len(input_shape) == 1:
        return tf.TensorSpec([None, *input_shape], tf.float32, name="features")
    return tf.TensorSpec([None, None, None, input_shape[-1]], tf.uint8, name="images")


def _served(network, preprocessing, class_names_path, input_shape):
    """What is saved: a tf.Module with the variables, the class names and the function."""
    module = tf.Module(name="served")
    # TensorFlow's own variables: of a Keras variable a copy would be saved, which nothing reads.
    module.weights = [variable.value for variable in network.weights]
    module.class_names_file = tf.saved_model.Asset(str(class_names_path))
    module.class_names = _lines(module.class_names_file.asset_path)
    spec = input_spec(input_shape)

    @tf.function(input_signature=[spec])
    def classify(inputs):
        # A server's C++ session does not compare what is fed with the signature: gray images would
        # be broadcast to three channels by the preprocessing, and classified.
        inputs = tf.ensure_shape(inputs, spec.shape)
        # TensorFlow's own error comes from deep inside: oneDNN's convolution loses the shape.
        some = tf.debugging.assert_positive(tf.reduce_min(tf.shape(inputs)), "The batch is empty.")
        with tf.control_dependencies([some]):
            inputs = tf.identity(inputs)
        if len(input_shape) == 3:
            inputs = _to_size(inputs, input_shape)
        outputs = network(preprocessing(inputs), training=False)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        class_id = tf.argmax(logits, axis=-1, output_type=tf.int64)
        return {
            "probabilities": tf.nn.softmax(tf.cast(logits, tf.float32)),
            "class_id": class_id,
            "class_name": module.class_names.lookup(class_id),
        }

    module.classify = classify
    return module


def _lines(path):
    """Table from line number (int64, from 0) to line, read from the file when the model loads."""
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            path,
            key_dtype=tf.int64,
            key_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            value_dtype=tf.string,
            value_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        ),
        default_value="",
    )


def _to_size(images, input_shape):
    """Float32 images [batch, height, width, channels] of the network's size, still 0..255."""
    size = tf.constant(input_shape[:2])
    pixels = tf.cast(images, tf.float32)
    resized = tf.cond(
        tf.reduce_all(tf.shape(images)[1:3] == size),
        lambda: pixels,
        lambda: tf.image.resize(pixels, size, antialias=True),
    )
    return tf.ensure_shape(resized, [None, *input_shape])


def _write(folder, network, preprocessing, class_names, input_shape):
    """Writes the SavedModel and its warm-up requests into the existing, empty `folder`."""
    if len(input_shape) not in (1, 3):
        raise ValueError(
            "`input_shape` must be (height, width, channels) or (features,). "
            f"Received: {input_shape}."
        )
    # TensorFlow writes the path of this file into the graph, so it lies where it tells nothing.
    with tempfile.TemporaryDirectory() as scratch:
        names_path = pathlib.Path(scratch) / CLASS_NAMES_FILE
        names_path.write_bytes("".join(f"{name}\n" for name in class_names).encode())
        served = _served(network, preprocessing, names_path, input_shape)
        function = served.classify.get_concrete_function()
        num_classes = function.structured_outputs["probabilities"].shape[-1]
        if num_classes != len(class_names):
            raise ValueError(
                f"`class_names` must name each of the network's {num_classes} classes. "
                f"Received: {len(class_names)} names."
            )
        tf.saved_model.save(served, str(folder), signatures={SIGNATURE: function})
    warmup.write_requests(folder, warmup.requests(input_spec(input_shape), input_shape))


def _is_utf8(text):
    """Whether the text has bytes; a file's name that was not UTF-8 has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
