"""Runs an experiment of flags/ for several methods and seeds; writes results/NAME.json.

    python tools/reproduce.py cifar10_small --data_dir=DIR
    python tools/reproduce.py cifar10_small --data_dir=DIR --methods="kdmlc,kdmlc --corrector_gate"
    python tools/reproduce.py track --data_dir=DIR
    python tools/reproduce.py track --data_dir=DIR --cells=uniform80 --rows=ce,kdmlc --seeds=1
    python tools/reproduce.py track --data_dir=DIR --rows="kdmlc,kdmlc --cutout=8" --missing
    python tools/reproduce.py track --data_dir=DIR --cells=uniform0 --rows=kdmlc,mlc,ce

Finished runs are not run again, interrupted ones are resumed; offline_kd begins, in the track, with
the teacher that kdmlc's run of the seed has trained (shared_teacher.py). The tables printed are
those that README.md and docs/ quote: mean ± standard deviation over seeds, last and selected epoch.

The track compares every row (a method with its flags, ROWS) in every cell (a kind of noise, a file
in flags/track/). All share flags/track/common.flags: data, label budget, networks. Cells other than
the compared ones (CELLS) serve the plot of accuracy against noise rate and the transfer to
Fashion-MNIST, and run only when --cells names them. Rows are tuned by their accuracy on the
validation set, whose labels are noisy: the column of that name. A batch has 80 noisy and 20 trusted
images, or 50 and 50, whichever suits the method; a row with the other split ends in _80_20 or
_50_50. Such rows run only when --rows names them.

The result holds whatever is finished in any cell, of this call and of earlier ones in the same
--runs (of the rows above, with and without --matrix_ramp, and those named, and of seeds below
--seeds; a row with --matrix_ramp stays only while one of its seeds has not been run without it),
and the noise matrix that the row kdmlc estimated. What results/track.json holds of other runs stays
in it, so that several machines and days can fill it: each run there says when and where it was
made. --missing leaves out what it holds. Of two runs of one seed the later counts, of a row only
those with the settings of its latest run; of those in --runs only such as have the settings that
cell and row make today. tools/plot_track.py draws it.
"""

import argparse
import dataclasses
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import absl.flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdmlc_tf import cli  # noqa: E402
from kdmlc_tf.config import METHOD_PRESETS  # noqa: E402
from kdmlc_tf.errors import InputError  # noqa: E402
from tools import leads, measured  # noqa: E402

METHODS = ("kdmlc", "mlc", "ce", "clean_only")
COMMON = ROOT / "flags" / "track" / "common.flags"
CELLS = ("uniform80", "uniform40", "flip40", "human_worse", "human_random1")
TEACHER = "resnet8"  # as in that file
CUTOUT = "_cutout"
# A batch's noisy and trusted images, 100 together: 6,250 and 6,400 updates. The rate falls after
# three quarters of them.
SPLITS = {
    "_80_20": "--batch_size=80 --clean_batch_size=20 --epochs=25 --milestones=19",
    "_50_50": "--batch_size=50 --clean_batch_size=50 --epochs=16 --milestones=12",
}
_TEACHER_BY_MLC = " ".join(f"--{name}={value}" for name, value in METHOD_PRESETS["mlc"].items())
METHODS_FLAGS = {
    "ce": "--method=ce",
    "clean_only": "--method=clean_only",
    "finetune": "--method=finetune",
    "glc": "--method=glc",
    "mlc": "--method=mlc",
    "mlc_teacher": f"--method=mlc --student={TEACHER}",
    "offline_kd": "--method=offline_kd",
    "offline_kd_mlc": f"--method=offline_kd {_TEACHER_BY_MLC}",
    "kdmlc_paper": "--method=kdmlc --flagfile=flags/paper_kdmlc.flags",
    "kdmlc": "--method=kdmlc",
}
# They take as many trusted images as noisy ones (docs/ABLATIONS.md, "How a batch is split").
_AS_MANY = ("clean_only", "finetune", "mlc", "mlc_teacher", "offline_kd_mlc", "kdmlc_paper")
ROWS = {}
for _row, _flags in METHODS_FLAGS.items():
    _own, _other = ("_50_50", "_80_20") if _row in _AS_MANY else ("_80_20", "_50_50")
    ROWS[_row] = f"{_flags} {SPLITS[_own]}"
    ROWS[_row + _other] = f"{_flags} {SPLITS[_other]}"
ROWS.update({f"{row}{CUTOUT}": f"{flags} --cutout=16" for row, flags in ROWS.items()})
# The rows that run unless --rows names others: each method with its split.
MAIN_ROWS = [row for row in ROWS if row.removesuffix(CUTOUT) in METHODS_FLAGS]
RAMP = " --matrix_ramp"  # the default until 2026-11-27: not every such row has been run without
OF_THE_TRACK = ("cells", "rows", "tabulate", "missing")  # flags that say nothing elsewhere


