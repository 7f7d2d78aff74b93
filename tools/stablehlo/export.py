"""Exports runs of the track as StableHLO: a bundle that execute.py trains where no TensorFlow is.

    python tools/stablehlo/export.py BUNDLE --data_dir=DIR --cells=uniform80 --rows=kdmlc

A bundle holds what a run is before its first step, and each step as the method itself writes it:
`train_step`, with the batch's augmentation, traced by TensorFlow and lowered by XLA, a pure
function of all variables. The images are beside it, one file for each data set. It needs jax
beside TensorFlow; the machine that trains needs jax alone.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.export  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from jax.experimental import jax2tf  # noqa: E402

from kdmlc_tf import distribution, training  # noqa: E402
from kdmlc_tf.data import pipeline, prepared  # noqa: E402
from kdmlc_tf.data.sources import without_warnings  # noqa: E402
from kdmlc_tf.errors import InputError  # noqa: E402
from kdmlc_tf.experiment import Builder, student_start, total_epochs  # noqa: E402
from tools import reproduce  # noqa: E402

jax.config.update("jax_enable_x64", True)

_EVALUATED = 500  # examples at a time, at most
_MANIFEST = ("jobs", "programs", "images", "states")


def main():
    """Writes the bundle."""
    arguments = _arguments()
    os.chdir(ROOT)  # where train runs, as of reproduce.py
    cells = reproduce.chosen("cell", arguments.cells, reproduce.cell_files())
    pairs = list(itertools.product(cells, reproduce.chosen_rows(arguments)))
    configs = [reproduce.config_of(cell, row) for cell, row in pairs]  # a mistake is told first
    bundle, sources = Bundle(arguments.bundle), {}
    for (cell, row), config in zip(pairs, configs, strict=True):
        config = dataclasses.replace(config, data_dir=arguments.data_dir)
        try:
            if config.dataset not in sources:
                sources[config.dataset] = prepared.load_source(config)
            for seed in map(int, arguments.seeds.split(",")):
                own = dataclasses.replace(config, seed=seed)
                bundle.add(cell, row, own, prepared.prepare(own, sources[config.dataset]))
        except InputError as error:
            sys.exit(f"error: {error}")
    bundle.write()
    print(f"{len(bundle.jobs)} runs are in {arguments.bundle}.")


class Bundle:
    """A folder of programs, first values, data and jobs.

    Args:
      folder: pathlib.Path; made if missing.
    """

    def __init__(self, folder):
        self.folder = folder
        self.jobs, self.programs, self.images, self.states = [], {}, {}, {}
        self._arrays = {}
        (folder / "programs").mkdir(parents=True, exist_ok=True)

    def add(self, cell, row, config, data):
        """Adds one run.

        Args:
          cell: its cell.
          row: its row, with the row's own flags.
          config: its Config.
          data: its `prepared.Prepared`.

        Raises:
          InputError: a batch's views cannot be drawn by what is exported.
        """
        _check_drawn(data)
        name = reproduce.folder_name(row)
        steps_per_epoch = training.steps_per_epoch(config, data)
        sizes = [len(part) for part in (data.splits.noisy, data.splits.clean)]
        same = repr((data.augmentation, data.source.input_shape, sizes)).encode()
        program = f"{name}-{hashlib.sha256(same).hexdigest()[:8]}"
        state = f"{program}-{config.seed}"
        if state not in self.states:
            method = Builder(
                config,
                input_shape=data.input_shape,
                num_classes=data.source.num_classes,
                steps_per_epoch=steps_per_epoch,
                statistics=(data.preprocessing.mean, data.preprocessing.std),
            ).build()
            if program not in self.programs:
                self.programs[program] = self._program(program, method, config, data)
            self.states[state] = [self._kept(value(v)) for v in variables_of(method)]
        if data.source.name not in self.images:
            self.images[data.source.name] = self._add_images(data.source)
        self.jobs.append(
            {
                "run": f"{cell}/{name}-{config.seed}",
                "seeds": [pipeline.sequence_seed(config.seed, k) for k in range(config.updates())],
                "program": program,
                "state": state,
                "data": self._described(data),
                "epochs": total_epochs(config),
                "steps_per_epoch": steps_per_epoch,
                "batch": [config.batch_size, config.clean_batch()],
                "config": config.to_json(),
                "described": data.describe(),
            }
        )

    def _add_images(self, source):
        """Writes the images of a data set: those for training, then those of the test set."""
        images = np.concatenate([source.train_images, source.test_images])
        np.save(self.folder / f"images-{source.name}.npy", images)
        digest = hashlib.sha256(images.tobytes()).hexdigest()
        return {"digest": digest, "train": len(source.train_images)}

    def write(self):
        """Writes the manifest and the arrays."""
        np.savez_compressed(self.folder / "arrays.npz", **self._arrays)
        manifest = {name: getattr(self, name) for name in _MANIFEST}
        (self.folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")

    def _kept(self, array):
        """The name under which an array is kept; equal arrays are kept once."""
        array = np.asarray(array, order="C")
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        name = digest.hexdigest()[:16]
        self._arrays[name] = array
        return name

    def _described(self, data):
        """What a run reads: places in the data set, the labels there, normalisation."""
        mean, std = (np.asarray(part) for part in (data.preprocessing.mean, data.preprocessing.std))
        index = {name: getattr(data.splits, name) for name in ("noisy", "clean", "validation")}
        labels = {name: getattr(data, name)()[1] for name in (*index, "test")}
        arrays = {
            **{f"{name}_index": part.astype(np.int32) for name, part in index.items()},
            **{f"{name}_labels": part.astype(np.int32) for name, part in labels.items()},
            "scale": (1 / std).astype(np.float32),
            "shift": (-mean / std).astype(np.float32),
        }
        kept = {name: self._kept(array) for name, array in arrays.items()}
        return {"images": data.source.name, **kept}

    def _program(self, name, method, config, data):
        """Exports a method's stages, its evaluation and the orders of its examples."""
        starts, stages = zip(*method.stages(), strict=True)
        late = student_start(config, training.steps_per_epoch(config, data))
        groups = [config.updates() if start >= late else 1 for start in starts]  # of a batch
        files = [
            self._export_stage(f"{name}-stage-{number}", method, stage, config, data, own)
            for number, (stage, own) in enumerate(zip(stages, groups, strict=True))
        ]
        size = evaluated(len(data.splits.validation), len(data.source.test_labels))
        return {
            "stages": files,
            "sizes": [(self.folder / "programs" / file).stat().st_size for file in files],
            "evaluate": self._export_evaluation(f"{name}-evaluate", method, data, size),
            "orders": {
                "noisy": self._export_order(len(data.splits.noisy), pipeline.NOISY_ORDER),
                "clean": self._export_order(len(data.splits.clean), pipeline.CLEAN_ORDER),
            },
            "evaluated": size,
            "starts": starts,
            "groups": groups,
            **places(method),
        }

    def _export_stage(self, name, method, stage, config, data, groups):
        """Writes one stage's step, whose batches have so many groups; returns the file's name."""
        example = example_of(data, config)
        seeds, orders = np.zeros(groups, np.int64), example["orders"][:groups]
        step = step_function(method, stage, config, data)
        return self._export(name, step, method, (example["data"], seeds, np.int64(0), orders))

    def _export_evaluation(self, name, method, data, size):
        """Writes the evaluation of a batch of a size; returns the file's name."""
        images = np.zeros((size, *data.source.input_shape), data.source.train_images.dtype)
        statistics = [np.zeros(data.input_shape[-1:], np.float32)] * 2
        arguments = (*statistics, images, np.zeros(size, np.int32))
        return self._export(name, evaluation_function(method), method, arguments)

    def _export(self, name, function, method, arguments):
        """Writes a function of (variables, *arguments); returns the file's name."""
        first = [value(v) for v in variables_of(method)]
        return self._exported(name, pure(function, method), (first, *arguments))

    def _export_order(self, count, stream):
        """Writes the function (seed, epoch) -> a permutation of a set; returns the file's name."""
        name = f"order-{stream}-{count}"
        if (self.folder / "programs" / name).is_file():
            return name

        def order(seed, epoch):
            return pipeline.permutation(count, seed, stream, epoch)

        return self._exported(name, order, (np.int64(0), np.int64(0)))

    def _exported(self, name, function, arguments):
        shapes = jax.tree.map(
            lambda part: jax.ShapeDtypeStruct(np.shape(part), np.asarray(part).dtype), arguments
        )
        export = jax.export.export(
            jax.jit(jax2tf.call_tf(function, has_side_effects=False)),
            platforms=["cpu"],
            disabled_checks=[jax.export.DisabledSafetyCheck.platform()],
        )
        with without_warnings():  # of the variables that `pure` hides
            exported = export(*shapes)
        (self.folder / "programs" / name).write_bytes(exported.serialize())
        return name


