"""Audits a run into a folder that appears whole or not at all."""

import contextlib
import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from kdmlc_tf.audit import (
    corrected,
    findings,
    page,
    pictures,
    predictions,
    quality,
    selection,
    table,
)
from kdmlc_tf.data import own, scan
from kdmlc_tf.data import prepared as data_lib
from kdmlc_tf.errors import InputError
from kdmlc_tf.replacing import replacing

_WRITTEN = {"corrected", "index.html", "labels.csv", "labels.parquet", "logs", "summary.json"}


def check_run(run):
    """Raises InputError unless the run can be audited."""
    if not run.is_reported():
        raise InputError(
            f"The run in {run.folder} is not finished: go on with the command that began it and "
            "--resume, then audit it."
        )
    if run.config.dataset == own.ARRAYS:
        raise InputError(
            "The data of this run were arrays of a program and are not kept: save them as a file "
            "with numpy.savez (README.md, npz:), train with --dataset=npz:FILE and audit that run."
        )


def check_free(folder):
    """Raises InputError unless an audit may go into the folder, or take an earlier one's place."""
    try:
        is_file = folder.exists() and not folder.is_dir()
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error}.") from error
    if is_file:
        raise InputError(f"{folder} is a file: give a folder as --output.")
    if folder == pathlib.Path.cwd():
        raise InputError(f"--output must be a folder of its own, not the current one: {folder}.")
    if held and held != _WRITTEN:
        other = ", ".join(sorted(held - _WRITTEN)[:3]) or "a part of an audit"
        raise InputError(
            f"{folder} holds something else than an audit ({other}), which would be deleted: give "
            "an empty or a new --output."
        )


def audit(run, config, folder, *, checkpoint="selected", threshold=None, top=None, shown=500):
    """Writes the audit of a run's noisy set.

    Args:
      run: a finished `Run`.
      config: its Config, its data where they are now.
      folder: where to; an earlier audit there is replaced once the new one is whole.
      checkpoint: "selected" or "last", which epoch's networks are asked.
      threshold: as in `selection.select`.
      top: as in `selection.select`.
      shown: how many of the worst examples the page shows.

    Returns:
      (`Findings`, path of the corrected labels relative to `folder`).

    Raises:
      InputError: run, data or settings do not allow it; `folder` is as it was.
    """
    method, epoch = run.restored_method(checkpoint)
    predictions.check_corrector(method)
    prepared = data_lib.prepare(config)
    run.check_data(prepared)
    images, labels = prepared.noisy()
    if top is not None:
        selection.select(np.zeros(len(labels)), top=top)  # too many is told before any work
    facts = {"run": run.folder.name, "method": config.method, "data set": config.dataset}
    with _told(folder, prepared.source), replacing(folder, lambda: _is_taken(folder)) as partial:
        with _arrays_beside(partial) as arrays:
            found = predictions.predict(
                *(method, images, labels, prepared.preprocessing, arrays),
                flip=prepared.augmentation.flip,
            )
            results = _found(found, prepared, threshold, top)
            _write(results, images, {**facts, "epoch": epoch}, partial, shown)
            (partial / "corrected").mkdir()
            target = corrected.write(prepared, results, config, partial / "corrected")
    return results, target.relative_to(partial)


@contextlib.contextmanager
def _told(folder, source):
    """Makes an InputError of what cannot be written, or can no longer be read."""
    try:
        yield
    except OSError as error:
        raise InputError(f"The audit in {folder} cannot be written: {error}.") from error
    except tf.errors.OpError as error:
        reason = scan.broken_in(source)
        if reason is None:
            raise
        raise InputError(f"{reason}; it could be read before. Mend it, and audit again.") from error


def _is_taken(folder):
    """Whether an audit is there, to be replaced; hours may have passed since it was looked at."""
    check_free(folder)
    return folder.is_dir()


@contextlib.contextmanager
def _arrays_beside(folder):
    """An empty folder beside one, until the end; one that a killed audit left goes as well."""
    arrays = folder.with_name(f"{folder.name}.arrays")
    shutil.rmtree(arrays, ignore_errors=True)
    arrays.mkdir()
    try:
        yield arrays
    finally:
        shutil.rmtree(arrays, ignore_errors=True)  # some systems delete no file that is mapped


def _found(found, prepared, threshold, top):
    """The `Findings` of predictions on the noisy set."""
    noisy = prepared.splits.noisy
    score, suggested = quality.quality(found)
    return findings.Findings(
        found,
        score,
        suggested,
        selection.select(score, threshold, top),
        indices=corrected.places(prepared)[noisy],
        ids=corrected.ids(prepared)[noisy],
        class_names=prepared.source.class_names,
        true_labels=prepared.true_labels(noisy),
    )


def _write(results, images, facts, folder, shown):
    """Writes table, summary, page and TensorBoard's images."""
    table.write(results, folder)
    summary = json.dumps({**facts, **results.summary()}, indent=2, allow_nan=False)
    (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")
    text = page.render(results, images, facts=facts, limit=shown)
    (folder / "index.html").write_text(text, encoding="utf-8")
    pictures.write_tensorboard(results, images, folder / "logs", facts["epoch"])
