"""The tool that measures audits: its numbers by hand, the scores it compares, corrected data."""

import importlib.util
import pathlib
import types

import numpy as np
import pytest

from kdmlc_tf.data import arrays
from kdmlc_tf.data.splits import Splits

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "measure_audit.py"
SPEC = importlib.util.spec_from_file_location("measure_audit", TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def test_auroc_and_precision_by_hand():
    # Of the 2 · 3 pairs of a wrong and a right label 4 are in order, one is a tie.
    wrong = np.array([True, False, True, False, False])
    found = tool.judged(wrong, np.array([0.1, 0.2, 0.3, 0.3, 0.9]))
    assert found["auroc"] == pytest.approx(4.5 / 6)
    assert found["precision_at_k"] == 0.5
    assert found["precision_at_1_percent"] == found["precision_at_10_percent"] == 1.0


def test_every_score_is_small_where_the_label_is_wrong():
    rng = np.random.default_rng(0)
    true, given = rng.integers(3, size=(2, 600))
    logits = (3 * np.eye(3)[true] + rng.normal(size=(600, 3))).astype("float32")
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = ("teacher_logits", "plain_logits", "network_logits", "student_logits")
    found = dict.fromkeys(names, logits) | {
        "features": rng.normal(size=(600, 2)),
        "pseudo_labels": rows,
        "given_labels": given,
        "noise_matrix": np.full((3, 3), 1 / 3),
    }
    named, corrected = tool.scores(found)
    assert len(named) == 8 + len(tool.CLEANLAB)
    for values in named.values():
        assert values.shape == (600,) and tool.judged(given != true, values)["auroc"] > 0.8
    assert np.mean(corrected == true) > 0.8


def test_the_data_set_written_has_corrected_labels_in_the_noisy_set_alone(tmp_path):
    cell = tool._Cell.__new__(tool._Cell)
    cell.splits = Splits(np.array([0, 1]), np.array([2, 3]), np.array([4]))
    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    cell.source = types.SimpleNamespace(
        train_images=images,
        train_labels=np.array([0, 1, 0, 1, 1]),
        test_images=images[:2] + 100,
        test_labels=np.array([0, 1]),
    )
    cell.given = np.array([1, 0, 1, 0, 0])
    cell.write(tmp_path / "data.npz", np.array([0, 0]))
    found = arrays.source("npz:data.npz", **arrays.read(tmp_path / "data.npz"))
    np.testing.assert_array_equal(found.given_labels[found.splits.noisy], [0, 0])
    np.testing.assert_array_equal(found.given_labels[found.splits.clean], [0, 1])
    np.testing.assert_array_equal(found.given_labels[found.splits.validation], [0])
    np.testing.assert_array_equal(found.train_images[found.splits.clean], images[2:4])
    np.testing.assert_array_equal(found.test_images, images[:2] + 100)


def test_the_table_has_a_column_for_each_run_and_set():
    values = {"auroc": 0.9, "precision_at_k": 0.75}
    cell = {"noisy": {"scores": {"ours": values}}, "unseen": {"scores": {"ours": values}}}
    assert tool.table({"runs": {"uniform40": cell}}).splitlines() == [
        "| score | uniform40, noisy | uniform40, unseen |",
        "| --- | --- | --- |",
        "| ours | 90.0; 75.0 | 90.0; 75.0 |",
    ]