def main():
    """Runs what is missing, then writes and prints the result."""
    arguments = _arguments()
    path = pathlib.Path(arguments.results) / f"{arguments.experiment}.json"
    if arguments.experiment == "track":
        run_track(arguments, cells_in(path))
        result = track(arguments, cells_in(path))  # read again: a run takes its time
        tables = tables_of(result).values()
    else:
        result = compare(arguments)
        tables = [measured.table({arguments.experiment: result})]
    measured.write(path, result)
    print("\n\n".join(tables))


def compare(arguments):
    """The result of one experiment, a row per method."""
    flagfile = ROOT / "flags" / f"{arguments.experiment}.flags"
    if not flagfile.is_file():
        names = ", ".join(sorted(path.stem for path in flagfile.parent.glob("*.flags")))
        sys.exit(f"error: no experiment {arguments.experiment!r}; there are: {names}, track.")
    found, methods = {}, written_alike(arguments.methods)
    for seed in range(arguments.seeds):
        for method in methods:
            name, *flags = shlex.split(method)
            folder = "".join([name, *flags, f"-{seed}"]).replace("=", "")
            folder = pathlib.Path(arguments.runs) / arguments.experiment / folder
            run(arguments, flagfile, [f"--method={name}", *flags], seed, folder)
            found.setdefault(method, {})[seed] = measured.of_run(folder)
    command = f"python tools/reproduce.py {arguments.experiment} --seeds={arguments.seeds}"
    return {
        "command": f"{command} --methods={shlex.quote(arguments.methods)} --data_dir=DIR",
        "methods": {method: measured.summary(runs) for method, runs in found.items()},
    }


def cells_in(path):
    """The cells of the track's result so far, dict cell -> its part."""
    result = measured.read(path) or {"settings": common_settings(), "cells": {}}
    if result.get("settings") != common_settings():
        sys.exit(
            f"error: {path} is of another form or of other settings than "
            f"{COMMON.relative_to(ROOT)}: move it away."
        )
    return result["cells"]


def run_track(arguments, known):
    """Runs the track, cell by cell and row by row; seeds come first, offline_kd last."""
    cells = chosen("cell", arguments.cells, cell_files())
    rows = sorted(chosen_rows(arguments), key=lambda row: row.startswith("offline_kd"))
    for cell, row in itertools.product(cells, rows):
        config_of(cell, row)  # what is wrong is said before hours of runs
    for seed in range(0 if arguments.tabulate else arguments.seeds):
        for cell in cells:
            for row in rows:
                if arguments.missing and str(seed) in seeds_held(known.get(cell), row):
                    continue
                share_teacher(arguments, cell, row, seed)
                folder = folder_of(arguments, cell, row, seed)
                run(arguments, COMMON, cell_flags(cell, row), seed, folder)


def share_teacher(arguments, cell, row, seed):
    """Begins a run of offline_kd with the teacher of kdmlc's run of the seed, where it is there.

    Where that teacher learned by other settings shared_teacher.py says so, and the run trains its
    own.
    """
    name = row.partition(" ")[0]
    folder = folder_of(arguments, cell, row, seed)
    if not leads.has_kdmlcs_teacher(name) or (folder / "config.json").is_file():
        return
    teacher = name.replace("offline_kd", "kdmlc") + (RAMP if row.endswith(RAMP) else "")
    source = folder_of(arguments, cell, teacher, seed)
    if measured.is_finished(source):
        tool = ROOT / "tools" / "shared_teacher.py"
        flags = flags_of_train(arguments, COMMON, cell_flags(cell, row), seed)
        status_of([sys.executable, tool, source, folder, *flags])


def track(arguments, known):
    """The track's result: what is finished in --runs, and what the result has so far."""
    cells = {}
    for cell in dict.fromkeys([*cell_files(), *known]):
        before = known.get(cell, {})
        folders = finished(arguments, cell)
        rows = without_superseded(measured.merged(before, folders, ROWS))
        if rows:
            matrix = noise_matrix(
                rows.get("kdmlc"), folders.get("kdmlc", {}), before.get("noise_matrix")
            )
            cells[cell] = {**({"noise_matrix": matrix} if matrix else {}), "methods": rows}
    if not cells:
        sys.exit(f"error: no run of the track in {arguments.runs} is finished.")
    return {"command": track_command(cells), "settings": common_settings(), "cells": cells}


def seeds_held(part, row):
    """The seeds that a cell's part of the result, or None, has of a row, or of it without ramp."""
    return {*measured.runs_of(part, row), *measured.runs_of(part, row.removesuffix(RAMP))}


