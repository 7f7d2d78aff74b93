"""Test accuracy of a run or of an exported model: python -m kdmlc_tf.evaluate --run=DIR."""

import json
import pathlib

from absl import flags

from kdmlc_tf import cli
from kdmlc_tf.errors import InputError


def main():
    """Prints the result as JSON."""
    if (cli.FLAGS.run is None) == (cli.FLAGS.saved_model is None):
        raise InputError("Give either --run=DIR or --saved_model=DIR.")
    cli.import_tensorflow()
    result = _of_run() if cli.FLAGS.run else _of_saved_model()
    print(json.dumps(result, indent=2))


def _of_run():
    """Accuracy and loss (cross-entropy, nats) of every classifier of the run on the test set."""
    from kdmlc_tf.data import faults, pipeline, sources
    from kdmlc_tf.run import Run

    run = Run(cli.FLAGS.run)
    method, epoch = run.restored_method(cli.FLAGS.checkpoint)
    source = sources.load(run.config.dataset, data_dir=cli.FLAGS.data_dir or run.config.data_dir)
    policy = cli.FLAGS.bad_input or run.config.bad_input
    source, skipped = faults.usable(source, policy, splits=("test",))
    batches = pipeline.evaluation_batches(
        source.test_images,
        source.test_labels,
        batch_size=500,
        preprocessing=pipeline.Preprocessing.from_dict(run.data()["preprocessing"]),
    )
    scores = method.evaluate(batches, verbose=0, return_dict=True)
    counts = {"examples": len(source.test_labels), "skipped": len(skipped)}
    return {"run": str(run.folder), "epoch": epoch, **counts, **scores}


def _of_saved_model():
    """Accuracy of an exported model on the test set, called as a server would."""
    from kdmlc_tf.data import faults, sources
    from kdmlc_tf.serving.evaluation import evaluate_saved_model, version_folder

    version_folder(cli.FLAGS.saved_model)
    name, data_dir = _dataset(pathlib.Path(cli.FLAGS.saved_model).resolve())
    source = sources.load(name, data_dir=cli.FLAGS.data_dir or data_dir)
    source, skipped = faults.usable(source, cli.FLAGS.bad_input or "refuse", splits=("test",))
    result = evaluate_saved_model(cli.FLAGS.saved_model, source.test_images, source.test_labels)
    described = {"saved_model": cli.FLAGS.saved_model, "dataset": name, "skipped": len(skipped)}
    return {**described, **result}


def _dataset(folder):
    """(name, data_dir) as the flags say, or as the run around the export says."""
    from kdmlc_tf.run import Run

    if cli.FLAGS.dataset:
        return cli.FLAGS.dataset, None
    for parent in folder.parents[:3]:
        if (parent / "config.json").is_file():
            config = Run(parent).config
            return config.dataset, config.data_dir
    raise InputError(f"{folder} does not lie in a run: say what to test on with --dataset=NAME.")


def console():
    """Entry point of the installed command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    flags.DEFINE_string("saved_model", None, "An exported model instead of --run.")
    flags.DEFINE_enum("checkpoint", "selected", ["selected", "last"], "Which epoch of --run.")
    flags.DEFINE_string(
        "dataset", None, "Data set for --saved_model. Default: its run's, where it lies in one."
    )
    flags.DEFINE_string("data_dir", None, "Folder with prepared TensorFlow Datasets.")
    flags.DEFINE_enum(
        "bad_input",
        None,
        ["refuse", "skip"],
        "Test examples that cannot be used: refuse, or skip them. Default: the run's; else refuse.",
    )
    cli.run(main)


if __name__ == "__main__":
    console()
