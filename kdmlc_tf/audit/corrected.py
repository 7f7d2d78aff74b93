"""Corrected labels in the layout that the data set came in, to train on them or to look at them."""

import contextlib
import csv
import os
import pathlib
import shutil
import zipfile

import numpy as np

from kdmlc_tf.audit.table import shown
from kdmlc_tf.data import folders, listing, own, tables
from kdmlc_tf.data.sources import UNKNOWN


def write(prepared, findings, config, folder):
    """Writes the selected examples' suggested labels beside all other labels as they were.

    A table keeps its rows and columns and gets one more, given_label; a .npz file keeps all arrays;
    a folder of images becomes one of hard links (copies, where those cannot be); Clothing1M gets
    its lists of the noisy set; every other data set, and every set that the run made noise for,
    labels.csv and labels.npy.

    Args:
      prepared: the run's `Prepared`.
      findings: `Findings` of its noisy set.
      config: the run's Config.
      folder: to write into; it must exist.

    Returns:
      Path of the file or the folder that is to stand in for the original.
    """
    kind, _, name = config.dataset.partition(":")
    new = np.full(_total(prepared), UNKNOWN, np.int32)
    chosen = findings.indices[findings.selected]
    new[chosen] = findings.corrected_labels[findings.selected]
    original = pathlib.Path(os.path.abspath(os.path.join(config.data_dir or "", name)))
    names = [str(name) for name in prepared.source.class_names]
    if not own.is_own(config.dataset) or config.noise_type != "given":
        kind = None  # made noise stands in no file
    if kind in ("csv", "npz", "folder"):
        target = folder / original.name
        {"csv": _table, "npz": _arrays, "folder": _tree}[kind](original, target, new, names)
        return target
    if kind == "tfds" and name.partition(":")[0].partition("/")[0] == "clothing1m":
        return _clothing1m(prepared, new, folder)
    return _lists(prepared, new, names, folder)


def places(prepared):
    """Where the examples of a source stood before any was left out, int64 [n], rising."""
    dropped = [fault.index for fault in prepared.skipped if fault.split == "train"]
    return np.setdiff1d(np.arange(_total(prepared)), dropped)


def _total(prepared):
    """How many training examples the data set brought, those that were left out included."""
    dropped = sum(fault.split == "train" for fault in prepared.skipped)
    return len(prepared.source.train_labels) + dropped


def ids(prepared):
    """What the data set calls its training examples, bytes [n]: by default their places."""
    known = prepared.source.train_ids
    return places(prepared).astype("S") if known is None else known


def _table(original, target, new, names):
    """The table with the labels of `new`, by a row's place among those that are not of the test."""
    with open(original, "rb") as file:
        head = file.readline()
    encoding = "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else "utf-8"
    ending = "\r\n" if head.endswith(b"\r\n") else "\n"
    with (
        open(original, encoding="utf-8-sig", newline="") as lines,
        open(target, "w", encoding=encoding, newline="") as file,
    ):
        header, delimiter = tables.header(lines)
        _, label, _, split = tables.columns(original, header)
        rows = csv.reader(lines, delimiter=delimiter)
        writer = csv.writer(file, delimiter=delimiter, lineterminator=ending)
        writer.writerow([*header, _free("given_label", header)])
        training = iter(new.tolist())
        for row in rows:
            if not row:  # a line that is empty is none
                continue
            row += [""] * (len(header) - len(row))
            given, is_test = row[label], row[split].strip() == "test"
            number = UNKNOWN if is_test else next(training)
            if number != UNKNOWN:
                row[label] = names[number]
            writer.writerow([*row[: len(header)], given, *row[len(header) :]])