def _check_drawn(data):
    """Raises InputError where a view is not drawn as XLA draws it, or not made here."""
    if data.augmentation.strong_view != "none" or data.preprocessing.crop:
        raise InputError(
            "What is exported makes no strong view and no crop of larger images: leave out "
            "--strong_view and --crop_size."
        )


def places(method):
    """Where in the list of all variables the metrics are, and what is kept of a finished run."""
    place = {id(variable): number for number, variable in enumerate(variables_of(method))}
    return {
        "trackers": {
            name: [place[id(v)] for v in metric.variables]
            for name, metric in method.trackers.items()
        },
        "kept": [place[id(v)] for v in method.state(optimizers=False)],
    }


def variables_of(method):
    """All that a step changes: networks, optimizers, buffers, metrics."""
    return [*method.state(), *(v for metric in method.metrics for v in metric.variables)]


def value(variable):
    """A Keras variable's value, an array."""
    return np.asarray(variable.value)


def evaluated(*counts):
    """The most examples at a time, up to a limit, that divide the sets of these sizes."""
    common = math.gcd(*counts)
    return max(size for size in range(1, min(common, _EVALUATED) + 1) if common % size == 0)


def example_of(data, config):
    """Arguments of a step, with the shapes that all runs of a row have."""
    channels = data.input_shape[-1:]
    sets = {"noisy": data.noisy(), "clean": data.clean()}
    held = {f"{name}_images": np.asarray(images) for name, (images, _) in sets.items()}
    held |= {f"{name}_labels": np.zeros(len(held[f"{name}_images"]), np.int32) for name in sets}
    held |= {name: np.zeros(channels, np.float32) for name in ("scale", "shift")}
    order = [np.zeros(size, np.int64) for size in (config.batch_size, config.clean_batch())]
    return {"data": held, "orders": [order] * config.updates()}


