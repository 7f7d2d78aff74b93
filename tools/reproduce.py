"""Runs an experiment of flags/ for several methods and seeds; writes results/NAME.json.

    python tools/reproduce.py cifar10_small --data_dir=DIR
    python tools/reproduce.py cifar10_small --data_dir=DIR --methods="kdmlc,kdmlc --corrector_gate"
    python tools/reproduce.py track --data_dir=DIR
    python tools/reproduce.py track --data_dir=DIR --cells=uniform80 --rows=ce,kdmlc --seeds=1
    python tools/reproduce.py track --data_dir=DIR --rows="kdmlc,kdmlc --temperature=4"
    python tools/reproduce.py track --data_dir=DIR --cells=uniform0 --rows=kdmlc,mlc,ce,clean_only

Finished runs are not run again, interrupted ones are resumed. The tables printed are those that
README.md quotes: mean ± standard deviation over seeds, last epoch and selected epoch.

The track compares every row (a method with its flags, ROWS) in every cell (a kind of noise, a file
in flags/track/). All share flags/track/common.flags: data, label budget, student, updates. Cells
other than the compared ones (CELLS) serve the plot of accuracy against noise rate and the transfer
to Fashion-MNIST, and run only when --cells names them. The result holds whatever is finished in any
cell, of this call and of earlier ones in the same --runs, and the noise matrix that the row kdmlc
estimated. tools/plot_track.py draws it. Rows are tuned by their accuracy on the validation set,
whose labels are noisy: the column of that name.
"""

import argparse
import csv
import datetime
import json
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

METHODS = ("kdmlc", "mlc", "ce", "clean_only")
COMMON = ROOT / "flags" / "track" / "common.flags"
CELLS = ("uniform80", "uniform40", "flip40", "human_worse", "human_random1")
TEACHER = "resnet8"  # as in that file
ROWS = {
    "ce": "--method=ce",
    "clean_only": "--method=clean_only",
    "finetune": "--method=finetune",
    "glc": "--method=glc",
    "mlc": "--method=mlc",
    "mlc_teacher": f"--method=mlc --student={TEACHER}",
    "offline_kd": "--method=offline_kd",
    "kdmlc_paper": "--method=kdmlc --flagfile=flags/paper_kdmlc.flags",
    "kdmlc": "--method=kdmlc",
}
ROWS.update({f"{row}_cutout": f"{flags} --cutout=16" for row, flags in ROWS.items()})


def main():
    """Runs what is missing, then writes and prints the result."""
    arguments = _arguments()
    if arguments.experiment == "track":
        result, shown = track(arguments)
    else:
        result = compare(arguments)
        shown = table(result)
    path = pathlib.Path(arguments.results) / f"{arguments.experiment}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(shown)


def compare(arguments):
    """The result of one experiment, a row per method."""
    flagfile = ROOT / "flags" / f"{arguments.experiment}.flags"
    if not flagfile.is_file():
        names = ", ".join(sorted(path.stem for path in flagfile.parent.glob("*.flags")))
        sys.exit(f"error: no experiment {arguments.experiment!r}; there are: {names}, track.")
    reports = {}
    for seed in range(arguments.seeds):
        for method in arguments.methods.split(","):
            name, *flags = shlex.split(method)
            folder = "".join([name, *flags, f"-{seed}"]).replace("=", "")
            folder = pathlib.Path(arguments.runs) / arguments.experiment / folder
            run(arguments, flagfile, [f"--method={name}", *flags], seed, folder)
            reports.setdefault(method, []).append(report_of(folder))
    command = f"python tools/reproduce.py {arguments.experiment} --seeds={arguments.seeds}"
    first = next(iter(reports.values()))
    return {
        "command": f"{command} --methods={shlex.quote(arguments.methods)} --data_dir=DIR",
        **circumstances(first[0]),
        "realised_noise_rate": noise_rates(first),
        "methods": {method: _method(group) for method, group in reports.items()},
    }


