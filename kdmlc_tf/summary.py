"""What a run tells its user, as text: before training and after it."""

import os

from kdmlc_tf import distribution
from kdmlc_tf.data import faults, own, sources
from kdmlc_tf.networks.registry import count_parameters

_INDENT = " " * 10


def at_start(run, prepared, method, first_epoch):
    """What is about to be learned from what, and where it goes."""
    sizes = ", ".join(f"{n} {name}" for name, n in prepared.describe()["sizes"].items())
    networks = ", ".join(
        f"{name} {count_parameters(net):,} parameters" for name, net in method.networks.items()
    )
    resumed = f", resumed after epoch {first_epoch}" if first_epoch else ""
    return (
        f"Run:      {_shown(run.folder)}{resumed}\n"
        f"Examples: {sizes}{left_out(prepared)}\n"
        f"Noise:    {run.config.noise_type}; {noise(prepared)}\n"
        f"Networks: {networks}\n"
        f"{warmup(run.config, method)}"
        f"{late_student(run.config)}"
        f"Batches:  {batches(run.config, method.distribute_strategy)}"
    )


def warmup(config, method):
    """When the corrector learns, as a line; "" where there is none, or it learns from the start."""
    epochs = config.warmup()
    if not method.has_corrector or not epochs:
        return ""
    if epochs < config.epochs:
        return f"Warm-up:  {epochs} of {config.epochs} epochs, then the corrector learns, too\n"
    return (
        f"Warm-up:  all of the {config.epochs} epochs: the corrector does not learn "
        f"(--warmup_epochs={epochs})\n"
    )


def late_student(config):
    """When the student learns, as a line; "" where it does from the start."""
    updates = config.updates()
    if updates == 1:
        return ""
    start = config.epochs - config.epochs / updates
    return (
        f"Student:  after {round(start, 1):g} of {config.epochs} epochs, {updates} updates in each "
        "step, each on as many other examples\n"
    )


def noise(prepared):
    """How many of the noisy set's labels are wrong, and which, as far as that is known."""
    known = prepared.source.train_labels[prepared.splits.noisy] != sources.UNKNOWN
    if not known.any():
        return "how many of the noisy set's labels are wrong is not known"
    where = "" if known.all() else f"the {known.sum()} of "
    which = "" if known.all() else " whose truth is known"
    return (
        f"{prepared.noise.realised_rate:.1%} of {where}the noisy set's labels{which} are wrong\n"
        f"{matrix(prepared.noise.realised, prepared.source.class_names)}"
    )


def left_out(prepared):
    """What of the data set is not used, as further lines; "" where all is."""
    lines = []
    if prepared.skipped:
        lines.append(f"skipped {faults.summary(prepared.skipped)} (all: data.json)")
    if prepared.absent_classes:
        lines.append(f"no example in the clean set of class {', '.join(prepared.absent_classes)}")
    return "".join(f"\n{_INDENT}{line}" for line in lines)


def batches(config, strategy):
    """The sizes of a batch's parts, and how they are shared out."""
    parts, replicas = distribution.batch_parts(config), strategy.num_replicas_in_sync

    def sizes(divisor):
        return ", ".join(f"{size // divisor} {name}" for name, size in parts.items())

    if config.strategy == "default":
        return f"{sizes(1)} examples per step"
    workers = distribution.num_workers(strategy)
    over = f"{replicas} replica{'s' if replicas > 1 else ''} ({config.strategy})"
    if workers > 1:
        over += f" of {workers} workers; only the first one writes the run"
    return (
        f"{sizes(1)} examples per step over all replicas\n"
        f"{_INDENT}{sizes(replicas)} on each of {over}"
    )


def matrix(realised, class_names):
    """The realised noise matrix in percent, a row per true class; of a large one its place.

    Args:
      realised: float [classes, classes], rows sum to 1.
      class_names: a name per class.
    """
    if len(realised) > 10:
        return f"{_INDENT}data.json has the realised noise matrix"
    width = max(len(name) for name in class_names)
    rows = [
        f"{_INDENT}{name:>{width}} {' '.join(f'{percent:3.0f}' for percent in row)}"
        for name, row in zip(class_names, 100 * realised, strict=True)
    ]
    head = f"{_INDENT}in percent, rows: true class, columns: given class (exact: data.json)"
    return "\n".join([head, *rows])


def at_end(run, status):
    """The accuracies, and what to type next."""
    lines = []
    rows, selected = run.finished_rows(), run.selected_row()
    if rows:
        for what, row in (("last epoch", rows[-1]), ("selected by validation", selected)):
            scores = ", ".join(
                f"{name} {row[f'test_{name}_accuracy']:.2%}"
                for name in ("student", "teacher")
                if f"test_{name}_accuracy" in row
            )
            lines.append(f"Test accuracy, {what} ({int(row['epoch'])}): {scores}")
    learned = run.has_learned()
    if rows and not learned:
        lines.append("The student has not begun to learn: it starts after another network.")
    if status == "interrupted":
        lines.append("Interrupted. Go on with the same command and --resume.")
    folder = _shown(run.folder)
    lines.append(f"Watch:    tensorboard --logdir={folder}")
    if rows and run.config.dataset != own.ARRAYS:
        lines.append(f"Evaluate: python -m kdmlc_tf.evaluate --run={folder}")
    if learned and status != "finished":
        lines.append(f"Export:   python -m kdmlc_tf.export --run={folder}")
    return "\n".join(lines)


def of_export(path):
    """Where an exported model is, and how to serve it."""
    return (
        f"Exported: {_shown(path)}\n"
        "Serve:    docker run -p 8501:8501 -e MODEL_NAME=student "
        f"-v {path.parent.resolve()}:/models/student tensorflow/serving"
    )


def _shown(path):
    """The path as the user would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