def _free(name, taken):
    """The name, with a number behind it if a column of the table has it already."""
    taken = {other.strip().lower() for other in taken}
    number = 1
    while (free := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    return free


def _arrays(original, target, new, names):
    """The .npz file with other noisy_labels; every other array is copied byte by byte."""
    with np.load(original, allow_pickle=False) as stored:
        labels = stored["noisy_labels"]
    chosen = np.flatnonzero(new[: len(labels)] != UNKNOWN)  # the noisy set comes first
    if labels.dtype.kind in "US":
        texts = np.array(names)
        texts = np.char.encode(texts, "utf-8") if labels.dtype.kind == "S" else texts
        labels = labels.astype(np.promote_types(labels.dtype, texts.dtype))
        labels[chosen] = texts[new[chosen]]
    else:
        labels = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(len(names) - 1)))
        labels[chosen] = new[chosen]
    with zipfile.ZipFile(original) as old, zipfile.ZipFile(target, "w") as file:
        for member in old.infolist():
            compression = member.compress_type
            member = zipfile.ZipInfo(member.filename, member.date_time)
            member.compress_type = compression
            with file.open(member, "w", force_zip64=True) as to:
                if member.filename == "noisy_labels.npy":
                    np.lib.format.write_array(to, labels, allow_pickle=False)
                else:
                    with old.open(member.filename) as source:
                        shutil.copyfileobj(source, to)


def _tree(original, target, new, names):
    """The folder's images, those with a new class in noisy/CLASS/GIVEN CLASS/."""
    listed, paths = folders.read(original)
    numbers = np.full(len(paths), UNKNOWN, np.int32)
    numbers[listed.splits != listing.TEST] = new
    # First those that stay: none may find its place taken.
    for row in np.argsort(numbers != UNKNOWN, kind="stable"):
        path = pathlib.PurePath(os.fsdecode(paths[row]))
        goal = path
        if numbers[row] not in (UNKNOWN, listed.labels[row]):
            split, given, *rest = path.parts
            goal = pathlib.PurePath(split, names[numbers[row]], given, *rest)
        if not (original / path).exists():  # a symbolic link that leads nowhere
            continue
        goal = target / goal
        while os.path.lexists(goal):
            goal = goal.with_name(f"_{goal.name}")
        goal.parent.mkdir(parents=True, exist_ok=True)
        _link(original / path, goal)


def _link(original, goal):
    """A hard link; a copy on another disk, or where links are not allowed."""
    original = original.resolve()  # of a symbolic link what it leads to
    with contextlib.suppress(OSError):
        os.link(original, goal)
        return
    shutil.copy2(original, goal)


def _clothing1m(prepared, new, folder):
    """The two files of Clothing1M that say which images are noisy and with what labels."""
    labels = _all_labels(prepared, new)
    noisy = prepared.source.splits.noisy
    keys = prepared.source.train_ids[noisy].tolist()
    with (
        open(folder / "noisy_train_key_list.txt", "wb") as names,
        open(folder / "noisy_label_kv.txt", "wb") as lines,
    ):
        for key, label in zip(keys, labels[places(prepared)[noisy]].tolist(), strict=True):
            names.write(key + b"\n")
            lines.write(b"%s %d\n" % (key, label))
    return folder


def _lists(prepared, new, names, folder):
    """labels.npy, int32, the label of each training example by its place; the same as a table."""
    labels, where = _all_labels(prepared, new), places(prepared)
    np.save(folder / "labels.npy", labels)
    parts = np.full(len(where), "", "U10")
    for name, part in vars(prepared.splits).items():
        parts[part] = name
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "id", "split", "given_label", "label"])
        rows = (where, ids(prepared), parts, _given(prepared), labels[where])
        for place, name, part, given, label in zip(*(r.tolist() for r in rows), strict=True):
            writer.writerow([place, shown(name), part, names[given], names[label]])
    return folder


def _given(prepared):
    """Int32 [n]: the labels that the run trains on: trusted ones of the clean set."""
    given = prepared.noise.labels.astype(np.int32)
    given[prepared.splits.clean] = prepared.source.train_labels[prepared.splits.clean]
    return given


def _all_labels(prepared, new):
    """Int32, by place: new labels, given ones else; `UNKNOWN` for what was left out."""
    labels = np.full(len(new), UNKNOWN, np.int32)
    labels[places(prepared)] = _given(prepared)
    return np.where(new == UNKNOWN, labels, new)
