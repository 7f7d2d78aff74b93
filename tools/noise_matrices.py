"""The noise matrix that a run estimated, beside the true one."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from kdmlc_tf.run import Run

_DIGITS = 6  # of a share; float32 has no more


def of_run(folder):
    """The two noise matrices of a run, from its folder alone.

    Args:
      folder: of a run with a checkpoint.

    Returns:
      Dict of nested lists [K, K], rows are true classes and sum to 1: "true", counted in the noisy
      set, and "estimated", as it stands after the last epoch. None where the true labels are not
      known, the method has no belief (flags/paper_kdmlc.flags, baselines), or the checkpoints are
      gone.
    """
    run = Run(folder)
    true = run.data()["noise"]["realised"]
    if true is None or not run.checkpoints.epochs():
        return None
    method, _ = run.restored_method("last")
    if getattr(method, "belief", None) is None:
        return None
    return {"true": _listed(true), "estimated": _listed(method.belief.noise_matrix.matrix())}


def _listed(matrix):
    return np.asarray(matrix, np.float64).round(_DIGITS).tolist()