def track(arguments):
    """(result, tables) of the track, cell by cell and row by row; seeds come first."""
    cells = chosen("cell", arguments.cells, cell_files())
    rows = chosen("row", arguments.rows, ROWS)
    known = [*ROWS, *(row for row in rows if row not in ROWS)]
    for seed in range(0 if arguments.tabulate else arguments.seeds):
        for cell in cells:
            for row in rows:
                folder = folder_of(arguments, cell, row, seed)
                flags = [f"--flagfile={cell_files()[cell]}", *row_flags(row)]
                run(arguments, COMMON, flags, seed, folder)
    folders = {cell: finished(arguments, cell, known) for cell in cell_files()}
    folders = {cell: runs for cell, runs in folders.items() if runs}
    if not folders:
        sys.exit(f"error: no run of the track in {arguments.runs} is finished.")
    found = {
        cell: {row: [report_of(folder) for folder in seeds.values()] for row, seeds in runs.items()}
        for cell, runs in folders.items()
    }
    first = next(iter(next(iter(found.values())).values()))
    result = {
        "command": track_command(found),
        **circumstances(first[0]),
        "cells": {
            cell: {
                "realised_noise_rate": noise_rates(max(reports.values(), key=len)),
                **noise_matrix(folders[cell].get("kdmlc", {})),
                "methods": {row: _method(group) for row, group in reports.items()},
            }
            for cell, reports in found.items()
        },
    }
    tables = [f"{cell}\n\n{table(values)}" for cell, values in result["cells"].items()]
    return result, "\n\n".join(tables)


def track_command(found):
    """The command that makes the runs found, dict cell -> row -> reports, or more than those."""
    rows = dict.fromkeys(row for reports in found.values() for row in reports)
    seeds = max(len(group) for reports in found.values() for group in reports.values())
    return (
        f"python tools/reproduce.py track --data_dir=DIR --seeds={seeds} "
        f"--cells={','.join(found)} --rows={shlex.quote(','.join(rows))}"
    )


def cell_files():
    """The track's cells: dict name -> flagfile."""
    return {path.stem: path for path in sorted(COMMON.parent.glob("*.flags")) if path != COMMON}


def row_flags(row):
    """The flags of a row: a name of ROWS, and what follows it."""
    name, *more = shlex.split(row)
    return [*shlex.split(ROWS[name]), *more]


def chosen(what, names, known):
    """The names of a comma-separated list, default all; a wrong one ends the program."""
    if names is None:
        return list(known)
    wrong = [name for name in names.split(",") if name.partition(" ")[0] not in known]
    if wrong:
        sys.exit(f"error: no {what} {wrong[0]!r}; there are: {', '.join(known)}.")
    return names.split(",")


def folder_of(arguments, cell, row, seed):
    """The folder of one run of the track."""
    name = "".join(shlex.split(row)).replace("=", "")
    return pathlib.Path(arguments.runs) / "track" / cell / f"{name}-{seed}"


def finished(arguments, cell, rows):
    """The folders of a cell's finished runs, dict row -> dict seed -> folder, by rising seed."""
    found = {}
    for row in rows:
        for seed in range(arguments.seeds):
            folder = folder_of(arguments, cell, row, seed)
            if is_finished(folder) and is_of_track(folder, row):
                found.setdefault(row, {})[seed] = folder
    return found


def is_finished(folder):
    """Whether a folder holds a finished run."""
    report = folder / "report.json"
    return report.is_file() and json.loads(report.read_text("utf-8"))["status"] == "finished"


