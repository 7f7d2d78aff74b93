"""Corrected labels in the input's own layout, read again as a data set."""

import csv
import dataclasses
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from kdmlc_tf.audit import corrected
from kdmlc_tf.config import OWN, Config
from kdmlc_tf.data import prepared, sources
from kdmlc_tf.data.clothing1m import lists
from kdmlc_tf.data.clothing1m.clothing1m import Clothing1m

CLASSES = ("ant", "bee", "cat")
SIZES = {"noisy": 10, "clean": 4, "validation": 2, "test": 3}  # of each class


def config(dataset, **settings):
    small = {"batch_size": 6, "clean_batch_size": 4, "seed": 5}
    return Config(dataset=dataset, **{**OWN, **small, **settings}).validate()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of images named alike in every class; no two are equal."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shade = iter(range(256))
    for split, count in SIZES.items():
        for name in CLASSES:
            for number in range(count):
                path = tmp_path / "photos" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (next(shade),) * 3).save(path)
    return tmp_path / "photos"


def written(data, settings, every_third, folder):
    """(path of the corrected labels, {index among the training examples: label})."""
    folder.mkdir()
    findings = every_third(data)
    path = corrected.write(data, findings, settings, folder)
    expected = data.noise.labels.copy()
    expected[data.splits.noisy] = findings.corrected_labels
    return path, expected


def test_a_folder_is_a_tree_of_links_that_can_be_trained_on(photos, tmp_path, every_third):
    settings = config(f"folder:{photos}")
    data = prepared.prepare(settings)
    path, expected = written(data, settings, every_third, tmp_path / "new")
    assert path == tmp_path / "new" / "photos"
    again = sources_of(f"folder:{path}")
    # Which image has which label, by its shade: the order of the paths is another.
    assert labels_by_shade(again, again.given_labels) == labels_by_shade(data.source, expected)
    assert len(again.test_labels) == 9 and len(again.splits.validation) == 6
    moved = path / "noisy" / "bee" / "ant" / "0.png"  # beside noisy/bee/0.png, which stays
    assert os.path.samefile(moved, photos / "noisy" / "ant" / "0.png")


def sources_of(dataset):
    return prepared.load_source(config(dataset))


def labels_by_shade(source, labels):
    shades = np.asarray(source.train_images)[:, 0, 0, 0].tolist()
    return dict(zip(shades, labels.tolist(), strict=True))


def test_where_links_cannot_be_files_are_copied(photos, tmp_path, every_third, monkeypatch):
    def refuse(*args):
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    settings = config(f"folder:{photos}")
    path, _ = written(prepared.prepare(settings), settings, every_third, tmp_path / "new")
    copy, original = path / "noisy/bee/ant/0.png", photos / "noisy/ant/0.png"
    assert copy.read_bytes() == original.read_bytes() and not os.path.samefile(copy, original)


@pytest.mark.parametrize("separator, ending, mark", [(",", "\n", ""), (";", "\r\n", "\ufeff")])
def test_a_table_keeps_its_rows_and_columns(photos, tmp_path, every_third, separator, ending, mark):
    rows = [["Path", "price", "Label", "split", "given_label"]]
    for number, path in enumerate(sorted(photos.rglob("*.png"), reverse=True)):
        split, name, _ = path.relative_to(photos).parts
        rows.append([str(path), f'"{number}{separator}', name, split, "old"])
    rows.insert(9, [])
    with open(tmp_path / "list.csv", "w", encoding="utf-8", newline="") as file:
        file.write(mark)
        csv.writer(file, delimiter=separator, lineterminator=ending).writerows(rows)
    settings = config(f"csv:{tmp_path}/list.csv")
    data = prepared.prepare(settings)
    path, expected = written(data, settings, every_third, tmp_path / "new")
    assert path.name == "list.csv"
    np.testing.assert_array_equal(sources_of(f"csv:{path}").given_labels, expected)
    text = path.read_bytes().decode("utf-8")
    assert text.startswith(f"{mark}Path{separator}price") and text.count(ending) == len(rows) - 1
    lines = csv.reader(text.removeprefix(mark).splitlines(), delimiter=separator)
    changed = 0
    for old, new in zip([row for row in rows if row], lines, strict=True):
        assert [*old[:2], *old[3:]] == [*new[:2], *new[3:-1]]
        assert new[-1] == (old[2] if old[0] != "Path" else "given_label_2")
        changed += new[2] != old[2]
    assert changed == 10  # every third of 30


def arrays(photos):
    data = prepared.prepare(config(f"folder:{photos}"))
    names = {"S": np.array(CLASSES).astype("S"), "U": np.array(CLASSES), "i": np.arange(3)}
    for kind, labels in names.items():
        stored = {"other": np.arange(4)}
        for split in ("noisy", "clean", "test"):
            images, numbers = getattr(data, split)()
            stored |= {f"{split}_images": images, f"{split}_labels": labels[numbers]}
        yield kind, stored


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_keeps_its_arrays(photos, tmp_path, every_third, save):
    for kind, stored in arrays(photos):
        save(tmp_path / f"{kind}.npz", **stored)
        settings = config(f"npz:{kind}.npz", data_dir=str(tmp_path))
        data = prepared.prepare(settings)
        path, expected = written(data, settings, every_third, tmp_path / f"new-{kind}")
        with np.load(path) as new:
            assert sorted(new.files) == sorted(stored)
            assert new["noisy_labels"].dtype.kind == kind
            for name in set(stored) - {"noisy_labels"}:
                np.testing.assert_array_equal(new[name], stored[name])
        np.testing.assert_array_equal(sources_of(f"npz:{path}").given_labels, expected)


