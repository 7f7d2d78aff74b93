"""What held-out noisy labels say of each choice of settings, beside what the test set says.

    python tools/choices.py

Prints the tables of docs/ABLATIONS.md ("Each choice on held-out labels") and of docs/TRACK.md ("How
the rows were tuned"), from the track's results alone; nothing is trained. A choice is judged by the
pairs of runs of one cell and seed that differ in it alone; the validation set has 5,000 noisy
labels that nothing was trained on.
"""

import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import leads, measured, reproduce  # noqa: E402

_NOW, _BEFORE = "track.json", "track_ramp.json"  # today's defaults, and those until 2026-11-27
_EARLY = "kdmlc_early_50_50 --matrix_start=0"
_KD = "kdmlc_kd_50_50 --student_updates=1 --matrix_start=0"
_FIXED = "kdmlc_early_50_50 --warmup_epochs=16{} --matrix_start=0"
_HALF = " --distillation_weight=0.5"
_SMALL = "--teacher=resnet8-s2:1.5 --matrix_start=0"
# A choice: pairs of rows, (file, row) of what was chosen and of what it is in place of.
CHOICES = {
    "kdmlc as a whole, not as published": [((_NOW, "kdmlc"), (_NOW, "kdmlc_paper"))],
    "80 noisy and 20 trusted images, not 50 and 50": [
        ((_BEFORE, "kdmlc_early --matrix_start=0"), (_BEFORE, _EARLY))
    ],
    "s = 0.2, not 0": [((_BEFORE, "kdmlc_early"), (_BEFORE, "kdmlc_early --matrix_start=0"))],
    "κ = 0, not 0.5": [
        ((_BEFORE, _EARLY), (_BEFORE, _KD)),
        ((_BEFORE, "kdmlc_early"), (_BEFORE, "kdmlc_kd --student_updates=1")),
        ((_BEFORE, _FIXED.format("")), (_BEFORE, _FIXED.format(_HALF))),
    ],
    "the student late, not from the start": [((_BEFORE, "kdmlc"), (_BEFORE, "kdmlc_early"))],
    "ResNet-8 as teacher, not resnet8-s2:1.5": [
        ((_BEFORE, _EARLY), (_BEFORE, f"kdmlc_early_50_50 {_SMALL}")),
        ((_BEFORE, _KD), (_BEFORE, f"kdmlc_kd_50_50 --student_updates=1 {_SMALL}")),
    ],
    "a noise matrix without a ramp": [((_NOW, "kdmlc"), (_BEFORE, "kdmlc"))],
    "a corrector that learns": [
        ((_BEFORE, _EARLY), (_BEFORE, _FIXED.format(""))),
        ((_BEFORE, _KD), (_BEFORE, _FIXED.format(_HALF))),
    ],
    "no Cutout": [((_BEFORE, "kdmlc"), (_BEFORE, "kdmlc_cutout"))],
    "ce: 80 and 20, not 50 and 50": [((_NOW, "ce"), (_NOW, "ce_50_50"))],
    "glc: 80 and 20, not 50 and 50": [((_NOW, "glc"), (_NOW, "glc_50_50"))],
    "mlc: 50 and 50, not 80 and 20": [((_NOW, "mlc"), (_NOW, "mlc_80_20"))],
}
_FIGURES = {
    "validation (noisy)": "last_val_student_accuracy",
    "test": "last_test_student_accuracy",
}


def main():
    """Prints both tables."""
    results = {name: measured.read(ROOT / "results" / name)["cells"] for name in (_NOW, _BEFORE)}
    print("\n\n".join([table(results, CHOICES), tuning(results[_NOW])]))


def table(results, choices):
    """What each choice gains, in points of the student's accuracy after the last epoch; Markdown.

    Mean ± standard error of the pairs, and in how many the chosen row is ahead.

    Args:
      results: dict file -> its cells, dict cell -> its part, with "methods".
      choices: as of `CHOICES`.
    """
    lines = measured.head(["choice", "pairs", *_FIGURES])
    for choice, pairs in choices.items():
        found = {
            name: [gain for rows in pairs for gain in _gains(results, rows, name)]
            for name in _FIGURES.values()
        }
        number = str(len(found[_FIGURES["test"]]))
        lines.append(measured.line([choice, number, *map(_text, found.values())]))
    return "\n".join(lines)


def tuning(cells):
    """The rows with flags of their own beside those without, as a Markdown table, in percent.

    Means over the seeds that both have. Left out are kdmlc's, which `table` has, and those with the
    noise matrix's ramp.

    Args:
      cells: dict cell -> its part of the result, with "methods".
    """
    columns = [text for name in _FIGURES for text in (f"{name}, default", name)]
    lines = measured.head(["cell", "row", *columns, "seeds"])
    for cell, part in cells.items():
        for row in part["methods"]:
            default, _, flags = row.partition(" ")
            if not flags or row.endswith(reproduce.RAMP) or default.startswith("kdmlc"):
                continue
            both = [measured.runs_of(part, name) for name in (default, row)]
            seeds = set.intersection(*map(set, both))
            if seeds:
                texts = [
                    f"{100 * statistics.mean(runs[seed][name] for seed in seeds):.1f}"
                    for name in _FIGURES.values()
                    for runs in both
                ]
                lines.append(measured.line([cell, row, *texts, str(len(seeds))]))
    return "\n".join(lines)


def _gains(results, rows, name):
    """A figure's gains in points, one for each pair of runs of one cell and seed.

    Args:
      results: as for `table`.
      rows: what was chosen and what it is in place of, (file, row) each.
      name: of the figure.
    """
    (file, row), (other_file, other_row) = rows
    return [
        gain
        for cell, part in results[file].items()
        for gain in leads.of_seeds(
            measured.runs_of(part, row),
            measured.runs_of(results[other_file].get(cell), other_row),
            name,
        )
    ]


def _text(gains):
    """Mean ± standard error, and how many are above 0: "+0.7 ± 0.2 (17)"."""
    mean = round(statistics.mean(gains), 1) + 0  # + 0: -0.0 is 0.0
    error = statistics.stdev(gains) / len(gains) ** 0.5
    ahead = sum(gain > 0 for gain in gains)
    return f"{mean:+.1f} ± {error:.1f} ({ahead})".replace("-", "−")


if __name__ == "__main__":
    main()