def step_function(method, stage, config, data):
    """A function (data, seeds, step number, orders) that takes the step.

    Seeds and orders are of each group of the batch: the step's own, then the student's.
    """

    def step(held, seeds, number, orders):
        make = pipeline.batch_maker(
            held["noisy_images"],
            held["clean_images"],
            {name: held[f"{name}_labels"] for name in ("noisy", "clean")},
            distribution.batch_parts(config)["meta"],
            lambda images: normalised(images, held["scale"], held["shift"]),
            data.augmentation,
        )
        parts = [
            make(number, *order, seed)
            for order, seed in zip(orders, tf.unstack(seeds), strict=True)
        ]
        stage((*parts[0], *parts[1:]))

    return step


def evaluation_function(method):
    """A function (scale, shift, images, labels) that adds a batch to the metrics."""

    def evaluate(scale, shift, images, labels):
        method.test_step((normalised(images, scale, shift), labels))

    return evaluate


def normalised(images, scale, shift):
    """As pipeline.Preprocessing does it, with statistics that are tensors."""
    return tf.cast(images, tf.float32) * scale + shift


def pure(function, method):
    """`function` with the method's variables as its first argument and as its result.

    At the end the variables are what they were, so that XLA sees no variable assigned.
    """
    variables = variables_of(method)

    def of_values(values, *arguments):
        before = [variable.value.read_value() for variable in variables]
        for variable, given in zip(variables, values, strict=True):
            variable.value.assign(given)
        function(*arguments)
        after = [variable.value.read_value() for variable in variables]
        for variable, given in zip(variables, before, strict=True):
            variable.value.assign(given)
        return after

    return of_values


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "bundle", type=lambda path: pathlib.Path(path).resolve(), help="folder for the bundle"
    )
    parser.add_argument("--data_dir", help="folder with prepared TensorFlow Datasets")
    parser.add_argument("--cells", default=",".join(reproduce.CELLS), help="as of reproduce.py")
    parser.add_argument("--rows", help="likewise")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
