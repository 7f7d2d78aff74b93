"""Trains the runs of a bundle of export.py with JAX, several at a time; no TensorFlow is needed.

    python tools/stablehlo/execute.py BUNDLE RESULTS --processes=8

Each process takes runs of one program. Of each run RESULTS gets NAME.json, the metrics of each
epoch with the device and the versions, and with --keep=ROWS, for these rows, NAME.npz, the last
values of its networks and averages. Runs that have results are not run again. collect.py makes run
folders of them, beside TensorFlow. Where the environment does not say otherwise, there is no TF32,
no process takes the device's memory for itself, and the bundle keeps compiled programs.
"""

import argparse
import concurrent.futures
import datetime
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import numpy as np


def main():
    """Hands the runs out to processes, or works as one of them."""
    arguments = _arguments()
    if arguments.only:
        Worker(arguments).run(arguments.only.split(","))
        return
    for name, text in environment(arguments.bundle).items():
        os.environ.setdefault(name, text)
    manifest = json.loads((pathlib.Path(arguments.bundle) / "bundle.json").read_text("utf-8"))
    pathlib.Path(arguments.results).mkdir(parents=True, exist_ok=True)
    jobs = wanted(manifest["jobs"], arguments)
    shares = shared_out(jobs, manifest["programs"], arguments.processes)
    with concurrent.futures.ThreadPoolExecutor(arguments.processes) as pool:
        failed = [name for name in pool.map(functools.partial(_process, arguments), shares) if name]
    if failed:
        sys.exit(f"error: some runs failed; see {', '.join(failed)}.")


def environment(bundle):
    """What JAX is told where the user says nothing, dict name -> text."""
    return {
        "NVIDIA_TF32_OVERRIDE": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(bundle).resolve() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def wanted(jobs, arguments):
    """The jobs without results; those of `--first` come first."""
    left = [job for job in jobs if not _result(arguments.results, job["run"]).is_file()]
    first = arguments.first.split(",") if arguments.first else []
    places = {name: place for place, name in enumerate(first)}
    return sorted(left, key=lambda job: places.get(row_of(job["run"]), len(places)))


def row_of(run):
    """The row of a run, "cell/row-seed"."""
    return run.partition("/")[2].rpartition("-")[0]


def shared_out(jobs, programs, processes):
    """The jobs as lists, one for each process, about as long as each other.

    A program's runs are together, split among several processes if they take long. Lists are in
    the order of the jobs, so that those that come first are started first.

    Args:
      jobs: of the bundle.
      programs: likewise.
      processes: how many lists there are to be; each program has one at least.
    """
    by_program = {}
    for job in jobs:
        by_program.setdefault(job["program"], []).append(job)
    costs = {
        name: sum(_cost(programs[name], job) for job in part) for name, part in by_program.items()
    }
    count = dict.fromkeys(by_program, 1)
    while sum(count.values()) < min(processes, len(jobs)):
        count[max(count, key=lambda name: costs[name] / count[name])] += 1
    return [
        part[start :: count[name]]
        for name, part in by_program.items()
        for start in range(count[name])
    ]


def _cost(program, job):
    """About how long a run takes: its steps, each as long as its program is large."""
    steps = job["epochs"] * job["steps_per_epoch"]
    ends = [*program["starts"][1:], steps]
    return sum(
        max(0, min(end, steps) - start) * size
        for start, end, size in zip(program["starts"], ends, program["sizes"], strict=True)
    )


def _process(arguments, jobs):
    """Runs some jobs in a process of their own; returns its log's name where that failed."""
    names = ",".join(job["run"] for job in jobs)
    command = [sys.executable, __file__, *sys.argv[1:], f"--only={names}"]
    name = _result(arguments.results, jobs[0]["run"]).with_suffix(".log")
    with open(name, "w", encoding="utf-8") as log:
        status = subprocess.run(command, check=False, stdout=log, stderr=log).returncode
    print(f"{jobs[0]['run']} and {len(jobs) - 1} more: status {status}", flush=True)
    return str(name) if status else None


class Worker:
    """Runs jobs one after the other on the first device.

    Args:
      arguments: as of the command line.
    """

    def __init__(self, arguments):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.bundle = pathlib.Path(arguments.bundle)
        self.arguments = arguments
        manifest = json.loads((self.bundle / "bundle.json").read_text("utf-8"))
        self.jobs = {job["run"]: job for job in manifest["jobs"]}
        self.manifest = manifest
        self.arrays = np.load(self.bundle / "arrays.npz")
        self._images, self._programs = {}, {}

    def images(self, name):
        """(for training, for the test) of a data set, arrays."""
        if name not in self._images:
            self._images[name] = self._read_images(name)
        return self._images[name]

    def _read_images(self, name):
        images = np.load(self.bundle / f"images-{name}.npy")
        known = self.manifest["images"][name]
        if hashlib.sha256(images.tobytes()).hexdigest() != known["digest"]:
            sys.exit(f"error: the images of {name} are not those of the bundle.")
        return images[: known["train"]], images[known["train"] :]

    def program(self, name):
        """A program; the runs that share it share what is compiled."""
        if name not in self._programs:
            described = self.manifest["programs"][name]
            self._programs[name] = Program(self.bundle / "programs", described)
        return self._programs[name]

    def run(self, names):
        """Runs the jobs of these names."""
        for name in names:
            job = self.jobs[name]
            results = Trainer(self.program(job["program"]), job, *self.read(job)).run()
            variables = results.pop("variables")
            path = _result(self.arguments.results, name)
            if row_of(name) in self.arguments.keep.split(","):
                np.savez(path.with_suffix(".npz"), *variables)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(results), encoding="utf-8")
            os.replace(partial, path)
            last = results["rows"][-1]
            print(f"{name}: {last['test_student_accuracy']:.4f}", flush=True)

    def read(self, job):
        """(variables, data) of a job as it starts."""
        described = job["data"]
        data = {name: self.arrays[kept] for name, kept in described.items() if name != "images"}
        train, data["test_images"] = self.images(described["images"])
        for part in ("noisy", "clean", "validation"):
            data[f"{part}_images"] = train[data.pop(f"{part}_index")]
        return [self.arrays[name] for name in self.manifest["states"][job["state"]]], data


