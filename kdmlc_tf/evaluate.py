"""Test accuracy of a run or of an exported model: python -m kdmlc_tf.evaluate --run=DIR."""

import json
import pathlib

from absl import flags

from kdmlc_tf import cli
from kdmlc_tf.errors import InputError


def main():
    """Prints the result as JSON."""
    _check_flags()
    cli.import_tensorflow()
    result = _of_run() if cli.FLAGS.run else _of_saved_model()
    print(json.dumps(result, indent=2))


def _check_flags():
    """Raises InputError for flags that do not go together."""
    given = cli.FLAGS
    if (given.run is None) == (given.saved_model is None):
        raise InputError("Give either --run=DIR or --saved_model=DIR.")
    for flag in ("dataset", "image_size", "label_key"):
        if given.run is not None and given[flag].value is not None:
            raise InputError(
                f"--{flag} says nothing about --run, which is judged on its own data set: leave it "
                "out, or give the run's export as --saved_model=DIR."
            )
    if given.saved_model is not None and given.checkpoint is not None:
        raise InputError(
            "--checkpoint says nothing about --saved_model, which holds one epoch only: leave it "
            "out, or give --run=DIR."
        )
    if given.image_size is not None and given.dataset is None:
        raise InputError("--image_size says nothing without --dataset: leave it out, or give both.")
    if given.label_key is not None and not (given.dataset or "").startswith("tfds:"):
        raise InputError(
            "--label_key says nothing without --dataset=tfds:NAME: leave it out, or give both."
        )


def _of_run():
    """Accuracy and loss (cross-entropy, nats) of every classifier of the run on the test set."""
    from kdmlc_tf.data import faults, pipeline, prepared
    from kdmlc_tf.run import Run
    from kdmlc_tf.serving.evaluation import labels_by_name

    run = Run(cli.FLAGS.run)
    method, epoch = run.restored_method(cli.FLAGS.checkpoint or "selected")
    source = prepared.load_source(cli.placed(run.config))
    policy = cli.FLAGS.bad_input or run.config.bad_input
    source, skipped = faults.usable(source, policy, splits=("test",))
    data = run.data()
    batches = pipeline.evaluation_batches(
        source.test_images,
        labels_by_name(source.test_labels, source.class_names, data["class_names"]),
        batch_size=pipeline.evaluation_batch_size(data["input_shape"]),
        preprocessing=pipeline.Preprocessing.from_dict(data["preprocessing"]),
    )
    scores = method.evaluate(batches, verbose=0, return_dict=True)
    counts = {"examples": len(source.test_labels), "skipped": len(skipped)}
    described = {"run": str(run.folder), "dataset": run.config.dataset, "epoch": epoch}
    return {**described, **counts, **scores}


def _of_saved_model():
    """Accuracy of an exported model on the test set, called as a server would."""
    from kdmlc_tf.data import faults, prepared
    from kdmlc_tf.serving import evaluation, saved_model

    version = evaluation.version_folder(cli.FLAGS.saved_model)
    config = _config(pathlib.Path(cli.FLAGS.saved_model).resolve())
    source = prepared.load_source(config)
    policy = cli.FLAGS.bad_input or config.bad_input
    source, skipped = faults.usable(source, policy, splits=("test",))
    names = saved_model.read_class_names(version)
    labels = evaluation.labels_by_name(source.test_labels, source.class_names, names)
    result = evaluation.evaluate_saved_model(version, source.test_images, labels)
    described = {"saved_model": cli.FLAGS.saved_model, "dataset": config.dataset}
    return {**described, "skipped": len(skipped), **result}


def _config(folder):
    """The data set that the flags name, or the one of the run around the export, as a Config.

    What it says of bad input is the run's in both cases, the default where there is no run.
    """
    from kdmlc_tf.config import Config

    run = _run_around(folder)
    config = run.config if run else Config()
    if cli.FLAGS.dataset:
        config = Config(
            dataset=cli.FLAGS.dataset,
            image_size=cli.FLAGS.image_size,
            label_key=cli.FLAGS.label_key or Config.label_key,
            bad_input=config.bad_input,
        )
    elif run is None:
        raise InputError(
            f"{folder} does not lie in a run: say what to test on with --dataset=NAME."
        )
    return cli.placed(config)


def _run_around(folder):
    """The run that an export's folder lies in, or None."""
    from kdmlc_tf.run import Run, holds_run

    return next((Run(parent) for parent in folder.parents[:3] if holds_run(parent)), None)


def console():
    """Entry point of the installed command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    flags.DEFINE_string("saved_model", None, "An exported model instead of --run.")
    flags.DEFINE_enum(
        "checkpoint", None, ["selected", "last"], "Which epoch of --run. Default: selected."
    )
    flags.DEFINE_string(
        "dataset", None, "Data set for --saved_model. Default: its run's, where it lies in one."
    )
    flags.DEFINE_string("data_dir", None, "Folder with prepared TensorFlow Datasets.")
    flags.DEFINE_integer("image_size", None, "With --dataset: as in training.")
    flags.DEFINE_string(
        "label_key", None, "With --dataset=tfds:NAME: the feature with the label. Default: label."
    )
    flags.DEFINE_enum(
        "bad_input",
        None,
        ["refuse", "skip"],
        "Test examples that cannot be used: refuse, or skip them. Default: the run's; else refuse.",
    )
    cli.run(main)


if __name__ == "__main__":
    console()
