"""Measures what a step costs and where it goes; writes results/benchmark.json and prints tables.

    python tools/benchmark.py                          # everything, about an hour on 2 cores
    python tools/benchmark.py --sections=compiled --pairs=tiny --no-deterministic   # XLA, too
    python tools/benchmark.py --sections=steps --pairs=tiny --profile=DIR

What is compared runs interleaved in one process; told are medians, and medians of the ratios within
a round. A section that is measured again replaces what the file holds of it; the others stay.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SECTIONS = ("steps", "compiled", "input", "latency", "memory", "growth")
PAIRS = ("resnet32", "small", "tiny")


def main():
    """Measures the sections asked for, one after the other."""
    arguments = _arguments()
    import tensorflow as tf

    if arguments.deterministic:  # as `kdmlc_tf.train` does unless told otherwise
        tf.config.experimental.enable_op_determinism()
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from tools.benchmarks import growth, inputs, latency, memory, steps

    if arguments.profile:
        steps.profile(arguments.pairs[0], arguments.profile)
        return
    measure = {
        "steps": lambda pair: steps.measure(pair, arguments.rounds),
        "compiled": lambda pair: steps.measure_compiled(
            pair, arguments.rounds, jit=not arguments.deterministic
        ),
        "input": lambda pair: inputs.measure(pair, arguments.rounds),
        "latency": lambda pair: latency.measure(pair, arguments.rounds),
        "memory": memory.measure,
    }
    for section in arguments.sections:
        if section == "growth":
            _store(arguments, "growth", growth.measure(arguments.rounds))
            continue
        for pair in arguments.pairs:
            _store(arguments, f"{section}/{pair}", measure[section](pair))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=_names(SECTIONS), default=SECTIONS)
    parser.add_argument("--pairs", type=_names(PAIRS), default=PAIRS)
    parser.add_argument("--rounds", type=int, default=20, help="times each thing is measured")
    parser.add_argument(
        "--deterministic", action=argparse.BooleanOptionalAction, default=True, help="as in train"
    )
    parser.add_argument("--profile", help="folder for a TensorBoard profile of ten steps")
    parser.add_argument("--output", default=str(ROOT / "results" / "benchmark.json"))
    return parser.parse_args()


def _names(known):
    def parse(text):
        names = tuple(text.split(","))
        if not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}; got {text}")
        return names

    return parse


def _store(arguments, name, found):
    """Puts a section into the file, with the command and the machine, and prints it."""
    import keras
    import tensorflow as tf

    path = pathlib.Path(arguments.output)
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    known[name] = {
        "command": shlex.join(["python", "tools/benchmark.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} {platform.machine()} cores, {platform.system()}",
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "deterministic": arguments.deterministic,
        **found,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", "utf-8")
    print(f"\n{name}")
    for key, value in found.items():
        print(f"  {key}: {json.dumps(value)}", flush=True)


if __name__ == "__main__":
    main()
