"""Runs an experiment of flags/ for several methods and seeds; writes results/NAME.json.

    python tools/reproduce.py cifar10_small --data_dir=DIR
    python tools/reproduce.py cifar10_small --data_dir=DIR --methods="kdmlc,kdmlc --corrector_gate"

Finished cells are not run again, interrupted ones are resumed. The table printed is the
one that README.md quotes: mean ± standard deviation over seeds, last epoch and selected epoch.
"""

import argparse
import datetime
import json
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
METHODS = ("kdmlc", "mlc", "ce", "clean_only")


def main():
    """Runs what is missing, then writes and prints the result."""
    arguments = _arguments()
    flagfile = ROOT / "flags" / f"{arguments.experiment}.flags"
    if not flagfile.is_file():
        names = ", ".join(sorted(path.stem for path in flagfile.parent.glob("*.flags")))
        sys.exit(f"error: no experiment {arguments.experiment!r}; there are: {names}.")
    reports = {}
    for seed in range(arguments.seeds):
        for method in arguments.methods.split(","):
            reports[method, seed] = run_cell(arguments, flagfile, method, seed)
    result = summarise(arguments, reports)
    path = ROOT / "results" / f"{arguments.experiment}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("experiment", help="name of a file in flags/, without its ending")
    parser.add_argument("--data_dir", help="folder with prepared TensorFlow Datasets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, …")
    parser.add_argument(
        "--methods", default=",".join(METHODS), help="rows: a method each, with flags of its own"
    )
    parser.add_argument("--runs", default="runs", help="folder for the runs")
    return parser.parse_args()


def run_cell(arguments, flagfile, method, seed):
    """The report of one run; train itself resumes, or refuses a run of other settings."""
    name, *flags = shlex.split(method)
    folder = "".join([name, *flags, f"-{seed}"]).replace("=", "")
    folder = pathlib.Path(arguments.runs) / arguments.experiment / folder
    command = [sys.executable, "-m", "kdmlc_tf.train", f"--flagfile={flagfile}"]
    command += [f"--method={name}", *flags, f"--seed={seed}", f"--run={folder}", "--noexport"]
    command += [f"--data_dir={arguments.data_dir}"] if arguments.data_dir else []
    command += ["--resume"] if (folder / "config.json").is_file() else []
    print(shlex.join(command), flush=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(f"error: the run in {folder} ended with status {status}; see above.")
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def summarise(arguments, reports):
    """The result as a dict: what was run, where, each seed's accuracies and their mean and std."""
    rows = {}
    for (method, _), report in reports.items():
        rows.setdefault(method, []).append(report)
    first = next(iter(reports.values()))
    command = f"python tools/reproduce.py {arguments.experiment} --seeds={arguments.seeds}"
    return {
        "command": f"{command} --methods={shlex.quote(arguments.methods)} --data_dir=DIR",
        "date": datetime.date.today().isoformat(),
        "machine": {**first["machine"], "system": platform.platform()},
        "versions": first["versions"],
        "realised_noise_rate": [
            report["data"]["noise"]["realised_rate"] for report in rows[next(iter(rows))]
        ],
        "methods": {method: _method(group) for method, group in rows.items()},
    }


def _method(reports):
    values = {}
    for epoch in ("last", "selected"):
        for network in ("student", "teacher"):
            name = f"test_{network}_accuracy"
            if name in reports[0]["results"][epoch]:
                values[f"{epoch}_{name}"] = _spread([r["results"][epoch][name] for r in reports])
    return {
        "parameters": reports[0]["parameters"],
        "minutes": _spread([r["seconds"] / 60 for r in reports]),
        **values,
    }


def _spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": deviation, "seeds": values}


def table(result):
    """The result as a Markdown table: test accuracies in percent."""
    lines = [
        "| method | student, last epoch | student, selected | teacher, last epoch | minutes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method, row in result["methods"].items():
        cells = [
            _percent(row.get(f"{epoch}_test_{network}_accuracy"))
            for epoch, network in (
                ("last", "student"),
                ("selected", "student"),
                ("last", "teacher"),
            )
        ]
        lines.append(f"| {method} | {' | '.join(cells)} | {row['minutes']['mean']:.1f} |")
    return "\n".join(lines)


def _percent(spread):
    if spread is None:
        return "–"
    deviation = "" if spread["std"] is None else f" ± {100 * spread['std']:.1f}"
    return f"{100 * spread['mean']:.1f}{deviation}"


if __name__ == "__main__":
    main()