@pytest.mark.parametrize("kind", ["csv", "npz", "folder"])
def test_noise_that_the_run_made_is_in_no_file_and_goes_into_lists(
    photos, tmp_path, every_third, kind
):
    data = prepared.prepare(config(f"folder:{photos}"))
    settings = dataclasses.replace(config(f"{kind}:{photos}"), noise_type="symmetric")
    path, expected = written(data, settings, every_third, tmp_path / "new")
    np.testing.assert_array_equal(np.load(path / "labels.npy"), expected)


def test_more_cells_than_the_header_has_are_kept(photos, tmp_path, every_third):
    lines = ["path,label,split"]
    for path in sorted(photos.rglob("*.png")):
        split, name, _ = path.relative_to(photos).parts
        lines.append(f"{path},{name},{split},a note")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    settings = config(f"csv:{tmp_path}/list.csv")
    path, _ = written(prepared.prepare(settings), settings, every_third, tmp_path / "new")
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header[-1] == "given_label" and len(rows) == len(lines) - 1
    assert {row[-1] for row in rows} == {"a note"} and {row[3] for row in rows} == set(CLASSES)


def test_a_class_beyond_the_type_of_the_labels_is_not_wrapped(tmp_path, every_third):
    labels = np.arange(300)
    stored = {f"{split}_features": np.eye(300) for split in ("noisy", "clean", "test")}
    stored |= {f"{split}_labels": labels for split in ("clean", "test")}
    np.savez(tmp_path / "a.npz", **stored, noisy_labels=np.full(300, 255, np.uint8))
    settings = config(f"npz:{tmp_path}/a.npz")
    path, expected = written(prepared.prepare(settings), settings, every_third, tmp_path / "new")
    assert set(np.load(path)["noisy_labels"]) == {255, 256}
    assert set(expected) >= {255, 256}


def test_a_longer_name_is_not_cut(tmp_path, every_third):
    labels = np.array(["a", "b"] * 6)
    stored = {f"{split}_features": np.eye(12) for split in ("noisy", "clean", "test")}
    stored |= {f"{split}_labels": labels for split in ("noisy", "clean", "test")}
    stored["clean_labels"] = np.array(["long name", "b"] * 6)
    stored["noisy_labels"] = np.array(["a"] * 12)
    np.savez(tmp_path / "a.npz", **stored, class_names=["b", "a", "long name"])
    settings = config(f"npz:{tmp_path}/a.npz", bad_input="skip")
    path, _ = written(prepared.prepare(settings), settings, every_third, tmp_path / "new")
    assert set(np.load(path)["noisy_labels"]) == {"a", "long name"}


def test_a_built_in_set_gets_lists_by_place(tmp_path, every_third):
    settings = Config(dataset="digits", clean=100, validation=100, limit_train=900).validate()
    data = prepared.prepare(settings)
    path, expected = written(data, settings, every_third, tmp_path / "new")
    labels = np.load(path / "labels.npy")
    clean = data.splits.clean
    expected[clean] = data.source.train_labels[clean]
    np.testing.assert_array_equal(labels, expected)
    with open(path / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1437
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert sum(row["split"] == "noisy" for row in rows) == 900
    assert sum(row["given_label"] != row["label"] for row in rows) == 300
    assert rows[7]["index"] == rows[7]["id"] == "7"


def test_what_was_left_out_keeps_its_place(tmp_path, monkeypatch, every_third):
    whole = sources.load("digits")
    whole.train_labels[[0, 5]] = 99
    monkeypatch.setattr(sources, "load", lambda name, data_dir: whole)
    settings = Config(
        dataset="digits", clean=100, validation=100, bad_input="skip", noise=0.0
    ).validate()
    data = prepared.prepare(settings)
    path, _ = written(data, settings, every_third, tmp_path / "new")
    labels = np.load(path / "labels.npy")
    assert len(labels) == 1437 and np.flatnonzero(labels == sources.UNKNOWN).tolist() == [0, 5]
    others = np.delete(np.arange(1437), [0, 5])
    known = labels[others] == whole.train_labels[others]
    assert known.sum() == 1435 - len(data.splits.noisy[::3])


def test_clothing1m_gets_its_two_lists(faulty, tmp_path, monkeypatch, every_third):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    builder = Clothing1m(data_dir=str(tmp_path / "prepared"))
    with sources.without_warnings():
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=str(faulty))
        )
    place = {"data_dir": str(tmp_path / "prepared"), "image_size": 16, "validation": 20}
    settings = config("tfds:clothing1m", **place)
    data = prepared.prepare(settings)
    before = lists.read(faulty)["noisy"]
    path, expected = written(data, settings, every_third, tmp_path / "new")
    for name in ("noisy_train_key_list.txt", "noisy_label_kv.txt"):
        (faulty / name).write_bytes((path / name).read_bytes())
    keys, labels = lists.read(faulty)["noisy"]
    assert len(keys) == 137 and set(keys) < set(before[0])  # three cannot be used
    found, given = dict(zip(keys, labels, strict=True)), dict(zip(*before, strict=True))
    noisy = data.source.splits.noisy
    assert found == dict(zip(data.source.train_ids[noisy], expected[noisy], strict=True))
    assert sum(found[key] != given[key] for key in keys) == len(data.splits.noisy[::3])
