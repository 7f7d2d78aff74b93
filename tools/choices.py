"""What held-out noisy labels say of each choice of settings, beside what the test set says.

    python tools/choices.py

Prints the tables of docs/ABLATIONS.md ("Each choice on held-out labels") and of docs/TRACK.md ("How
the rows were tuned"), from the track's results alone; nothing is trained. A choice is judged by the
pairs of runs of one cell and seed that differ in its settings alone; the validation set has 5,000
noisy labels that nothing was trained on.
"""

import pathlib
import statistics
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import leads, measured, reproduce  # noqa: E402

_NOW, _BEFORE = "track.json", "track_ramp.json"  # today's defaults, and those until 2026-11-27


class Choice(typing.NamedTuple):
    """A choice of settings.

    Attributes:
      settings: the names of those that its pairs differ in.
      pairs: ((file, row) of what was chosen, (file, row) of what it replaces) each.
    """

    settings: frozenset
    pairs: tuple


def _choice(settings, *pairs):
    return Choice(frozenset(settings.split()), pairs)


def _now(row):
    return _NOW, row


def _half(flags=""):
    """A row of 50 noisy and 50 trusted images, s = 0, the student from the start."""
    return _BEFORE, f"kdmlc_early_50_50{flags} --matrix_start=0"


def _half_kd(flags=""):
    """The same with κ = 0.5."""
    return _BEFORE, f"kdmlc_kd_50_50 --student_updates=1{flags} --matrix_start=0"


def _early(flags=""):
    """A row of 80 noisy and 20 trusted images, the student from the start."""
    return _BEFORE, f"kdmlc_early{flags}"


_SMALL, _FIXED = " --teacher=resnet8-s2:1.5", " --warmup_epochs=16"
_SPLIT = "batch_size clean_batch_size epochs milestones warmup_epochs"
CHOICES = {
    "kdmlc's: 80 noisy and 20 trusted images, not 50 and 50": _choice(
        _SPLIT, (_early(" --matrix_start=0"), _half())
    ),
    "s = 0.2, not 0": _choice("matrix_start", (_early(), _early(" --matrix_start=0"))),
    "both of these": _choice(f"{_SPLIT} matrix_start", (_early(), _half())),
    "κ = 0, not 0.5": _choice(
        "distillation_weight",
        (_half(), _half_kd()),
        (_half(_SMALL), _half_kd(_SMALL)),
        (_half(_FIXED), _half(f"{_FIXED} --distillation_weight=0.5")),
        (_early(), (_BEFORE, "kdmlc_kd --student_updates=1")),
    ),
    "the student late, not from the start": _choice(
        "student_updates", ((_BEFORE, "kdmlc"), _early())
    ),
    "ResNet-8 as teacher, not resnet8-s2:1.5": _choice(
        "teacher",
        (_half(), _half(_SMALL)),
        (_half_kd(), _half_kd(_SMALL)),
        (_half(_FIXED), _half(_SMALL + _FIXED)),
    ),
    "a noise matrix without a ramp": _choice("matrix_ramp", (_now("kdmlc"), (_BEFORE, "kdmlc"))),
    "a corrector that learns": _choice(
        "warmup_epochs",
        (_half(), _half(_FIXED)),
        (_half_kd(), _half(f"{_FIXED} --distillation_weight=0.5")),
        (_half(_SMALL), _half(_SMALL + _FIXED)),
    ),
    "no Cutout": _choice(
        "cutout",
        (_now("kdmlc"), _now("kdmlc_cutout")),
        ((_BEFORE, "kdmlc"), (_BEFORE, "kdmlc_cutout")),
    ),
    "ce's: 80 and 20, not 50 and 50": _choice(_SPLIT, (_now("ce"), _now("ce_50_50"))),
    "glc's: 80 and 20, not 50 and 50": _choice(_SPLIT, (_now("glc"), _now("glc_50_50"))),
    "mlc's: 50 and 50, not 80 and 20": _choice(_SPLIT, (_now("mlc"), _now("mlc_80_20"))),
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

    Mean ± standard error of the pairs, and in how many the chosen run is ahead and behind.

    Args:
      results: dict file -> its cells, dict cell -> its part, with "methods".
      choices: dict text -> `Choice`, of at least two pairs of runs each.
    """
    lines = measured.head(["choice", "pairs", *_FIGURES])
    for text, choice in choices.items():
        gains = [
            [gain for pair in choice.pairs for gain in _gains(results, pair, name)]
            for name in _FIGURES.values()
        ]
        lines.append(measured.line([text, str(len(gains[0])), *map(_text, gains)]))
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
            seeds = both[0].keys() & both[1].keys()
            if seeds:
                texts = [
                    f"{100 * statistics.mean(runs[seed][name] for seed in seeds):.1f}"
                    for name in _FIGURES.values()
                    for runs in both
                ]
                lines.append(measured.line([cell, row, *texts, str(len(seeds))]))
    return "\n".join(lines)


def _gains(results, pair, name):
    """A figure's gains in points, one for each pair of runs of one cell and seed.

    Args:
      results: as for `table`.
      pair: as in `Choice.pairs`.
      name: of the figure.
    """
    (file, row), (other_file, other_row) = pair
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
    """Mean ± standard error, how many are above and below 0: "+0.7 ± 0.2 (17 : 2)"."""
    mean = round(statistics.mean(gains), 1) + 0  # + 0: -0.0 is 0.0
    error = statistics.stdev(gains) / len(gains) ** 0.5
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return f"{mean:+.1f} ± {error:.1f} ({ahead} : {behind})".replace("-", "−")


if __name__ == "__main__":
    main()