def without_superseded(rows):
    """A cell's rows but those with the ramp whose seeds have all been run without it.

    Args:
      rows: dict row -> as of `measured.summary`.
    """
    seeds = {row: set(method["runs"]) for row, method in rows.items()}
    superseded = {
        row
        for row in rows
        if row.endswith(RAMP) and seeds[row] <= seeds.get(row.removesuffix(RAMP), set())
    }
    return {row: method for row, method in rows.items() if row not in superseded}


def tables_of(result):
    """The track's tables, dict name -> Markdown; without empty ones.

    "overview" and "leads_in_short" are README.md's, of the cells that are compared and of those of
    Fashion-MNIST: the student's accuracy alone, of the main rows, and the leads of the row kdmlc.
    "figures" and "leads" have all cells and rows.
    """
    cells = result["cells"]
    names = [*CELLS, *(cell for cell in cells if cell.startswith("fashion_"))]
    compared = {name: cells[name] for name in names if name in cells}
    shown = [row for row in rows_of_students() if row.removesuffix(RAMP) in MAIN_ROWS]
    tables = {
        "overview": measured.overview(compared, shown) if compared else "",
        "leads_in_short": leads.in_short(compared, "kdmlc", rivals()["kdmlc"]),
        "figures": measured.table(cells),
        "leads": leads.table(cells, rivals()),
    }
    return {name: table for name, table in tables.items() if table}


def rows_of_students():
    """The rows whose student is the track's: all but those of mlc on the teacher's network."""
    return with_ramp(row for row in ROWS if not row.startswith("mlc_teacher"))


def with_ramp(rows):
    """The rows, each followed by that with the noise matrix's ramp."""
    return [name for row in rows for name in (row, f"{row}{RAMP}")]


def rivals():
    """KDMLC's rows, dict row -> the other methods' rows that it is compared with.

    Rows without Cutout have rivals without it, rows with Cutout have all.
    """
    rows = rows_of_students()
    others = [row for row in rows if not row.startswith("kdmlc")]
    plain = [row for row in others if CUTOUT not in row]
    ours = [row for row in rows if row not in others]
    return {row: others if CUTOUT in row else plain for row in ours}


def track_command(cells):
    """The command that makes the runs of a result's cells, or more than those."""
    rows = dict.fromkeys(row for cell in cells.values() for row in cell["methods"])
    methods = [method for cell in cells.values() for method in cell["methods"].values()]
    seeds = 1 + max(int(seed) for method in methods for seed in method["runs"])
    return (
        f"python tools/reproduce.py track --data_dir=DIR --seeds={seeds} "
        f"--cells={','.join(cells)} --rows={shlex.quote(','.join(rows))}"
    )


def cell_files():
    """The track's cells: dict name -> flagfile."""
    return {path.stem: path for path in sorted(COMMON.parent.glob("*.flags")) if path != COMMON}


def cell_flags(cell, row):
    """The flags of a row in a cell, but for those that the track shares."""
    return [f"--flagfile={cell_files()[cell]}", *row_flags(row)]


def row_flags(row):
    """The flags of a row: a name of ROWS, and what follows it."""
    name, *more = shlex.split(row)
    return [*shlex.split(ROWS[name]), *more]


def chosen_rows(arguments):
    """The rows to run: of ROWS, each with flags of its own."""
    rows = written_alike(arguments.rows or ",".join(MAIN_ROWS))
    chosen("row", ",".join(row.partition(" ")[0] for row in rows), ROWS)
    return rows


def written_alike(rows):
    """The rows of a comma-separated list, each with its flags written as a shell would."""
    try:
        found = [shlex.split(row) for row in rows.split(",")]
    except ValueError as error:
        sys.exit(f"error: {rows!r} cannot be read: {error}. Commas separate rows.")
    if not all(found):
        sys.exit(f"error: {rows!r} has an empty row: write names with one comma between two.")
    for flag in (flag for row in found for flag in row[1:]):
        if not flag.startswith("--"):
            sys.exit(f"error: {flag!r} is no flag of a row: write --name=value.")
    return [shlex.join(row) for row in found]


def chosen(what, names, known):
    """The names of a comma-separated list; a wrong one ends the program."""
    wrong = [name for name in names.split(",") if name not in known]
    if wrong:
        sys.exit(
            f"error: no {what} {wrong[0]!r}; commas separate {what}s, and there are: "
            f"{', '.join(known)}."
        )
    return names.split(",")


def folder_of(arguments, cell, row, seed):
    """The folder of one run of the track."""
    return pathlib.Path(arguments.runs) / "track" / cell / f"{folder_name(row)}-{seed}"


def folder_name(row):
    """What the names of a row's folders begin with."""
    return "".join(shlex.split(row)).replace("=", "")