class Program:
    """What a row's runs share, compiled: the stages of the step, the evaluation, the orders.

    Args:
      folder: where the exported functions are.
      described: the bundle's part of it.
    """

    def __init__(self, folder, described):
        import jax

        self.described = described
        self.folder = folder
        self.steps = [self.read(name) for name in described["stages"]]
        self.evaluation = self.read(described["evaluate"])
        self.evaluate = jax.jit(self.over_batches, donate_argnums=0)
        self.orders = {part: jax.jit(self.read(name)) for part, name in described["orders"].items()}
        self.compiled = None

    def read(self, name):
        """An exported function."""
        import jax.export

        return jax.export.deserialize(bytearray((self.folder / name).read_bytes())).call

    def compile(self, *arguments):
        """Begins to compile the loops, in the background; arguments as of the last stage."""
        variables, data, seeds, *numbers, orders = arguments
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.compiled = [
            pool.submit(
                self.compile_loop,
                stage,
                (variables, data, seeds[:groups], *numbers, orders[:groups]),
            )
            for stage, groups in enumerate(self.described["groups"])
        ]

    def compile_loop(self, stage, arguments):
        """One compiled loop; what another process compiles now is waited for and then read."""
        import jax

        with open(self.folder / f"{self.described['stages'][stage]}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            loop = jax.jit(self.loop(self.steps[stage]), donate_argnums=0)
            return loop.lower(*arguments).compile()

    def loop(self, step):
        """A function (variables, data, seeds, first, count, orders) -> variables `count` steps on.

        Args:
          step: one exported step.
        """
        import jax

        def several(variables, data, seeds, first, count, orders):
            def body(number, variables):
                here = [[part[number - first] for part in order] for order in orders]
                return step(variables, data, seeds, number, here)

            return jax.lax.fori_loop(first, first + count, body, variables)

        return several

    def over_batches(self, variables, scale, shift, images, labels):
        """Variables, the metrics among them, after all batches [n, b, ...] of an evaluation."""
        import jax

        def body(variables, batch):
            return self.evaluation(variables, scale, shift, *batch), None

        return jax.lax.scan(body, variables, (images, labels))[0]


class Trainer:
    """One run.

    Args:
      program: its `Program`.
      job: of the bundle.
      variables: their first values, a list of arrays.
      data: dict of arrays: images and labels of each part, and the normalisation.
    """

    def __init__(self, program, job, variables, data):
        import jax

        self.program, self.job = program, job
        self.variables = [jax.device_put(value) for value in variables]
        trained = {f"{part}_{what}" for part in ("noisy", "clean") for what in ("images", "labels")}
        self.statistics = {name: jax.device_put(data[name]) for name in ("scale", "shift")}
        self.data = {name: jax.device_put(data[name]) for name in trained} | self.statistics
        self.evaluated = {
            part: [self.in_batches(data[f"{part}_{what}"]) for what in ("images", "labels")]
            for part in ("validation", "test")
        }
        steps = job["epochs"] * job["steps_per_epoch"]
        groups = max(program.described["groups"])
        if program.compiled is None:
            sizes = [
                [np.zeros((job["steps_per_epoch"], n), np.int64) for n in job["batch"]]
            ] * groups
            program.compile(self.variables, self.data, *self.numbers(0, 0, groups), sizes)
        self.orders = [self.order(seed, steps) for seed in job["seeds"]]

    def in_batches(self, part):
        """[n, ...] as [n / b, b, ...] on the device."""
        import jax

        size = self.program.described["evaluated"]
        return jax.device_put(part.reshape(-1, size, *part.shape[1:]))

    def order(self, seed, steps):
        """The examples of each step, [steps, b] of each part, as pipeline.training_batches has."""
        count = {part: len(self.data[f"{part}_labels"]) for part in ("noisy", "clean")}
        noisy, clean = self.job["batch"]
        passes = -(-steps * noisy // count["noisy"])
        one_after_another = np.concatenate(
            [self.permutation("noisy", seed, k) for k in range(passes)]
        )
        per_pass = count["clean"] // clean
        passes = -(-steps // per_pass)
        whole = [self.permutation("clean", seed, k)[: per_pass * clean] for k in range(passes)]
        return [
            one_after_another[: steps * noisy].reshape(steps, noisy),
            np.concatenate(whole)[: steps * clean].reshape(steps, clean),
        ]

    def permutation(self, part, seed, number):
        """The order of one pass over a part."""
        return np.asarray(self.program.orders[part](np.int64(seed), np.int64(number)))

    def run(self):
        """Trains; returns the result, "rows" of an epoch each, and the last "variables"."""
        import jax

        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        rows = [self.epoch(number) for number in range(self.job["epochs"])]
        kept = self.program.described["kept"]
        return {
            "run": self.job["run"],
            "started": started,
            "rows": rows,
            "variables": [np.asarray(self.variables[place]) for place in kept],
            "device": jax.devices()[0].device_kind,
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "versions": {"jax": jax.__version__, "python": platform.python_version()},
        }

    def epoch(self, number):
        """Trains one epoch and evaluates; returns the metrics, floats."""
        began = time.perf_counter()
        self.reset()
        first = number * self.job["steps_per_epoch"]
        self.advance(first, first + self.job["steps_per_epoch"])
        row = {"epoch": number + 1, **self.metrics("")}
        for part, prefix in (("validation", "val_"), ("test", "test_")):
            self.reset()
            batches = self.evaluated[part]
            self.variables = self.program.evaluate(
                self.variables, *self.statistics.values(), *batches
            )
            row.update(self.metrics(prefix))
        row["seconds"] = round(time.perf_counter() - began, 3)
        print(f"{self.job['run']} {row}", flush=True)
        check_finite(row, self.job["run"])
        return row

    def advance(self, step, until):
        """Takes the steps step..until - 1, each of the stage that it belongs to."""
        starts = [*self.program.described["starts"], np.inf]
        while step < until:
            stage = sum(start <= step for start in starts) - 1
            count = int(min(until, starts[stage + 1])) - step
            groups = self.program.described["groups"][stage]
            size = self.job["steps_per_epoch"]
            orders = [
                [_filled(part[step : step + count], size) for part in own]
                for own in self.orders[:groups]
            ]
            arguments = (self.variables, self.data, *self.numbers(step, count, groups), orders)
            self.variables = self.program.compiled[stage].result()(*arguments)
            step += count

    def numbers(self, step, count, groups):
        """Seeds of a batch's groups, first step and number of steps, as the loops take them."""
        return np.int64(self.job["seeds"][:groups]), np.int64(step), np.int64(count)

    def reset(self):
        """Sets all metrics to zero."""
        for places in self.program.described["trackers"].values():
            for place in places:
                self.variables[place] = np.zeros_like(self.variables[place])

    def metrics(self, prefix):
        """The means of the metrics that counted something, dict name -> float."""
        found = {}
        for name, (total, count) in self.program.described["trackers"].items():
            counted = float(self.variables[count])
            if counted:
                found[prefix + name] = float(self.variables[total]) / counted
        return found


def check_finite(row, run):
    """Ends the process where a metric of an epoch is infinite or NaN."""
    wrong = [name for name, number in row.items() if not np.isfinite(number)]
    if wrong:
        sys.exit(f"error: {', '.join(wrong)} of {run} in epoch {row['epoch']}: not finite.")


def _filled(part, size):
    """[n, b] filled up to [size, b], so that all loops have one shape."""
    return np.pad(part, [[0, size - len(part)], [0, 0]])


def _result(results, run):
    return pathlib.Path(results) / f"{run.replace('/', '.')}.json"


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="folder of export.py")
    parser.add_argument("results", help="folder for the results; made if missing")
    parser.add_argument("--processes", type=int, default=1, help="at a time")
    parser.add_argument("--first", default="", help="rows to run first, comma-separated")
    parser.add_argument("--keep", default="", help="rows whose last variables are kept")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
