"""Exports runs of the track as StableHLO: a bundle that execute.py trains where no TensorFlow is.

    python tools/stablehlo/export.py BUNDLE --data_dir=DIR --cells=uniform80 --rows=kdmlc --seeds=3

A bundle holds what a run is before its first step, and each step as the method itself writes it:
`train_step`, with the batch's augmentation, traced by TensorFlow and lowered by XLA, a pure
function of all variables. The images are beside it, one file for each data set. It needs jax
beside TensorFlow; the machine that trains needs jax alone.
"""

import argparse
import hashlib
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

jax.config.update("jax_enable_x64", True)

from kdmlc_tf import cli, distribution  # noqa: E402
from kdmlc_tf.data import pipeline, prepared  # noqa: E402
from kdmlc_tf.data.sources import without_warnings  # noqa: E402
from kdmlc_tf.experiment import Builder, total_epochs  # noqa: E402
from tools import reproduce  # noqa: E402

_EVALUATED = 500  # examples at a time, at most
ORDERS = {"noisy": 0, "clean": 1}  # the streams of pipeline's orders
_MANIFEST = ("jobs", "programs", "images", "data", "states")


def main():
    """Writes the bundle."""
    arguments = _arguments()
    os.chdir(ROOT)  # where train runs, as of reproduce.py
    bundle = Bundle(arguments.bundle)
    sources = {}
    for cell in arguments.cells.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            data = None
            for row in reproduce.written_alike(arguments.rows):
                config = config_of(cell, row, seed, arguments.data_dir)
                if config.dataset not in sources:
                    sources[config.dataset] = prepared.load_source(config)
                    bundle.add_images(sources[config.dataset])
                data = data or prepared.prepare(config, sources[config.dataset])
                bundle.add(cell, row, seed, config, data)
        bundle.write()
        print(f"{cell}: {len(bundle.jobs)} runs so far", flush=True)


def config_of(cell, row, seed, data_dir):
    """The Config of a run, as reproduce.py has it."""
    flags = [f"--flagfile={reproduce.COMMON}", *reproduce.cell_flags(cell, row)]
    return cli.config_of([*flags, f"--seed={seed}", f"--data_dir={data_dir}"])


class Bundle:
    """A folder of programs, first values, data and jobs.

    Args:
      folder: pathlib.Path; made if missing.
    """

    def __init__(self, folder):
        self.folder = folder
        self.jobs, self.programs, self.images, self.data, self.states = [], {}, {}, {}, {}
        self._arrays = {}
        (folder / "programs").mkdir(parents=True, exist_ok=True)

    def add(self, cell, row, seed, config, data):
        """Adds one run."""
        name, shape = "".join(row.split()).replace("=", ""), data.input_shape
        program = f"{name}-{'x'.join(map(str, shape))}"
        steps_per_epoch = len(data.splits.noisy) // config.batch_size
        build = dict(
            input_shape=shape,
            num_classes=data.source.num_classes,
            steps_per_epoch=steps_per_epoch,
        )
        state = f"{program}-{seed}"
        if program not in self.programs or state not in self.states:
            method = Builder(config, **build).build()
            if program not in self.programs:
                self._add_program(program, method, config, data)
            self.states[state] = [self._kept(value(v)) for v in variables_of(method)]
        key = f"{cell}-{seed}"
        if key not in self.data:
            self.data[key] = self._described(data)
        self.jobs.append(
            {
                "run": f"{cell}/{name}-{seed}",
                "seed": seed,
                "program": program,
                "state": state,
                "data": key,
                "epochs": total_epochs(config),
                "steps_per_epoch": steps_per_epoch,
                "batch": [config.batch_size, config.clean_batch()],
                "config": config.to_json(),
                "described": data.describe(),
            }
        )

    def add_images(self, source):
        """Writes the images of a data set: those for training, then those of the test set."""
        images = np.concatenate([source.train_images, source.test_images])
        np.save(self.folder / f"images-{source.name}.npy", images)
        digest = hashlib.sha256(images.tobytes()).hexdigest()
        self.images[source.name] = {"digest": digest, "train": len(source.train_images)}

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

    def _add_program(self, name, method, config, data):
        """Exports a method's stages, its evaluation and the orders of its examples."""
        variables, example = variables_of(method), example_of(data, config)
        starts, stages = zip(*method.stages(), strict=True)
        groups = [1] * (len(stages) - 1) + [config.updates()]  # of a batch, for each stage
        files = []
        for number, (stage, own) in enumerate(zip(stages, groups, strict=True)):
            step = step_function(method, stage, config, data)
            arguments = (example["data"], np.int64(0), np.int64(0), example["orders"][:own])
            files.append(self._export(name, f"stage-{number}", step, method, arguments))
        size = evaluated(len(data.splits.validation), len(data.source.test_labels))
        images = np.zeros((size, *data.source.input_shape), data.source.train_images.dtype)
        batch = (images, np.zeros(size, np.int32))
        statistics = (example["data"]["scale"], example["data"]["shift"])
        evaluate = evaluation_function(method)
        counts = {"noisy": len(data.splits.noisy), "clean": len(data.splits.clean)}
        positions = {id(variable): place for place, variable in enumerate(variables)}
        networks = [v for net in method.networks.values() for v in net.variables]
        buffers = [v for held in method.buffers.values() for v in held]
        self.programs[name] = {
            "stages": files,
            "sizes": [(self.folder / "programs" / file).stat().st_size for file in files],
            "evaluate": self._export(name, "evaluate", evaluate, method, (*statistics, *batch)),
            "orders": {part: self._export_order(part, count) for part, count in counts.items()},
            "evaluated": size,
            "starts": starts,
            "groups": groups,
            "streams": pipeline.STREAMS,
            "trackers": {
                tracker: [positions[id(v)] for v in metric.variables]
                for tracker, metric in method.trackers.items()
            },
            "kept": [positions[id(v)] for v in [*networks, *buffers]],
        }

    def _export(self, program, what, function, method, arguments):
        """Writes a function of (variables, *arguments); returns the file's name."""
        first = [value(v) for v in variables_of(method)]
        return self._exported(f"{program}-{what}", function, (first, *arguments))

    def _export_order(self, part, count):
        """Writes the function (seed, epoch) -> a permutation of a set; returns the file's name."""

        def order(seed, epoch):
            return pipeline.permutation(count, seed, ORDERS[part], epoch)

        name = f"{part}-{count}"
        if (self.folder / "programs" / name).is_file():
            return name
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
    """A pure function (variables, data, seed, step number, orders) -> variables after the step."""

    def step(held, seed, number, orders):
        make = pipeline.batch_maker(
            held["noisy_images"],
            held["clean_images"],
            {name: held[f"{name}_labels"] for name in ("noisy", "clean")},
            distribution.batch_parts(config)["meta"],
            lambda images: normalised(images, held["scale"], held["shift"]),
            data.augmentation,
        )
        parts = [
            make(number, *order, seed + (own * pipeline.STREAMS << 32))
            for own, order in enumerate(orders)
        ]
        stage((*parts[0], *parts[1:]))

    return pure(step, method)


def evaluation_function(method):
    """A pure function (variables, scale, shift, images, labels) -> variables with the metrics."""

    def evaluate(scale, shift, images, labels):
        method.test_step((normalised(images, scale, shift), labels))

    return pure(evaluate, method)


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
    parser.add_argument("--rows", default=",".join(reproduce.MAIN_ROWS), help="likewise")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
