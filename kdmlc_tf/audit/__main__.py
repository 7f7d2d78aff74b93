"""Which labels of a run's noisy set are wrong: python -m kdmlc_tf.audit --run=RUN."""

import os
import pathlib

from absl import flags

from kdmlc_tf import cli
from kdmlc_tf.audit import selection, table
from kdmlc_tf.errors import InputError


def main():
    """Writes the audit and prints where it is and what it says."""
    if cli.FLAGS.run is None:
        raise InputError("Give the run to audit: --run=DIR.")
    selection.check(cli.FLAGS.threshold, cli.FLAGS.top)
    table.imported_pyarrow()
    cli.import_tensorflow()
    from kdmlc_tf.audit import writing
    from kdmlc_tf.run import Run

    run = Run(cli.FLAGS.run)
    writing.check_run(run)
    folder = pathlib.Path(cli.FLAGS.output or run.folder / "audit").resolve()
    writing.check_free(folder)
    found, corrected = writing.audit(
        run,
        cli.placed(run.config),
        folder,
        checkpoint=cli.FLAGS.checkpoint,
        threshold=cli.FLAGS.threshold,
        top=cli.FLAGS.top,
        shown=cli.FLAGS.shown,
    )
    print(told(found, folder, corrected))


def told(found, folder, corrected):
    """What the audit says, and where its files are."""
    summary = found.summary()
    selected = summary["selected"]
    place = os.path.relpath(folder)
    place = str(folder) if place.startswith("..") else place
    wrong = f"{summary['expected_noise_rate']:.1%} expected to have a wrong label"
    lines = [f"Examples:  {len(found)} noisy, {wrong}"]
    if selected["count"]:
        measured = selected.get("measured")
        lines.append(
            f"Selected:  {selected['count']}, {selected['changed']} of them get another label; "
            f"{selected['expected']:.1%} expected to be wrong"
            + ("" if measured is None else f", {measured:.1%} are")
        )
    else:
        lines.append("Selected:  none")
    lines += [
        f"Look:      {place}/index.html (open it in a browser)",
        f"Table:     {place}/labels.csv, labels.parquet",
        f"Corrected: {place}/{corrected}",
        f"Watch:     tensorboard --logdir={place}",
    ]
    return "\n".join(lines)


def console():
    """Entry point of the installed command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    flags.DEFINE_string("output", None, "Folder of the audit. Default: audit in the run's.")
    flags.DEFINE_float(
        "threshold",
        None,
        "Replace labels with a quality below it, between 0 and 1. Default: 0.5, more likely wrong "
        "than right.",
    )
    flags.DEFINE_integer("top", None, "Instead of --threshold: replace so many of the worst.")
    flags.DEFINE_integer("shown", 500, "How many of the worst the page shows.", lower_bound=1)
    flags.DEFINE_enum("checkpoint", "selected", ["selected", "last"], "Which epoch of --run.")
    flags.DEFINE_string("data_dir", None, "Where the data are now, as in training.")
    cli.run(main)


if __name__ == "__main__":
    console()