def finished(arguments, cell):
    """The folders of a cell's finished runs, dict row -> dict seed -> folder, by rising seed."""
    rows = dict.fromkeys([*with_ramp(ROWS), *chosen_rows(arguments)])
    found = {row: finished_of(arguments, cell, row) for row in rows}
    return {row: folders for row, folders in found.items() if folders}


def finished_of(arguments, cell, row):
    """The folders of a row's finished runs in a cell, dict seed -> folder, by rising seed."""
    folders = {seed: folder_of(arguments, cell, row, seed) for seed in range(arguments.seeds)}
    return {
        seed: folder
        for seed, folder in folders.items()
        if measured.is_finished(folder) and is_of_track(folder, cell, row)
    }


def is_of_track(folder, cell, row):
    """Whether a run has the settings that its cell and row make today; if not, that is said."""
    wanted = dataclasses.asdict(config_of(cell, row))
    return measured.has_settings(folder, measured.read(folder / "config.json"), wanted)


def config_of(cell, row):
    """The Config that train makes of a row in a cell; where it makes none, the program ends."""
    try:
        return cli.config_of([f"--flagfile={COMMON}", *cell_flags(cell, row)])
    except (absl.flags.Error, InputError) as error:
        sys.exit(f"error: the row {row!r} cannot be run in the cell {cell}: {error}")


def common_settings():
    """The settings that the track's rows share, dict name -> text."""
    lines = COMMON.read_text(encoding="utf-8").splitlines()
    flags = [line.removeprefix("--") for line in lines if line.startswith("--")]
    return dict(flag.split("=", 1) for flag in flags)


def noise_matrix(row, folders, before):
    """The true and the estimated noise matrix of a cell, of the first seed of the row kdmlc.

    Args:
      row: as of `measured.summary`, or None: there is no such matrix.
      folders: of the finished runs, dict seed -> folder.
      before: what the result has so far, or None: returned where that run is not in a folder, or
        has none (`noise_matrices.of_run`).
    """
    if row is None:
        return None
    seed, run = next(iter(row["runs"].items()))
    folder = folders.get(int(seed))
    if folder is None or measured.read(folder / "report.json")["started"] != run["started"]:
        return before
    from tools import noise_matrices  # TensorFlow, which nothing else here waits for

    matrices = noise_matrices.of_run(folder)
    return {"seed": int(seed), **matrices} if matrices else before


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
        "--rows",
        help=f"of the track: {', '.join(ROWS)}, each with flags of its own; default: "
        f"{', '.join(MAIN_ROWS)}",
    )
    less = parser.add_mutually_exclusive_group()
    less.add_argument(
        "--tabulate", action="store_true", help="of the track: run nothing, show what is finished"
    )
    less.add_argument(
        "--missing", action="store_true", help="of the track: run only what the result lacks"
    )
    parser.add_argument("--runs", default="runs", help="folder for the runs")
    parser.add_argument("--results", default=ROOT / "results", help="folder for the result")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds must be at least 1. Received: {arguments.seeds}.")
    idle = ["methods"] if arguments.experiment == "track" else OF_THE_TRACK
    for name in idle:
        if getattr(arguments, name) != parser.get_default(name):
            parser.error(f"--{name} says nothing about {arguments.experiment}: leave it out.")
    for name in ("runs", "data_dir", "results"):
        given = getattr(arguments, name)
        setattr(arguments, name, given and str(pathlib.Path(given).resolve()))
    os.chdir(ROOT)  # where train runs: a row's paths mean the same here and there
    return arguments


def flags_of_train(arguments, flagfile, flags, seed):
    """The flags that say what a run is, wherever its folder lies."""
    data = [f"--data_dir={arguments.data_dir}"] if arguments.data_dir else []
    return [f"--flagfile={flagfile}", *flags, f"--seed={seed}", *data]


def run(arguments, flagfile, flags, seed, folder):
    """One run; train itself resumes, or refuses a run of other settings."""
    command = [sys.executable, "-m", "kdmlc_tf.train"]
    command += flags_of_train(arguments, flagfile, flags, seed)
    command += [f"--run={folder}", "--noexport"]
    command += ["--resume"] if (folder / "config.json").is_file() else []
    print(shlex.join(command), flush=True)
    status = status_of(command)
    if status:
        sys.exit(f"error: the run in {folder} ended with status {status}; see above.")


def status_of(command):
    """The exit status of a program; Ctrl-C is raised when it has ended by itself.

    So train leaves a run that can be judged: subprocess would kill it a quarter of a second after.
    """
    heard, ours = [], signal.getsignal(signal.SIGINT)
    if ours != signal.SIG_IGN:  # a program would inherit that, a handler it does not
        signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        status = subprocess.run(command, check=False, cwd=ROOT).returncode
    finally:
        signal.signal(signal.SIGINT, ours)
    if heard:
        raise KeyboardInterrupt
    return status


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on.", file=sys.stderr)
        sys.exit(130)