def is_of_track(folder, row):
    """Whether a run has the settings that the track's rows share; if not, that is said."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shared = settings(
        line for line in COMMON.read_text("utf-8").splitlines() if line.startswith("--")
    )
    set_here = shared | settings(row_flags(row))
    wanted = {name: set_here[name] for name in shared}
    others = [
        f"{name}={config.get(name)}" for name in wanted if str(config.get(name)) != wanted[name]
    ]
    if others:
        print(f"{folder} is left out: it was run with {', '.join(others)}.")
    return not others


def settings(flags):
    """Dict name -> text of flags --name=value."""
    return dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)


def noise_matrix(folders):
    """{"noise_matrix": the true and the estimated one of a cell}, of kdmlc's first finished seed.

    Empty where no such run is finished, or it has none (`noise_matrices.of_run`).

    Args:
      folders: of the finished runs, dict seed -> folder.
    """
    if not folders:
        return {}
    from tools import noise_matrices  # TensorFlow, which nothing else here waits for

    seed, folder = next(iter(folders.items()))
    matrices = noise_matrices.of_run(folder)
    return {"noise_matrix": {"seed": seed, **matrices}} if matrices else {}


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("experiment", help="track, or a file in flags/, without its ending")
    parser.add_argument("--data_dir", help="folder with prepared TensorFlow Datasets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, …")
    parser.add_argument(
        "--methods", default=",".join(METHODS), help="rows: a method each, with flags of its own"
    )
    parser.add_argument(
        "--cells",
        default=",".join(CELLS),
        help=f"of the track: {', '.join(cell_files())}; default: those compared, {','.join(CELLS)}",
    )
    parser.add_argument(
        "--rows", help=f"of the track: {', '.join(ROWS)}, each with flags of its own; default: all"
    )
    parser.add_argument(
        "--tabulate", action="store_true", help="of the track: run nothing, show what is finished"
    )
    parser.add_argument("--runs", default="runs", help="folder for the runs")
    parser.add_argument("--results", default=ROOT / "results", help="folder for the result")
    arguments = parser.parse_args()
    for name in ("runs", "data_dir"):  # train runs in the repository
        given = getattr(arguments, name)
        setattr(arguments, name, given and str(pathlib.Path(given).resolve()))
    return arguments


def run(arguments, flagfile, flags, seed, folder):
    """One run; train itself resumes, or refuses a run of other settings."""
    command = [sys.executable, "-m", "kdmlc_tf.train", f"--flagfile={flagfile}"]
    command += [*flags, f"--seed={seed}", f"--run={folder}", "--noexport"]
    command += [f"--data_dir={arguments.data_dir}"] if arguments.data_dir else []
    command += ["--resume"] if (folder / "config.json").is_file() else []
    print(shlex.join(command), flush=True)
    status = subprocess.run(command, check=False, cwd=ROOT).returncode
    if status:
        sys.exit(f"error: the run in {folder} ended with status {status}; see above.")


def report_of(folder):
    """A run's report, with its curves: the student's accuracies in each epoch that it learned in.

    Where another network is trained before it (glc, offline_kd), that one's epochs are left out.
    """
    epochs = json.loads((folder / "config.json").read_text(encoding="utf-8"))["epochs"]
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[-epochs:]
    names = ("test_student_accuracy", "val_student_accuracy")
    return {**report, "curves": {name: [float(row[name]) for row in rows] for name in names}}


def circumstances(report):
    """When and where: date, machine, versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {**report["machine"], "system": platform.platform()},
        "versions": report["versions"],
    }


def noise_rates(reports):
    """Of each seed the share of wrong labels in the noisy set."""
    return [report["data"]["noise"]["realised_rate"] for report in reports]


def _method(reports):
    values = {}
    for epoch in ("last", "selected"):
        for network in ("student", "teacher"):
            name = f"test_{network}_accuracy"
            if name in reports[0]["results"][epoch]:
                values[f"{epoch}_{name}"] = _spread([r["results"][epoch][name] for r in reports])
    name = "val_student_accuracy"
    values[f"last_{name}"] = _spread([r["results"]["last"][name] for r in reports])
    return {
        "parameters": reports[0]["parameters"],
        "minutes": _spread([r["seconds"] / 60 for r in reports]),
        **values,
        "curves": [r["curves"]["test_student_accuracy"] for r in reports],
    }


def _spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": deviation, "seeds": values}


def table(result):
    """The result as a Markdown table: accuracies in percent, on the test set but for one column."""
    columns = {
        "student, last epoch": "last_test_student_accuracy",
        "student, selected": "selected_test_student_accuracy",
        "teacher, last epoch": "last_test_teacher_accuracy",
        "validation (noisy)": "last_val_student_accuracy",
    }
    lines = [
        f"| method | {' | '.join(columns)} | minutes | seeds |",
        "| --- " * (len(columns) + 3) + "|",
    ]
    for method, row in result["methods"].items():
        cells = [_percent(row.get(name)) for name in columns.values()]
        minutes, seeds = row["minutes"]["mean"], len(row["minutes"]["seeds"])
        lines.append(f"| {method} | {' | '.join(cells)} | {minutes:.1f} | {seeds} |")
    return "\n".join(lines)


def _percent(spread):
    if spread is None:
        return "–"
    deviation = "" if spread["std"] is None else f" ± {100 * spread['std']:.1f}"
    return f"{100 * spread['mean']:.1f}{deviation}"


if __name__ == "__main__":
    main()
