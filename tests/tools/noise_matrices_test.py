"""The noise matrices of a run's folder: the estimate that was stored, the counts, none at all."""

import json

import numpy as np
import pytest

from kdmlc_tf.config import Config
from kdmlc_tf.data import prepared
from kdmlc_tf.run import Run
from tools import noise_matrices

SETTINGS = {
    "dataset": "digits",
    "method": "kdmlc",
    "teacher": "mlp:0.1",
    "student": "mlp:0.1",
    "noise": 0.5,
    "clean": 100,
    "validation": 100,
    "epochs": 1,
    "milestones": "",
}
MASS = np.eye(10) * 0.06 + np.roll(np.eye(10), 1, axis=1) * 0.04  # rows sum to 0.1, not to 1


@pytest.fixture
def make_run(tmp_path):
    """Function that makes a run's folder with a checkpoint, untrained; (folder, Prepared)."""

    def make(**settings):
        config = Config(**{**SETTINGS, **settings}).validate()
        data = prepared.prepare(config)
        run = Run.create(tmp_path / "run", config, data)
        method = run.build_method()
        if method.belief is not None:
            method.belief.noise_matrix.mass.assign(MASS)
        run.checkpoints.save(method, 1)
        return run.folder, data

    return make


def test_true_and_estimated_matrix_have_true_classes_as_rows(make_run):
    folder, data = make_run()
    found = noise_matrices.of_run(folder)
    estimated = np.array(found["estimated"])
    np.testing.assert_allclose(np.diag(estimated), 0.6, atol=1e-6)
    np.testing.assert_allclose(estimated[range(10), [*range(1, 10), 0]], 0.4, atol=1e-6)
    # True 3 given as 7, counted in the noisy set alone.
    index = data.splits.noisy
    true, given = data.source.train_labels[index], data.noise.labels[index]
    assert found["true"][3][7] == pytest.approx(np.mean(given[true == 3] == 7), abs=1e-6)
    assert found["true"][3][7] != found["true"][7][3]
    np.testing.assert_allclose(np.sum(found["true"], axis=1), 1, atol=1e-5)


def test_a_method_without_an_estimate_has_none(make_run):
    folder, _ = make_run(bayes_start=False, average_decay=0, warmup_epochs=0)
    assert noise_matrices.of_run(folder) is None


def test_a_run_whose_true_labels_are_not_known_has_none(make_run):
    folder, _ = make_run()
    data = json.loads((folder / "data.json").read_text())
    data["noise"]["realised"] = None
    (folder / "data.json").write_text(json.dumps(data))
    assert noise_matrices.of_run(folder) is None


def test_a_run_whose_checkpoints_are_gone_has_none(make_run):
    folder, _ = make_run()
    (folder / "checkpoints").rename(folder / "elsewhere")
    assert noise_matrices.of_run(folder) is None
