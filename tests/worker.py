"""Program: one of several workers that train the digits in float64, as TF_CONFIG says.

    python tests/worker.py RUN STATE.npz [--resume] [--die] [--set=NAME=VALUE]

Saves the final state; exits with 3 where training was stopped, with 2 where it could not start.
--die: killed at step 8. --set: another value for a setting that is a whole number.
"""

import os
import signal
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

from kdmlc_tf import distribution, training
from kdmlc_tf.config import PRESETS, Config
from kdmlc_tf.errors import InputError

SETTINGS = {
    **PRESETS["digits"],
    "dataset": "digits",
    "limit_train": 200,
    "validation": 501,  # evaluated 500 at a time: the second worker gets none of the last one
    "batch_size": 40,
    "clean_batch_size": 40,
    "epochs": 2,
    "warmup_epochs": 1,
    "learning_rate": 0.05,
    "method": "mlc",
    "student": "cnn:0.25",  # with batch norm
    "corrector_hidden": 16,
    "corrector_embedding": 16,
}


def main(folder, state, *options):
    """Trains; returns the exit status."""
    changed = [option.split("=")[1:] for option in options if option.startswith("--set=")]
    changes = {name: int(value) for name, value in changed}
    config = Config(**{**SETTINGS, **changes}, strategy="multi_worker").validate()
    distribution.make_strategy(config.strategy)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    if "--die" in options:
        die_at_step(8)
    try:
        _, method, status = training.train(
            config,
            folder,
            resume="--resume" in options,
            announce=lambda text: print(text, flush=True),
        )
    except InputError as error:
        print(error)
        return 2
    np.savez(state, *[variable.numpy() for variable in method.state()])
    return {"finished": 0, "stopped": 3}[status]


def die_at_step(step):
    """Makes this process kill itself, as a machine that loses power."""

    def watch(batch, logs=None):
        del batch, logs
        taken.append(1)
        if len(taken) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    taken, callbacks = [], training._callbacks
    killer = keras.callbacks.LambdaCallback(on_train_batch_begin=watch)
    training._callbacks = lambda *args: [*callbacks(*args), killer]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
